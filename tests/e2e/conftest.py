"""A sandbox of the tests' own, and the good release that it serves before anything bad is tried."""

import fcntl
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from sandbox.layout import CHECKOUT, FOLDER_VARIABLE, PORTS_VARIABLE, Sandbox
from sandbox.parts import prefect, stack
from sandbox.parts.configuration import set_values
from sandbox.parts.processes import ends_within, kill_group
from tests.e2e.driver import Command, Look, Operator, Outcome, Users

# Set it to look at the runs in the UI afterwards; the next session completes what is there.
KEEP = "IGNITION_KEEP_TEST_SANDBOX"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Look for traces last, when all other runs have left theirs."""
    items.sort(key=lambda item: item.path.name == "test_traces.py")


@pytest.fixture(scope="session")
def sandbox() -> Iterator[Sandbox]:
    """Stood up once for all tests of a process; what an aborted session left goes first."""
    here = place_of_this_process()
    ours = Sandbox.from_environment(os.environ | here)
    # Of the whole machine: two checkouts would use the same ports and names of containers.
    path = Path(tempfile.gettempdir()) / f"ignition-{ours.name}.lock"
    with path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pytest.fail(f"another test session of this machine holds {path}", pytrace=False)
        if KEEP not in os.environ and (ours.folder.exists() or stack.running_parts(ours)):
            stack.down(ours)
        try:
            stack.up(ours)
            shorten_watches(ours)
            yield ours
        finally:
            if KEEP not in os.environ:
                take_down(here)


def shorten_watches(sandbox: Sandbox) -> None:
    """Let watches end soon: a test of what is seen or done in one makes its own longer."""
    file = sandbox.configuration_file
    for environment in sandbox.environments:
        table = f"environments.{environment.name}.watch"
        file.write_text(set_values(file.read_text(), table, {"length": "3 s"}))


def place_of_this_process() -> dict[str, str]:
    """The variables that name this process's sandbox: each of several has one of its own."""
    number = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    folder = f".sandbox-test-{number}" if number else ".sandbox-test"
    return {FOLDER_VARIABLE: folder, PORTS_VARIABLE: str(19000 + 1000 * number)}


def take_down(here: dict[str, str]) -> None:
    """Take the sandbox away, to the end even when this process is interrupted meanwhile."""
    command = [sys.executable, "-m", "sandbox", "down"]
    subprocess.run(command, cwd=CHECKOUT, env=os.environ | here, start_new_session=True, check=True)


@pytest.fixture(scope="session")
def operator(sandbox: Sandbox) -> Operator:
    """Somebody who works with the sandbox."""
    return Operator(sandbox)


@dataclass(frozen=True)
class Deployed:
    """A good release, and what users saw of its deployment."""

    version: str
    before: Look
    outcome: Outcome
    after: Look
    users: Users


@dataclass(frozen=True)
class Signed(Deployed):
    """A good release that waited for signatures, and what happened in the meantime."""

    held_by: str  # while it waited
    connections: list[str]  # that the pipeline held meanwhile, to which databases
    refused: Outcome  # a second deployment
    states: tuple[str, str]  # before the worker was killed, and after it came back
    signed: Command  # the last signature, with the command


@pytest.fixture(scope="session")
def staged(operator: Operator) -> Deployed:
    """The head of main, on staging."""
    version, before = operator.next_version(), operator.look("staging")
    with operator.users("staging") as users:
        outcome = operator.deploy(version, "main", ticket="OPS-7", notes="a good release")
    return Deployed(version, before, outcome, operator.look("staging"), users)


@pytest.fixture(scope="session")
def released(operator: Operator, staged: Deployed) -> Signed:
    """The same release on production, with everything that may happen while it waits."""
    before = operator.look("production")
    with operator.users("production") as users:
        run = operator.start(staged.version, "main", "production", notes="a good release")
        operator.wait_at_gate(run)
        held_by = operator.lock_holder("production")
        operator.wait_until_nothing_runs()
        connections = operator.connections()
        refused = operator.deploy(staged.version, "main", "production", by="Grace")
        states = (operator.state(run), kill_worker(operator, run))
        restart_server(operator)
        operator.sign(run, by="ada", item="tests-passing")
        operator.wait_for_signature(run, "Ada")
        operator.wait_at_gate(run)
        signed = operator.sign_in_a_shell(run, by="Grace")
        outcome = operator.end_of(run)
    after = operator.look("production")
    return Signed(
        staged.version,
        before,
        outcome,
        after,
        users,
        held_by,
        connections,
        refused,
        states,
        signed,
    )


def kill_worker(operator: Operator, run: str) -> str:
    """Kill the worker as a crash would, start another, and return the run's state then."""
    worker = prefect.worker_process(operator.sandbox)
    pid = worker.pid
    assert pid
    os.kill(pid, signal.SIGKILL)
    assert ends_within(pid, 10)
    prefect.start_worker(operator.sandbox)
    return operator.state(run)


def restart_server(operator: Operator) -> None:
    """Kill Prefect's server as a crash would, and start it again."""
    process = prefect.server_process(operator.sandbox)
    pid = process.pid
    assert pid
    kill_group(pid)
    assert ends_within(pid, 10)
    process.stop()
    prefect.start_server(operator.sandbox)
    prefect.wait_for_server(operator.sandbox, threading.Event())
