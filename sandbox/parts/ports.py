"""Whether the sandbox's ports are free, and what holds them if they are not."""

import contextlib
import socket
from collections.abc import Iterable
from pathlib import Path

from sandbox.errors import PortTaken
from sandbox.layout import HOST, Sandbox, port_variable

LISTENING = "0A"  # in /proc/net/tcp


def require_free_ports(sandbox: Sandbox, ours: Iterable[str] = ()) -> None:
    """Raise PortTaken if a port of the sandbox is held by anything but the parts in ``ours``."""
    running = set(ours)
    for name, port in sandbox.ports.by_name().items():
        if name not in running and is_taken(port):
            raise PortTaken(sentence(name, port, holder(port)))


def sentence(name: str, port: int, held_by: str | None) -> str:
    """What is taken, by whom if that is known, and what to set."""
    by = f" by {held_by}" if held_by else ""
    return (
        f"port {port} on {HOST}, which the sandbox needs for {name}, is taken{by}; "
        f"set {port_variable(name)} to a free port"
    )


def is_taken(port: int) -> bool:
    """Whether something listens on a port of this machine."""
    with socket.socket() as probe:
        # Connections that a former holder has closed must not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return True
    return False


def holder(port: int) -> str | None:
    """The process that listens on a port, as `name (process id)`, if this user may know."""
    sockets = {f"socket:[{inode}]" for inode in listening_inodes(port)}
    for process in Path("/proc").glob("[0-9]*"):
        if sockets & open_files(process):
            with contextlib.suppress(OSError):  # it ended meanwhile
                return f"{(process / 'comm').read_text().strip()} (process {process.name})"
    return None


def open_files(process: Path) -> set[str]:
    """What a process has open, as far as this user may know."""
    found = set()
    with contextlib.suppress(OSError):  # it belongs to another user, or has ended
        for link in (process / "fd").iterdir():
            with contextlib.suppress(OSError):  # closed meanwhile
                found.add(str(link.readlink()))
    return found


def listening_inodes(port: int) -> set[str]:
    """The inodes of the sockets that listen on a port, on IPv4 and IPv6."""
    found = set()
    for table in (Path("/proc/net/tcp"), Path("/proc/net/tcp6")):
        for line in table.read_text().splitlines()[1:] if table.exists() else []:
            fields = line.split()
            if fields[3] == LISTENING and int(fields[1].rpartition(":")[2], 16) == port:
                found.add(fields[9])
    return found
