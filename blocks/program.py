"""External programs, each in a session of its own, so that what it started ends with it."""

import contextlib
import math
import os
import queue
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from time import monotonic
from typing import IO

_LINGER = timedelta(seconds=2)  # between SIGTERM and SIGKILL, and for a last line of output


def run(
    command: Sequence[str],
    within: timedelta,
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    given: bytes = b"",
    merged: bool = False,
) -> subprocess.CompletedProcess[bytes]:
    """Run a program to its end: its exit code and what it wrote, errors apart or ``merged``.

    ``given`` is its standard input. Raises OSError if it cannot be started, and TimeoutExpired if
    it has not ended ``within`` that time; then it is killed, with every process it started.
    ``subprocess.run`` would leave those behind: `docker` starts Compose as a program of its own.
    """
    with subprocess.Popen(
        list(command),
        cwd=cwd,
        env=env,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT if merged else subprocess.PIPE,
        start_new_session=True,
    ) as process:
        try:
            written, errors = process.communicate(given, timeout=within.total_seconds())
        except BaseException:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            raise
    return subprocess.CompletedProcess(command, process.returncode, written, errors)


def follow(
    command: Sequence[str],
    heard: Callable[[str], None],
    *,
    within: timedelta | None = None,
    heed: Callable[[], None] = lambda: None,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
) -> int | None:
    """Run a program and tell ``heard`` each line as it comes. Returns its exit code, or None if it
    has not ended ``within`` that time.

    ``heed`` is called all the while. When the time is up, the run is cancelled, or one of the two
    raises, the program is stopped, and every process it started. Raises OSError if it cannot be
    started.
    """
    deadline = monotonic() + (within.total_seconds() if within else math.inf)
    process = subprocess.Popen(
        list(command),
        cwd=cwd,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    try:
        return _follow(process, deadline, heard, heed)
    finally:
        _stop_group(process)


def _follow(
    process: subprocess.Popen[str],
    deadline: float,
    heard: Callable[[str], None],
    heed: Callable[[], None],
) -> int | None:
    """Pass the output on until the process ends. Returns None if it does not end in time."""
    lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    assert process.stdout is not None  # it was opened as a pipe
    threading.Thread(target=_pump, args=(process.stdout, lines), daemon=True).start()
    quiet_until = None  # an ended process whose children hold the pipe open is not waited for
    while monotonic() < deadline and (quiet_until is None or monotonic() < quiet_until):
        heed()
        try:
            line = lines.get(timeout=0.05)
        except queue.Empty:
            if process.poll() is not None and quiet_until is None:
                quiet_until = monotonic() + _LINGER.total_seconds()
            continue
        if line is None:
            break
        heard(line)
    with contextlib.suppress(subprocess.TimeoutExpired):
        return process.wait(timeout=max(0.0, deadline - monotonic()))
    return None


def _pump(stream: IO[str], lines: "queue.SimpleQueue[str | None]") -> None:
    with stream:
        for line in stream:
            lines.put(line)
    lines.put(None)


def _stop_group(process: subprocess.Popen[str]) -> None:
    """End the process and whatever it started and left behind."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=_LINGER.total_seconds())
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
