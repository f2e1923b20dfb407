"""How a run ends: Prefect's state, the report, the ledger's line. The only place that maps them."""

from datetime import UTC, datetime
from typing import Any

from prefect import get_run_logger
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from flows.run import Run
from release.errors import DeployError
from release.notice import run_ended
from release.outcome import (
    Conclusion,
    Ending,
    Report,
    ending_in,
    log_notes,
    message_of,
    one_line,
    what_is_gone,
    what_to_do,
)
from release.steps import approvals, step_lines
from tasks.deployment_log import catch_up, say_ending, write_ending
from tasks.environment import release_environment
from tasks.notification import notify, page_of
from tasks.serving import what_serves


def refused(error: DeployError) -> State[Any]:
    """End a run that never got as far as an environment."""
    get_run_logger().error("%s  nothing was changed; %s", Ending.REFUSED, error)
    return state(Ending.REFUSED, str(error))


def lost(error: DeployError) -> State[Any]:
    """End a run that woke up after its environment was taken over: it writes and undoes nothing."""
    get_run_logger().error("%s  nothing is undone by this run; %s", Ending.FAILED, error)
    return state(Ending.FAILED, str(error))


def ended(run: Run, ending: Ending, sentence: str, hint: str = "") -> State[Any]:
    """End a run that has nothing to write down. Its sentence is the last line of its log."""
    log = get_run_logger()
    (log.info if ending.good else log.error)("[%s] %s  %s", run.label, ending, one_line(sentence))
    return state(ending, sentence, hint)


def close(
    run: Run, found: Conclusion, *, deployer: str, notes: str = "", dry_run: bool = False
) -> State[Any]:
    """End a run that knows its environment: ask what serves, write it down, free the lock.

    After a failed rollback the lock stays, until a person has looked: `ignition unlock`.
    """
    ending, sentence, release = found.ending, found.sentence, found.release
    serves, held = what_serves(run.target), run.may_hold()
    gone = what_is_gone(ending, run.environment, release.version if release else "", serves)
    hint = found.hint or gone
    events = run.target.ledger.run_events(run.id)
    report = Report(
        environment=run.environment,
        run=run.label,
        ending=ending,
        sentence=sentence,
        serves=serves,
        to_do=gone or what_to_do(ending, run.environment, hint),
        steps=step_lines(events),
        approvals=approvals(events),
        ended_at=datetime.now(UTC),
        dry_run=dry_run,
    )
    payload = {
        "ending": ending.value,
        "version": release.version if release else "",
        "revision": release.revision if release else "",
        "image": str(release.image or "") if release else "",
        "deployer": deployer or "unnamed",
        "notes": log_notes(ending, sentence, notes),
        "sentence": sentence,
        "serves": serves,
    }
    # Neither may change the ending: what they could not do is in their own task's state.
    write_ending(run.target, run.id, report, payload, return_state=True)
    if ending is not Ending.ROLLBACK_FAILED:  # nobody deploys onto a state that nobody knows
        release_environment(run.target, run.id, return_state=True)
    version = release.version if release else "no release"
    _tell(run, report, version, payload["deployer"], page=bool(gone))
    say_ending(report)
    if not run.target.ledger.flush() and held:  # nobody else can have it until the ledger has this
        catch_up(run.target, return_state=True)
        say_ending(report)  # the last line of the log, after those of the tries
    glue = "\n" if "\n" in sentence else "; "  # below the log lines that a sentence may end with
    said = f"{sentence}{glue}{run.environment} serves {serves}"
    return state(ending, said, hint or report.to_do)


def _tell(run: Run, report: Report, version: str, by: str, page: bool) -> None:
    """Tell people how it ended; wake people up only if they have to look."""
    if report.ending in (Ending.PLANNED, Ending.NOTHING_TO_DO, Ending.REFUSED):
        return
    names = run.settings.notify.blocks
    if page or report.ending in (Ending.ROLLBACK_FAILED, Ending.EXPIRED):
        names += run.settings.notify.escalation
    notice = run_ended(report, version, by, page_of(run.id))
    notify(run.target, names, notice, run.id, key="ending", return_state=True)


def state(ending: Ending, sentence: str, hint: str = "") -> State[Any]:
    """Prefect's state for an ending: green only if the run did what was asked for.

    It keeps Prefect's own name, by which both of its UIs filter.
    """
    message = f"{sentence}\nhint: {hint}" if hint else sentence
    return (Completed if ending.good else Failed)(message=message_of(ending, message))


def ending_of(ended: State[Any]) -> Ending | None:
    """How a run of ours ended. Returns None if it did not say so: it crashed, or something
    raised."""
    ending = ending_in(ended.message)
    return ending if ending and ending.good == ended.is_completed() else None
