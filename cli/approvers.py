"""`ignition approvers`: who may sign at a gate, and the devices that their codes come from."""

import sys
from datetime import UTC, datetime
from typing import Annotated

import typer

from blocks.approvers import Approvers
from release.errors import BadRequest

# The Prefect server has no part in this, so nothing here imports Prefect.

app = typer.Typer(help="Who may sign at a gate.", no_args_is_help=True)

TRIES = 3
Name = Annotated[str, typer.Argument(help="The person's name, as it will stand in the log.")]


@app.command()
def add(
    name: Name,
    role: Annotated[list[str], typer.Option("--role", help="May be said several times.")] = [],  # noqa: B006
    show_secret: Annotated[
        bool, typer.Option("--show-secret", help="Also where the output is no terminal.")
    ] = False,
) -> None:
    """Enrol somebody: a QR code for their authenticator, shown once.

    Example: `ignition approvers add Ada --role release-manager --role on-call`
    """
    import segno

    if not (sys.stdout.isatty() or show_secret):
        raise BadRequest(
            "the secret would go to what is no terminal, so nobody was enrolled",
            f"in a terminal: ignition approvers add {name}; else add --show-secret",
        )
    approvers = ours()
    address = approvers.add(name, tuple(role))
    segno.make(address, error="l").terminal(compact=True)
    typer.echo(f"secret: {address.partition('secret=')[2].partition('&')[0]}")
    if sys.stdin.isatty():
        _confirm(approvers, name)
    typer.echo(f"{name.strip()} is enrolled in {approvers.file}; the secret is not shown again")


@app.command("list")
def list_() -> None:
    """Show the approvers and their roles, and whether the runbook's gates can be signed.

    Example: `ignition approvers list`
    """
    from release.checklist import Quorum
    from release.conformance import conforming
    from release.model import Step
    from release.signatures import unsignable
    from settings import load_settings

    known = ours().known()
    for one in known:
        typer.echo(f"{one.name:20} {', '.join(one.roles) or 'no role'}")
    settings = load_settings()
    text = settings.located(settings.runbook).read_text(encoding="utf-8")
    items = conforming(text).gates(Step.CHECKLIST)
    for name, rules in settings.environments.items():
        problem = unsignable(items, known, Quorum(rules.gate.signers))
        if rules.gate.approval == "human" and problem:
            typer.echo(f"{name} cannot be signed: {problem}")


@app.command()
def remove(name: Name) -> None:
    """Forget somebody. What they signed in runs that still wait does not count any more.

    Example: `ignition approvers remove Ada`
    """
    ours().remove(name)
    typer.echo(f"{name} is no approver any more")


def ours() -> Approvers:
    """The approvers of this machine."""
    from settings import load_settings

    settings = load_settings()
    return Approvers(settings.located(settings.approvers.file), settings.approvers.enrolled)


def _confirm(approvers: Approvers, name: str) -> None:
    """Ask for a code, so that nobody finds out at 3 am that the device was not set up."""
    for _ in range(TRIES):
        code = typer.prompt("The six digits that it shows now")
        if approvers.step_of(name, code, datetime.now(UTC)) is not None:
            return
        typer.echo("that is not one of its codes; is the clock of the device right?")
    approvers.remove(name)
    raise BadRequest(
        f"{TRIES} wrong codes, so {name} was not enrolled", f"ignition approvers add {name}"
    )
