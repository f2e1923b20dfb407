"""What a deployment does that finds its environment held."""

from collections.abc import Callable
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from prefect import flow

import tasks.environment
from release.errors import EnvironmentLocked
from tasks.environment import hold_environment, patient
from tasks.say import speaking

pytestmark = pytest.mark.usefixtures("prefect_server")

HELD = EnvironmentLocked("staging is held by Ada, run d-1874ab, since 14:02 UTC: v1.2.0", "wait")


@pytest.fixture
def hold(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, Any]]:
    """Holds an environment that is free at the n-th look; the looks it took, and the error."""
    monkeypatch.setattr(tasks.environment, "_LOOK_EVERY", (0.0, 0.01))

    def run(free_at: int, wait: timedelta) -> tuple[int, Any]:
        looks = 0

        def acquire(*_: object) -> None:
            nonlocal looks
            looks += 1
            if looks < free_at:
                raise HELD

        ledger = SimpleNamespace(acquire=acquire)
        target: Any = SimpleNamespace(environment="staging", ledger=ledger)

        @flow
        def deploy() -> None:
            patiently = hold_environment.with_options(timeout_seconds=patient(wait))
            with speaking(run="d-26ffb1", heading="Plan"):
                patiently(target, "run", "Grace", "v1.3.0", wait)

        state = deploy(return_state=True)
        return looks, state.result(raise_on_failure=False)

    return run


def test_without_a_wait_it_is_refused_at_once_and_told_who_holds_it(hold: Any) -> None:
    """What serves is the other run's affair."""
    looks, error = hold(free_at=2, wait=timedelta())

    assert looks == 1
    assert str(error) == str(HELD)


def test_with_a_wait_it_goes_on_when_the_other_run_has_ended(
    hold: Any, caplog: pytest.LogCaptureFixture
) -> None:
    looks, error = hold(free_at=4, wait=timedelta(minutes=30))

    assert (looks, error) == (4, None)
    said = [r.getMessage() for r in caplog.records if "waits up to" in r.getMessage()]
    assert said == [f"[d-26ffb1] Plan        waits up to 30 min: {HELD.what}"], (
        "once, not each look"
    )


def test_a_wait_has_an_end(hold: Any) -> None:
    looks, error = hold(free_at=10**9, wait=timedelta(seconds=0.2))

    assert looks > 1
    assert str(error) == str(HELD)


def test_a_ledger_that_hangs_keeps_nobody_longer_than_before() -> None:
    """A rollback at 3 am goes on without the lock; only who chose to wait for others waits."""
    assert hold_environment.timeout_seconds == patient(timedelta()) == 30
    assert patient(timedelta(minutes=30)) == 1830
    waiting = hold_environment.with_options(timeout_seconds=patient(timedelta(minutes=30)))
    assert waiting.task_key == hold_environment.task_key, "after a gate it is the same step"
