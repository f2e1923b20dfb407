"""The container engine: the one that answers, else one of the checkout's own.

Its data stay in `.engine` as a cache. It is shared by all sandboxes of the checkout and stopped
when the last container on it is gone.
"""

import fcntl
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sandbox.commands import run, succeeds, wait_until
from sandbox.errors import SandboxError
from sandbox.layout import CHECKOUT
from sandbox.parts.processes import DEFAULT_SIGNALS, start_time

FOLDER = CHECKOUT / ".engine"
DATA = FOLDER / "data"
RUN = FOLDER / "run"
PID_FILE = FOLDER / "dockerd.pid"
CONTAINERD_PID_FILE = RUN / "containerd" / "containerd.pid"
LOG = FOLDER / "dockerd.log"
SOCKET = Path("/var/run/docker.sock")

START_TIMEOUT = 60.0  # seconds
STOP_TIMEOUT = 30.0


@contextmanager
def engine_in_use() -> Iterator[None]:
    """Keep the engine from being stopped while containers are about to be made on it."""
    with lock_file("use.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
        yield


def lock_file(name: str) -> Path:
    """A file beside the engine's data, to lock."""
    FOLDER.mkdir(exist_ok=True)
    return FOLDER / name


def engine_answers() -> bool:
    """Whether `docker info` works, on DOCKER_HOST or on the standard socket."""
    return succeeds(["docker", "info", "--format", "{{.ServerVersion}}"])


def ensure_engine() -> str:
    """Use the engine that answers; as root, start one where none does. Returns which it is."""
    with lock_file("start.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not engine_answers():
            require_startable()
            start()
            return f"started dockerd, log in {LOG}"
    return "this checkout's own dockerd" if own_engine() else "the machine's own"


def require_startable() -> None:
    """Raise SandboxError if an engine cannot be started here, or was not meant to be."""
    if "DOCKER_HOST" in os.environ:
        raise SandboxError(
            f"no container engine answers at DOCKER_HOST={os.environ['DOCKER_HOST']}; "
            "start it, or: unset DOCKER_HOST"
        )
    if shutil.which("docker") is None or shutil.which("dockerd") is None:
        raise SandboxError("no container engine is installed on this machine; type: make setup")
    if os.geteuid() != 0:
        raise SandboxError("no container engine answers; start Docker, or run this as root")


def start() -> None:
    """Start dockerd on the standard socket and wait until it answers."""
    if own_engine() is None:
        forget_dead_engine()
        with LOG.open("ab") as log:
            subprocess.Popen(
                [*DEFAULT_SIGNALS, *command()],
                cwd=FOLDER,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
    wait_until(
        engine_answers,
        what="an answer from dockerd",
        seconds=START_TIMEOUT,
        hint=f"type: tail {LOG}",
    )


def command() -> list[str]:
    """How dockerd is started."""
    return [
        "dockerd",
        *("--host", f"unix://{SOCKET}"),
        *("--data-root", str(DATA)),
        *("--exec-root", str(RUN)),
        *("--pidfile", str(PID_FILE)),
        *("--log-level", "warn"),
    ]


def forget_dead_engine() -> None:
    """Remove what a killed engine left: dockerd takes the ids in its pid files for itself.

    After a reboot those ids belong to other processes, and dockerd would refuse to start, or wait
    for a process that is not containerd. A containerd that outlived its dockerd is ended first.
    """
    orphan = running(CONTAINERD_PID_FILE)
    if orphan:
        os.kill(orphan, signal.SIGKILL)
        wait_until(
            lambda: start_time(orphan) is None,
            what=f"end of containerd (process {orphan})",
            seconds=STOP_TIMEOUT,
            hint=f"type: kill -9 {orphan}",
        )
    PID_FILE.unlink(missing_ok=True)
    CONTAINERD_PID_FILE.unlink(missing_ok=True)


def own_engine() -> int | None:
    """The process id of this checkout's dockerd while it runs."""
    return running(PID_FILE)


def running(pid_file: Path) -> int | None:
    """The process that a pid file names, if it runs and was started with this checkout's folder."""
    try:
        pid = int(pid_file.read_text())
        command_line = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
    except (FileNotFoundError, ProcessLookupError, ValueError):
        return None
    return pid if str(FOLDER) in command_line and start_time(pid) else None


def release_engine() -> str:
    """Stop the dockerd that this checkout started, unless it is in use. Returns what was done.

    Its containerd ends with it.
    """
    pid = own_engine()
    if pid is None:
        return "not ours, left alone"
    with lock_file("use.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return "left running: another program of this checkout uses it"
        if run(["docker", "ps", "--quiet"]).strip():
            return "left running: it has other containers"
        stop(pid)
    return "stopped"


def stop(pid: int) -> None:
    """End dockerd and wait until it and its containerd are gone."""
    os.kill(pid, signal.SIGTERM)
    wait_until(
        lambda: start_time(pid) is None and running(CONTAINERD_PID_FILE) is None,
        what=f"end of dockerd (process {pid})",
        seconds=STOP_TIMEOUT,
        hint=f"type: kill -9 {pid}",
    )
