"""The work pool and its workers, as the Prefect server knows them, and runs that no worker
takes."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterStartTime,
    WorkPoolFilter,
    WorkPoolFilterName,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.client.schemas.objects import WorkPool as Found
from prefect.client.schemas.sorting import FlowRunSort
from prefect.exceptions import ObjectNotFound

from release.readiness.workforce import Cause, Queue, Worker, WorkPool, why_not_taken

WORK_POOL = "ignition"
"""The name of the pool that every deployment of ours is for."""

_LOOK_EVERY = timedelta(seconds=5)  # at the pool, while nobody takes a run
_WORKER = "prefect.worker.name"  # the label of a run that says which worker took it
_RECENT = 50  # runs in which a worker's machine is looked for


def read_pool(client: SyncPrefectClient, machines: bool = False) -> WorkPool | None:
    """The work pool. Returns None if there is none. ``machines``: with those of its workers."""
    try:
        pool: Found = client.read_work_pool(WORK_POOL)
    except ObjectNotFound:
        return None
    on = _machines(client) if machines else {}
    workers = [
        Worker(
            name=one.name,
            since=one.created or datetime.now(UTC),
            heard=one.last_heartbeat_time,
            every=timedelta(seconds=one.heartbeat_interval_seconds or 30),
            machine=on.get(one.name, ""),
        )
        for one in client.read_workers_for_work_pool(WORK_POOL)
    ]
    queues = [
        Queue(one.name, one.is_paused, one.last_polled)
        for one in client.read_work_queues(work_pool_name=WORK_POOL)
    ]
    return WorkPool(
        name=pool.name,
        kind=pool.type,
        is_paused=pool.is_paused,
        limit=pool.concurrency_limit,
        busy=pool.active_slots or 0,
        queues=queues,
        workers=workers,
    )


class Stalls:
    """Says why no worker takes a run, once for each cause."""

    def __init__(self, client: SyncPrefectClient, complain: Callable[[str], None]) -> None:
        self._client = client
        self._complain = complain
        self._since: datetime | None = None  # it waits to be taken
        self._looked: datetime | None = None
        self._said: Cause | None = None

    def look(self, run: FlowRun, now: datetime) -> None:
        """Look at the run and, if no worker has taken it, at the pool."""
        state = run.state
        if state is None or state.type not in (StateType.SCHEDULED, StateType.PENDING):
            self._since = self._said = None
            return
        # By this machine's clock: the server's own may be another.
        self._since = self._since or now
        due = max(self._since, run.next_scheduled_start_time or self._since)
        if self._looked is not None and now - self._looked < _LOOK_EVERY:
            return
        self._looked = now
        stall = why_not_taken(WORK_POOL, read_pool(self._client), state.name or "", due, now)
        if stall is not None and stall.cause is not self._said:
            self._said = stall.cause
            self._complain(stall.sentence)


def _machines(client: SyncPrefectClient) -> dict[str, str]:
    """Where each worker's last run was carried out: the server knows a worker's name alone."""
    runs = client.read_flow_runs(
        work_pool_filter=WorkPoolFilter(name=WorkPoolFilterName(any_=[WORK_POOL])),
        flow_run_filter=FlowRunFilter(start_time=FlowRunFilterStartTime(is_null_=False)),
        sort=FlowRunSort.START_TIME_DESC,
        limit=_RECENT,
    )
    found: dict[str, str] = {}
    for run in runs:
        machine, separator, _ = (run.infrastructure_pid or "").rpartition(":")
        if separator and (name := str(run.labels.get(_WORKER, ""))):
            found.setdefault(name, machine)
    return found
