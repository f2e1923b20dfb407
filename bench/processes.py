"""Runs a program and says what it took: seconds, its CPU, its memory."""

import os
import resource
import select
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from psycopg.conninfo import conninfo_to_dict

LONGEST_RUN = 300.0  # seconds


class NotApplied(Exception):
    """A runner failed, or did not apply everything."""


@dataclass(frozen=True)
class Run:
    """What one process took."""

    seconds: float
    cpu: float  # seconds, of the client alone
    idle_mb: float = 0.0
    peak_mb: float = 0.0


def run_process(command: Sequence[str | Path], folder: Path, environ: dict[str, str]) -> Run:
    """A command from its start to its end."""
    before, started = children_cpu(), time.perf_counter()
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            [str(part) for part in command],
            cwd=folder,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
        peak = 0.0
        while process.poll() is None:
            peak = max(peak, peak_memory(process.pid))
            if time.perf_counter() - started > LONGEST_RUN:
                process.kill()
            # The end is noticed at once, not at the next look at its memory.
            wait_for(process, 0.05)
        seconds = time.perf_counter() - started
        output.seek(0)
        if process.returncode != 0:
            raise NotApplied(last_line(output.read().decode(errors="replace")))
    return Run(seconds, children_cpu() - before, peak_mb=peak)


def wait_for(process: subprocess.Popen[bytes], seconds: float) -> None:
    """Wait for a process, but no longer than ``seconds``."""
    descriptor = os.pidfd_open(process.pid)
    try:
        select.select([descriptor], [], [], seconds)
    finally:
        os.close(descriptor)


def children_cpu() -> float:
    """CPU seconds of all processes that this one started and that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def last_line(output: str) -> str:
    lines = output.strip().splitlines()
    return lines[-1][:120] if lines else "it wrote nothing"


def peak_memory(process: int) -> float:
    """The most memory that a process had at once (VmHWM), in MB; 0 if it has ended."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM")), 0.0)


def libpq_environment(dsn: str) -> dict[str, str]:
    """This process's environment with a connection string, because anyone can read arguments."""
    names = {
        "host": "PGHOST",
        "port": "PGPORT",
        "user": "PGUSER",
        "password": "PGPASSWORD",
        "dbname": "PGDATABASE",
    }
    parts = conninfo_to_dict(dsn).items()
    return {**os.environ, **{names[key]: str(value) for key, value in parts if key in names}}
