"""Ways to say no, or not yet, before anything is changed."""

from dataclasses import dataclass

import pytest

from tests.e2e.conftest import Deployed
from tests.e2e.driver import Look, Operator

pytestmark = pytest.mark.e2e


@dataclass(frozen=True)
class Planned:
    """A dry run on staging, under way while the other test is at production."""

    version: str
    before: Look
    run: str


@pytest.fixture(scope="module")
def planned(operator: Operator, staged: Deployed) -> Planned:
    version, before = operator.next_version(), operator.look("staging")
    run = operator.start(version, "refactor/stack-split", dry_run=True)
    return Planned(version, before, run)


def test_a_rejected_deployment_changes_nothing(operator: Operator, planned: Planned) -> None:
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


def test_a_dry_run_plans_and_changes_nothing(operator: Operator, planned: Planned) -> None:
    outcome = operator.end_of(planned.run)

    assert outcome.ending == "Planned"
    assert operator.look("staging") == planned.before
    assert planned.version in operator.artifacts(outcome.run)["plan-staging"]


def test_an_answer_to_a_run_that_does_not_wait_is_refused(
    operator: Operator, staged: Deployed
) -> None:
    done = operator.ignition("approve", f"d-{staged.outcome.run[:6]}", "--as", "ada", "--json")

    assert done.code == 1
    assert done.complained.startswith("error: no waiting run matches")
