"""Who carries out a rollback if another run holds the environment.

Two runs never change what serves at once: whoever holds the environment is told, waited for, or, if
it waits itself, put aside.
"""

from collections.abc import Sequence
from enum import StrEnum

from release.ledger import Event, EventKind, Lock
from release.model import Step
from release.rollback.recovery import open_gate_of


class Way(StrEnum):
    """What a rollback does about the run that holds the environment."""

    GO = "go"  # nobody is in the way, or somebody whom the lock itself refuses
    TELL = "tell"  # a deployment that users meet already: it rolls itself back
    WAIT = "wait"  # a deployment that users do not meet yet, or any run that is nearly over
    TAKE = "take"  # one that waits for signatures, or has ended: it loses the environment


def way_of(holder: Lock | None, events: Sequence[Event], ended: bool) -> Way:
    """Decide from what the holder has done (``events``) and whether its run has ``ended``.

    A deployment that waits at a gate has no process that could be told, and may wait for hours. It
    ends when it is answered, because it confirms then that it still holds the environment.
    A rollback that is under way is not interrupted; one that only watches what it has brought back
    is told, and leaves it at that.
    """
    if holder is None:
        return Way.GO
    # One that has written down its ending gives the environment back now, or left it on purpose.
    if ended or any(event.kind == EventKind.DEPLOYMENT_ENDED for event in events):
        return Way.TAKE
    begun = {event.step for event in events if event.kind == EventKind.STEP_BEGUN}
    done = {event.step for event in events if event.kind == EventKind.STEP_DONE}
    if Step.PLAN not in begun:  # another rollback
        return Way.WAIT if Step.ROLLBACK in done else Way.GO
    if open_gate_of(events) is not None:
        return Way.TAKE
    return Way.TELL if Step.DEPLOY in begun and Step.POST not in done else Way.WAIT
