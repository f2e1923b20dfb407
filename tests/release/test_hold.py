"""What a person is told of an environment that another run holds: the truth, and what to type."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from release.hold import Doing, hold_of
from release.ledger import Event, EventKind, Lock
from release.model import Step
from release.rollback.recovery import LONGEST_SILENCE

AT = datetime(2026, 11, 3, 14, 2, tzinfo=UTC)
RUN, RECOVERY = "1874ab00-0000-4000-8000-000000000000", "22ffee00-0000-4000-8000-000000000000"
LOCK = Lock("production", RUN, "Ada", "", 1, AT, AT)
GONE = replace(LOCK, silent=timedelta(minutes=3))
UNLOCK = "ignition unlock production --as NAME --reason …"
SETTLE = f"recover/production gives it back as soon as a worker runs; if it does not: {UNLOCK}"


def event(kind: EventKind, step: str = "", run: str = RUN, **payload: Any) -> Event:
    return Event(1, AT + timedelta(minutes=8), "production", run, kind, step, payload)


PLANNED = event(EventKind.STEP_BEGUN, Step.PLAN)
LIVE = event(EventKind.STEP_BEGUN, Step.DEPLOY)
OPENED = event(
    EventKind.GATE_OPENED, Step.CHECKLIST, items=["tests", "pager"], until="2026-11-03T22:02:00Z"
)


def ended(ending: str) -> Event:
    return event(EventKind.DEPLOYMENT_ENDED, ending=ending)


@pytest.mark.parametrize(
    ("lock", "events", "over", "doing", "what", "hint"),
    [
        (
            GONE,
            [PLANNED, OPENED],
            False,
            Doing.WAITS,
            "it waits for signatures until 2026-11-03 22:02 UTC; not signed: tests, pager",
            "ignition approve d-1874ab --as NAME, or: ignition reject d-1874ab --as NAME "
            "--reason …",
        ),
        (
            replace(LOCK, silent=timedelta(hours=8)),
            [PLANNED, OPENED],
            False,
            Doing.ENDED,
            "its gate's time was over at 2026-11-03 22:02 UTC",
            SETTLE,
        ),
        (
            LOCK,
            [PLANNED, LIVE],
            False,
            Doing.RUNS,
            "it is in '4. Deploy to Production'",
            "wait until it ends: ignition status production; a deployment waits by itself with "
            "environments.production.wait_for_others",
        ),
        (
            replace(LOCK, silent=LONGEST_SILENCE),
            [],
            False,
            Doing.RUNS,
            "it has just begun",
            "wait until it ends: ignition status production; a deployment waits by itself with "
            "environments.production.wait_for_others",
        ),
        (
            GONE,
            [PLANNED, LIVE],
            False,
            Doing.SILENT,
            "it was last heard from at 2026-11-03 14:02 UTC",
            SETTLE,
        ),
        (
            GONE,
            [PLANNED, OPENED],
            True,
            Doing.ENDED,
            "it is over, but has not given production back",
            SETTLE,
        ),
        (
            LOCK,
            [PLANNED, ended("Deployed")],
            False,
            Doing.ENDED,
            "it ended as Deployed at 2026-11-03 14:10 UTC, but has not given production back",
            f"try again; {SETTLE}",
        ),
        (
            GONE,
            [PLANNED, LIVE, ended("RollbackFailed")],
            True,
            Doing.LEFT,
            "it ended as RollbackFailed at 2026-11-03 14:10 UTC, so a person has to look at what "
            "production serves",
            f"ignition status production; if that is as it should be: {UNLOCK}; if not: ignition "
            "rollback production --to VERSION --reason …, which needs no unlock",
        ),
    ],
)
def test_a_held_environment_says_what_its_holder_does_and_what_to_type(
    lock: Lock, events: list[Event], over: bool, doing: Doing, what: str, hint: str
) -> None:
    hold = hold_of(lock, events, over)

    assert hold.doing is doing
    assert hold.sentence == f"held by Ada, run d-1874ab, since 2026-11-03 14:02 UTC: {what}"
    assert hold.hint == hint


def test_a_reason_that_the_holder_gave_is_said_and_one_that_it_gave_not_leaves_no_mark() -> None:
    sentence = hold_of(replace(LOCK, reason="deploy v1.1.0"), [LIVE]).sentence

    assert sentence.startswith(
        "held by Ada, run d-1874ab, since 2026-11-03 14:02 UTC (deploy v1.1.0): it is in "
    )
    assert ": ;" not in hold_of(LOCK, [LIVE]).sentence
    assert "()" not in hold_of(LOCK, [LIVE]).sentence


def test_a_recovery_whose_rollback_failed_holds_it_in_the_name_of_the_run_that_it_recovered() -> (
    None
):
    """It wrote that run's ending, and left the environment locked under its own id."""
    lock = replace(GONE, run_id=RECOVERY, owner="recover", reason="the run crashed in step 4")
    taken = event(EventKind.LOCK_TAKEN_OVER, by=RECOVERY)

    hold = hold_of(lock, [PLANNED, OPENED, taken, ended("RollbackFailed")])

    assert hold.doing is Doing.LEFT
    assert "it ended as RollbackFailed" in hold.sentence
    assert UNLOCK in hold.hint


def test_a_recovery_does_not_wait_at_the_gate_of_the_run_that_it_recovers() -> None:
    lock = replace(LOCK, run_id=RECOVERY, owner="recover")

    assert hold_of(lock, [PLANNED, OPENED]).doing is Doing.RUNS


def test_the_refusal_names_the_environment() -> None:
    error = hold_of(LOCK, [LIVE]).refusal("production")

    assert error.what.startswith("production is held by Ada, run d-1874ab, since ")
    assert error.hint.startswith("wait until it ends")
