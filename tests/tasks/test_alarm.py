"""A P0 is heard within a second or two, whatever a run is doing."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from prefect import flow

from release.errors import TriggerFired, Unreachable
from release.ledger import Event
from tasks.alarm import Alarm, heed, listening
from tasks.step import step

MS = timedelta(milliseconds=1)
SINCE = datetime(2026, 11, 3, 14, 0, tzinfo=UTC)


@dataclass
class Reports:
    """A ledger in which a P0 is declared after it was asked a few times, and that may be away."""

    asked_before: int = 0
    away: int = 0  # how often it does not answer
    asked: list[datetime] = field(default_factory=list)

    def p0_declared(self, environment: str, since: datetime) -> Event | None:
        self.asked.append(since)
        if len(self.asked) <= self.away:
            raise Unreachable("the ledger does not answer")
        if len(self.asked) <= self.asked_before:
            return None
        return Event(1, since, environment, "run", "p0_declared", payload={"reason": "twice"})


def ask(reports: Reports) -> Callable[[], str | None]:
    def answer() -> str | None:
        event = reports.p0_declared("production", SINCE)
        return event.payload["reason"] if event else None

    return answer


def test_a_wait_ends_when_a_p0_is_declared() -> None:
    with Alarm(ask(Reports(asked_before=2)), every=10 * MS) as alarm:
        alarm.wait(timedelta(hours=1))

        assert alarm.reason == "twice"


def test_a_wait_ends_by_itself_where_none_is() -> None:
    with Alarm(lambda: None, every=10 * MS) as alarm:
        alarm.wait(50 * MS)
        alarm.wait(-50 * MS)

        assert alarm.reason is None


def test_a_ledger_that_is_away_for_a_while_is_asked_again() -> None:
    with Alarm(ask(Reports(away=3)), every=10 * MS) as alarm:
        alarm.wait(timedelta(hours=1))

        assert alarm.reason == "twice"


def test_work_is_done_where_no_p0_is_declared_and_its_error_is_its_own() -> None:
    def fail() -> None:
        raise Unreachable("the service does not answer")

    with Alarm(lambda: None, every=10 * MS) as alarm:
        assert alarm.unless_declared(lambda: 42) == 42
        with pytest.raises(Unreachable):
            alarm.unless_declared(fail)


def test_work_that_hangs_is_left_to_itself_when_a_p0_is_declared() -> None:
    over = threading.Event()
    try:
        with Alarm(ask(Reports(asked_before=2)), every=10 * MS) as alarm:
            assert alarm.unless_declared(lambda: over.wait(60)) is None
            assert alarm.unless_declared(lambda: 42) is None
    finally:
        over.set()


def test_nothing_is_heeded_where_nobody_listens() -> None:
    heed()


def test_a_step_heeds_a_p0_that_was_declared_while_its_flow_listens(
    prefect_server: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    reports = Reports(asked_before=1)

    @step("Verify", timeout=timedelta(minutes=1))
    def verify(alarm: Any) -> None:
        heed()
        alarm.wait(timedelta(hours=1))
        heed()

    @flow
    def deploy() -> None:
        with listening(reports, "production", SINCE) as alarm:
            verify(alarm)

    with pytest.raises(TriggerFired, match="P0 declared: twice"):
        deploy()
    heed()

    assert set(reports.asked) == {SINCE}
