"""What a run did, read off its events."""

from datetime import UTC, datetime, timedelta
from typing import Any

from release.ledger import Event, EventKind
from release.model import Step
from release.outcome import StepLine
from release.steps import approvals, needs_environment, step_lines

BEGIN = datetime(2026, 11, 3, 14, 0, tzinfo=UTC)


def event(kind: EventKind, step: str = "", after: float = 0, **payload: Any) -> Event:
    at = BEGIN + timedelta(seconds=after)
    return Event(0, at, "production", "r1", kind.value, step=step, payload=payload)


def test_a_run_without_events_has_no_lines() -> None:
    assert step_lines([]) == ()
    assert approvals([]) == ()


def test_a_step_that_began_and_is_not_done_failed() -> None:
    lines = step_lines(
        [
            event(EventKind.STEP_BEGUN, Step.PLAN),
            event(EventKind.STEP_DONE, Step.PLAN, after=3),
            event(EventKind.STEP_BEGUN, Step.CHECKLIST, after=3),
        ]
    )

    assert lines == (
        StepLine(Step.PLAN, "done", timedelta(seconds=3)),
        StepLine(Step.CHECKLIST, "failed", None),
    )


def test_lines_are_in_the_runbooks_order() -> None:
    lines = step_lines(
        [event(EventKind.STEP_BEGUN, step) for step in (Step.ROLLBACK, Step.DEPLOY, Step.PLAN)]
    )

    assert [line.step for line in lines] == [Step.PLAN, Step.DEPLOY, Step.ROLLBACK]


def test_a_step_of_a_newer_version_is_left_out() -> None:
    assert step_lines([event(EventKind.STEP_BEGUN, "6. Celebrate")]) == ()


def test_signatures_say_who_signed_what() -> None:
    events = [
        event(EventKind.GATE_OPENED),
        event(EventKind.ITEM_SIGNED, item="tests", approver="Ada", comment="green since noon"),
        event(EventKind.ITEM_SIGNED, item="on-call", approver="Ben"),
    ]

    assert approvals(events) == (("tests", "Ada", "green since noon"), ("on-call", "Ben", ""))


def test_each_step_but_the_plan_needs_the_environment() -> None:
    assert not needs_environment([])
    assert not needs_environment([Step.PLAN])
    for step in set(Step) - {Step.PLAN}:
        assert needs_environment([Step.PLAN, step])
