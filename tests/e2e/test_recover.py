"""Runs that the server ends without running anything of theirs: nothing stays locked."""

import pytest

from tests.e2e.conftest import Deployed
from tests.e2e.driver import Operator

pytestmark = [pytest.mark.e2e, pytest.mark.gates]


def test_a_gate_that_nobody_signs_in_time_expires_and_gives_the_environment_back(
    operator: Operator, staged: Deployed
) -> None:
    """The server ends it with words of its own; an automation settles it in ours."""
    version, before = operator.next_version(), operator.look("production")

    with operator.configured("environments.production.gate", deadline="12 s"):
        run = operator.start(version, "main", "production")
        operator.wait_at_gate(run)
        operator.wait_for_ending(run, "Expired")

    operator.wait_for_state(run, "Expired")  # the last thing that its recovery does
    assert operator.look("production") == before
    assert "awaiting-approval" not in operator.get(f"/flow_runs/{run}")["tags"]
    late = operator.post(f"/flow_runs/{run}/resume", {"run_input": {"decision": "approve"}})
    assert late["status"] == "ABORT"
    assert f"{version}" in operator.ignition("log", "production", "--limit", "1").said


def test_a_run_that_is_cancelled_at_its_gate_gives_the_environment_back(
    operator: Operator, staged: Deployed
) -> None:
    version, before = operator.next_version(), operator.look("production")
    run = operator.start(version, "main", "production")
    operator.wait_at_gate(run)

    cancelling = {"state": {"type": "CANCELLING", "name": "Cancelling"}}
    assert operator.post(f"/flow_runs/{run}/set_state", cancelling)["status"] in (
        "ACCEPT",
        "REJECT",
    )
    operator.wait_for_ending(run, "Failed")

    assert operator.look("production") == before
    assert operator.state(run) == "Cancelled"


def test_setup_makes_its_automations_once_however_often_it_is_typed(operator: Operator) -> None:
    again = operator.ignition("setup")

    assert again.code == 0, again
    found = operator.post("/automations/filter", {})
    assert sorted(one["name"] for one in found if one["name"].startswith("ignition: ")) == [
        "ignition: escalation for production",
        "ignition: recover production",
        "ignition: reminder for production",
    ]
    waits = {one["name"]: one["trigger"].get("within") for one in found}
    assert waits["ignition: reminder for production"] == 4 * 3600
    assert waits["ignition: escalation for production"] == 6 * 3600
