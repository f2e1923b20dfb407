"""What all steps have in common."""

from types import SimpleNamespace
from typing import Any

import pytest
from prefect import flow
from prefect.exceptions import PrefectException

from tasks.baseline import record_baseline
from tasks.deployment_log import catch_up
from tasks.hand_over import look_for_holder
from tasks.image import build_image
from tasks.migration import apply_migrations, plan_schema
from tasks.nightly import reason_to_skip
from tasks.plan import make_plan, resolve_release
from tasks.release import prepare_release
from tasks.restore import find_baseline
from tasks.rollout import publish_evidence, pull_image, remove_baseline
from tasks.step import put_off, putting_off
from tasks.systems import check_systems


@pytest.mark.parametrize(
    "task",
    [
        *(reason_to_skip, check_systems, resolve_release, record_baseline, plan_schema, make_plan),
        *(prepare_release, build_image, apply_migrations, pull_image),
        *(look_for_holder, find_baseline, remove_baseline, catch_up),
    ],
    ids=lambda task: task.name,
)
def test_a_system_that_is_away_for_ten_seconds_ends_no_run(task: Any) -> None:
    """A registry, an origin or a database that is restarted: seen in docs/chaos.md for 8 s."""
    assert len(task.retry_delay_seconds) == task.retries
    assert sum(task.retry_delay_seconds) >= 10


def test_a_report_that_cannot_be_written_decides_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prefect's server answers HTTP 500 while its database is restarted: the rollback goes on."""
    tried = []

    def away(**values: Any) -> None:
        tried.append(values["key"])
        raise PrefectException("HTTP 500")

    monkeypatch.setattr("tasks.rollout.create_markdown_artifact", away)

    @flow
    def showing() -> str:
        publish_evidence(SimpleNamespace(environment="production"), "what went")
        put_off(lambda: away(key="at-once"))
        with putting_off():
            put_off(lambda: away(key="later"))
        return "gone on"

    assert showing() == "gone on"
    assert tried == ["rollout-production", "at-once", "later"]
