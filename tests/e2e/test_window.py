"""After the watch, and whenever somebody declares a P0."""

import pytest

from release.model import Step
from sandbox.commands import run
from tests.e2e.driver import Operator

pytestmark = [pytest.mark.e2e, pytest.mark.usefixtures("staged")]


def stop_what_serves(operator: Operator) -> None:
    """The release dies: its containers are stopped, and nothing starts them again."""
    run(["docker", "stop", *(name for name, _, _ in operator.instances("staging"))])


def watch(operator: Operator) -> str:
    """Start the watch as its schedule would."""
    return operator.create_run("watch/staging", {"environment": "staging"})


def test_a_p0_interrupts_a_running_watch_between_two_samples(operator: Operator) -> None:
    """Samples are a minute apart: the P0 is the second one. The baseline serves, and the command
    says so."""
    version, before = operator.next_version(), operator.look("staging")

    with (
        operator.configured(
            "environments.staging.watch", length="5 min", every="60 s", longest_gap="3 min"
        ),
        operator.users("staging") as users,
    ):
        deployment = operator.start(version, "main")
        operator.wait_for_step(deployment, Step.POST)
        refused = operator.ignition("p0", "staging", "--reason", "it is charged twice")
        p0 = operator.ignition(
            "p0", "staging", "--reason", "it is charged twice", "--as", "Grace", "--yes"
        )
        outcome = operator.end_of(deployment)
    after = operator.look("staging")

    assert refused.code == 1
    assert "nobody can be asked here" in refused.complained
    assert p0.code == 0, p0
    assert f"staging runs {version}; it goes back to {before.serves}" in p0.said
    assert p0.said.rstrip().endswith(f"staging serves {before.serves}")
    assert outcome.ending == "RolledBack", outcome
    assert "it is charged twice" in outcome.message
    assert "in 2 samples" in operator.artifacts(deployment)["watch-staging"]
    assert users.report.outcomes.keys() <= {"200", "201"}
    assert users.seen[-1] == before.serves
    assert (after.serves, after.pinned, after.held_by) == (before.serves, before.pinned, "")
    declared = operator.ask(
        operator.sandbox.ledger_url,
        "SELECT payload ->> 'by', payload ->> 'reason' FROM ledger_events"
        " WHERE run_id = %s AND kind = 'p0_declared'",
        deployment,
    )
    assert declared == [("Grace", "it is charged twice")]


def test_a_young_release_that_dies_is_rolled_back_by_the_scheduled_watch(
    operator: Operator,
) -> None:
    before = operator.look("staging")
    deployed = operator.deploy(operator.next_version(), "main")
    assert deployed.ending == "Deployed", deployed

    with operator.configured("environments.staging.watch", rollback_window="1 h"):
        well = operator.end_of(watch(operator))
        stop_what_serves(operator)
        dead = operator.end_of(watch(operator))
        again = operator.end_of(watch(operator))
    after = operator.look("staging")

    assert well.ending == "Watched", well
    assert dead.ending == "RolledBack", dead
    assert "health check failed" in dead.message
    assert dead.serves == before.serves
    assert again.ending == "NothingToDo", again
    assert "came by a rollback" in again.message
    assert (after.serves, after.pinned, after.held_by) == (before.serves, before.pinned, "")
    assert [(image, state) for _, image, state in after.containers] == [(before.pinned, "running")]


def test_an_old_release_that_dies_alerts_and_a_p0_brings_the_baseline_back(
    operator: Operator,
) -> None:
    before = operator.look("staging")
    version = operator.next_version()
    deployed = operator.deploy(version, "main")
    assert deployed.ending == "Deployed", deployed

    with operator.configured("environments.staging.watch", rollback_window="1 s"):
        well = operator.end_of(watch(operator))
        stop_what_serves(operator)
        dead = operator.end_of(watch(operator))
    left = operator.look("staging")
    p0 = operator.ignition("p0", "staging", "--reason", "it is down", "--as", "Grace", "--yes")
    after = operator.look("staging")

    assert well.ending == "NothingToDo", well
    assert dead.ending == "NeedsAPerson", dead
    assert "its rollback window is 1 s" in dead.message
    assert left.serves == ""
    assert left.held_by == ""
    assert p0.code == 0, p0
    assert f"staging runs {version}; it goes back to {before.serves}" in p0.said
    assert (after.serves, after.pinned, after.held_by) == (before.serves, before.pinned, "")
