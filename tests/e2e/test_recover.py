"""Runs that end without saying so: the environment ends known, serving and free."""

import os
import signal
from typing import Any

import pytest

from blocks.processes import processes_of
from release.model import Step
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

    seen = operator.get(f"/flow_runs/{run}")
    retry = {"state": {"type": "SCHEDULED", "name": "AwaitingRetry"}, "force": True}
    operator.post(f"/flow_runs/{run}/set_state", retry)  # what the UI's Retry does
    operator.wait_for(run, lambda now: "is not taken up again" in _message(now), "end again")
    again = operator.get(f"/flow_runs/{run}")
    assert (again["name"], set(again["tags"])) == (seen["name"], set(seen["tags"]))
    assert again["name"].endswith(" · Expired")
    assert again["state"]["name"] == "Failed"
    operator.wait_for_line(run, "is not taken up again")
    assert "is not taken up again" in operator.log(run)[-1]
    assert operator.look("production") == before


def _message(run: dict[str, Any]) -> str:
    return str(run["state"]["message"])


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
    operator.wait_until_free("production")

    assert operator.look("production") == before
    assert operator.state(run) == "Cancelled"


def send(run: str, what: signal.Signals) -> None:
    """Kill all processes of a run, as a machine that is short of memory would, or let them hang."""
    ours = processes_of(run)
    assert ours, f"{run} has no process"
    for pid in ours:
        os.kill(pid, what)


def test_a_run_that_is_killed_while_it_builds_goes_on_and_deploys(
    operator: Operator, staged: Deployed
) -> None:
    """Users notice nothing: what served serves on, until the new release is verified."""
    version = operator.next_version()

    with operator.users("staging") as users:
        run = operator.start(version, "main")
        operator.wait_for_step(run, Step.BUILD)
        send(run, signal.SIGKILL)
        operator.wait_for_ending(run, "Deployed")

    assert operator.serves("staging") == version
    assert users.report.outcomes.keys() <= {"200", "201"}
    assert operator.steps_begun(run).count(Step.PLAN) == 1
    assert operator.lock_holder("staging") == ""


def test_a_run_that_hangs_in_its_watch_is_missed_and_rolled_back(
    operator: Operator, staged: Deployed
) -> None:
    """Nobody says that it has ended, so its signs of life are what tells; the baseline serves."""
    before = operator.look("staging")

    with (
        operator.configured("environments.staging.watch", length="60 s"),
        operator.users("staging") as users,
    ):
        run = operator.start(operator.next_version(), "main")
        operator.wait_for_step(run, Step.POST)
        send(run, signal.SIGSTOP)
        operator.wait_for_ending(run, "RolledBack")
        operator.wait_until_free("staging")
        operator.wait_for_state(run, "RolledBack")  # the last thing that its recovery does

    after = operator.look("staging")
    assert (after.serves, after.pinned) == (before.serves, before.pinned)
    assert [state for _, _, state in after.containers] == ["running"]
    assert users.report.outcomes.keys() <= {"200", "201"}


def test_a_run_that_is_cancelled_in_its_watch_is_rolled_back_and_a_second_cancel_does_no_harm(
    operator: Operator, staged: Deployed
) -> None:
    before = operator.look("staging")
    cancelling = {"state": {"type": "CANCELLING", "name": "Cancelling"}}

    with operator.configured("environments.staging.watch", length="60 s"):
        run = operator.start(operator.next_version(), "main")
        operator.wait_for_step(run, Step.POST)
        for _ in range(2):
            operator.post(f"/flow_runs/{run}/set_state", cancelling)
        operator.wait_for_ending(run, "RolledBack")
    operator.wait_until_free("staging")
    operator.post(f"/flow_runs/{run}/set_state", cancelling)

    after = operator.look("staging")
    assert (after.serves, after.pinned) == (before.serves, before.pinned)
    assert [state for _, _, state in after.containers] == ["running"]


def test_setup_makes_its_automations_once_however_often_it_is_typed(operator: Operator) -> None:
    again = operator.ignition("setup")

    assert again.code == 0, again
    found = operator.post("/automations/filter", {})
    assert sorted(one["name"] for one in found if one["name"].startswith("ignition: ")) == [
        "ignition: crash production",
        "ignition: crash staging",
        "ignition: escalation for production",
        "ignition: recover production",
        "ignition: recover staging",
        "ignition: reminder for production",
        "ignition: settle production",
        "ignition: settle staging",
        "ignition: silence production",
        "ignition: silence staging",
    ]
    waits = {one["name"]: one["trigger"].get("within") for one in found}
    assert waits["ignition: reminder for production"] == 4 * 3600
    assert waits["ignition: escalation for production"] == 6 * 3600
