"""Whatever a text tells a person to type, the command line takes.

Every `ignition …` and `prefect …` that stands in a hint, a message or a page is given to the real
command's parser: it exists, its options exist, and what it needs is there. Words in capitals and …
stand for a person's own.
"""

import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import typer

from cli.main import app

ROOT = Path(__file__).resolve().parents[1]
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
_BEGINS = r"(?:^|[`\"'(]|: |, |; |· |\$ |&& |or |  )"
_WORD = r"(?:\"[^\"\n]*\"|'[^'\n]*'|[^\s`\"'\n;,]|[,.](?=\S))+"
_ENDS = r"(?=$|[`\n;)]|, |\. |,$|: | #| ·| \(| &&|  |\" |'(?:\s|$))"
_COMMAND = re.compile(rf"{_BEGINS}((?:{'|'.join(PROGRAMS)})(?: {_WORD})+?){_ENDS}", re.MULTILINE)


class Typed(NamedTuple):
    """A command in a text."""

    place: str  # file:line
    text: str
    is_mention: bool  # it is spoken of: "`ignition approve` asks for a code"

    def __str__(self) -> str:
        return f"{self.place}-{self.text}"


def typed_in(text: str) -> Iterator[tuple[int, str]]:
    """The commands of a text, each with the number of the line that it begins in, from 0."""
    joined = re.sub(r"\s*\\\n\s*", " ", text)
    for found in _COMMAND.finditer(joined):
        yield joined[: found.start(1)].count("\n"), found[1].rstrip(".:")


def literals(tree: ast.Module) -> Iterator[tuple[int, str, bool]]:
    """The texts of a module with their line, and whether each is a docstring; what is put into an
    f-string stands as NAME."""
    documented = {
        id(statement.value)
        for statement in ast.walk(tree)
        if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
    }
    parts = {
        id(part)
        for node in ast.walk(tree)
        if isinstance(node, ast.JoinedStr)
        for part in ast.walk(node)
        if part is not node
    }
    for node in ast.walk(tree):
        if id(node) in parts:
            continue
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, node.value, id(node) in documented
        elif isinstance(node, ast.JoinedStr):
            filled = (
                str(part.value) if isinstance(part, ast.Constant) else "NAME"
                for part in node.values
            )
            yield node.lineno, "".join(filled), False


def typed() -> Iterator[Typed]:
    """Every command of every text."""
    for folder in CODE:
        for path in sorted((ROOT / folder).rglob("*.py")):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            for line, text, is_documentation in literals(tree):
                for _, command in typed_in(text):
                    mention = is_documentation and len(command.split()) == 2
                    yield Typed(f"{path.relative_to(ROOT)}:{line}", command, mention)
    for path in [*PAGES, ROOT / "settings.py"]:
        for line, command in typed_in(path.read_text(encoding="utf-8")):
            place = f"{path.relative_to(ROOT)}:{line + 1}"
            yield Typed(place, command, len(command.split()) <= 3)


ALL = list(dict.fromkeys(typed()))
OURS = [one for one in ALL if one.text.startswith("ignition ")]
PREFECT_S = sorted({one.text: one for one in ALL if one.text.startswith("prefect ")}.values())


def refused(words: list[str], is_mention: bool) -> str:
    """Why the command line would not take these words; empty where it would. Nothing is run."""
    command: Any = typer.main.get_command(app)
    while commands := getattr(command, "commands", None):
        if not words:
            return "" if is_mention else "a command is missing"
        name, *words = words
        if name not in commands:
            return f"there is no command {name!r}"
        command = commands[name]
    if is_mention and not words:
        return ""
    try:
        command.make_context(command.name, list(words))
    except Exception as error:  # noqa: BLE001  # of the parser that Typer brings along
        return str(getattr(error, "message", "") or error)
    return ""


@pytest.mark.parametrize("one", OURS, ids=str)
def test_the_command_line_takes_every_command_of_ours_that_a_text_names(one: Typed) -> None:
    """A hint that cannot be typed is worse than none, at 3 am."""
    assert refused(shlex.split(one.text)[1:], one.is_mention) == ""


@pytest.mark.parametrize("one", PREFECT_S, ids=str)
def test_prefect_takes_every_command_of_its_own_that_a_text_names(one: Typed) -> None:
    from prefect.cli._app import _app as prefect

    words = shlex.split(one.text)
    if "schedule" in words:
        words[-1] = "6f1d1ab5-8b52-4b3d-a25c-14a1fd1b8c5e"  # what NAME stands for

    prefect.parse_args(words[1:], print_error=False, exit_on_error=False)  # raises what is wrong


def test_commands_are_found_where_people_read_them() -> None:
    """The tests above cannot be green because nothing was found."""
    places = {one.place.partition("/")[0].partition(":")[0] for one in OURS}

    assert {"release", "tasks", "blocks", "cli", "README.md", "docs"} <= places
    assert len(OURS) > 100
    assert len(PREFECT_S) > 3


@pytest.mark.parametrize(
    ("text", "commands"),
    [
        ("ignition status", ["ignition status"]),
        (
            "ignition deploy v1.2.3 --to staging, or: ignition deploy --branch NAME --to staging",
            ["ignition deploy v1.2.3 --to staging", "ignition deploy --branch NAME --to staging"],
        ),
        (
            'see: ignition rollback x --reason "P0: …, y"; then',
            ['ignition rollback x --reason "P0: …, y"'],
        ),
        ("export A=… and run: ignition setup", ["ignition setup"]),
        ("`ignition log x --limit 3` says", ["ignition log x --limit 3"]),
        ("ignition gates      # what waits", ["ignition gates"]),
        ("ignition deploy v1 \\\n    --wait", ["ignition deploy v1 --wait"]),
        ("the ignition api", []),
        (
            "start one: prefect worker start --pool ignition",
            ["prefect worker start --pool ignition"],
        ),
    ],
)
def test_a_command_is_read_from_a_text_as_a_person_would_type_it(
    text: str, commands: list[str]
) -> None:
    assert [command for _, command in typed_in(text)] == commands


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["statuss"], "there is no command 'statuss'"),
        (["unlock", "production", "--reason", "x"], "Missing parameter: by"),
        (["status", "--force"], "No such option: --force"),
        (["approvers", "add"], "Missing parameter: name"),
        (["status", "a", "b"], "Got unexpected extra argument(s) (b)"),
    ],
)
def test_what_could_not_be_typed_is_found(words: list[str], why: str) -> None:
    assert refused(words, is_mention=False).startswith(why)
