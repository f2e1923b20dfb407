"""A PostgreSQL server of a test's or a benchmark's own, from the machine's programs: no container.

It listens on a free port of 127.0.0.1 and has its data in a folder that its owner throws away.
"""

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import psycopg

from sandbox.commands import run, wait_until
from sandbox.errors import NotReady, SandboxError
from sandbox.layout import HOST

PASSWORD = "Correct-Horse-7"
START_TIMEOUT = 30.0  # seconds
INSTALLED = Path("/usr/lib/postgresql")
# The data need not outlive the machine.
THROWAWAY = {
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "off",
    "autovacuum": "off",
    "shared_preload_libraries": "pg_stat_statements",  # a part of PostgreSQL's own packages
    "pg_stat_statements.max": "50000",  # many tests share a server, and none may push others out
}


class LocalPostgres:
    """A server with its data in ``folder``, run by a user whom PostgreSQL accepts (not root).

    ``settings`` are those of postgresql.conf; what is not given has PostgreSQL's own default, so
    that what is committed survives a crash.
    """

    def __init__(self, folder: Path, settings: Mapping[str, str | int] | None = None) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.log = folder / "server.log"
        self.port = free_port()
        self.programs = programs()
        self.user = unprivileged_user()
        self._settings = {"max_connections": 50, **(settings or {})}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def dsn(self) -> str:
        """The connection string of the superuser, to the maintenance database."""
        return f"postgresql://owner:{PASSWORD}@{HOST}:{self.port}/postgres"

    def create(self) -> None:
        """Make an empty cluster."""
        password_file = self.folder / "password"
        password_file.write_text(PASSWORD)
        self.give(self.folder, password_file)
        self.run(
            "initdb",
            *("--pgdata", self.data, "--username", "owner", "--pwfile", password_file),
            *("--auth", "scram-sha-256", "--encoding", "UTF8", "--locale", "C.UTF-8"),
            "--no-sync",
        )

    def create_as_standby_of(self, primary: "LocalPostgres") -> None:
        """Make a copy of a running server that follows it, and takes no writes."""
        self.give(self.folder)
        self.run(
            "pg_basebackup",
            *("--pgdata", self.data, "--checkpoint", "fast", "--no-sync", "--write-recovery-conf"),
            *("--host", HOST, "--port", str(primary.port), "--username", "owner"),
        )

    def start(self) -> None:
        """Start it, and wait until it answers. Raises NotReady if it does not."""
        settings = {
            "port": self.port,
            "listen_addresses": HOST,
            "unix_socket_directories": self.folder,
            **self._settings,
        }
        flags = [f"-c{key}={value}" for key, value in settings.items()]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*self.as_user(), self.programs / "postgres", "-D", self.data, *flags],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
            )
        try:
            wait_until(self.answers, what="an answer", seconds=START_TIMEOUT, hint="")
        except NotReady:
            raise NotReady(f"PostgreSQL did not start: {self.log.read_text()[-2000:]}") from None

    def stop(self, mode: str = "immediate") -> None:
        """Stop it: ``immediate`` is a crash, ``fast`` writes down what it holds first."""
        if self._process is not None:
            self.run("pg_ctl", "stop", "-D", self.data, "-m", mode)
            self._process.wait(timeout=START_TIMEOUT)
            self._process = None

    def answers(self) -> bool:
        """Whether it takes connections."""
        try:
            psycopg.connect(self.dsn, connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True

    def run(self, program: str, *arguments: str | Path) -> str:
        """Run one of PostgreSQL's own programs as the server's user. CommandFailed if it fails."""
        command = [*self.as_user(), self.programs / program, *arguments]
        return run(command, directory=Path("/"), environment={"PGPASSWORD": PASSWORD})

    def give(self, *paths: Path) -> None:
        """Make the server's user the owner of files or folders."""
        if self.user is not None:
            for path in paths:
                shutil.chown(path, self.user, pwd.getpwnam(self.user).pw_gid)

    def as_user(self) -> list[str]:
        """The arguments before a command line that run it as the server's user."""
        return [] if self.user is None else ["runuser", "-u", self.user, "--"]


@contextmanager
def local_postgres(settings: Mapping[str, str | int] | None = None) -> Iterator[LocalPostgres]:
    """A new, running server; it is stopped and its folder removed at the end."""
    folder = Path(tempfile.mkdtemp(prefix="ignition-postgres-"))
    try:
        server = LocalPostgres(folder, settings)
        server.create()
        server.start()
        try:
            yield server
        finally:
            server.stop()  # what it holds is thrown away: it need not be written down first
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def programs() -> Path:
    """The folder of the newest PostgreSQL's programs on this machine."""
    found = sorted(INSTALLED.glob("*/bin/postgres"), key=lambda path: int(path.parts[-3]))
    if not found:
        raise SandboxError(f"no PostgreSQL in {INSTALLED}; type: make setup")
    return found[-1].parent


def unprivileged_user() -> str | None:
    """The user to run a server as if this process is root's. Returns None for the process's own."""
    if os.getuid() != 0:
        return None
    users = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in users else "nobody"


def free_port() -> int:
    """A free port of this machine."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])
