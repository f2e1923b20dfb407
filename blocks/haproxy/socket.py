"""HAProxy's admin socket: one command over a connection of its own, and the whole answer."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from release.errors import Unreachable

_ANSWER_WITHIN = 5.0  # seconds for one command
_LONGEST_PATH = 100  # bytes; the kernel takes 107


def ask(path: Path, command: str) -> str:
    """Send one command and return what HAProxy says. Raises Unreachable if it says nothing."""
    try:
        with _connected(path) as connection:
            connection.sendall(command.encode() + b"\n")
            parts = []
            while part := connection.recv(65536):
                parts.append(part)
    except OSError as error:
        raise Unreachable(
            f"HAProxy does not answer at its admin socket {path}: {error}",
            "docker compose ps; docker compose logs proxy --tail 20",
        ) from None
    return b"".join(parts).decode(errors="replace")


@contextmanager
def _connected(path: Path) -> Iterator[socket.socket]:
    """A connection to a socket whose path may be longer than the kernel takes."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(_ANSWER_WITHIN)
        if len(os.fsencode(path)) < _LONGEST_PATH:
            connection.connect(str(path))
        else:
            folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
            try:
                connection.connect(f"/proc/self/fd/{folder}/{path.name}")
            finally:
                os.close(folder)
        yield connection
