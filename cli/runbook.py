"""`ignition runbook`: whether the pipeline can carry a runbook out."""

from pathlib import Path
from typing import Annotated

import typer

from release.errors import BadRequest
from release.runbook.conformance import problems_of
from release.runbook.document import Kind, parse
from release.wording import count_of

app = typer.Typer(help="The runbook that the pipeline carries out.", no_args_is_help=True)


@app.command()
def check(
    file: Annotated[Path | None, typer.Argument(help="Empty: the configured runbook.")] = None,
) -> None:
    """Say every problem of a runbook with its line; exit code 1 if there is one.

    Example: `ignition runbook check RUNBOOK.md`
    """
    path = file or _configured()
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeError) as error:
        raise BadRequest(f"{path} cannot be read: {error}", "ignition runbook check FILE") from None
    problems = problems_of(text)
    for problem in problems:
        place = f"{path}:{problem.line}" if problem.line else str(path)
        typer.echo(f"{place}: {problem.sentence}")
    if problems:
        raise typer.Exit(1)
    runbook = parse(text)
    gates = sum(item.kind is Kind.GATE for item in runbook.items)
    typer.echo(
        f"{path}: {count_of(len(runbook.headings), 'heading')}, "
        f"{count_of(gates, 'item')} that people sign, "
        f"{count_of(len(runbook.items) - gates, 'item')} that the pipeline does, "
        f"{count_of(len(runbook.triggers), 'trigger')}; all have their counterpart"
    )


def _configured() -> Path:
    from settings import load_settings

    settings = load_settings()
    return settings.located(settings.runbook)
