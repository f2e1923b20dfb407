"""The commands that texts tell a person to type: in code, and on pages.

Words in capitals and … stand for a person's own.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, TypeGuard

ROOT = Path(__file__).resolve().parents[2]
CODE = ("release", "tasks", "flows", "blocks", "cli", "sandbox")
PAGES = [
    *ROOT.glob("*.md"),
    *(ROOT / "docs").glob("*.md"),
    ROOT / "ignition.example.toml",
    ROOT / "prefect.yaml",
    ROOT / "Makefile",
]
PROGRAMS = ("ignition", "prefect")

# A command begins a text or a line, or follows on what announces one.
_BEGINS = r"(?:^|[`\"'(]|: |, |; |· |\$ |&& |or |and |type |  )"
_WORD = r"(?:\"[^\"\n]*\"|'[^'\n]*'|[^\s`\"'\n;,]|[,.](?=\S))+"
_ENDS = r"(?=$|[`\n;)]|, |\. |,$|: | #| ·| \(| &&|  |\" |'(?:\s|$))"
_NAMED = re.compile(rf"\b(?:{'|'.join(PROGRAMS)}) ")
_COMMAND = re.compile(rf"{_BEGINS}((?:{'|'.join(PROGRAMS)})(?: {_WORD})+?){_ENDS}", re.MULTILINE)


class Typed(NamedTuple):
    """A command in a text."""

    place: str  # file:line
    text: str
    is_mention: bool  # it is spoken of: "`ignition approve` asks for a code"
    function: str = ""  # in which it stands: Ledger.acquire; "" in a docstring, and on a page

    def __str__(self) -> str:
        return f"{self.place}-{self.text}"


def typed_in(text: str) -> Iterator[tuple[int, str]]:
    """The commands of a text, each with the number of the line that it begins in, from 0."""
    joined = re.sub(r"\s*\\\n\s*", " ", text)
    for found in _COMMAND.finditer(joined):
        yield joined[: found.start(1)].count("\n"), found[1].rstrip(".:")


def literals(tree: ast.Module) -> Iterator[tuple[int, str, bool]]:
    """The texts of a module with their line, and whether each is a docstring; what is put into an
    f-string stands as NAME, and a command that is joined of words as these."""
    documented = {
        id(statement.value)
        for statement in ast.walk(tree)
        if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
    }
    parts = {
        id(part)
        for node in ast.walk(tree)
        if isinstance(node, ast.JoinedStr) or joined_words(node)
        for part in ast.walk(node)
        if part is not node
    }
    for node in ast.walk(tree):
        if id(node) in parts:
            continue
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, node.value, id(node) in documented
        elif isinstance(node, ast.JoinedStr) or joined_words(node):
            yield node.lineno, filled(node), False


def filled(node: ast.AST) -> str:
    """What an expression comes to, with NAME for what is known only when it runs."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(filled(part) for part in node.values)
    if isinstance(node, ast.FormattedValue):
        return filled(node.value) if joined_words(node.value) else "NAME"
    return " ".join(filled(word) for word in joined_words(node)) or "NAME"


def joined_words(node: ast.AST) -> list[ast.expr]:
    """The words of ``shlex.join(["ignition", …])``, without those that may be none or many; none
    for any other expression."""
    match node:
        case ast.Call(func=ast.Attribute(attr="join"), args=[words]) if begins_a_command(words):
            return [word for word in words.elts if not isinstance(word, ast.Starred)]
    return []


def begins_a_command(node: ast.AST) -> TypeGuard[ast.List | ast.Tuple]:
    """Whether it is a list of words, of which the first is a program."""
    match node:
        case ast.List(elts=[ast.Constant(first), *_]) | ast.Tuple(elts=[ast.Constant(first), *_]):
            return first in PROGRAMS
    return False


def hidden(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """What looks like a command, in a text or as a list of words, and is not found as one."""
    joined = {id(node.args[0]) for node in ast.walk(tree) if joined_words(node)}
    for line, text, is_documentation in literals(tree):
        named = len(_NAMED.findall(text))
        if not is_documentation and named > len(list(typed_in(text))):
            yield line, text
    for node in ast.walk(tree):
        if begins_a_command(node) and id(node) not in joined:
            yield node.lineno, ast.unparse(node)


def function_at(line: int, tree: ast.Module) -> str:
    """The function, class or constant of a module that a line belongs to: ``Ledger.acquire``."""
    names, body = [], tree.body
    while inner := next((one for one in body if one.lineno <= line <= (one.end_lineno or 0)), None):
        if isinstance(inner, ast.FunctionDef | ast.ClassDef):
            names.append(inner.name)
            body = inner.body
            continue
        if isinstance(inner, ast.Assign) and not names:
            names.append(ast.unparse(inner.targets[0]))
        break
    return ".".join(names)


def typed() -> Iterator[Typed]:
    """Every command of every text."""
    for folder in CODE:
        for path in sorted((ROOT / folder).rglob("*.py")):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            for line, text, is_documentation in literals(tree):
                for _, command in typed_in(text):
                    mention = is_documentation and len(command.split()) == 2
                    place = f"{path.relative_to(ROOT)}:{line}"
                    function = "" if is_documentation else function_at(line, tree)
                    yield Typed(place, command, mention, function)
    for path in [*PAGES, ROOT / "settings.py"]:
        for line, command in typed_in(path.read_text(encoding="utf-8")):
            place = f"{path.relative_to(ROOT)}:{line + 1}"
            yield Typed(place, command, len(command.split()) <= 3)
