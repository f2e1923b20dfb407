"""Rollbacks that a person starts."""

import pytest

from release.model import Step
from tests.e2e.conftest import Deployed
from tests.e2e.driver import Operator

pytestmark = pytest.mark.e2e

ODD_BRANCH = "größe+#1/stack-split"  # git takes it, an image's tag does not


def test_a_rollback_goes_back_to_the_release_that_served_before(
    operator: Operator, staged: Deployed
) -> None:
    """A branch deployment is replaced, without a failed request, by what served before it."""
    before = operator.look("staging")
    operator.git("branch", "--force", ODD_BRANCH, "refactor/stack-split")
    deployed = operator.deploy_branch(ODD_BRANCH)

    with operator.users("staging") as users:
        started = operator.ignition(
            "rollback", "staging", "--reason", "P0: logins are lost", "--as", "Grace", "--json"
        ).json
        outcome = operator.end_of(started["id"])
    after = operator.look("staging")

    assert deployed.ending == "Deployed", deployed
    assert deployed.serves.startswith("gr-e-1-stack-split-")
    assert outcome.ending == "RollbackDone", outcome
    assert "P0: logins are lost" in outcome.message
    assert outcome.serves == before.serves
    assert users.report.outcomes.keys() <= {"200", "201"}
    assert (after.pinned, after.held_by) == (before.pinned, "")
    assert [(image, state) for _, image, state in after.containers] == [(before.pinned, "running")]


def test_a_branch_deployment_makes_no_tag(operator: Operator, staged: Deployed) -> None:
    assert not any("stack-split" in tag for tag in operator.git_tags())


def test_a_rollback_without_a_reason_or_to_a_version_that_there_is_not_changes_nothing(
    operator: Operator, staged: Deployed
) -> None:
    before = operator.look("staging")

    unsaid = operator.start_rollback("staging", reason=" ")
    nowhere = operator.end_of(operator.start_rollback("staging", reason="P0", to="v9.9.9"))
    without = operator.end_of(unsaid)

    assert (without.ending, nowhere.ending) == ("Refused", "Refused"), (without, nowhere)
    assert "a rollback needs one line that says why" in without.message
    assert "the registry has no ignition-api:v9.9.9" in nowhere.message
    assert f"staging serves {before.serves}" in nowhere.message
    assert operator.look("staging") == before


def test_a_p0_during_the_watch_is_carried_out_by_the_deployment(
    operator: Operator, staged: Deployed
) -> None:
    """The deployment holds the environment, so the rollback tells it, and waits for its end."""
    version, before = operator.next_version(), operator.look("staging")

    with operator.configured("environments.staging.watch", length="60 s"):
        run = operator.start(version, "main")
        operator.wait_for_step(run, Step.POST)
        rollback = operator.roll_back("staging", reason="P0: orders are charged twice")
        deployment = operator.end_of(run)
    after = operator.look("staging")

    assert rollback.ending == "HandedOver", rollback
    assert f"staging serves {before.serves}" in rollback.message
    assert deployment.ending == "RolledBack", deployment
    assert "P0: orders are charged twice" in deployment.message
    assert deployment.seconds < 60
    assert (after.serves, after.held_by) == (before.serves, "")
    assert after.containers[0][1:] == (before.pinned, "running")
    assert len(after.containers) == 1
