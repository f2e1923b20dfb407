"""Two runs that want the same environment: one proceeds, the other is told whom it met."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from blocks.processes import processes_of
from release.ledger import EventKind, short_run
from tests.e2e.conftest import Deployed
from tests.e2e.driver import Operator

pytestmark = pytest.mark.e2e


@contextmanager
def stopped(run: str) -> Iterator[None]:
    """Stop a run's processes for a while."""
    ours = processes_of(run)
    assert ours, f"{run} has no process"
    for pid in ours:
        os.kill(pid, signal.SIGSTOP)
    yield
    for pid in ours:
        os.kill(pid, signal.SIGCONT)


def test_of_two_deployments_in_the_same_second_one_is_refused_and_changes_nothing(
    operator: Operator, staged: Deployed
) -> None:
    operator.push("twins", lambda work: (work / "twins").write_text("two\n"), "Be deployed twice")
    version = operator.next_version()
    runs = [operator.start(version, "twins", by=by) for by in ("Ada", "Grace")]

    one, other = (operator.end_of(run) for run in runs)

    won, lost = (one, other) if one.ending == "Deployed" else (other, one)
    assert (won.ending, lost.ending) == ("Deployed", "Refused")
    assert f"staging is held by {'Ada' if won is one else 'Grace'}" in lost.message
    assert short_run(won.run) in lost.message
    assert operator.serves("staging") == version
    assert operator.lock_holder("staging") == ""


def test_a_deployment_that_meets_a_rollback_is_refused_and_the_rollback_is_finished(
    operator: Operator, staged: Deployed
) -> None:
    before = operator.serves("staging")
    rollback = operator.start_rollback("staging", "P0: orders are charged twice")
    operator.wait_for_event_of(rollback, EventKind.ROLLBACK_STARTED)

    # Held where it is: it takes less time than a deployment needs to begin.
    with stopped(rollback):
        refused = operator.deploy(operator.next_version(), "main")

    assert refused.ending == "Refused"
    assert f"staging is held by Grace, run {short_run(rollback)}" in refused.message
    assert operator.end_of(rollback).ending == "RollbackDone"
    assert operator.serves("staging") not in ("", before)


def test_the_nightly_deployment_waits_for_one_by_hand_where_it_is_told_to(
    operator: Operator, staged: Deployed
) -> None:
    operator.push("main", lambda work: (work / "by-hand").write_text("1\n"), "Be deployed by hand")
    version = operator.next_version()
    with operator.configured("environments.staging", wait_for_others="5 min"):
        by_hand = operator.start(version, "main")
        operator.wait_for_event_of(by_hand, EventKind.LOCK_TAKEN)
        nightly = operator.create_run("nightly/staging")

        assert operator.end_of(by_hand).ending == "Deployed"
        assert operator.end_of(nightly).ending == "NothingToDo"

    assert operator.serves("staging") == version
    assert operator.lock_holder("staging") == ""
