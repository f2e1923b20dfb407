"""Who carries a rollback out: a table over what the holder of the environment has done."""

from datetime import UTC, datetime

import pytest

from release.ledger import Event, EventKind, Lock
from release.model import Step
from release.rollback.hand_over import Way, way_of

NOW = datetime(2026, 11, 3, 14, 0, tzinfo=UTC)
LOCK = Lock("production", "run", "Ada", "", 1, NOW, NOW)
BEGUN, DONE = EventKind.STEP_BEGUN, EventKind.STEP_DONE


def events(*what: tuple[EventKind, str]) -> list[Event]:
    return [
        Event(number, NOW, "production", "run", kind, step=step)
        for number, (kind, step) in enumerate(what, 1)
    ]


PLANNED = [(BEGUN, Step.PLAN), (DONE, Step.PLAN), (BEGUN, Step.CHECKLIST)]
SIGNED = [
    *PLANNED,
    (EventKind.GATE_OPENED, Step.CHECKLIST),
    (EventKind.GATE_CLOSED, Step.CHECKLIST),
    (DONE, Step.CHECKLIST),
]
LIVE = [*SIGNED, (BEGUN, Step.DEPLOY)]
WATCHED = [*LIVE, (DONE, Step.DEPLOY), (BEGUN, Step.POST), (DONE, Step.POST)]
CASES = {
    "plans": ([(BEGUN, Step.PLAN)], False, Way.WAIT),
    "collects evidence": (PLANNED, False, Way.WAIT),
    "waits at its gate": ([*PLANNED, (EventKind.GATE_OPENED, Step.CHECKLIST)], False, Way.TAKE),
    "migrates": ([*SIGNED, (BEGUN, Step.MIGRATE)], False, Way.WAIT),
    "rolls out": (LIVE, False, Way.TELL),
    "is watched": ([*LIVE, (DONE, Step.DEPLOY), (BEGUN, Step.POST)], False, Way.TELL),
    "rolls itself back": ([*LIVE, (BEGUN, Step.ROLLBACK)], False, Way.TELL),
    "removes the old schema": (WATCHED, False, Way.WAIT),
    "waits at its last gate": ([*WATCHED, (EventKind.GATE_OPENED, Step.POST)], False, Way.TAKE),
    "crashed in step 4": (LIVE, True, Way.TAKE),
    "failed to roll back": ([*LIVE, (EventKind.DEPLOYMENT_ENDED, "")], False, Way.TAKE),
    "is another rollback": ([(BEGUN, Step.ROLLBACK)], False, Way.GO),
    "is another rollback, and watches what it restored": (
        [(BEGUN, Step.ROLLBACK), (DONE, Step.ROLLBACK)],
        False,
        Way.WAIT,
    ),
    "is another rollback, and crashed": ([(BEGUN, Step.ROLLBACK)], True, Way.TAKE),
}


@pytest.mark.parametrize(("done", "ended", "way"), CASES.values(), ids=CASES)
def test_the_holder(done: list[tuple[EventKind, str]], ended: bool, way: Way) -> None:
    assert way_of(LOCK, events(*done), ended) is way


def test_nobody_is_in_the_way_where_nobody_holds_the_environment() -> None:
    assert way_of(None, [], ended=False) is Way.GO
