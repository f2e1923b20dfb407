"""Only the process that was recorded is ever ended."""

import json
import os
from pathlib import Path

from sandbox.parts.processes import Process, start_time

FOREVER = ["tail", "-f", "/dev/null"]


def process_in(folder: Path) -> Process:
    """A process that is recorded in a folder."""
    return Process("example", folder / "pids" / "example", folder / "logs" / "example")


def test_a_started_process_runs_until_it_is_stopped(tmp_path: Path) -> None:
    process = process_in(tmp_path)

    process.start(FOREVER, {}, tmp_path)
    pid = process.pid
    assert pid is not None

    assert process.stop() is True
    assert start_time(pid) is None
    assert process.pid is None


def test_starting_it_twice_starts_it_once(tmp_path: Path) -> None:
    process = process_in(tmp_path)

    process.start(FOREVER, {}, tmp_path)
    pid = process.pid
    process.start(FOREVER, {}, tmp_path)

    assert process.pid == pid
    process.stop()


def test_a_process_that_ignores_sigterm_is_killed(tmp_path: Path) -> None:
    process = process_in(tmp_path)
    process.start(["sh", "-c", "trap '' TERM; exec tail -f /dev/null"], {}, tmp_path)

    assert process.stop(grace=0.3) is True
    assert process.pid is None


def test_another_process_with_a_reused_id_is_left_alone(tmp_path: Path) -> None:
    process = process_in(tmp_path)
    process.pid_file.parent.mkdir()
    process.pid_file.write_text(json.dumps({"pid": os.getpid(), "started": 1}))

    assert process.pid is None
    assert process.stop() is False
