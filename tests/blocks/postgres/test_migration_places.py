"""Databases that cannot take a migration: what the runner says of them, and that nothing stays."""

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from pydantic import SecretStr

from blocks.postgres.database import Database
from release.errors import BadConfiguration, MigrationFailed, Unreachable
from release.migration.files import AppliedMigration, read_migration
from sandbox.commands import run, wait_until
from sandbox.parts.local_postgres import (
    PASSWORD,
    THROWAWAY,
    LocalPostgres,
    free_port,
    local_postgres,
)

pytestmark = pytest.mark.real

SMALL = 4  # MB: what fits on the small disk


@pytest.fixture(scope="module")
def server() -> Iterator[LocalPostgres]:
    with local_postgres(THROWAWAY) as started:
        yield started


def apply(dsn: str, text: str = "CREATE TABLE here ();") -> tuple[AppliedMigration, ...]:
    return Database(dsn=SecretStr(dsn)).apply([read_migration("0001_here.sql", text.encode())])


def ask(dsn: str, query: str) -> list[tuple[object, ...]]:
    with psycopg.connect(dsn, autocommit=True) as connection:
        return connection.execute(query.encode()).fetchall()


def tables(dsn: str) -> set[object]:
    found = ask(dsn, "SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    return {name for (name,) in found}


def is_up(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True


def place(dsn: str) -> str:
    address = conninfo_to_dict(dsn)
    return f'database "{address["dbname"]}" at {address["host"]}:{address["port"]}'


# ── That take no writes ──────────────────────────────────────────────────────────────────────────


def test_a_database_that_was_made_read_only_is_refused_and_stays_as_it_is(dsn):
    """As it is done before a major upgrade: ALTER DATABASE … SET default_transaction_read_only."""
    name = sql.Identifier(str(conninfo_to_dict(dsn)["dbname"]))
    with psycopg.connect(dsn, autocommit=True) as owner:
        setting = sql.SQL("ALTER DATABASE {} SET default_transaction_read_only = on")
        owner.execute(setting.format(name))

    with pytest.raises(BadConfiguration) as caught:
        apply(dsn)

    assert caught.value.what == f"{place(dsn)}: session is read-only"
    assert tables(dsn) == set()


def test_a_standby_is_refused_and_its_primary_stays_as_it_is(server, tmp_path):
    folder = Path(server.folder) / "standby"
    folder.mkdir()
    standby = LocalPostgres(folder, THROWAWAY)
    standby.create_as_standby_of(server)
    standby.start()
    try:
        assert ask(standby.dsn, "SELECT pg_is_in_recovery()") == [(True,)]

        with pytest.raises(BadConfiguration) as caught:
            apply(standby.dsn)
    finally:
        standby.stop()

    assert caught.value.what == f"{place(standby.dsn)}: session is read-only"
    assert tables(server.dsn) == set()


# ── That have no room ────────────────────────────────────────────────────────────────────────────


@contextmanager
def a_small_disk(server: LocalPostgres) -> Iterator[str]:
    """A tablespace on a file system of a few megabytes."""
    if os.getuid() != 0:
        pytest.fail("a small file system is mounted for this test: run it as root")
    folder = server.folder / "small"
    folder.mkdir()
    run(["mount", "-t", "tmpfs", "-o", f"size={SMALL}m", "tmpfs", folder])
    try:
        server.give(folder)
        with psycopg.connect(server.dsn, autocommit=True) as owner:
            owner.execute(f"CREATE TABLESPACE small LOCATION '{folder}'".encode())
            yield "small"
            owner.execute("DROP TABLE IF EXISTS big, schema_migrations")
            owner.execute("DROP TABLESPACE small")
    finally:
        run(["umount", "--lazy", folder])


def test_a_full_disk_ends_the_file_at_its_statement_and_what_it_took_is_given_back(server):
    """It is not tried again: a full disk does not empty itself within a minute."""
    with a_small_disk(server) as tablespace:
        text = (
            f"CREATE TABLE big (note text) TABLESPACE {tablespace};\n"
            "INSERT INTO big SELECT repeat('x', 1000) FROM generate_series(1, 100000);"
        )

        with pytest.raises(MigrationFailed) as caught:
            apply(server.dsn, text)

        assert caught.value.what.startswith("0001_here.sql:2: could not extend file")
        assert "No space left on device (53100); nothing of it remains" in caught.value.what
        assert tables(server.dsn) == {"schema_migrations"}
        assert Database(dsn=SecretStr(server.dsn)).applied() == ()

        (row,) = apply(server.dsn, text.replace("100000", "1000"))
        assert row.attempts == 1, "there is room again for a smaller one"


# ── That cannot be reached ───────────────────────────────────────────────────────────────────────


def wrong_password(dsn: str) -> str:
    return make_conninfo(dsn, password="Tr0ub4dor&3")


def a_name_that_nobody_has(dsn: str) -> str:
    return make_conninfo(dsn, host="database.invalid", password="Tr0ub4dor&3")


def a_port_where_nobody_listens(dsn: str) -> str:
    return make_conninfo(dsn, port=free_port(), password="Tr0ub4dor&3")


@pytest.mark.parametrize(
    ("wrong", "error", "says"),
    [
        (wrong_password, BadConfiguration, "password authentication failed"),
        (a_name_that_nobody_has, Unreachable, "failed to resolve host"),
        (a_port_where_nobody_listens, Unreachable, "Connection refused"),
    ],
    ids=lambda one: getattr(one, "__name__", None),
)
def test_a_run_that_cannot_begin_says_where_and_why_without_the_password(dsn, wrong, error, says):
    with pytest.raises(error) as caught:
        apply(wrong(dsn))

    assert caught.value.what.startswith(place(wrong(dsn)).rpartition(":")[0])
    assert says in caught.value.what
    assert "Tr0ub4dor" not in repr(caught.value)
    assert tables(dsn) == set()


def test_a_host_that_takes_connections_and_never_answers_is_unreachable():
    """A firewall or a hung server: the runner gives up by itself."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]

        with pytest.raises(Unreachable, match=rf"127\.0\.0\.1:{port}: .*timeout expired"):
            apply(f"postgresql://me:Tr0ub4dor@127.0.0.1:{port}/app")


# ── That a pooler stands before ──────────────────────────────────────────────────────────────────


@contextmanager
def pgbouncer(server: LocalPostgres, *settings: str) -> Iterator[str]:
    """PgBouncer in transaction mode; its connection string."""
    program = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")
    assert program, "no pgbouncer on this machine; type: make setup"
    port = free_port()
    folder = server.folder / f"pooler-{port}"
    folder.mkdir()
    users, configuration, log = folder / "users", folder / "pgbouncer.ini", folder / "log"
    users.write_text(f'"owner" "{PASSWORD}"\n')
    lines = [
        "[databases]",
        f"postgres = host=127.0.0.1 port={server.port}",
        "[pgbouncer]",
        "pool_mode = transaction",
        "listen_addr = 127.0.0.1",
        f"listen_port = {port}",
        "unix_socket_dir =",
        "auth_type = scram-sha-256",
        f"auth_file = {users}",
        *settings,
    ]
    configuration.write_text("\n".join(lines))
    server.give(folder, users, configuration)
    with (
        log.open("wb") as output,
        subprocess.Popen(
            [*server.as_user(), program, str(configuration)], stdout=output, stderr=output, cwd="/"
        ) as process,
    ):
        try:
            wait_until(lambda: is_up(port), what="PgBouncer", seconds=10, hint=str(log))
            yield make_conninfo(server.dsn, port=port)
        finally:
            process.terminate()


def test_a_transaction_pooler_is_refused_because_no_lock_holds_behind_it(server):
    with pgbouncer(server, "ignore_startup_parameters = options, extra_float_digits") as dsn:
        assert ask(dsn, "SELECT 1") == [(1,)], "it works, for others"

        with pytest.raises(BadConfiguration) as caught:
            apply(dsn)

    assert caught.value.what == (
        f"{place(dsn)} is reached through a connection pooler, where no lock holds"
    )
    assert "leads to PostgreSQL itself" in caught.value.hint
    assert tables(server.dsn) == set()


def test_a_pooler_that_takes_no_session_settings_is_refused_too(server):
    """PgBouncer as it comes: it turns away whoever brings a lock timeout along."""
    with pgbouncer(server) as dsn, pytest.raises(BadConfiguration) as caught:
        apply(dsn)

    assert caught.value.what == (
        f"{place(dsn)} is reached through a connection pooler, where no lock holds"
    )
    assert tables(server.dsn) == set()


def test_behind_a_transaction_pooler_two_sessions_hold_the_same_lock(server):
    """Why it is refused: seen on the real one, not only read in its manual."""
    with (
        pgbouncer(server) as dsn,
        psycopg.connect(dsn, autocommit=True, prepare_threshold=None) as one,
        psycopg.connect(dsn, autocommit=True, prepare_threshold=None) as other,
    ):
        for session in (one, other):
            assert session.execute("SELECT pg_try_advisory_lock(9)").fetchone() == (True,)
