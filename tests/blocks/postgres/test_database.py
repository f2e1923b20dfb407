"""The migration runner against a real PostgreSQL: what it leaves behind, whatever happens to it."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from blocks.postgres import runner as migration_runner
from blocks.postgres.connection import run_script
from blocks.postgres.database import Database, apply_folder
from release.errors import BadConfiguration, MigrationFailed, MigrationRefused, Unreachable
from release.migration.files import MigrationFile, Stamp
from release.migration.header import Phase
from tests.fakes.database import a_database, a_file, ask, change


def tables(dsn: str) -> set[object]:
    found = ask(dsn, "SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    return {name for (name,) in found}


def recorded(dsn: str) -> list[str]:
    return [row.version for row in a_database(dsn).applied()]


@contextmanager
def a_session_that_holds(dsn: str, statement: str) -> Iterator[psycopg.Connection]:
    """A report that somebody left open in a transaction."""
    with psycopg.connect(dsn, application_name="nightly-report") as connection:
        connection.execute(statement.encode())
        yield connection


def until(condition: Callable[[], bool], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


def backend(dsn: str, query_part: str) -> list[tuple[object, ...]]:
    """The runner's session while it works on a statement."""
    return ask(
        dsn,
        "SELECT pid FROM pg_stat_activity WHERE application_name = 'ignition-migrate'"
        f" AND state = 'active' AND query LIKE '%{query_part}%'",
    )


# --- what is applied ------------------------------------------------------------------------------


def test_files_are_applied_in_order_and_recorded_with_who_and_what_for(dsn):
    files = [
        a_file("0001", "CREATE TABLE users (id int);\nINSERT INTO users VALUES (1);"),
        a_file("0002", "-- migrate: phase=contract\nALTER TABLE users ADD COLUMN email text;"),
    ]
    lines: list[str] = []

    rows = a_database(dsn).apply(files, Stamp("d-1874", "abc123", "v1.1.0"), lines.append)

    assert [row.version for row in rows] == ["0001", "0002"]
    last = rows[-1]
    assert (last.name, last.status, last.phase) == ("step", "applied", Phase.CONTRACT)
    assert (last.deploy_id, last.git_sha, last.app_version) == ("d-1874", "abc123", "v1.1.0")
    assert last.checksum == files[1].checksum
    assert ask(dsn, "SELECT session_user") == [(last.applied_by,)]
    assert last.applied_at is not None
    assert [line.split(" in ")[0] for line in lines] == [
        "0001_step.sql applied",
        "0002_step.sql applied",
    ]


def test_the_runbooks_own_query_reads_newest_first_and_starts_with_the_version(dsn):
    a_database(dsn).apply([a_file(f"000{n}", f"CREATE TABLE t{n} ()") for n in range(1, 8)])

    rows = ask(dsn, "SELECT * FROM schema_migrations ORDER BY version DESC LIMIT 5")

    assert [row[:3] for row in rows[:2]] == [
        ("0007", "step", "applied"),
        ("0006", "step", "applied"),
    ]
    assert [row["version"] for row in a_database(dsn).latest()] == [str(row[0]) for row in rows]
    assert a_database(dsn).schema_version() == "0007"


def test_a_database_without_migrations_has_no_rows_and_no_version(dsn):
    database = a_database(dsn)

    assert database.applied() == ()
    assert database.latest() == []
    assert database.schema_version() == ""
    assert tables(dsn) == set(), "looking changes nothing"


def test_applied_files_are_skipped_when_the_deployment_is_repeated(dsn):
    file = a_file("0001", "CREATE TABLE users ()")
    lines: list[str] = []
    a_database(dsn).apply([file])

    assert a_database(dsn).apply([file], on_event=lines.append) == ()

    assert lines == ["0001_step.sql is applied already"]
    assert recorded(dsn) == ["0001"]


def test_percent_signs_dollar_quotes_and_many_statements_run_as_they_are_written(dsn):
    body = "CREATE FUNCTION f() RETURNS text LANGUAGE plpgsql AS $fn$ BEGIN RETURN '%s;'; END $fn$;"
    a_database(dsn).apply([a_file("0001", f"{body}\nCREATE TABLE t AS SELECT f(), 7 % 4 AS rest;")])

    assert ask(dsn, "SELECT * FROM t") == [("%s;", 3)]


def test_what_a_file_sets_does_not_reach_its_record_or_the_next_file(dsn):
    change(dsn, "CREATE ROLE weak_role_of_a_test")
    try:
        a_database(dsn).apply(
            [
                a_file("0001", "SET search_path = ''; SET ROLE weak_role_of_a_test;"),
                a_file("0002", "SET lock_timeout = 0; CREATE TABLE here ();"),
                a_file("0003", "CREATE TABLE seen AS SELECT current_setting('lock_timeout') AS v;"),
            ]
        )

        assert ask(dsn, "SELECT v FROM public.seen") == [("500ms",)]
        assert recorded(dsn) == ["0001", "0002", "0003"]
    finally:
        change(dsn, "DROP ROLE weak_role_of_a_test")


def test_a_folder_is_applied_by_the_same_runner_and_only_what_is_new(dsn, tmp_path):
    (tmp_path / "0001_a.sql").write_text("CREATE TABLE a ();")
    apply_folder(dsn, tmp_path)
    (tmp_path / "0002_b.sql").write_text("-- migrate: phase=contract\r\nCREATE TABLE b ();")

    rows = apply_folder(dsn, tmp_path)

    assert [row.filename for row in rows] == ["0002_b.sql"]
    assert tables(dsn) == {"schema_migrations", "a", "b"}


def test_a_folder_that_is_not_there_is_named_and_nothing_is_changed(dsn, tmp_path):
    with pytest.raises(MigrationRefused, match="no migrations folder"):
        apply_folder(dsn, tmp_path / "none")

    assert tables(dsn) == set()


def test_a_crlf_checkout_of_an_applied_file_is_the_same_file(dsn, tmp_path: Path):
    (tmp_path / "0001_a.sql").write_bytes(b"CREATE TABLE a (\n  x int\n);\n")
    apply_folder(dsn, tmp_path)
    (tmp_path / "0001_a.sql").write_bytes(b"CREATE TABLE a (\r\n  x int\r\n);\r\n")

    assert apply_folder(dsn, tmp_path) == ()


def test_a_table_that_another_tool_began_is_carried_on(dsn):
    """Its rows keep their numbers; what it did not record stays empty."""
    change(dsn, "CREATE TABLE schema_migrations (version varchar(128) PRIMARY KEY)")
    change(dsn, "INSERT INTO schema_migrations VALUES ('0001')")

    a_database(dsn).apply([a_file("0002", "CREATE TABLE b ()")])

    first, second = a_database(dsn).applied()
    assert (first.version, first.checksum, first.applied_at) == ("0001", "", None)
    assert second.version == "0002"
    assert second.checksum


def test_golang_migrates_table_is_refused_and_left_alone(dsn):
    change(dsn, "CREATE TABLE schema_migrations (version bigint, dirty bool)")

    with pytest.raises(MigrationRefused, match="golang-migrate"):
        a_database(dsn).apply([a_file("0001", "CREATE TABLE a ()")])

    assert tables(dsn) == {"schema_migrations"}


# --- what fails -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bad", "place"),
    [
        ("CREATE TABLE b ();\nCREATE TABLE c (;\n", ":2: syntax error at or near"),
        ("CREATE TABLE b ();\n\nCREATE TABLE a ();\n", ':3: relation "a" already exists (42P07)'),
        ("CREATE TABLE b ();\nSELECT 1/0;\nSELECT 1;", ":2: division by zero (22012)"),
        ("CREATE TABLE b ();\nDO $$ BEGIN COMMIT; END $$;", ":2: invalid transaction termination"),
    ],
)
def test_a_failing_file_leaves_nothing_of_itself_and_the_files_before_it_stay(dsn, bad, place):
    files = [a_file("0001", "CREATE TABLE a ()"), a_file("0002", bad), a_file("0003", "SELECT 1")]

    with pytest.raises(MigrationFailed) as caught:
        a_database(dsn).apply(files)

    assert caught.value.what.startswith(f"0002_step.sql{place}")
    assert "nothing of it remains; 1 file before it stays applied" in caught.value.what
    assert tables(dsn) == {"schema_migrations", "a"}
    assert recorded(dsn) == ["0001"]


def test_a_constraint_that_fails_at_commit_leaves_nothing_either(dsn):
    sql = (
        "CREATE TABLE p (id int PRIMARY KEY);"
        "CREATE TABLE c (p int REFERENCES p DEFERRABLE INITIALLY DEFERRED);"
        "INSERT INTO c VALUES (1);"
    )

    with pytest.raises(MigrationFailed, match=r"at its commit: .*23503.*no file was"):
        a_database(dsn).apply([a_file("0001", sql)])

    assert tables(dsn) == {"schema_migrations"}
    assert recorded(dsn) == []


def test_a_statement_that_takes_too_long_is_ended_and_leaves_nothing(dsn):
    with pytest.raises(MigrationFailed, match=r"0001_step.sql:2: .*statement timeout \(57014\)"):
        a_database(dsn, statement_timeout_s=1).apply(
            [a_file("0001", "CREATE TABLE a ();\nSELECT pg_sleep(20);")]
        )

    assert tables(dsn) == {"schema_migrations"}


@pytest.mark.parametrize(
    "sql", ["CREATE TABLE a (); COMMIT; SELECT 1;", "SELECT 1; COMMIT; BEGIN;"]
)
def test_a_file_that_ends_its_own_transaction_is_refused_when_read_and_noticed_when_run(dsn, sql):
    """Reading refuses it; should one get through, its record is never written as if it had held."""
    with pytest.raises(MigrationRefused, match="COMMIT would end the transaction"):
        a_file("0001", sql)

    with pytest.raises(MigrationFailed, match="ended its own transaction"):
        a_database(dsn).apply([MigrationFile("0001", "step", sql, "0" * 64)])

    assert recorded(dsn) == []


def test_an_edited_file_is_refused_under_the_lock_too_and_nothing_is_applied(dsn):
    a_database(dsn).apply([a_file("0001", "CREATE TABLE a ()")])

    with pytest.raises(MigrationRefused, match="another text is applied under this number"):
        a_database(dsn).apply([a_file("0001", "CREATE TABLE z ()"), a_file("0002", "SELECT 1")])

    assert tables(dsn) == {"schema_migrations", "a"}
    assert recorded(dsn) == ["0001"]


# --- several at once ------------------------------------------------------------------------------


def test_four_runners_at_once_apply_every_file_once(dsn):
    files = [a_file(f"{n:04}", f"CREATE TABLE t{n} (); SELECT pg_sleep(0.02)") for n in range(1, 9)]

    with ThreadPoolExecutor(4) as pool:
        done = list(pool.map(lambda run: a_database(dsn).apply(files, Stamp(f"d-{run}")), range(4)))

    assert sorted(len(rows) for rows in done) == [0, 0, 0, 8]
    assert recorded(dsn) == [file.version for file in files]
    assert len({row.deploy_id for row in a_database(dsn).applied()}) == 1


def test_a_runner_that_waits_for_another_names_it_and_gives_up_with_nothing_changed(dsn):
    lines: list[str] = []
    slow = a_file("0001", "SELECT pg_sleep(3)")
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(a_database(dsn).apply, [slow])
        until(lambda: bool(backend(dsn, "pg_sleep(3)")))

        with pytest.raises(MigrationFailed, match="another migration runner, pid"):
            a_database(dsn, lock_budget_s=1).apply([slow], on_event=lines.append)

        assert len(first.result()) == 1
    assert lines[0].startswith("waiting for another migration runner: pid")
    assert "'ignition-migrate', active" in lines[0]
    assert recorded(dsn) == ["0001"]


def test_a_blocked_file_is_tried_again_and_names_who_blocks_it(dsn):
    """Traffic waits for the lock timeout at most; when the report ends, the file is applied."""
    database = a_database(dsn, lock_timeout_ms=300)
    database.apply([a_file("0001", "CREATE TABLE a ()")])
    lines: list[str] = []
    blocked = threading.Event()

    def hear(line: str) -> None:
        lines.append(line)
        if "'nightly-report', idle in transaction" in line:
            blocked.set()

    with ThreadPoolExecutor(1) as pool:
        with a_session_that_holds(dsn, "LOCK TABLE a"):
            waiting = pool.submit(
                database.apply,
                [a_file("0002", "CREATE TABLE b (); ALTER TABLE a ADD COLUMN x int;")],
                on_event=hear,
            )
            assert blocked.wait(10), f"no line names who is in the way: {lines}"
            assert tables(dsn) == {"schema_migrations", "a"}, "nothing remains between two tries"
        (row,) = waiting.result(timeout=10)

    assert "0002_step.sql: canceling statement due to lock timeout" in lines[0]
    assert row.attempts > 1
    assert tables(dsn) == {"schema_migrations", "a", "b"}


def test_a_lock_that_is_never_granted_fails_with_the_blocker_and_leaves_nothing(dsn):
    database = a_database(dsn, lock_timeout_ms=300, lock_budget_s=2)
    database.apply([a_file("0001", "CREATE TABLE a ()")])

    with (
        a_session_that_holds(dsn, "LOCK TABLE a"),
        pytest.raises(
            MigrationFailed, match=r"blocked by pid \d+ 'nightly-report'.*tried \d times"
        ),
    ):
        database.apply([a_file("0002", "CREATE TABLE b (); DROP TABLE a;")])

    assert tables(dsn) == {"schema_migrations", "a"}
    assert recorded(dsn) == ["0001"]


# --- connections that break -----------------------------------------------------------------------


def test_a_backend_killed_in_a_file_leaves_nothing_and_the_file_runs_again(dsn):
    lines: list[str] = []
    files = [
        a_file("0001", "CREATE TABLE a ()"),
        a_file("0002", "CREATE TABLE b (); SELECT pg_sleep(1)"),
    ]
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(a_database(dsn).apply, files, Stamp("d-1"), on_event=lines.append)
        until(lambda: bool(backend(dsn, "pg_sleep(1)")))
        ((pid,),) = backend(dsn, "pg_sleep(1)")
        ask(dsn, f"SELECT pg_terminate_backend({pid})")
        rows = running.result(timeout=20)

    assert any("connection lost" in line for line in lines)
    assert [row.version for row in rows] == ["0001", "0002"], "both count as applied by this run"
    assert tables(dsn) == {"schema_migrations", "a", "b"}
    assert recorded(dsn) == ["0001", "0002"]


def test_a_connection_lost_behind_the_commit_is_not_taken_for_a_failure(dsn, monkeypatch):
    """Whether COMMIT arrived is not known then: the record decides, and nothing runs twice."""

    def lose(connection: psycopg.Connection, script: str) -> list[object]:
        results = run_script(connection, script)
        if script.endswith("COMMIT") and not lost.is_set():
            lost.set()
            connection.close()
            raise psycopg.OperationalError("server closed the connection unexpectedly")
        return results

    lost = threading.Event()
    monkeypatch.setattr(migration_runner, "run_script", lose)
    lines: list[str] = []

    rows = a_database(dsn).apply([a_file("0001", "CREATE TABLE a ()")], on_event=lines.append)

    assert lost.is_set()
    assert [row.version for row in rows] == ["0001"]
    assert "0001_step.sql was committed before the connection broke" in lines[-1]


# --- check ----------------------------------------------------------------------------------------


def test_a_healthy_database_passes_its_check(dsn):
    a_database(dsn).check()
    a_database(dsn).apply([a_file("0001", "SELECT 1")])
    a_database(dsn).check()


@pytest.mark.parametrize(
    "action", [Database.check, Database.applied, Database.latest], ids=lambda one: one.__name__
)
def test_a_wrong_password_names_host_port_and_database_and_never_the_password(dsn, action):
    wrong = make_conninfo(dsn, password="Tr0ub4dor&3", dbname="postgres")

    with pytest.raises(BadConfiguration) as caught:
        action(a_database(wrong))

    address = conninfo_to_dict(dsn)
    place = f'database "postgres" at {address["host"]}:{address["port"]}'
    assert caught.value.what.startswith(f"{place}: password authentication failed")
    assert "Tr0ub4dor" not in repr(caught.value)
    assert "Tr0ub4dor" not in repr(a_database(wrong))


def test_a_connection_string_that_cannot_be_read_is_not_quoted():
    with pytest.raises(BadConfiguration, match="cannot be read") as caught:
        a_database("postgres//me:Tr0ub4dor@db/app").check()

    assert "Tr0ub4dor" not in str(caught.value)
    assert caught.value.__suppress_context__


def test_a_server_that_is_not_there_is_unreachable():
    with pytest.raises(Unreachable, match=r'database "app" at 127\.0\.0\.1:1: .*refused'):
        a_database("postgresql://me:Tr0ub4dor@127.0.0.1:1/app").check()


def test_a_missing_database_is_a_matter_of_configuration(dsn):
    with pytest.raises(BadConfiguration, match='database "nowhere" does not exist'):
        a_database(make_conninfo(dsn, dbname="nowhere")).check()


def test_a_read_only_database_is_a_matter_of_configuration(dsn):
    read_only = make_conninfo(dsn, options="-c default_transaction_read_only=on")

    with pytest.raises(BadConfiguration, match="read-only"):
        a_database(read_only).check()


def test_a_role_that_may_not_create_the_record_is_told_the_grant(dsn):
    role = f"reader_{threading.get_ident()}"
    change(dsn, f"CREATE ROLE {role} LOGIN PASSWORD 'x-y-z'")
    try:
        with pytest.raises(BadConfiguration) as caught:
            a_database(make_conninfo(dsn, user=role, password="x-y-z")).check()
    finally:
        change(dsn, f"DROP ROLE {role}")

    assert f'GRANT CREATE ON SCHEMA public TO "{role}";' in caught.value.hint


def test_a_pooler_is_refused_because_no_lock_holds_behind_it(dsn, monkeypatch):
    """A transaction pooler hands out its own process number, not the backend's (measured)."""
    monkeypatch.setattr(psycopg.ConnectionInfo, "backend_pid", property(lambda info: 55204425))

    with pytest.raises(BadConfiguration, match="connection pooler"):
        a_database(dsn).check()
    with pytest.raises(BadConfiguration, match="connection pooler"):
        a_database(dsn).apply([a_file("0001", "CREATE TABLE a ()")])

    assert tables(dsn) == set()
