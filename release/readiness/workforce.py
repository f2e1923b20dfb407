"""Whether any worker carries out the runs: the pool, its workers, and a run that no worker
takes."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from release.duration import say_duration
from release.readiness.systems import Readiness

PATIENCE = timedelta(seconds=40)
"""How long nobody may have taken a run before a person is told why: a worker asks every 10 s."""

_BEATS = 3  # a worker that misses one heartbeat is late; Prefect calls it gone after three
_HEARD_WITHIN = timedelta(seconds=30)  # three times the 10 s between two questions of a worker


@dataclass(frozen=True, slots=True)
class Worker:
    """A worker, as the server last heard of it."""

    name: str
    since: datetime  # of its first heartbeat
    heard: datetime | None  # its last one
    every: timedelta = timedelta(seconds=30)  # between two of them
    machine: str = ""  # of the last run that it carried out; empty: not known

    def is_online(self, now: datetime) -> bool:
        """Whether its last heartbeat is not older than three of them."""
        return self.heard is not None and now - self.heard <= _BEATS * self.every


@dataclass(frozen=True, slots=True)
class Queue:
    """A queue of the work pool, which workers ask for runs."""

    name: str
    is_paused: bool = False
    polled: datetime | None = None  # when a worker last asked it for runs


@dataclass(frozen=True, slots=True)
class WorkPool:
    """The work pool, its queues and its workers."""

    name: str
    kind: str = "process"
    is_paused: bool = False
    limit: int | None = None  # runs at a time; None: any number
    busy: int = 0  # slots of it that are taken
    queues: Sequence[Queue] = ()
    workers: Sequence[Worker] = ()

    @property
    def start_command(self) -> str:
        """What starts a worker for it."""
        return f"prefect worker start --pool {self.name} --type {self.kind}"

    @property
    def resume_command(self) -> str:
        """What ends a pause of it."""
        return f"prefect work-pool resume {self.name}"

    @property
    def paused_queues(self) -> list[str]:
        """The names of its queues that deliver nothing."""
        return [queue.name for queue in self.queues if queue.is_paused]

    def resume_queue_command(self, queue: str) -> str:
        """What ends a pause of one of its queues."""
        return f"prefect work-queue resume {queue} --pool {self.name}"

    def heard(self) -> datetime | None:
        """When any worker was last heard: its heartbeat, or its question for runs."""
        heard = [worker.heard for worker in self.workers] + [queue.polled for queue in self.queues]
        return max(filter(None, heard), default=None)

    @property
    def _was_asked(self) -> bool:
        return any(queue.polled for queue in self.queues)

    def online(self, now: datetime) -> list[Worker]:
        """The workers that live, the one that was heard last first.

        One that has stopped looks as alive as any other until its heartbeats are missed; that no
        worker asks for runs is noticed sooner.
        """
        heard = self.heard()
        if heard is None or (self._was_asked and now - heard > _HEARD_WITHIN):
            return []
        found = [worker for worker in self.workers if worker.is_online(now)]
        return sorted(found, key=lambda worker: worker.heard or worker.since, reverse=True)


class Cause(StrEnum):
    """Why no worker takes a run. Each cause is reported once, and again after another."""

    NO_POOL = "no pool"
    PAUSED = "paused"
    NO_WORKER = "no worker"
    FULL = "full"
    SLOW = "slow"


@dataclass(frozen=True, slots=True)
class Stall:
    """A run that no worker takes: why, and a sentence with what to type."""

    cause: Cause
    sentence: str


def judge_pool(name: str, pool: WorkPool | None) -> Readiness:
    """Whether the work pool delivers runs. A full one is fine: its runs wait for their turn."""
    if pool is None:
        return Readiness(
            "work pool", f"the Prefect server has no work pool {name}", "ignition setup"
        )
    if pool.is_paused:
        return Readiness(
            "work pool",
            f"{name} is paused, so no run is started, and no schedule either",
            pool.resume_command,
        )
    for queue in pool.paused_queues:
        return Readiness(
            "work pool",
            f"queue {queue} of {name} is paused, so no run of it is started",
            pool.resume_queue_command(queue),
        )
    limit = f", {pool.busy} of {pool.limit} runs at a time" if pool.limit is not None else ""
    return Readiness("work pool", found=f"{name}, {pool.kind}{limit}")


def judge_workers(pool: WorkPool, now: datetime) -> Readiness:
    """Whether a worker lives. One that was heard within three heartbeats and asks for runs does."""
    online = pool.online(now)
    if not online:
        return Readiness("worker", _nobody_works(pool, now), pool.start_command)
    return Readiness("worker", found="; ".join(_say_worker(worker, now) for worker in online))


def why_not_taken(
    name: str, pool: WorkPool | None, state: str, due: datetime, now: datetime
) -> Stall | None:
    """Why no worker takes a run that was ``due``, and what to type; None while it is too early to
    tell.

    ``state`` is Prefect's own name of the state in which it waits: Scheduled, Late, Pending.
    """
    if now - due < PATIENCE:
        return None
    since = _rounded(now - due)
    if pool is None:
        what = f"not taken for {since}: the Prefect server has no work pool {name}"
        return Stall(Cause.NO_POOL, f"{what}; make it: ignition setup")
    if pool.is_paused:
        what = f"not taken for {since}: work pool {name} is paused"
        return Stall(Cause.PAUSED, f"{what}; go on: {pool.resume_command}")
    for queue in pool.paused_queues:
        what = f"not taken for {since}: queue {queue} of work pool {name} is paused"
        return Stall(Cause.PAUSED, f"{what}; go on: {pool.resume_queue_command(queue)}")
    online = pool.online(now)
    if not online:
        what = _nobody_works(pool, now)
        return Stall(Cause.NO_WORKER, f"{what}; start one: {pool.start_command}")
    if pool.limit is not None and pool.busy >= pool.limit:
        what = f"work pool {name} runs {pool.limit} at a time, and as many are under way"
        return Stall(Cause.FULL, f"waits for its turn: {what}; see them: ignition status")
    if state == "Pending":
        what = f"{online[0].name} took it, and it has not begun for {since}"
        return Stall(Cause.SLOW, f"{what}; the reason is in the worker's log")
    what = f"not taken for {since}, though {online[0].name} asks for runs"
    return Stall(Cause.SLOW, f"{what}: as many as its --limit are under way, or its log says why")


def _nobody_works(pool: WorkPool, now: datetime) -> str:
    heard = pool.heard()
    if heard is None:
        return "no worker has ever asked for a run"
    return f"no worker has asked for {_rounded(now - heard)}"


def _say_worker(worker: Worker, now: datetime) -> str:
    where = f" on {worker.machine}" if worker.machine else ""
    heard = f"heard {_rounded(now - worker.heard)} ago" if worker.heard else "never heard"
    return f"{worker.name}{where}, {heard}, there since {worker.since:%Y-%m-%d %H:%M} UTC"


def _rounded(length: timedelta) -> str:
    return say_duration(timedelta(seconds=max(0, round(length.total_seconds()))))
