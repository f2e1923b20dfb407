"""Ways to say no, or not yet, before anything is changed."""

import pytest

from tests.e2e.conftest import Deployed
from tests.e2e.driver import Operator

pytestmark = pytest.mark.e2e


def test_a_dry_run_plans_and_changes_nothing(operator: Operator, staged: Deployed) -> None:
    version, before = operator.next_version(), operator.look("staging")

    outcome = operator.deploy(version, "refactor/stack-split", dry_run=True)

    assert outcome.ending == "Planned"
    assert operator.look("staging") == before
    assert version in operator.artifacts(outcome.run)["plan-staging"]


def test_a_rejected_deployment_changes_nothing(operator: Operator, staged: Deployed) -> None:
    """As a person does it, with the command: deploy, reject with a reason."""
    version, before = operator.next_version(), operator.look("production")

    started = operator.ignition(
        "deploy", version, "--to", "production", "--as", "Ada", "--json"
    ).json
    operator.wait_at_gate(started["id"])
    rejected = operator.ignition(
        "reject", started["label"], "--as", "grace", "--reason", "freeze until Monday"
    )
    outcome = operator.end_of(started["id"])

    assert rejected.code == 0, rejected
    assert outcome.ending == "Rejected"
    assert "grace" in outcome.message
    assert "freeze until Monday" in outcome.message
    assert operator.look("production") == before


def test_an_answer_to_a_run_that_does_not_wait_is_refused(
    operator: Operator, staged: Deployed
) -> None:
    done = operator.ignition("approve", f"d-{staged.outcome.run[:6]}", "--as", "ada", "--json")

    assert done.code == 1
    assert done.complained.startswith("error: no waiting run matches")
