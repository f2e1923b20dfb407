"""What the command writes: for people on a terminal, for programs as JSON, errors in one shape."""

import json
import os
import sys
from collections.abc import Callable, Iterable
from typing import Any

import typer

from release.errors import BadRequest, DeployError


def say(as_json: bool, value: Any, lines: Callable[[], Iterable[str]]) -> None:
    """Write ``value`` as JSON, or ``lines`` for a person."""
    if as_json:
        typer.echo(json.dumps(value, indent=2, default=str))
        return
    for line in lines():
        typer.echo(line)


def say_state(run: Any) -> None:
    """Write the state of a run that is followed, and what to type if it waits for people."""
    message = f": {run.message}" if run.message else ""
    typer.echo(f"[{run.label}] {run.state}{message}")
    if run.waiting:
        typer.echo(f"[{run.label}] waits for a signature: ignition approve {run.label} --as NAME")


def show_markdown(text: str) -> None:
    """Write a page as a terminal shows it."""
    from rich.console import Console
    from rich.markdown import Markdown

    Console().print(Markdown(text))


def may_roll_back() -> bool:
    """Ask a person whether to go on with a P0. Raises BadRequest if nobody can be asked."""
    if not sys.stdin.isatty():
        raise BadRequest("a P0 has to be confirmed, and nobody can be asked here", "add --yes")
    return bool(typer.confirm("Roll back now?"))


def complain(error: DeployError) -> None:
    """Write an error: its sentence, and what to type."""
    typer.secho(f"error: {error.what}", fg="red" if _in_colour() else None, err=True)
    if error.hint:
        typer.secho(f"hint: {error.hint}", err=True)


def _in_colour() -> bool:
    """Whether errors may be coloured. Source: no-color.org; an output that is not a terminal has no
    colours."""
    is_dumb = os.environ.get("TERM", "") in ("", "dumb")
    return sys.stderr.isatty() and not is_dumb and not os.environ.get("NO_COLOR")
