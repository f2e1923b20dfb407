"""What a recovery does before it acts: read what the run did, and make sure that it has ended."""

from collections.abc import Sequence
from datetime import timedelta
from logging import WARNING

from blocks.processes import end_run_processes
from blocks.target import Target
from release.errors import DeployError
from release.ledger import Event
from tasks.say import say
from tasks.step import step

_TRIES_MORE = 8  # over some minutes: a database that restarts


@step("Read what the run did", timeout=timedelta(minutes=1), retries=_TRIES_MORE)
def read_events(target: Target, run_id: str) -> list[Event]:
    """All events of a run; what the worker keeps is written first.

    Raises Unreachable rather than to answer from half of them: a decision rests on it.
    """
    target.ledger.flush()
    return target.ledger.events(target.environment, run_id)


@step("End the run's processes", timeout=timedelta(minutes=1))
def end_processes(run_id: str) -> int:
    """Kill what still runs of a run that has ended, on this machine: it may wake up and go on."""
    ended = end_run_processes(run_id)
    if ended:
        say(f"killed {ended} processes of it", WARNING)
    return ended


@step("Clear away", timeout=timedelta(minutes=2), retries=2)
def clear_away(target: Target) -> int:
    """Remove what the run's rehearsal left running; an engine that does not answer keeps it.

    The run that ended holds the environment still, so nobody else rehearses there.
    """
    try:
        removed = target.orchestrator.remove_apart()
    except DeployError as error:
        say(f"nothing was cleared away: {error.what}", WARNING)
        return 0
    if removed:
        say(f"removed {removed} containers of its rehearsal")
    return removed


@step("Take over for the recovery", timeout=timedelta(minutes=1), retries=_TRIES_MORE)
def take_over(target: Target, from_runs: Sequence[str], by: str, reason: str) -> None:
    """Take the lock from a run that has ended. Raises EnvironmentLocked if another run holds it."""
    target.ledger.take_over(target.environment, from_runs, by, "recover", reason)
    say(f"{target.environment} is held by its recovery")
