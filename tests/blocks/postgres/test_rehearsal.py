"""The rehearsal against a real PostgreSQL: what it finds, and what it leaves behind."""

import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from pydantic import SecretStr

from blocks.postgres.database import Database
from blocks.postgres.rehearsal import Rehearsal, in_database
from release.errors import RolloutFailed
from release.migration.files import MigrationFile, read_migration
from release.migration.rehearsal import outcome as rehearsal
from release.migration.rehearsal.compatibility import RollbackVerdict
from release.migration.rehearsal.outcome import SmokeOutcome
from release.migration.rehearsal.trace import TableLock
from release.model import Check
from sandbox.parts.local_postgres import PASSWORD

SCHEMA = """
    CREATE TABLE users (id int PRIMARY KEY, email text NOT NULL, name varchar(10));
    CREATE TABLE orders (id int PRIMARY KEY, user_id int, total int, note text);
"""


def a_file(version: str, sql: str, in_transaction: bool = True) -> MigrationFile:
    header = "" if in_transaction else "-- migrate: no-transaction idempotent\n"
    return read_migration(f"{version}_step.sql", f"{header}{sql}".encode())


def change(dsn: str, statement: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(statement.encode())


def ask(dsn: str, query: str) -> list[tuple[object, ...]]:
    with psycopg.connect(dsn, autocommit=True) as connection:
        return connection.execute(query.encode()).fetchall()


def copies(postgres: str) -> list[tuple[object, ...]]:
    return ask(postgres, "SELECT datname FROM pg_database WHERE datname LIKE 'ignition_%'")


@pytest.fixture
def target(dsn: str) -> str:
    """A database with two tables and statistics of its statements, on which nothing was sent."""
    change(dsn, "CREATE EXTENSION pg_stat_statements")
    change(dsn, SCHEMA)
    change(
        dsn,
        "SELECT pg_stat_statements_reset(0, (SELECT oid FROM pg_database"
        " WHERE datname = current_database()))",
    )
    return dsn


@pytest.fixture
def rehearse(target: str, postgres: str) -> Iterator[Callable[..., rehearsal.Rehearsal]]:
    """Rehearses on the target's own server, and sees that no copy is left there."""

    def run(*files: MigrationFile, **settings: object) -> rehearsal.Rehearsal:
        trial = settings.pop("trial", None)
        say = settings.pop("say", lambda line: None)
        given = {"dsn": SecretStr(postgres), **settings}
        block = Rehearsal(**given)  # type: ignore[arg-type]
        return block.rehearse(
            Database(dsn=SecretStr(target)),
            files,
            trial,  # type: ignore[arg-type]
            say,  # type: ignore[arg-type]
        )

    yield run
    assert copies(postgres) == []


# --- what a statement does ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("statement", "locks", "rewrites", "reads"),
    [
        ("ALTER TABLE users ADD COLUMN a int", {"users": "ACCESS EXCLUSIVE"}, (), ()),
        (
            "ALTER TABLE users ADD COLUMN a float DEFAULT random()",
            {"users": "ACCESS EXCLUSIVE"},
            ("users",),
            (),
        ),
        ("ALTER TABLE users ADD COLUMN a int DEFAULT 7", {"users": "ACCESS EXCLUSIVE"}, (), ()),
        (
            "ALTER TABLE users ALTER name TYPE varchar(20)",
            {"users": "ACCESS EXCLUSIVE"},
            (),
            (),
        ),
        (
            "ALTER TABLE users ALTER id TYPE bigint",
            {"users": "ACCESS EXCLUSIVE"},
            ("users",),
            (),
        ),
        (
            "ALTER TABLE orders ADD FOREIGN KEY (user_id) REFERENCES users NOT VALID",
            {"orders": "SHARE ROW EXCLUSIVE", "users": "SHARE ROW EXCLUSIVE"},
            (),
            (),
        ),
        (
            "ALTER TABLE orders ALTER total SET NOT NULL",
            {"orders": "ACCESS EXCLUSIVE"},
            (),
            ("orders",),
        ),
        ("CREATE INDEX ON orders (total)", {"orders": "SHARE"}, (), ("orders",)),
        ("TRUNCATE orders", {"orders": "ACCESS EXCLUSIVE"}, (), ()),
        ("UPDATE orders SET total = 0", {"orders": "ROW EXCLUSIVE"}, (), ()),
        ("CREATE TABLE lines (id int)", {}, (), ()),
    ],
)
def test_a_statements_locks_and_rewrites_are_those_of_the_server(
    rehearse, statement, locks, rewrites, reads
):
    found = rehearse(a_file("0001", statement))

    (trace,) = found.traces
    assert {lock.table: lock.mode for lock in trace.locks} == locks
    assert (trace.rewrites, trace.reads) == (rewrites, reads)


def test_locks_that_the_file_holds_already_are_named_once(rehearse):
    found = rehearse(
        a_file(
            "0001",
            "ALTER TABLE users ADD COLUMN a int;\n\n"
            "ALTER TABLE users ADD COLUMN b int;\nCREATE INDEX ON orders (note);",
        )
    )

    assert [(trace.line, trace.locks) for trace in found.traces] == [
        (1, (TableLock("users", "ACCESS EXCLUSIVE"),)),
        (3, ()),
        (4, (TableLock("orders", "SHARE"),)),
    ]


def test_nobody_waits_for_a_table_that_the_files_make(rehearse):
    found = rehearse(
        a_file("0001", "CREATE TABLE lines (id int)"),
        a_file("0002", "ALTER TABLE lines ADD COLUMN at timestamptz DEFAULT clock_timestamp()"),
    )

    assert [trace.noteworthy for trace in found.traces] == [False, False]


def test_a_rewrite_is_shown_with_the_size_of_the_targets_table(rehearse, target):
    change(target, "INSERT INTO orders (id) SELECT generate_series(1, 5000); ANALYZE orders")

    found = rehearse(a_file("0001", "ALTER TABLE orders ALTER total TYPE bigint"))

    (size,) = found.sizes
    assert (size.table, size.rows) == ("orders", 5000)
    assert [(size.size,)] == ask(target, "SELECT pg_total_relation_size('orders')")
    assert any("rewrites orders (" in line for line in found.lines())


def test_a_file_without_a_transaction_is_rehearsed_statement_by_statement(rehearse):
    """What can run in a transaction shows its locks; what cannot is run all the same."""
    sql = (
        "CREATE INDEX CONCURRENTLY by_note ON orders (note);\n"
        "ALTER TABLE users ADD COLUMN a int;\nVACUUM FULL users;"
    )
    found = rehearse(
        a_file("0001", sql, in_transaction=False),
        a_file("0002", "ALTER INDEX by_note RENAME TO orders_by_note"),
    )

    assert found.failure is None
    concurrently, adding, vacuum, _ = found.traces
    assert (concurrently.traced, vacuum.traced, adding.traced) == (False, False, True)
    assert adding.locks == (TableLock("users", "ACCESS EXCLUSIVE"),)
    assert vacuum.rewrites == ("users",)


def test_thousands_of_inserts_are_one_line(rehearse):
    rows = "\n".join(f"INSERT INTO orders (id) VALUES ({n});" for n in range(500))

    found = rehearse(a_file("0001", f"{rows}\nALTER TABLE orders ADD a int;"))

    assert [(trace.line, trace.times) for trace in found.traces] == [(1, 500), (501, 1)]


def test_a_row_among_thousands_that_fails_is_named_with_its_line(rehearse):
    rows = [f"INSERT INTO orders (id) VALUES ({n});" for n in range(500)]

    found = rehearse(a_file("0001", "\n".join([*rows, rows[7], *rows[:3]])))

    assert found.failure is not None
    assert (found.failure.line, found.failure.sqlstate) == (501, "23505")


# --- the running release --------------------------------------------------------------------------


STATEMENTS = (
    "SELECT email FROM users WHERE id = 1",
    "SELECT name, interval '2 days' FROM users",
    "SELECT * FROM orders WHERE note LIKE 'a%'",
    "UPDATE orders SET note = 'x' WHERE id = 1",
    "INSERT INTO orders (id, total) VALUES (1, 2)",
)


@pytest.mark.parametrize(
    ("migration", "broken"),
    [
        ("ALTER TABLE users ADD COLUMN a int", set()),
        ("ALTER TABLE users RENAME email TO mail", {"SELECT email FROM users WHERE id = $1"}),
        (
            "ALTER TABLE orders DROP COLUMN note",
            {
                "SELECT * FROM orders WHERE note LIKE $1",
                "UPDATE orders SET note = $1 WHERE id = $2",
            },
        ),
        (
            "DROP TABLE users",
            {"SELECT email FROM users WHERE id = $1", "SELECT name, interval $1 FROM users"},
        ),
    ],
)
def test_exactly_the_statements_that_use_what_is_gone_are_broken(
    rehearse, target, migration, broken
):
    for statement in STATEMENTS:
        change(target, statement)

    found = rehearse(a_file("0001", migration))

    assert {b.statement for b in found.statements.broken} == broken
    assert found.statements.checked == len(STATEMENTS)
    assert found.verdict[0] is (RollbackVerdict.UNSAFE if broken else RollbackVerdict.SAFE)


def test_a_statement_that_was_broken_before_does_not_count(rehearse, target):
    change(target, "CREATE TABLE old (id int, b int)")
    change(target, "SELECT b FROM old")
    change(target, "ALTER TABLE old DROP COLUMN b")
    change(target, "SELECT id FROM old")

    found = rehearse(a_file("0001", "ALTER TABLE users ADD COLUMN a int"))

    assert (found.statements.checked, found.statements.unclear) == (1, 1)
    assert found.statements.since is not None
    assert found.verdict[0] is RollbackVerdict.SAFE


def test_statements_are_understood_with_the_search_path_of_who_sent_them(rehearse, target):
    change(target, "CREATE SCHEMA shop; CREATE TABLE shop.carts (id int)")
    name = conninfo_to_dict(target)["dbname"]
    change(target, f'ALTER DATABASE "{name}" SET search_path = shop, public')
    change(target, "SELECT id FROM carts")

    found = rehearse(a_file("0001", "ALTER TABLE carts RENAME id TO number"))

    assert [b.statement for b in found.statements.broken] == ["SELECT id FROM carts"]


def test_a_rehearsal_on_the_same_server_is_not_recorded(rehearse, target):
    """Loading a copy would push the target's own statements out of pg_stat_statements."""
    change(target, "CREATE TABLE lines (id int); SELECT id FROM orders")

    rehearse(a_file("0001", "ALTER TABLE lines ADD COLUMN a int"))

    copies = (
        "SELECT count(*) FROM pg_stat_statements WHERE dbid NOT IN (SELECT oid FROM pg_database)"
    )
    assert ask(target, f"{copies} AND query LIKE '%lines%'") == [(0,)]


def test_statements_of_monitoring_prove_nothing(rehearse, target):
    change(target, "SELECT count(*) FROM pg_class")

    found = rehearse(a_file("0001", "ALTER TABLE users ADD COLUMN a int"))

    assert found.statements.checked == 0
    assert found.verdict[0] is RollbackVerdict.UNKNOWN
    assert "names a table" in found.verdict[1]


def test_statements_of_others_that_may_not_be_read_leave_the_verdict_unknown(target, postgres):
    change(target, "SELECT id FROM orders")
    change(postgres, "CREATE ROLE migrator LOGIN PASSWORD 'migrator-pw'")
    change(target, "ALTER TABLE users OWNER TO migrator; ALTER TABLE orders OWNER TO migrator")
    source = make_conninfo(target, user="migrator", password="migrator-pw")
    change(source, "SELECT id FROM users")
    try:
        found = Rehearsal(dsn=SecretStr(postgres)).rehearse(
            Database(dsn=SecretStr(source)), [a_file("0001", "ALTER TABLE users ADD a int")]
        )
    finally:
        change(target, "REASSIGN OWNED BY migrator TO owner; DROP OWNED BY migrator")
        change(postgres, "DROP ROLE migrator")

    assert found.statements.checked == 1
    assert found.statements.hidden > 0
    assert found.verdict[0] is RollbackVerdict.UNKNOWN
    assert "GRANT pg_read_all_stats" in found.verdict[1]


@pytest.mark.parametrize(
    ("migration", "verdict", "words"),
    [
        ("ALTER TABLE orders ADD a int NOT NULL", RollbackVerdict.UNSAFE, "an INSERT"),
        ("ALTER TABLE orders ALTER note SET NOT NULL", RollbackVerdict.UNSAFE, "orders.note"),
        ("ALTER TABLE orders ADD CHECK (total > 0)", RollbackVerdict.UNKNOWN, "CHECK"),
        ("CREATE UNIQUE INDEX ON orders (total)", RollbackVerdict.UNKNOWN, "UNIQUE"),
        ("ALTER TABLE orders ADD a int NOT NULL DEFAULT 1", RollbackVerdict.SAFE, "5 of 5"),
        ("ALTER TABLE orders ADD a int CHECK (a > 0)", RollbackVerdict.SAFE, "5 of 5"),
        ("ALTER TABLE users ALTER name TYPE text", RollbackVerdict.SAFE, "5 of 5"),
        ("ALTER TABLE users ALTER name TYPE varchar(5)", RollbackVerdict.UNKNOWN, "varying(5)"),
    ],
)
def test_what_the_new_schema_refuses_counts_though_every_statement_prepares(
    rehearse, target, migration, verdict, words
):
    for statement in STATEMENTS:
        change(target, statement)

    found = rehearse(a_file("0001", migration))

    assert found.statements.broken == ()
    assert found.verdict[0] is verdict, found.verdict
    assert words in found.verdict[1]


def test_without_pg_stat_statements_nothing_is_claimed(rehearse, target):
    change(target, "DROP EXTENSION pg_stat_statements")

    found = rehearse(a_file("0001", "ALTER TABLE users ADD COLUMN a int"))

    assert found.verdict[0] is RollbackVerdict.UNKNOWN
    assert "pg_stat_statements is not installed" in found.verdict[1]


# --- the old release's smoke tests ----------------------------------------------------------------


class OldRelease:
    """Asks one question of the copy, as the old release's smoke tests would."""

    def __init__(self, question: str) -> None:
        self.question = question
        self.databases: list[str] = []

    @contextmanager
    def __call__(self, dsn: SecretStr) -> Iterator[Callable[[], Check]]:
        self.databases.append(str(conninfo_to_dict(dsn.get_secret_value())["dbname"]))
        # It stays connected while the migrations run, as the old release does.
        with psycopg.connect(dsn.get_secret_value(), autocommit=True) as connection:

            def smoke() -> Check:
                try:
                    good = bool(connection.execute(self.question.encode()).fetchall())
                except psycopg.Error as error:
                    return Check("smoke tests", False, str(error))
                return Check("smoke tests", good, "exit code 0" if good else "no row")

            yield smoke


NO_SEED = SecretStr("")
SEED = SecretStr("INSERT INTO users VALUES (1, 'ada@example.com', 'ada')")


@pytest.mark.parametrize(
    ("seed", "migration", "outcome", "verdict"),
    [
        (SEED, "ALTER TABLE users ADD a int", SmokeOutcome.PASSED, RollbackVerdict.SAFE),
        (SEED, "UPDATE users SET email = ''", SmokeOutcome.FAILED, RollbackVerdict.UNSAFE),
        (
            SecretStr(""),
            "ALTER TABLE users ADD a int",
            SmokeOutcome.NOT_RUN,
            RollbackVerdict.UNKNOWN,
        ),
    ],
)
def test_smoke_tests_count_when_they_passed_on_the_copy_before(
    rehearse, target, postgres, seed, migration, outcome, verdict
):
    release = OldRelease("SELECT 1 FROM users WHERE email LIKE '%@%'")

    found = rehearse(
        a_file("0001", migration), container_dsn=SecretStr(postgres), seed=seed, trial=release
    )

    assert found.smoke.outcome is outcome, found.smoke
    assert found.verdict[0] is verdict
    assert len(release.databases) == 1
    assert release.databases != [conninfo_to_dict(target)["dbname"]]


def test_an_old_release_that_does_not_come_up_is_no_verdict(rehearse, postgres):
    @contextmanager
    def trial(dsn: SecretStr) -> Iterator[Callable[[], Check]]:
        raise RolloutFailed(f"api-1 stopped with exit code 1: cannot use {dsn.get_secret_value()}")
        yield

    found = rehearse(
        a_file("0001", "ALTER TABLE users ADD a int"),
        container_dsn=SecretStr(postgres),
        trial=trial,
    )

    assert found.smoke.outcome is SmokeOutcome.NOT_RUN
    assert "stopped with exit code 1" in found.smoke.reason
    assert PASSWORD not in "\n".join([*found.lines(), found.markdown()])
    assert len(found.traces) == 1


# --- failures, and what is left behind ------------------------------------------------------------


def test_a_file_that_fails_is_named_with_its_line_and_changes_nothing(rehearse, target):
    files = [
        a_file("0001", "ALTER TABLE users ADD COLUMN a int"),
        a_file(
            "0002",
            "CREATE TABLE lines (id int);\n\nALTER TABLE users\n  ADD COLUMN b int,\n"
            "  ADD COLUMN c nonsense;",
        ),
    ]

    found = rehearse(*files)

    assert found.failure is not None
    assert (found.failure.filename, found.failure.line) == ("0002_step.sql", 5)
    assert found.failure.sqlstate == "42704"
    assert 'type "nonsense" does not exist' in found.failure.message
    assert found.verdict[0] is RollbackVerdict.UNKNOWN
    assert [trace.filename for trace in found.traces] == ["0001_step.sql", "0002_step.sql"]
    columns = "SELECT 1 FROM information_schema.columns WHERE column_name IN ('a', 'b')"
    assert ask(target, columns) == []


def test_a_constraint_that_is_checked_at_the_end_fails_with_its_file(rehearse):
    sql = (
        "ALTER TABLE orders ADD FOREIGN KEY (user_id) REFERENCES users DEFERRABLE INITIALLY"
        " DEFERRED;\nINSERT INTO orders (id, user_id) VALUES (1, 99);"
    )

    found = rehearse(a_file("0001", sql))

    assert found.failure is not None
    assert (found.failure.line, found.failure.sqlstate) == (2, "23503")


def test_the_target_is_only_read(rehearse, target):
    change(target, "INSERT INTO users VALUES (7, 'kept@example.com', 'kept')")
    dump = (
        "SELECT md5(string_agg(t::text, '' ORDER BY t::text)) FROM pg_attribute t WHERE attnum > 0"
    )
    before = ask(target, dump)

    rehearse(a_file("0001", "DELETE FROM users; ALTER TABLE users ADD COLUMN a int;"))

    assert ask(target, dump) == before
    assert ask(target, "SELECT name FROM users") == [("kept",)]


@pytest.mark.parametrize(
    ("sql", "what"),
    [
        ("CREATE ROLE reporting", "CREATE ROLE"),
        ("SELECT 1;\nDO $$ BEGIN\n CREATE USER reporting; END $$", "CREATE USER"),
        ("GRANT owner TO pg_monitor", "GRANT of a role"),
        ("ALTER DATABASE postgres SET work_mem = '1MB'", "ALTER DATABASE"),
        ("COPY users FROM PROGRAM 'echo'", "COPY USERS FROM PROGRAM"),
    ],
)
def test_what_would_change_the_whole_server_is_not_rehearsed(rehearse, postgres, sql, what):
    """On a copy it would change the server for everybody, the target perhaps among them."""
    found = rehearse(a_file("0001", sql))

    assert f"{what} acts on the whole server" in found.reason
    assert ask(postgres, "SELECT 1 FROM pg_roles WHERE rolname = 'reporting'") == []


def test_a_statement_beyond_the_limit_ends_the_rehearsal(rehearse):
    """Even one that lifts the server's own limit."""
    sql = "SET LOCAL statement_timeout = 0;\nSELECT pg_sleep(600);"

    found = rehearse(a_file("0001", sql), limit=timedelta(seconds=3))

    assert found.reason == "it took longer than the 3 s allowed"


def test_an_interrupted_rehearsal_leaves_no_copy(rehearse):
    def interrupt(line: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        rehearse(a_file("0001", "ALTER TABLE users ADD a int"), say=interrupt)


def test_copies_that_a_killed_run_left_are_dropped_when_they_are_old(rehearse, postgres):
    change(postgres, "CREATE DATABASE ignition_rehearsal_1700000000_0123abcd")
    change(postgres, "CREATE DATABASE ignition_ledger")
    said: list[str] = []

    rehearse(a_file("0001", "ALTER TABLE users ADD a int"), say=said.append)

    assert copies(postgres) == [("ignition_ledger",)]
    change(postgres, "DROP DATABASE ignition_ledger")
    assert any("ignition_rehearsal_1700000000_0123abcd" in line for line in said)


def test_a_copy_that_another_rehearsal_uses_stays(rehearse, postgres):
    name = "ignition_rehearsal_1700000000_0123abcd"
    change(postgres, f"CREATE DATABASE {name}")
    in_use = make_conninfo(postgres, dbname=name, application_name="ignition-rehearsal")
    with psycopg.connect(in_use):
        rehearse(a_file("0001", "ALTER TABLE users ADD a int"))
        assert copies(postgres) == [(name,)]
    change(postgres, f"DROP DATABASE {name} WITH (FORCE)")


# --- what it needs --------------------------------------------------------------------------------


def test_without_a_scratch_server_nothing_is_rehearsed(rehearse):
    found = rehearse(a_file("0001", "SELECT 1"), dsn=None)

    assert found.lines() == ["not rehearsed: no scratch server is configured"]


def test_a_scratch_server_that_does_not_answer_is_a_reason(rehearse):
    gone = SecretStr(f"postgresql://owner:{PASSWORD}@127.0.0.1:1/postgres")

    found = rehearse(a_file("0001", "SELECT 1"), dsn=gone)

    assert 'database "postgres" at 127.0.0.1:1' in found.reason
    assert PASSWORD not in found.reason


@pytest.mark.parametrize(
    ("says", "reason"),
    [
        (None, "pg_dump cannot be run"),
        ("pg_dump (PostgreSQL) 9.6.24", "pg_dump 9 cannot read PostgreSQL"),
    ],
)
def test_a_pg_dump_that_is_missing_or_too_old_says_what_to_install(
    rehearse, tmp_path: Path, monkeypatch, says, reason
):
    if says:
        (tmp_path / "pg_dump").write_text(f"#!/bin/sh\necho '{says}'\n")
        (tmp_path / "pg_dump").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))

    found = rehearse(a_file("0001", "SELECT 1"))

    assert found.reason.startswith(reason)
    assert "install postgresql-client-" in found.reason


def test_an_extension_that_the_scratch_server_lacks_is_left_out(rehearse, target):
    """As pg_stat_statements may be: the copy does without it."""
    change(
        target,
        "UPDATE pg_extension SET extname = 'of the vendor' WHERE extname = 'pg_stat_statements'",
    )

    found = rehearse(a_file("0001", "ALTER TABLE users ADD a int"))

    assert found.reason == ""
    assert len(found.traces) == 1


def test_a_role_that_may_only_create_databases_is_enough(rehearse, target, postgres):
    change(target, "SELECT id FROM orders")
    change(postgres, "CREATE ROLE scratch LOGIN CREATEDB PASSWORD 'scratch-pw'")
    try:
        found = rehearse(
            a_file("0001", "ALTER TABLE orders RENAME id TO number"),
            dsn=SecretStr(make_conninfo(postgres, user="scratch", password="scratch-pw")),
        )
    finally:
        change(postgres, "DROP ROLE scratch")

    assert found.reason == ""
    assert found.traces[0].locks == (TableLock("orders", "ACCESS EXCLUSIVE"),)
    assert [b.statement for b in found.statements.broken] == ["SELECT id FROM orders"]


def test_a_password_is_in_no_output(rehearse, target, tmp_path: Path, monkeypatch):
    """Neither in the result nor in what is said, nor in the command line of pg_dump."""
    real = "/usr/bin/pg_dump"
    (tmp_path / "pg_dump").write_text(
        f'#!/bin/sh\necho "$@" >> {tmp_path}/arguments\nexec {real} "$@"\n'
    )
    (tmp_path / "pg_dump").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    said: list[str] = []

    found = rehearse(
        a_file("0001", f"INSERT INTO users VALUES (1, '{PASSWORD}', 'b');\nSELECT no;"),
        say=said.append,
    )

    everything = "\n".join(
        [*found.lines(), found.markdown(), *said, (tmp_path / "arguments").read_text()]
    )
    assert "--schema-only" in everything
    assert PASSWORD not in everything
    assert PASSWORD.encode() not in pickle.dumps(found)


def test_a_rehearsal_survives_being_stored(rehearse):
    found = rehearse(a_file("0001", "ALTER TABLE users ADD a int"))

    assert pickle.loads(pickle.dumps(found)) == found
    assert found.took > timedelta()


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("postgresql://u:p%40w@db:5432/postgres", "postgresql://u:p%40w@db:5432/copy"),
        ("postgresql://u@db/postgres?sslmode=require", "postgresql://u@db/copy?sslmode=require"),
        ("postgresql://u@db", "postgresql://u@db/copy"),
        ("user=u dbname=postgres host=db", "user=u dbname=copy host=db"),
    ],
)
def test_a_connection_string_keeps_its_form_in_another_database(given, expected):
    """An application may read nothing but a URL."""
    assert in_database(SecretStr(given), "copy").get_secret_value() == expected
