"""Whatever a text tells a person to type, the command line takes.

Every `ignition …` and `prefect …` that stands in a hint, a message or a page is given to the real
command's parser: it exists, its options exist, and what it needs is there. Words in capitals and …
stand for a person's own.
"""

import shlex
from typing import Any

import pytest
import typer

from cli.main import app
from tests.fakes.commands import Typed, typed, typed_in

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
    if {"schedule", "cancel"} & {*words}:  # what NAME stands for
        words[-1] = "6f1d1ab5-8b52-4b3d-a25c-14a1fd1b8c5e"
    if "--port" in words:
        words[-1] = "4200"

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
