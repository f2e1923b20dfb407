"""The `ignition` command."""

import json
import os
import sys
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

import typer

from cli.approvers import app as approvers
from cli.approvers import ours, refuse_unknown
from cli.runbook import app as runbook
from cli.terminal import complain, may_roll_back, say, say_state, show_markdown
from release.errors import DeployError

# Prefect takes three seconds to import: each command imports what it needs, so that --help is
# there at once.

app = typer.Typer(
    help="Deploy by the runbook: start a deployment, sign its gates, roll back, read the log.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)

app.add_typer(approvers, name="approvers")
app.add_typer(runbook, name="runbook")

Json = Annotated[bool, typer.Option("--json", help="Answer with JSON.")]
Environment = Annotated[str, typer.Argument(help="The environment's name, such as production.")]
JUDGED_WITHIN = timedelta(seconds=90)
"""How long a worker may take to read an answer: 8 s when it is idle."""

Wait = Annotated[bool, typer.Option("--wait", help="Follow the run until it has ended.")]


def main() -> None:
    """Run the command. An error is one sentence and a hint, and exit code 1."""
    # Prefect's own log lines would stand between a person and the answer.
    os.environ.setdefault("PREFECT_LOGGING_LEVEL", "ERROR")
    os.environ.setdefault("DO_NOT_TRACK", "1")  # nor its notice about telemetry
    try:
        app()
    except DeployError as error:
        complain(error)
        sys.exit(1)


@app.command()
def setup() -> None:
    """Write the ledger's schema, the blocks, the work pool and the deployments.

    Example: `ignition setup`
    """
    from cli.install import install
    from settings import load_settings

    for line in install(load_settings()):
        typer.echo(line)


@app.command()
def doctor(
    notify: Annotated[
        bool, typer.Option("--notify", help="Also send a message to each notification block.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Try every system of every environment and say what is wrong and what to type.

    Exit code 0: a deployment could begin now. Nothing is changed.
    Example: `ignition doctor`
    """
    from cli.doctor import answers_as_json, answers_as_lines, examine
    from settings import load_settings

    answers = examine(load_settings(), notify)
    say(as_json, answers_as_json(answers), lambda: answers_as_lines(answers))
    if not all(answer.ok for _, answer in answers):
        raise typer.Exit(1)


@app.command()
def status(
    environment: Annotated[str, typer.Argument(help="One environment; empty for all.")] = "",
    as_json: Json = False,
) -> None:
    """Say what each environment serves, since when, by whom, the way back, who holds it, who waits.

    Without the Prefect server it says what the environment and the ledger know.
    Example: `ignition status production`
    """
    from cli.examine import look
    from settings import load_settings

    view = look(load_settings(), environment)
    say(as_json, view.as_json(), view.lines)


@app.command()
def deploy(
    version: Annotated[str, typer.Argument(help="vMAJOR.MINOR.PATCH, to tag and deploy.")] = "",
    to: Annotated[str, typer.Option(help="The environment to deploy to.")] = "staging",
    ref: Annotated[str, typer.Option(help="Branch, tag or commit to release.")] = "main",
    branch: Annotated[str, typer.Option(help="Deploy this branch as it is, without a tag.")] = "",
    by: Annotated[str, typer.Option("--as", help="Your name, for the deployment log.")] = "",
    ticket: Annotated[str, typer.Option(help="The ticket to close at the end.")] = "",
    notes: Annotated[str, typer.Option(help="One line for the deployment log.")] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Plan, and change nothing.")] = False,
    wait: Wait = False,
    as_json: Json = False,
) -> None:
    """Start a deployment. Its gates are signed with `ignition approve`, or in the UI.

    Example: `ignition deploy v1.2.3 --to production --as "Ada" --wait`
    """
    from cli.runs import start
    from release.model import ReleaseKind
    from release.request import DeployRequest, checked, name_of, tags_of
    from settings import load_settings

    load_settings().environment(to)
    request = checked(
        DeployRequest(
            version=version,
            kind=ReleaseKind.BRANCH if branch else ReleaseKind.TAG,
            ref=branch or ref,
            started_by=by,
            ticket=ticket,
            notes=notes,
            dry_run=dry_run,
        )
    )
    name = name_of("deploy", version or branch, to, dry_run=dry_run)
    tags = sorted(tags_of(to, version or branch))
    parameters = {"request": request.model_dump(mode="json"), "environment": to}
    _started(start(f"deploy/{to}", parameters, name, tags), wait, as_json)


@app.command()
def plan(
    to: Annotated[str, typer.Option(help="The environment that would be deployed to.")] = "staging",
    ref: Annotated[str, typer.Option(help="Branch, tag or commit to plan.")] = "main",
    folder: Annotated[
        Path | None, typer.Option(help="Plan this folder of migrations instead of a commit.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Say what a deployment would do to the schema: which files, when, and what they may block.

    Nothing is changed. Exit code 1 if the deployment would be refused.
    Example: `ignition plan --to production --folder app/backend/migrations`
    """
    from cli.plan import plan as planned
    from settings import load_settings

    view = planned(load_settings(), to, ref, folder)
    say(as_json, view.as_json(), view.lines)


@app.command()
def rollback(
    environment: Environment,
    reason: Annotated[str, typer.Option(help="Why, in one line. Required.")] = "",
    to: Annotated[str, typer.Option(help="A version; empty: the one that served before.")] = "",
    by: Annotated[str, typer.Option("--as", help="Your name, for the deployment log.")] = "",
    wait: Wait = False,
    as_json: Json = False,
) -> None:
    """Go back to a release that served before. There are no gates.

    Example: `ignition rollback production --reason "P0: orders are charged twice" --wait`
    """
    from cli.runs import require_server, start
    from release.request import RollbackRequest, checked_rollback, name_of, tags_of
    from settings import load_settings

    load_settings().environment(environment)
    request = checked_rollback(RollbackRequest(reason=reason, to=to, started_by=by), environment)
    require_server(instead=f"ignition p0 {environment} --reason …")
    parameters = {"request": request.model_dump(mode="json"), "environment": environment}
    name = name_of("rollback", to, environment)
    tags = sorted(tags_of(environment, to))
    _started(start(f"rollback/{environment}", parameters, name, tags), wait, as_json)


@app.command()
def p0(
    environment: Environment,
    reason: Annotated[str, typer.Option(help="Why, in one line. Required.")] = "",
    to: Annotated[str, typer.Option(help="A version; empty: the one that served before.")] = "",
    by: Annotated[str, typer.Option("--as", help="Your name, for the ledger.")] = "",
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask first.")] = False,
) -> None:
    """Declare a P0: what serves must not stay. Interrupts a watch under way, or rolls back.

    Shows what it goes back to, asks, and follows it to its end. Exit code 0: it was rolled back.
    Without the Prefect server a run that hears of it does it, or it says what to type on the host.
    Example: `ignition p0 production --reason "orders are charged twice" --as "Ada"`
    """
    from cli.p0 import roll_back
    from release.request import RollbackRequest
    from settings import load_settings

    request = RollbackRequest(reason=reason, to=to, started_by=by)
    ask = (lambda: True) if yes else may_roll_back
    if not roll_back(load_settings(), environment, request, ask, typer.echo):
        raise typer.Exit(1)


@app.command()
def gates(as_json: Json = False) -> None:
    """Say which runs wait for a signature: for which items, since when, until when.

    Example: `ignition gates`
    """
    from cli.examine import ledger_of
    from cli.gates import gate_view
    from cli.runs import require_server, waiting
    from settings import load_settings

    require_server(instead="ignition status")  # which knows from the ledger who waits
    ledger = ledger_of(load_settings())
    views = [gate_view(run, ledger.events(run_id=run.id)) for run in waiting()]
    say(
        as_json,
        [view.as_json() for view in views],
        lambda: [line for view in views for line in view.lines()] or ["no gate waits"],
    )


@app.command()
def approve(
    run: Annotated[str, typer.Argument(help="The waiting run: d-1874ab, or its id.")],
    by: Annotated[str, typer.Option("--as", help="Your name, as you were enrolled.")],
    item: Annotated[str, typer.Option(help="One item's id; empty: all that you may sign.")] = "",
    comment: Annotated[str, typer.Option(help="One line for the log.")] = "",
    as_json: Json = False,
) -> None:
    """Sign a waiting run's checklist, after showing what it rests on.

    Asks for the one-time code, or reads it as a line of its input: a command line is public.
    Example: `ignition approve d-1874ab --as "Ada"`
    """
    refuse_unknown(ours(), by)
    from cli.examine import ledger_of
    from cli.gates import approval, refuse_unknown_item
    from cli.runs import find_waiting, gate_text
    from settings import load_settings

    found = find_waiting(run)
    if item:
        refuse_unknown_item(item, found, ledger_of(load_settings()).events(run_id=found.id))
    if not as_json:
        show_markdown(gate_text(found))
    if sys.stdin.isatty():
        code = typer.prompt(f"{by} signs {item or 'all that is open'}. One-time code")
    else:
        code = sys.stdin.readline()
    _answer_gate(found, approval(by, item, comment, code.strip()), as_json)


@app.command()
def reject(
    run: Annotated[str, typer.Argument(help="The waiting run: d-1874ab, or its id.")],
    by: Annotated[str, typer.Option("--as", help="Your name, as it will stand in the log.")],
    reason: Annotated[str, typer.Option(help="Why, in one line.")],
    as_json: Json = False,
) -> None:
    """Say no at a gate: the run ends as Rejected, and nothing was changed. It needs no code.

    Example: `ignition reject d-1874ab --as "Ada" --reason "freeze until Monday"`
    """
    from cli.gates import rejection
    from cli.runs import find_waiting

    values = rejection(by, reason)
    _answer_gate(find_waiting(run), values, as_json)


@app.command()
def log(
    environment: Annotated[str, typer.Argument(help="One environment; empty for all.")] = "",
    limit: Annotated[int, typer.Option(help="Newest rows to show.", min=1, max=1000)] = 20,
    as_json: Json = False,
) -> None:
    """Show the deployment log, newest first.

    Example: `ignition log production --limit 5`
    """
    from dataclasses import asdict

    from cli.examine import log_line, read_log
    from settings import load_settings

    rows = read_log(load_settings(), environment, limit)
    say(as_json, [asdict(row) for row in rows], lambda: [log_line(row) for row in rows])


@app.command()
def verify(as_json: Json = False) -> None:
    """Check the ledger's chain of hashes: exit code 1 if an event was changed or is missing.

    Example: `ignition verify`
    """
    from cli.examine import verify_ledger
    from settings import load_settings

    problems = verify_ledger(load_settings())
    say(as_json, {"problems": problems}, lambda: problems or ["the ledger's chain is whole"])
    if problems:
        raise typer.Exit(1)


@app.command()
def unlock(
    environment: Environment,
    reason: Annotated[str, typer.Option(help="Why, in one line.")],
    by: Annotated[str, typer.Option("--as", help="Your name, for the ledger.")],
    as_json: Json = False,
) -> None:
    """Take an environment's lock from a run that has ended without giving it back.

    Refused while that run goes on. Example:
    `ignition unlock production --as "Ada" --reason "its gate expired"`
    """
    from cli.examine import unlock as take
    from settings import load_settings

    said = take(load_settings(), environment, by, reason)
    say(as_json, {"environment": environment, "unlocked": True}, lambda: [said])


@app.command()
def adopt(
    environment: Environment,
    through: Annotated[
        str, typer.Option(help="The number of the last file that the schema has; empty: ask.")
    ] = "",
    by: Annotated[str, typer.Option("--as", help="Your name, for the record.")] = "",
    reason: Annotated[str, typer.Option(help="Why, in one line.")] = "",
    ref: Annotated[str, typer.Option(help="Branch, tag or commit that has the files.")] = "main",
    folder: Annotated[
        Path | None, typer.Option(help="Read the files from this folder instead.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show it, write nothing.")] = False,
) -> None:
    """Take over a schema that another migration tool made: record files without running them.

    Shows which tool was found. Without `--through` it proposes one if that is certain. Example:
    `ignition adopt production --through 0012 --as "Ada" --reason "was Flyway"`
    """
    from cli.adopt import AdoptRequest, adopting
    from settings import load_settings

    request = AdoptRequest(through, by, reason, ref, folder, dry_run)
    for line in adopting(load_settings(), environment, request):
        typer.echo(line)


def _started(run: Any, wait: bool, as_json: bool) -> None:
    from cli.runs import follow

    if not as_json:
        typer.echo(f"[{run.label}] started: {run.name}\n{run.url}")
    if wait:
        run = follow(
            run,
            lambda seen: None if as_json else say_state(seen),
            complain=lambda why: typer.echo(f"[{run.label}] {why}", err=as_json),
        )
    if as_json:
        typer.echo(json.dumps(run.as_json(), indent=2))
    elif not wait:
        typer.echo("follow it: ignition status")
    if run.ended and run.state_type != "COMPLETED":
        raise typer.Exit(1)


def _answer_gate(run: Any, values: dict[str, Any], as_json: bool) -> None:
    """Send an answer and say what the worker made of it."""
    from cli.examine import ledger_of
    from cli.gates import judged
    from cli.runs import answer
    from settings import load_settings

    ledger = ledger_of(load_settings())
    gate = answer(run, values)
    if not as_json:
        typer.echo(f"[{run.label}] sent; the worker reads it", err=True)
    lines = judged(ledger, run, gate, values["approver"], JUDGED_WITHIN)
    say(
        as_json,
        {"run": run.id, "answer": {k: v for k, v in values.items() if k != "code"}, "said": lines},
        lambda: [f"[{run.label}] {line}" for line in lines],
    )
