"""The processes of a run that has ended, and may not know it."""

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from blocks.processes import end_run_processes, processes_of

RUN = "1874ab00-0000-4000-8000-00000000aaaa"
PARENT = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'input()'])"


@pytest.fixture
def running() -> Iterator[subprocess.Popen[bytes]]:
    """A process of the run that has a child, as a build has."""
    environment = os.environ | {"PREFECT__FLOW_RUN_ID": RUN}
    process = subprocess.Popen(
        [sys.executable, "-c", PARENT], env=environment, stdin=subprocess.PIPE
    )
    try:
        while len(processes_of(RUN)) < 2:
            assert process.poll() is None
        yield process
    finally:
        process.kill()
        process.communicate()


def test_a_stopped_run_and_its_children_are_ended(running: subprocess.Popen[bytes]) -> None:
    """A process that is stopped would go on where it was, when somebody wakes it up."""
    os.kill(running.pid, 19)

    assert end_run_processes(RUN) == 2

    assert running.wait() == -9
    assert processes_of(RUN) == []


def test_the_processes_of_another_run_go_on(running: subprocess.Popen[bytes]) -> None:
    assert end_run_processes(RUN.replace("aaaa", "bbbb")) == 0

    assert running.poll() is None


def test_nobody_ends_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment of a process is what it was started with, so a child asks."""
    code = "from blocks.processes import end_run_processes as end; print(end('me'))"
    environment = os.environ | {"PREFECT__FLOW_RUN_ID": "me"}

    said = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )

    assert said.stdout == "0\n"
