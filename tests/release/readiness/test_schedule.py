"""When a schedule comes next, and what is said where it does not."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from release.readiness.schedule import Schedule, judge_schedule, schedule_line

NOW = datetime(2026, 11, 30, 21, 5, tzinfo=UTC)
NIGHTLY = Schedule(
    deployment="nightly/staging",
    id="24b61381",
    is_active=True,
    is_paused=False,
    changed=NOW - timedelta(days=3),
    next=datetime(2026, 12, 1, 2, 0, tzinfo=UTC),
)
DEAD = replace(NIGHTLY, next=None)


def test_a_schedule_says_when_it_comes_next() -> None:
    assert schedule_line(NIGHTLY, NOW) == (
        "schedule nightly/staging  next 2026-12-01 02:00 UTC (in 5 h)"
    )


@pytest.mark.parametrize(
    ("before", "said"),
    [
        (timedelta(seconds=40), "in 40 s"),
        (timedelta(minutes=8, seconds=20), "in 8 min"),
        (timedelta(hours=23, minutes=50), "in 24 h"),
        (timedelta(days=6), "in 144 h"),
    ],
)
def test_how_far_it_is_away_is_said_as_roughly_as_it_matters(before: timedelta, said: str) -> None:
    assert f"({said})" in judge_schedule(replace(NIGHTLY, next=NOW + before), NOW).found


def test_an_active_schedule_without_a_run_is_a_fault() -> None:
    """The server's scheduler was dead for weeks, and the schedule looked active all the time."""
    assert schedule_line(DEAD, NOW) == (
        "WRONG nightly/staging: active, but no run is scheduled: "
        "the Prefect server's scheduler does nothing: ignition doctor"
    )


@pytest.mark.parametrize(("age", "well"), [(0, True), (89, True), (90, False)])
def test_the_scheduler_has_a_minute_for_a_schedule_that_is_new(age: float, well: bool) -> None:
    new = replace(DEAD, changed=NOW - timedelta(seconds=age))

    assert judge_schedule(new, NOW).ok is well


def test_a_schedule_that_is_switched_off_says_what_switches_it_on() -> None:
    answer = judge_schedule(replace(NIGHTLY, is_active=False), NOW)

    assert answer.problem == "nightly/staging is switched off, so no run starts"
    assert answer.hint == "prefect deployment schedule resume nightly/staging 24b61381"


def test_a_paused_deployment_brings_no_run_however_active_its_schedule_is() -> None:
    answer = judge_schedule(replace(NIGHTLY, is_paused=True), NOW)

    assert answer.problem == "its deployment nightly/staging is paused, so no run starts"


@pytest.mark.parametrize(
    ("late", "well"), [(timedelta(minutes=1), True), (timedelta(hours=2), False)]
)
def test_a_run_that_was_due_and_has_not_begun_is_a_fault(late: timedelta, well: bool) -> None:
    """The next one is scheduled all the same, and will not begin either."""
    answer = judge_schedule(replace(NIGHTLY, due=NOW - late), NOW)

    assert answer.ok is well
    if not well:
        assert answer.problem == (
            "the run that was due 2026-11-30 19:05 UTC (2 h ago) has not begun: no worker took it"
        )
