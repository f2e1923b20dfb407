"""The schedules of our deployments, and the runs that the Prefect server has planned for them."""

from collections.abc import Iterable
from datetime import UTC, datetime
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterId,
    DeploymentFilterTags,
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.sorting import FlowRunSort

from cli.runs import prefect
from release.errors import DeployError
from release.readiness.schedule import Schedule, schedule_line

TAG = "ignition"
"""What every deployment of ours is tagged with."""

_PAGE = 200  # as many as the server gives at once


def read_schedules(client: SyncPrefectClient) -> list[Schedule]:
    """The schedules of all our deployments, by name, with their next run."""
    found = registered(client)
    scheduled = {name: one for name, one in sorted(found.items()) if one.schedules}
    return [
        Schedule(
            deployment=name,
            id=str(schedule.id),
            is_active=bool(schedule.active),
            is_paused=deployment.paused,
            changed=schedule.updated or schedule.created or datetime.now(UTC),
            next=min((at for at in _starts(runs) if at > now), default=None),
            due=min((at for at in _starts(runs) if at <= now), default=None),
        )
        for name, deployment in scheduled.items()
        for runs, now in [(_scheduled(client, deployment.id), datetime.now(UTC))]
        for schedule in deployment.schedules
    ]


def registered(client: SyncPrefectClient) -> dict[str, DeploymentResponse]:
    """Our deployments that the server knows, by flow/name."""
    ours = DeploymentFilter(tags=DeploymentFilterTags(all_=[TAG]))
    flows = {flow.id: flow.name for flow in client.read_flows(deployment_filter=ours, limit=_PAGE)}
    found = client.read_deployments(deployment_filter=ours, limit=_PAGE)
    return {f"{flows[one.flow_id]}/{one.name}": one for one in found if one.flow_id in flows}


def schedule_lines(environment: str = "") -> list[str]:
    """A line for each schedule of one environment, or of all: when it comes next, or why not.

    Never raises: without the Prefect server, one line says that this is not known.
    """
    try:
        with prefect() as client:
            found = read_schedules(client)
    except DeployError as error:
        return [f"schedules are not known: {error.what}: {error.hint}"]
    if not found:
        return ["no schedule is registered, so nothing starts by itself: ignition setup"]
    now = datetime.now(UTC)
    ours = [one for one in found if one.deployment.endswith(f"/{environment}") or not environment]
    return [schedule_line(schedule, now) for schedule in ours]


def _scheduled(client: SyncPrefectClient, deployment: UUID) -> list[FlowRun]:
    """What the scheduler has made of it, the next one first: not what people have started."""
    waiting = FlowRunFilterStateType(any_=[StateType.SCHEDULED])
    found = client.read_flow_runs(
        deployment_filter=DeploymentFilter(id=DeploymentFilterId(any_=[deployment])),
        flow_run_filter=FlowRunFilter(state=FlowRunFilterState(type=waiting)),
        sort=FlowRunSort.EXPECTED_START_TIME_ASC,
        limit=_PAGE,
    )
    return [run for run in found if run.auto_scheduled]


def _starts(runs: Iterable[FlowRun]) -> list[datetime]:
    return [run.expected_start_time for run in runs if run.expected_start_time]
