"""A Prefect server and a PostgreSQL server of the tests' own."""

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

PASSWORD = "Correct-Horse-7"
_START_TIMEOUT = 30.0  # seconds
_NUMBERS = count(1)


@pytest.fixture(scope="session")
def prefect_server() -> Iterator[None]:
    """Started once for all tests of flows and tasks: it takes longer than any of them."""
    # Imported here: the tests of rules run without Prefect, in a few seconds.
    from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings
    from prefect.testing.utilities import prefect_test_harness

    # A flow waits up to a second for its heartbeat's thread; nothing here looks at heartbeats.
    without_heartbeats = temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None})
    with prefect_test_harness(server_startup_timeout=180), without_heartbeats:
        yield


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The connection string of a server's superuser: $TEST_DATABASE_URL, or a server of our own."""
    given = os.environ.get("TEST_DATABASE_URL")
    if given:
        yield given
        return
    folder = Path(tempfile.mkdtemp(prefix="ignition-postgres-"))
    try:
        yield from _serve(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def new_database(postgres: str) -> Iterator[Callable[[], str]]:
    """Makes empty databases; on a server that is not our own they are dropped after the test."""
    made: list[str] = []

    def make() -> str:
        name = f"test_{os.getpid()}_{next(_NUMBERS)}"
        with psycopg.connect(postgres, autocommit=True) as connection:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        made.append(name)
        return make_conninfo(postgres, dbname=name)

    yield make
    if not os.environ.get("TEST_DATABASE_URL"):
        return  # the whole server goes
    with psycopg.connect(postgres, autocommit=True) as connection:
        for name in made:
            drop = sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)")
            connection.execute(drop.format(sql.Identifier(name)))


@pytest.fixture
def dsn(new_database: Callable[[], str]) -> str:
    """An empty database of this test's own."""
    return new_database()


def _serve(folder: Path) -> Iterator[str]:
    """Start a server on a free port, as a user who is not root, and stop it at the end."""
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    if not programs:
        pytest.fail("no PostgreSQL here: make setup installs it, or set TEST_DATABASE_URL")
    programs_folder, data, port = programs[-1].parent, folder / "data", _free_port()
    password_file = folder / "password"
    password_file.write_text(PASSWORD)
    as_user = _unprivileged(folder, password_file)
    _run(
        [
            *as_user,
            str(programs_folder / "initdb"),
            *("--pgdata", str(data), "--username", "owner", "--pwfile", str(password_file)),
            *("--auth", "scram-sha-256", "--encoding", "UTF8", "--locale", "C.UTF-8"),
            "--no-sync",
        ]
    )
    settings = {
        "port": port,
        "listen_addresses": "127.0.0.1",
        "unix_socket_directories": folder,
        "fsync": "off",
        "full_page_writes": "off",
        "synchronous_commit": "off",
        "autovacuum": "off",
        "max_connections": 50,
    }
    flags = [f"-c{key}={value}" for key, value in settings.items()]
    with (folder / "server.log").open("w") as log:
        server = subprocess.Popen(
            [*as_user, str(programs_folder / "postgres"), "-D", str(data), *flags],
            stdout=log,
            stderr=log,
        )
    dsn = f"postgresql://owner:{PASSWORD}@127.0.0.1:{port}/postgres"
    try:
        _await_answer(dsn, folder / "server.log")
        yield dsn
    finally:
        # What it holds is thrown away: it need not be written down first.
        _run(
            [*as_user, str(programs_folder / "pg_ctl"), "stop", "-D", str(data), "-m", "immediate"]
        )
        server.wait(timeout=_START_TIMEOUT)


def _unprivileged(*owned: Path) -> list[str]:
    """How to run a program as a user whom PostgreSQL accepts; root it refuses."""
    if os.getuid() != 0:
        return []
    user = next(name for name in ("postgres", "nobody") if _exists(name))
    for path in owned:
        shutil.chown(path, user)
    return ["runuser", "-u", user, "--"]


def _exists(user: str) -> bool:
    try:
        pwd.getpwnam(user)
    except KeyError:
        return False
    return True


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, cwd="/", check=False)
    if done.returncode:
        pytest.fail(f"{' '.join(command)} ended with {done.returncode}: {done.stderr}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _await_answer(dsn: str, log: Path) -> None:
    deadline = time.monotonic() + _START_TIMEOUT
    while True:
        try:
            psycopg.connect(dsn, connect_timeout=2).close()
        except psycopg.OperationalError:
            if time.monotonic() > deadline:
                pytest.fail(f"PostgreSQL did not start: {log.read_text()[-2000:]}")
            time.sleep(0.05)
        else:
            return
