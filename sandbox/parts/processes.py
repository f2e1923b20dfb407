"""Processes that outlive the command that started them, and that only their sandbox may end.

Each leaves a file with its process id and start time. The two together name one process: an id
alone is given to another process sooner or later.
"""

import contextlib
import json
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sandbox.commands import wait_until
from sandbox.errors import NotReady

# A shell that starts this in the background passes on SIGINT and SIGQUIT as ignored, and Prefect's
# worker then ignores SIGTERM as well.
DEFAULT_SIGNALS = ("env", "--default-signal=INT,QUIT,TERM")
# All containers together have the CPU weight of one ordinary process. Production has a host of its
# own; here it shares two cores with the pipeline, so the pipeline gives way.
GIVES_WAY = ("nice", "-n", "10")


@dataclass(frozen=True)
class Process:
    """One recorded process, running or not."""

    name: str
    pid_file: Path
    log_file: Path

    @property
    def pid(self) -> int | None:
        """Its id while it runs, else None."""
        try:
            record = json.loads(self.pid_file.read_text())
        except (FileNotFoundError, json.JSONDecodeError):
            return None
        return record["pid"] if start_time(record["pid"]) == record["started"] else None

    def start(
        self, arguments: Sequence[str | Path], environment: Mapping[str, str], directory: Path
    ) -> None:
        """Start it in a session of its own, unless it runs already."""
        if self.pid:
            return
        self.pid_file.parent.mkdir(parents=True, exist_ok=True)
        self.log_file.parent.mkdir(parents=True, exist_ok=True)
        with self.log_file.open("ab") as log:
            child = subprocess.Popen(
                [*GIVES_WAY, *DEFAULT_SIGNALS, *(str(argument) for argument in arguments)],
                env={**os.environ, **environment},
                cwd=directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        record = {"pid": child.pid, "started": start_time(child.pid)}
        self.pid_file.write_text(json.dumps(record) + "\n")

    def stop(self, *, grace: float = 20.0) -> bool:
        """End it: SIGTERM, and SIGKILL to its whole group after ``grace`` seconds.

        Returns whether it was running.
        """
        pid = self.pid
        if pid:
            os.kill(pid, signal.SIGTERM)
            if not ends_within(pid, grace):
                kill_group(pid)
                ends_within(pid, grace)
            kill_group(pid)  # what it started and left behind
        self.pid_file.unlink(missing_ok=True)
        return pid is not None


def start_time(pid: int) -> int | None:
    """When a process started, in clock ticks since boot. Returns None if there is no such process.

    A process that has ended and waits for its parent to notice counts as gone.
    """
    try:
        # The second field, the command's name, is in parentheses and may hold anything.
        state, *rest = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if state in "ZX" else int(rest[18])


def ends_within(pid: int, seconds: float) -> bool:
    """Wait until a process is gone. Returns False if it still runs after ``seconds``."""
    try:
        wait_until(
            lambda: start_time(pid) is None, what=f"end of process {pid}", seconds=seconds, hint=""
        )
    except NotReady:
        return False
    return True


def kill_group(pid: int) -> None:
    """Kill what is left of a process's group."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
