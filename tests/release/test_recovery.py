"""What is left of a run that ended without saying so, read from its events alone."""

from datetime import UTC, datetime
from typing import Any

import pytest

from release.errors import BadRequest
from release.ledger import Event, EventKind
from release.model import Step
from release.recovery import Action, OpenGate, open_gate_of, recovery_of, run_of

AT = datetime(2026, 11, 3, 14, 2, tzinfo=UTC)
RUN = "1874ab00-0000-4000-8000-000000000000"


def event(kind: EventKind, step: str = "", **payload: Any) -> Event:
    return Event(1, AT, "production", RUN, kind, step, payload)


TAKEN = event(EventKind.LOCK_TAKEN)
PLANNED = event(EventKind.STEP_BEGUN, Step.PLAN)
ASKED = event(EventKind.STEP_BEGUN, Step.CHECKLIST)
OPENED = event(
    EventKind.GATE_OPENED,
    Step.CHECKLIST,
    items=["tests", "pager"],
    until="2026-11-03T22:02:00Z",
    about="v1.1.0",
    evidence="tests passed",
)
SIGNED = event(EventKind.ITEM_SIGNED, Step.CHECKLIST, item="plan", approver="Ada")
CLOSED = event(EventKind.GATE_CLOSED, Step.CHECKLIST)
TAGGED = event(EventKind.STEP_BEGUN, Step.PREPARE)
ENDED = event(EventKind.DEPLOYMENT_ENDED)
WAITING = [TAKEN, PLANNED, ASKED, OPENED]


@pytest.mark.parametrize(
    ("events", "state", "action", "says"),
    [
        ([], "FAILED", Action.NOTHING, "it never held the environment"),
        ([PLANNED], "CRASHED", Action.NOTHING, "it never held the environment"),
        ([*WAITING, ENDED], "FAILED", Action.NOTHING, "it ended by itself"),
        (
            [*WAITING, event(EventKind.LOCK_RELEASED)],
            "FAILED",
            Action.NOTHING,
            "it ended by itself",
        ),
        ([*WAITING, event(EventKind.LOCK_BROKEN)], "CRASHED", Action.NOTHING, "it ended by itself"),
        (
            WAITING,
            "FAILED",
            Action.SETTLE,
            "the gate's time is over; not signed: tests, pager",
        ),
        (
            WAITING,
            "CANCELLED",
            Action.SETTLE,
            "the run was cancelled at its gate; not signed: tests, pager",
        ),
        (WAITING, "CRASHED", Action.SETTLE, "the run crashed at its gate; not signed: tests, pag"),
        (WAITING, "COMPLETED", Action.SETTLE, "the run was called completed by hand at its gate"),
        ([TAKEN, PLANNED], "CRASHED", Action.SETTLE, "the run crashed before anything was changed"),
        (
            [*WAITING, CLOSED],
            "CANCELLED",
            Action.SETTLE,
            "the run was cancelled before anything was changed",
        ),
        (
            [*WAITING, CLOSED, TAGGED],
            "CRASHED",
            Action.TELL,
            "the run crashed after it had begun '1. Prepare Release'",
        ),
        (
            [*WAITING, CLOSED, TAGGED, event(EventKind.STEP_BEGUN, Step.DEPLOY)],
            "FAILED",
            Action.TELL,
            "the run failed after it had begun '4. Deploy to Production'",
        ),
    ],
)
def test_only_a_run_that_changed_nothing_is_settled(
    events: list[Event], state: str, action: Action, says: str
) -> None:
    found = recovery_of(events, state)
    assert found.action is action
    assert found.sentence.startswith(says)


@pytest.mark.parametrize(
    ("state", "expired"), [("FAILED", True), ("CANCELLED", False), ("COMPLETED", False)]
)
def test_a_gate_whose_time_is_over_has_expired_and_a_cancelled_one_has_not(
    state: str, expired: bool
) -> None:
    assert recovery_of(WAITING, state).expired is expired


def test_an_open_gate_says_what_is_open_and_who_signed() -> None:
    assert open_gate_of([*WAITING, SIGNED]) == OpenGate(
        Step.CHECKLIST,
        ("tests", "pager"),
        ("plan by Ada",),
        "2026-11-03T22:02:00Z",
        "v1.1.0",
        "tests passed",
    )


@pytest.mark.parametrize("after", [CLOSED, ENDED, event(EventKind.LOCK_RELEASED)])
def test_a_gate_that_is_over_reminds_nobody(after: Event) -> None:
    assert open_gate_of([*WAITING, after]) is None


def test_a_second_gate_waits_although_the_first_is_closed() -> None:
    later = event(EventKind.GATE_OPENED, Step.POST, items=["told"])
    found = open_gate_of([*WAITING, CLOSED, later])
    assert found is not None
    assert (found.section, found.items, found.until) == (Step.POST, ("told",), "")


@pytest.mark.parametrize("sent", [RUN, f"ignition.gate.{RUN}", f"prefect.flow-run.{RUN}"])
def test_a_run_is_found_in_what_an_automation_sends(sent: str) -> None:
    assert run_of(sent) == RUN


@pytest.mark.parametrize("sent", ["", "ignition.gate.", "{{ labels }}", "d-1874ab"])
def test_what_names_no_run_is_refused(sent: str) -> None:
    with pytest.raises(BadRequest, match="names no run"):
        run_of(sent)
