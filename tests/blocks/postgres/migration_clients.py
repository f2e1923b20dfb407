"""Migration runners as processes that can be killed: ``python migration_clients.py SOCKET``.

Importing the runner takes seconds, so one process imports it and forks a child for each connection
to its socket. A child says its process id, then each fact in a line. One that was killed says no
last word: its end of the socket closes, and that is all.
"""

import contextlib
import json
import os
import signal
import socket
import socketserver
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from blocks.postgres.database import Database
from release.errors import DeployError
from release.migration.files import read_migration


class _Child(socketserver.StreamRequestHandler):
    """Runs the migrations of one request, in a forked process."""

    def handle(self) -> None:
        request = json.loads(self.rfile.readline())
        self.wfile.write(b"%d\n" % os.getpid())
        database = Database(dsn=SecretStr(request["dsn"]), **request["settings"])
        files = [read_migration(name, text.encode()) for name, text in request["files"]]
        try:
            rows = database.apply(files, on_event=lambda line: self._say(line=line))
        except DeployError as error:
            self._say(failed=f"{type(error).__name__}: {error}")
        else:
            self._say(applied=[row.version for row in rows])

    def _say(self, **fact: Any) -> None:
        self.wfile.write(json.dumps(fact).encode() + b"\n")


class _Parent(socketserver.ForkingMixIn, socketserver.UnixStreamServer):
    pass


@dataclass
class Client:
    """The test's end of one runner."""

    connection: socket.socket
    process: int  # a descriptor of its process, which names it even after its end
    facts: list[dict[str, Any]] = field(default_factory=list)
    ended: bool = False  # its process is gone, or has nothing more to say
    _rest: bytes = b""

    def hear(self, timeout: float = 60) -> bool:
        """Wait for one more fact. False once the runner has ended."""
        if self.ended:
            return False
        self.connection.settimeout(timeout)
        while b"\n" not in self._rest:
            heard = self.connection.recv(65536)
            if not heard:
                self.ended = True
                self.connection.close()
                os.close(self.process)
                return False
            self._rest += heard
        line, self._rest = self._rest.split(b"\n", 1)
        self.facts.append(json.loads(line))
        return True

    def hear_out(self) -> None:
        """Wait for its end."""
        while self.hear():
            pass

    def send(self, number: signal.Signals) -> None:
        """Send its process a signal, if there still is one: no other process can be hit."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.process, number)

    @property
    def lines(self) -> list[str]:
        return [fact["line"] for fact in self.facts if "line" in fact]

    @property
    def applied(self) -> list[str] | None:
        """What it said it applied; None when it failed or was killed."""
        return next((fact["applied"] for fact in self.facts if "applied" in fact), None)

    @property
    def failed(self) -> str | None:
        """What it said went wrong; None when it did not fail or was killed."""
        return next((fact["failed"] for fact in self.facts if "failed" in fact), None)

    @property
    def was_killed(self) -> bool:
        return self.ended and self.applied is None and self.failed is None


def start_client(
    path: Path, dsn: str, files: list[tuple[str, str]], **settings: int | str
) -> Client:
    """Fork a runner that applies ``files`` (name, text). Its process is known on return."""
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(str(path))
    request = {"dsn": dsn, "files": files, "settings": settings}
    connection.sendall(json.dumps(request).encode() + b"\n")
    return Client(connection, os.pidfd_open(peer_of(connection)))


def peer_of(connection: socket.socket) -> int:
    pid = b""
    while not pid.endswith(b"\n"):
        byte = connection.recv(1)
        assert byte, "the runner says its process id first"
        pid += byte
    return int(pid)


if __name__ == "__main__":
    with _Parent(sys.argv[1], _Child) as parent:
        print("ready", flush=True)
        parent.serve_forever(poll_interval=0.1)
