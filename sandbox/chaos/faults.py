"""What breaks under a deployment, for real: processes are killed, servers go and come back."""

import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psycopg

from blocks.processes import processes_of
from sandbox.chaos.cells import Fault
from sandbox.commands import run, succeeds
from sandbox.errors import SandboxError
from sandbox.layout import NAME, Sandbox
from sandbox.parts import engine, prefect, registry
from sandbox.parts.processes import ends_within, kill_group

OUTAGE = 8.0  # seconds that something is gone


def inject(sandbox: Sandbox, fault: Fault, run_id: str) -> None:
    """Break it. What comes back by itself has come back when this returns; see also `mend`.

    Raises SandboxError if there is nothing to break because the run has no process any more.
    """
    _FAULTS[fault](sandbox, run_id)


def mend(sandbox: Sandbox) -> None:
    """Bring back what was gone for good in the cell."""
    gone = _away(sandbox)
    if gone.exists():
        gone.rename(sandbox.origin)
    registry.ensure_registry(sandbox)
    prefect.know_names(sandbox)
    inside = _as_the_worker_sees_it(sandbox)
    for folder in _written(sandbox):
        if succeeds([*inside, "mountpoint", "--quiet", folder]):
            run([*inside, "umount", folder])


def _kill_run(sandbox: Sandbox, run_id: str) -> None:
    _signal(run_id, signal.SIGKILL)


def _forget(sandbox: Sandbox, run_id: str) -> None:
    _kill_run(sandbox, run_id)
    shutil.rmtree(sandbox.prefect_home / "storage")


def _hang(sandbox: Sandbox, run_id: str) -> None:
    _signal(run_id, signal.SIGSTOP)


def _signal(run_id: str, number: int) -> None:
    ours = processes_of(run_id)
    if not ours:
        raise SandboxError(f"run {run_id} has no process that could be hit")
    for pid in ours:
        os.kill(pid, number)


def _kill_worker(sandbox: Sandbox, run_id: str) -> None:
    """As a machine short of memory does; the service manager starts it again."""
    pid = prefect.worker_process(sandbox).pid
    if pid is None:
        raise SandboxError("no worker runs that could be killed")
    os.kill(pid, signal.SIGKILL)
    ends_within(pid, 10)
    prefect.start_worker(sandbox)


def _kill_both(sandbox: Sandbox, run_id: str) -> None:
    _signal(run_id, signal.SIGKILL)  # first: the worker must not see it end
    _kill_worker(sandbox, run_id)


def _kill_server(sandbox: Sandbox, run_id: str) -> None:
    process = prefect.server_process(sandbox)
    pid = process.pid
    if pid is None:
        raise SandboxError("no Prefect server runs that could be killed")
    kill_group(pid)
    ends_within(pid, 10)
    process.stop()
    prefect.start_server(sandbox)


def _cancel(sandbox: Sandbox, run_id: str) -> None:
    """As the UI's button does."""
    state = {"state": {"type": "CANCELLING", "name": "Cancelling"}}
    url = f"{sandbox.prefect_api_url}/flow_runs/{run_id}/set_state"
    httpx.post(url, json=state, timeout=30).raise_for_status()


def _cancel_twice(sandbox: Sandbox, run_id: str) -> None:
    _cancel(sandbox, run_id)
    _cancel(sandbox, run_id)


def _crash_database(sandbox: Sandbox, run_id: str) -> None:
    run(["docker", "restart", "--time", "0", sandbox.postgres_container])


def _restart_proxy(sandbox: Sandbox, run_id: str) -> None:
    run(["docker", "restart", f"{sandbox.staging.project}-proxy-1"])


def _restart_engine(sandbox: Sandbox, run_id: str) -> None:
    pid = engine.own_engine()
    if pid is None:
        raise SandboxError("the container engine is not this checkout's own: it is left alone")
    engine.stop(pid)
    engine.ensure_engine()


def _fill_disk(sandbox: Sandbox, run_id: str) -> None:
    """Nothing new can be written where the worker writes: results, and events not yet sent."""
    mount = ("mount", "-t", "tmpfs", "-o", "size=4k,nr_inodes=1", "full")
    for folder in _written(sandbox):
        folder.mkdir(parents=True, exist_ok=True)
        run([*_as_the_worker_sees_it(sandbox), *mount, folder])


def _as_the_worker_sees_it(sandbox: Sandbox) -> list[str]:
    """The arguments that run a command within the worker's mounts, which are its own."""
    pid = prefect.worker_process(sandbox).pid
    if pid is None:
        raise SandboxError("no worker runs that could be hit")
    return ["nsenter", "--mount", "--target", str(pid)]


def _written(sandbox: Sandbox) -> tuple[Path, ...]:
    return (sandbox.prefect_home / "storage", sandbox.folder / ".ignition")


def _without_registry(sandbox: Sandbox, run_id: str) -> None:
    with _for_a_while():
        registry.remove_registry(sandbox)
    registry.ensure_registry(sandbox)


def _registry_gone(sandbox: Sandbox, run_id: str) -> None:
    registry.remove_registry(sandbox)


def _without_origin(sandbox: Sandbox, run_id: str) -> None:
    with _for_a_while():
        _origin_gone(sandbox, run_id)
    mend(sandbox)


def _origin_gone(sandbox: Sandbox, run_id: str) -> None:
    sandbox.origin.rename(_away(sandbox))


def _away(sandbox: Sandbox) -> Path:
    return sandbox.origin.with_suffix(".gone")


def _without_names(sandbox: Sandbox, run_id: str) -> None:
    looked_up = [*_as_the_worker_sees_it(sandbox), "getent", "ahosts", NAME]
    try:
        with _for_a_while():
            prefect.forget_names(sandbox)
            if succeeds(looked_up):
                raise SandboxError(f"{NAME} is found without DNS on this machine")
    finally:
        prefect.know_names(sandbox)


def _lock_database(sandbox: Sandbox, run_id: str) -> None:
    """As a migration of Prefect's own does, or a person who looks into it by hand."""
    url = sandbox.database_url("prefect")
    with psycopg.connect(url) as database, _for_a_while():
        # One table: with a second, this and the server could wait for each other.
        database.execute("LOCK TABLE flow_run IN ACCESS EXCLUSIVE MODE")


@contextmanager
def _for_a_while() -> Iterator[None]:
    yield
    time.sleep(OUTAGE)  # how long it is gone, not a wait for something


_FAULTS: dict[Fault, Callable[[Sandbox, str], None]] = {
    Fault.KILL_RUN: _kill_run,
    Fault.FORGET: _forget,
    Fault.KILL_ROLLBACK: _kill_run,
    Fault.KILL_WORKER: _kill_worker,
    Fault.KILL_BOTH: _kill_both,
    Fault.KILL_SERVER: _kill_server,
    Fault.HANG: _hang,
    Fault.CANCEL: _cancel,
    Fault.CANCEL_TWICE: _cancel_twice,
    Fault.DATABASE: _crash_database,
    Fault.PROXY: _restart_proxy,
    Fault.ENGINE: _restart_engine,
    Fault.DISK: _fill_disk,
    Fault.DNS: _without_names,
    Fault.LOCKED_DATABASE: _lock_database,
    Fault.REGISTRY: _without_registry,
    Fault.REGISTRY_GONE: _registry_gone,
    Fault.ORIGIN: _without_origin,
    Fault.ORIGIN_GONE: _origin_gone,
}
