"""What schedules start, with nobody watching: staging from main, and the watch."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from sandbox.commands import wait_until
from tests.e2e.conftest import Deployed
from tests.e2e.driver import Operator, Outcome

pytestmark = pytest.mark.e2e


def nightly(operator: Operator) -> Outcome:
    return operator.end_of(operator.create_run("nightly/staging", {"environment": "staging"}))


def write_a_note(work: Path) -> None:
    with (work / "app/backend/items.py").open("a") as file:
        file.write("\n# Notes are plain text.\n")


def test_a_schedule_of_prefect_yaml_has_its_next_runs_within_a_minute(operator: Operator) -> None:
    def due(deployment: str) -> list[datetime]:
        ahead = (r for r in operator.scheduled(deployment) if r["state_type"] == "SCHEDULED")
        return [datetime.fromisoformat(run["expected_start_time"]) for run in ahead]

    wait_until(
        lambda: due("nightly/staging") and due("watch/production"),
        what="runs of both schedules",
        seconds=60,
        hint=f"read {operator.sandbox.logs}/server.log",
    )

    assert {(at.hour, at.minute) for at in due("nightly/staging")} == {(2, 0)}
    assert {at.minute % 10 for at in due("watch/production")} == {0}
    assert max(due("watch/production")) > datetime.now(UTC)


def test_the_watch_comes_by_its_schedule(operator: Operator, staged: Deployed) -> None:
    """The worker carries it out, and what serves stays."""
    before = operator.look("production")

    watched = operator.end_of_next_due("watch/production")

    assert watched.ending == "NothingToDo", watched
    assert "production has no rollback window" in watched.message
    assert operator.look("production") == before


def test_the_nightly_deploys_main_when_it_has_moved_and_only_then(
    operator: Operator, staged: Deployed
) -> None:
    """By its schedule, as at night. Other tests leave staging at the head of main."""
    before = operator.look("staging")

    skipped = nightly(operator)
    after_skipped = operator.look("staging")
    head = operator.push("main", write_a_note, "Say what notes are")
    deployed = operator.end_of_next_due("nightly/staging")

    assert skipped.ending == "NothingToDo", skipped
    assert "main has not moved" in skipped.message
    assert after_skipped == before
    assert deployed.ending == "Deployed", deployed
    assert deployed.serves == f"main-{head[:12]}"
    assert operator.lock_holder("staging") == ""
