"""What the run that holds an environment is doing, and what a person can type about it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from release.errors import EnvironmentLocked
from release.ledger import Event, EventKind, Lock, short_run
from release.outcome import Ending
from release.rollback.recovery import LONGEST_SILENCE, OpenGate, open_gate_of


class Doing(StrEnum):
    """What a run that holds an environment does."""

    WAITS = "waits"  # at a gate, where it has no process
    RUNS = "runs"
    SILENT = "silent"  # it should run, and has not been heard of
    ENDED = "ended"  # without giving the environment back
    LEFT = "left"  # locked on purpose: its rollback failed, and a person has to look


@dataclass(frozen=True, slots=True)
class Hold:
    """Who holds an environment: a sentence that begins with "held by", and what to type."""

    doing: Doing
    sentence: str
    hint: str

    def refusal(self, environment: str) -> EnvironmentLocked:
        """What a run that wanted the environment is told."""
        return EnvironmentLocked(f"{environment} is {self.sentence}", self.hint)


def hold_of(lock: Lock, events: Sequence[Event], ended: bool = False) -> Hold:
    """Decide what the holder of a lock does.

    ``events`` are those of its run, and of the runs that it took the environment over from: a
    recovery writes the ending of the run that it recovers. ``ended``: Prefect says that the run is
    over; False if Prefect was not asked.
    """
    doing, what, hint = _doing(lock, events, ended)
    why = f" ({lock.reason})" if lock.reason else ""
    sentence = (
        f"held by {lock.owner}, run {short_run(lock.run_id)}, since {clock(lock.acquired_at)}"
        f"{why}: {what}"
    )
    return Hold(doing, sentence, hint)


def _doing(lock: Lock, events: Sequence[Event], ended: bool) -> tuple[Doing, str, str]:
    there = lock.environment
    unlock = f"ignition unlock {there} --as NAME --reason …"
    settle = f"recover/{there} gives it back as soon as a worker runs; if it does not: {unlock}"
    written = [event for event in events if event.kind == EventKind.DEPLOYMENT_ENDED]
    if written:
        ending = str(written[-1].payload.get("ending", ""))
        said = f"it ended as {ending} at {clock(written[-1].at)}"
        if ending == Ending.ROLLBACK_FAILED:
            return (
                Doing.LEFT,
                f"{said}, so a person has to look at what {there} serves",
                f"ignition status {there}; if that is as it should be: {unlock}; if not: "
                f"ignition rollback {there} --to VERSION --reason …, which needs no unlock",
            )
        return Doing.ENDED, f"{said}, but has not given {there} back", f"try again; {settle}"
    if ended:
        return Doing.ENDED, f"it is over, but has not given {there} back", settle
    gate = open_gate_of([event for event in events if event.run_id == lock.run_id])
    if gate is not None:
        return _waiting(lock, gate, settle)
    if lock.silent > LONGEST_SILENCE:
        return Doing.SILENT, f"it was last heard from at {clock(lock.heartbeat_at)}", settle
    return (
        Doing.RUNS,
        _under_way(events),
        f"wait until it ends: ignition status {there}; a deployment waits by itself with "
        f"environments.{there}.wait_for_others",
    )


def _waiting(lock: Lock, gate: OpenGate, settle: str) -> tuple[Doing, str, str]:
    run, now = short_run(lock.run_id), lock.heartbeat_at + lock.silent  # by the ledger's clock
    if gate.ends is not None and gate.ends <= now:
        return Doing.ENDED, f"its gate's time was over at {clock(gate.ends)}", settle
    until = f" until {clock(gate.ends)}" if gate.ends else ""
    return (
        Doing.WAITS,
        f"it waits for signatures{until}; {gate.open}",
        f"ignition approve {run} --as NAME, or: ignition reject {run} --as NAME --reason …",
    )


def _under_way(events: Sequence[Event]) -> str:
    begun = [event.step for event in events if event.kind == EventKind.STEP_BEGUN]
    return f"it is in {str(begun[-1])!r}" if begun else "it has just begun"


def clock(at: datetime) -> str:
    """A moment with its date: an environment may be held, and served, for days."""
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
