"""The processes of a flow run on this machine.

A run that the server calls crashed may only have lost its connection: when it wakes up, it would go
on where it was. Prefect gives each run's processes their run's id in the environment, and their
children inherit it.
"""

import os
import signal
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

from blocks.polling import poll
from release.errors import Unreachable

_VARIABLE = "PREFECT__FLOW_RUN_ID"
_WITHIN = timedelta(seconds=10)  # that the kernel may take to end what was killed
_POLL = timedelta(milliseconds=50)
_PROC = Path("/proc")


def end_run_processes(run_id: str) -> int:
    """Kill every process of a run, wait until they are gone, and return how many there were.

    Raises Unreachable if one does not end. This process and its parents are never among them.
    """
    ours = processes_of(run_id)
    for pid in ours:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    left = poll(lambda: processes_of(run_id), lambda left: not left, every=_POLL, within=_WITHIN)
    if left:
        raise Unreachable(
            f"process {left[0]} of run {run_id} does not end although it was killed",
            f"look at it: cat /proc/{left[0]}/stack",
        )
    return len(ours)


def processes_of(run_id: str) -> list[int]:
    """The ids of a run's living processes; those of other users are not seen."""
    wanted = f"{_VARIABLE}={run_id}".encode()
    above = _ancestors()
    found = []
    for folder in _PROC.iterdir():
        if not folder.name.isdigit() or int(folder.name) in above:
            continue
        with suppress(OSError):
            if wanted in (folder / "environ").read_bytes().split(b"\0"):
                found.append(int(folder.name))
    return found


def _ancestors() -> set[int]:
    """This process and those above it."""
    found, pid = set(), os.getpid()
    while pid > 1 and pid not in found:
        found.add(pid)
        try:
            status = (_PROC / str(pid) / "stat").read_text()
        except OSError:
            break
        pid = int(status.rpartition(")")[2].split()[1])
    return found
