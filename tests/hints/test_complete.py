"""No hint is without a test: each command that a text names is typed by one."""

import ast
import importlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.commands import ROOT, hidden, literals, typed_in
from tests.hints.conftest import PRODUCT, hints, key_of

# Names of what was done or is asked, that nobody is told to type.
MENTIONED = {
    "_CIRCULAR: doctor": "what is compared with a hint",
    "_SERVER: prefect server": "the name of a system",
    "_apply_prefect_yaml: prefect deploy": "what failed",
    "_broken_off: setup": "who made an automation",
    "_gone: setup": "who made an automation",
    "_silent: setup": "who made an automation",
    "_unsaid: setup": "who made an automation",
    "_waits: setup": "who made an automation",
}


def typed_by_tests() -> Iterator[str]:
    """The hints that the tests beside this one are marked with, once for each test."""
    for path in sorted(Path(__file__).parent.glob("test_*.py")):
        module = importlib.import_module(f"tests.hints.{path.stem}")
        for test in vars(module).values():
            for mark in getattr(test, "pytestmark", ()):
                yield from _hints_of(mark)


def _hints_of(mark: Any) -> Iterator[str]:
    if mark.name == "hint":
        yield from mark.args
    if mark.name == "parametrize":
        for case in mark.args[1]:
            for inner in getattr(case, "marks", ()):
                yield from _hints_of(inner.mark)


def test_every_hint_is_typed_by_a_test() -> None:
    """As often as there are texts: a second one of a function needs a test of its own."""
    wanted = Counter(key_of(one) for one in hints())
    tried = Counter([*typed_by_tests(), *MENTIONED])

    lacking = {key: count - tried[key] for key, count in wanted.items() if tried[key] < count}
    assert lacking == {}
    assert [key for key in tried if key not in wanted] == [], "of hints that are gone"


def test_a_hint_that_no_test_types_would_be_found() -> None:
    """A new text with a command is not there unnoticed."""
    new = hints()[0]._replace(text="ignition unlock NAME", function="a_new_one")
    assert key_of(new) == "a_new_one: unlock"
    assert "a_new_one: unlock" not in {*typed_by_tests(), *MENTIONED}
    assert len(hints()) > 100


# Names of a program that nobody is told to type.
NAMED = {"A trial by ignition doctor"}


def test_no_command_is_hidden_from_these_tests() -> None:
    """A text is worded, and a command put together, so that it is found here."""
    found = [
        f"{path.relative_to(ROOT)}:{line}: {text}"
        for folder in PRODUCT
        for path in sorted((ROOT / folder).rglob("*.py"))
        for line, text in hidden(ast.parse(path.read_text(encoding="utf-8")))
        if text not in NAMED
    ]
    assert found == []


@pytest.mark.parametrize(
    ("code", "commands"),
    [
        ("shlex.join(['ignition', 'approvers', 'add', name, *roles])", ["approvers add NAME"]),
        ('f\'in: {shlex.join(["ignition", "log", name])}; or\'', ["log NAME"]),
        ("' '.join(('ignition', 'log', f'v{number}'))", ["log vNAME"]),
        ("f'see: ignition log {name}'", ["log NAME"]),
    ],
)
def test_a_command_that_is_put_together_is_found(code: str, commands: list[str]) -> None:
    texts = [text for _, text, _ in literals(ast.parse(code))]

    found = [command for text in texts for _, command in typed_in(text)]
    assert found == [f"ignition {command}" for command in commands]
    assert list(hidden(ast.parse(code))) == []


@pytest.mark.parametrize(
    "code",
    [
        "hint = 'say ignition setup at a quiet hour'",
        "hint = 'type ignition setup as the worker\\'s user'",
        "hint = 'ignition ' + command",
        "say(['ignition', 'log'])",
    ],
)
def test_a_command_that_would_not_be_found_is_told(code: str) -> None:
    assert [line for line, _ in hidden(ast.parse(code))] == [1]
