"""Which ends of a run start a recovery, on a real server with its triggers."""

from collections.abc import Iterator
from datetime import timedelta
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest
from prefect import flow
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import FlowFilter, FlowFilterName
from prefect.client.schemas.objects import State, StateType
from prefect.flow_engine import run_flow

from cli.automations import apply
from flows import outcome
from flows.once import once
from release.outcome import Ending
from sandbox.commands import wait_until

HELD = ("deploy", "rollback", "nightly", "watch", "recover")
EXPIRED = "The flow was paused and never resumed."  # the server's own words


@pytest.fixture
def client(prefect_server: None) -> Iterator[SyncPrefectClient]:
    with get_client(sync_client=True) as found:
        yield found


@pytest.fixture
def deployment(client: SyncPrefectClient) -> Iterator[UUID]:
    """deploy/production, beside the others, with the automations that `ignition setup` makes."""
    made = {
        name: client.create_deployment(
            client.create_flow(flow(name=name)(lambda: None)), name="production"
        )
        for name in (*HELD, "deadline")
    }
    gate = SimpleNamespace(approval="human", deadline=timedelta(hours=8))
    settings: Any = SimpleNamespace(environments={"production": SimpleNamespace(gate=gate)})
    apply(client, settings)
    yield made["deploy"]
    for automation in client.read_automations():
        client.delete_automation(automation.id)


def new_run(client: SyncPrefectClient, deployment: UUID) -> UUID:
    run = client.create_flow_run_from_deployment(deployment).id
    client.set_flow_run_state(run, State(type=StateType.RUNNING), force=True)
    return run


def force(client: SyncPrefectClient, run: UUID, kind: StateType, message: str = "") -> None:
    """End a run from outside: nothing of its own runs."""
    client.set_flow_run_state(run, State(type=kind, message=message or None), force=True)


def recovered(client: SyncPrefectClient) -> set[str]:
    """The runs for which a recovery was started."""
    runs = client.read_flow_runs(flow_filter=FlowFilter(name=FlowFilterName(any_=["recover"])))
    return {str(run.parameters.get("run_id")) for run in runs}


def await_recovery(client: SyncPrefectClient, *runs: UUID) -> None:
    wait_until(
        lambda: {str(run) for run in runs} <= recovered(client),
        what=f"recoveries of {runs}",
        seconds=60,
        hint="read the automations",
    )


@pytest.mark.parametrize("ending", [Ending.DEPLOYED, Ending.ROLLED_BACK, Ending.FAILED])
def test_a_run_that_said_how_it_ended_is_not_recovered(
    client: SyncPrefectClient, deployment: UUID, ending: Ending
) -> None:
    """One that comes later is, so the server had seen both."""

    @flow(name="deploy")
    @once
    def deploy() -> State[Any]:
        return outcome.state(ending, "it says so")

    run = client.create_flow_run_from_deployment(deployment)
    run_flow(deploy, run, {}, return_type="state")
    later = new_run(client, deployment)
    force(client, later, StateType.COMPLETED)

    await_recovery(client, later)
    assert str(run.id) not in recovered(client)
    shown = client.read_flow_run(run.id)
    assert shown.state
    assert shown.state.name == ("Completed" if ending.good else "Failed")
    assert shown.name.endswith(f" · {ending}")


def test_a_run_that_ended_without_saying_so_is_recovered(
    client: SyncPrefectClient, deployment: UUID
) -> None:
    """Forced to either end, its gate expired, crashed, cancelled."""
    runs = [new_run(client, deployment) for _ in range(5)]
    force(client, runs[0], StateType.COMPLETED)
    force(client, runs[1], StateType.FAILED, "Deployed: as somebody wrote")
    force(client, runs[2], StateType.FAILED, EXPIRED)
    force(client, runs[3], StateType.CRASHED)
    force(client, runs[4], StateType.CANCELLED)

    await_recovery(client, *runs)


def test_a_run_that_is_killed_after_it_was_named_by_its_ending_is_recovered(
    client: SyncPrefectClient, deployment: UUID
) -> None:
    """Its state is not what it said: the recovery sets it."""
    run = new_run(client, deployment)
    client.update_flow_run(run, name="v1.1.0 → production · Deployed")
    force(client, run, StateType.CRASHED)

    await_recovery(client, run)
