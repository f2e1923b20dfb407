"""After the watch, and whenever somebody declares a P0."""

import pytest

from release.model import Step
from sandbox.commands import run
from tests.e2e.driver import Operator, Outcome

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


def test_the_scheduled_watch_rolls_back_a_young_release_that_dies_and_alerts_of_an_old_one(
    operator: Operator,
) -> None:
    """How old the same release is depends on how long the rollback window is."""
    before = operator.look("staging")
    version = operator.next_version()
    deployed = operator.deploy(version, "main")
    assert deployed.ending == "Deployed", deployed

    def watched(window: str) -> Outcome:
        with operator.configured("environments.staging.watch", rollback_window=window):
            return operator.end_of(watch(operator))

    well_young, well_old = watched("1 h"), watched("1 s")
    stop_what_serves(operator)
    dead_old, left = watched("1 s"), operator.look("staging")
    dead_young, again = watched("1 h"), watched("1 h")
    after = operator.look("staging")

    assert well_young.ending == "Watched", well_young
    assert well_old.ending == "NothingToDo", well_old
    assert dead_old.ending == "NeedsAPerson", dead_old
    assert "its rollback window is 1 s" in dead_old.message
    assert (left.serves, left.held_by) == ("", "")
    assert dead_young.ending == "RolledBack", dead_young
    assert "health check failed" in dead_young.message
    assert dead_young.serves == before.serves
    assert again.ending == "NothingToDo", again
    assert "came by a rollback" in again.message
    assert (after.serves, after.pinned, after.held_by) == (before.serves, before.pinned, "")
    assert [(image, state) for _, image, state in after.containers] == [(before.pinned, "running")]
