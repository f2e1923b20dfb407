"""`ignition approvers`: who may sign at a gate, and the devices that their codes come from."""

import shlex
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated

import typer

from blocks.approvers import Approvers, Draft
from release.errors import BadConfiguration, BadRequest
from release.gate.approvers import find, not_enrolled

# The Prefect server has no part in this, so nothing here imports Prefect.

app = typer.Typer(help="Who may sign at a gate.", no_args_is_help=True)

TRIES = 3
Name = Annotated[str, typer.Argument(help="The person's name, as it will stand in the log.")]


@app.command()
def add(
    name: Name,
    role: Annotated[list[str], typer.Option("--role", help="May be repeated.")] = [],  # noqa: B006
    show_secret: Annotated[
        bool, typer.Option("--show-secret", help="Even if the output is not a terminal.")
    ] = False,
) -> None:
    """Enrol a person and show a QR code for their authenticator, once.

    Example: `ignition approvers add Ada --role release-manager --role on-call`
    """
    import segno

    if not (sys.stdout.isatty() or show_secret):
        raise BadRequest(
            "the output is not a terminal, so nobody was enrolled",
            f"in a terminal: {_adding(name, role)}; else add --show-secret",
        )
    approvers = ours()
    draft = approvers.draft(name, tuple(role))
    segno.make(draft.address, error="l").terminal(compact=True)
    typer.echo(f"secret: {draft.secret.get_secret_value()}")
    if sys.stdin.isatty():
        _confirm(draft)
    approvers.enrol(draft)
    typer.echo(f"{draft.name} is enrolled in {approvers.file}; the secret is not shown again")


@app.command("list")
def list_() -> None:
    """Show the approvers and their roles, and whether the runbook's gates can be signed.

    Example: `ignition approvers list`
    """
    from release.gate.checklist import Quorum
    from release.gate.signatures import unsignable
    from release.model import Step
    from release.runbook.conformance import conforming
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
    """Remove an approver. Their signatures in runs that still wait no longer count.

    Example: `ignition approvers remove Ada`
    """
    ours().remove(name)
    typer.echo(f"{name} is no longer an approver")


def ours() -> Approvers:
    """The approvers of this machine."""
    from settings import load_settings

    settings = load_settings()
    return Approvers(settings.approvers_file, settings.approvers.enrolled)


def refuse_unknown(approvers: Approvers, name: str) -> None:
    """Raise BadRequest for a name that is not enrolled, if that can be known here.

    On a machine without the approvers, or whose user may not read them, the worker judges.
    """
    try:
        known = approvers.known()
    except BadConfiguration:
        return
    if find(known, name) is None:
        names = [one.name for one in known]
        raise BadRequest(
            f"{not_enrolled(name, names)}; nothing was sent", "ignition approvers list"
        )


def _confirm(draft: Draft) -> None:
    """Ask for a code, so that nobody finds out at 3 am that the device was not set up.

    Raises BadRequest if none is given; then nobody is enrolled.
    """
    again = _adding(draft.name, draft.roles)
    for _ in range(TRIES):
        try:
            code = typer.prompt("The six digits that it shows now")
        except typer.Abort:
            typer.echo()
            raise BadRequest(
                f"no code was given, so {draft.name} was not enrolled", again
            ) from None
        if draft.shows(code, datetime.now(UTC)):
            return
        typer.echo("that is not one of its codes; is the clock of the device right?")
    raise BadRequest(f"{TRIES} wrong codes, so {draft.name} was not enrolled", again)


def _adding(name: str, roles: Sequence[str]) -> str:
    """The command that enrols a person in these roles."""
    with_roles = [word for role in roles for word in ("--role", role)]
    return shlex.join(["ignition", "approvers", "add", name, *with_roles])
