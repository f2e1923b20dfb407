"""Files without a transaction on a real PostgreSQL: whatever interrupts them, they go on."""

import contextlib
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from release.errors import MigrationFailed, MigrationRefused
from release.migration.files import MigrationFile, Stamp, plan_migrations, read_migration
from tests.fakes.database import a_database, a_file, ask, change

ROWS = "CREATE TABLE items (id int, name text); INSERT INTO items SELECT i, 'n' || i FROM"
BIG = f"{ROWS} generate_series(1, 400000) i;"
SMALL = f"{ROWS} generate_series(1, 10) i;"
INDEX = "CREATE INDEX CONCURRENTLY items_by_name ON items (name);"
IF_MISSING = INDEX.replace("items_by", "IF NOT EXISTS items_by")


def stepwise(version: str, sql: str, more: str = "") -> MigrationFile:
    return read_migration(
        f"{version}_step.sql", f"-- migrate: no-transaction {more}\n{sql}".encode()
    )


def until(condition: Callable[[], bool], seconds: float = 20) -> None:
    pause = threading.Event()
    for _ in range(int(seconds / 0.005)):
        if condition():
            return
        pause.wait(0.005)
    pytest.fail("it did not happen in time")


def indexes(dsn: str) -> dict[object, object]:
    """The indexes of the items: name → whether it is valid."""
    query = (
        "SELECT c.relname, i.indisvalid FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid"
        " WHERE i.indrelid = to_regclass('items')"
    )
    return dict(ask(dsn, query))  # type: ignore[arg-type]


def row(dsn: str, version: str = "0002") -> tuple[object, ...]:
    ((status, done, total, attempts),) = ask(
        dsn,
        "SELECT status, statements_done, statements_total, attempts FROM schema_migrations"
        f" WHERE version = '{version}'",
    )
    return status, done, total, attempts


@contextlib.contextmanager
def a_writer(dsn: str) -> Iterator[psycopg.Connection]:
    """A session that wrote and left its transaction open: a concurrent build waits for it."""
    with psycopg.connect(dsn, application_name="left-open") as connection:
        connection.execute("INSERT INTO items VALUES (0, 'left open')")
        yield connection


def building(dsn: str) -> list[tuple[object, ...]]:
    return ask(
        dsn, "SELECT pid FROM pg_stat_progress_create_index WHERE datname = current_database()"
    )


# --- what is done ---------------------------------------------------------------------------------


def test_each_statement_is_counted_and_the_record_says_applied(dsn):
    lines: list[str] = []
    file = stepwise("0002", f"{INDEX}\nVACUUM items;")

    rows = a_database(dsn).apply([a_file("0001", SMALL), file], Stamp("d-1"), on_event=lines.append)

    assert [one.version for one in rows] == ["0001", "0002"]
    assert row(dsn) == ("applied", 2, 2, 1)
    assert indexes(dsn) == {"items_by_name": True}
    assert rows[1].applied_at is not None
    assert rows[1].started_at is not None
    assert rows[1].duration_ms is not None
    assert rows[1].checksum == file.checksum
    assert "0002_step.sql: statement 1 of 2 is done" in lines
    assert plan_migrations([a_file("0001", SMALL), file], rows).pending == ()


def test_settings_of_the_file_hold_for_its_statements_and_not_for_the_next_file(dsn):
    sql = "SET work_mem = '7MB'; CREATE TABLE seen AS SELECT current_setting('work_mem') AS v;"

    a_database(dsn).apply(
        [
            stepwise("0001", sql, "idempotent"),
            a_file("0002", "CREATE TABLE later AS SELECT current_setting('work_mem') AS v;"),
        ]
    )

    assert ask(dsn, "SELECT v FROM seen") == [("7MB",)]
    assert ask(dsn, "SELECT v FROM later") != [("7MB",)]


# --- what was interrupted -------------------------------------------------------------------------


def test_a_build_whose_backend_is_killed_is_cleared_and_built_again(dsn):
    """An INVALID index costs every write; IF NOT EXISTS would have called it a success."""
    lines: list[str] = []
    files = [
        a_file("0001", BIG),
        stepwise("0002", IF_MISSING),
    ]
    with a_writer_after(dsn, files[0]) as writer, ThreadPoolExecutor(1) as pool:
        running = pool.submit(a_database(dsn).apply, files, Stamp("d-1"), on_event=lines.append)
        until(lambda: bool(indexes(dsn)))
        ((pid,),) = building(dsn)
        ask(dsn, f"SELECT pg_terminate_backend({pid})")
        writer.rollback()
        running.result(timeout=60)

    assert any("connection lost" in line for line in lines)
    assert any("was left INVALID" in line for line in lines)
    assert indexes(dsn) == {"items_by_name": True}
    assert row(dsn)[:3] == ("applied", 1, 1)


@contextlib.contextmanager
def a_writer_after(dsn: str, first: MigrationFile) -> Iterator[psycopg.Connection]:
    a_database(dsn).apply([first])
    with a_writer(dsn) as writer:
        yield writer


def test_a_later_run_goes_on_behind_what_is_done_and_replays_the_settings(dsn):
    sql = (
        "SET my.word = 'kept';\n"
        "CREATE INDEX CONCURRENTLY items_by_name ON items (name);\n"
        "CREATE UNIQUE INDEX CONCURRENTLY items_once ON items ((1));\n"
        "CREATE TABLE IF NOT EXISTS seen AS SELECT current_setting('my.word') AS v;"
    )
    database = a_database(dsn)
    file = stepwise("0002", sql, "idempotent")
    with pytest.raises(MigrationFailed) as caught:
        database.apply([a_file("0001", SMALL), file])

    assert caught.value.what.startswith("0002_step.sql:4: could not create unique index")
    assert "(23505)" in caught.value.what
    assert "2 of 4 statements done" in caught.value.what
    assert row(dsn) == ("failed", 2, 4, 1)
    assert indexes(dsn) == {"items_by_name": True}, "no INVALID index refuses anybody's rows"

    mended = stepwise("0002", sql.replace("((1))", "(id)"), "idempotent")
    plan = plan_migrations([a_file("0001", SMALL), mended], database.applied())
    assert plan.pending == (mended,)
    assert [one.version for one in plan.unfinished] == ["0002"]
    database.apply(plan.pending)

    assert ask(dsn, "SELECT v FROM seen") == [("kept",)], "a new session was told again"
    assert row(dsn) == ("applied", 4, 4, 2)
    assert indexes(dsn) == {"items_by_name": True, "items_once": True}


def test_a_file_whose_finished_part_was_edited_is_refused(dsn):
    database = a_database(dsn)
    sql = f"{INDEX}\nCREATE UNIQUE INDEX CONCURRENTLY items_once ON items ((1));"
    with pytest.raises(MigrationFailed):
        database.apply([a_file("0001", SMALL), stepwise("0002", sql)])

    edited = stepwise("0002", sql.replace("(name)", "(name, id)"))
    with pytest.raises(MigrationRefused) as caught:
        plan_migrations([a_file("0001", SMALL), edited], database.applied())

    assert "its first 1 statement ran already" in caught.value.what
    assert row(dsn)[:2] == ("failed", 1)


@pytest.mark.parametrize("edited", ["VACUUM items;", "VACUUM FULL items;\nVACUUM items;"])
def test_a_runner_that_comes_after_another_text_was_begun_leaves_it_alone(dsn, edited):
    """Its plan was made before the other one began; the plan would refuse it now."""
    database = a_database(dsn)
    begun = stepwise("0002", f"{INDEX}\nVACUUM items;\nREINDEX INDEX CONCURRENTLY missing;")
    with pytest.raises(MigrationFailed):
        database.apply([a_file("0001", SMALL), begun], Stamp("d-1"))

    with pytest.raises(MigrationRefused, match="another text of it was begun, and 2 statements"):
        database.apply([stepwise("0002", edited)], Stamp("d-2"))

    assert row(dsn) == ("failed", 2, 3, 1)


def test_an_index_that_was_built_but_not_counted_is_not_built_twice(dsn):
    """The client was killed between the end of the build and its record."""
    database = a_database(dsn)
    database.apply([a_file("0001", SMALL), stepwise("0002", INDEX)])
    change(
        dsn,
        "UPDATE schema_migrations SET status = 'running', statements_done = 0,"
        " done_checksum = 'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855'"
        " WHERE version = '0002'",
    )
    ((before,),) = ask(dsn, "SELECT 'items_by_name'::regclass::oid")

    database.apply([stepwise("0002", INDEX)])

    assert ask(dsn, "SELECT 'items_by_name'::regclass::oid") == [(before,)]
    assert row(dsn)[:3] == ("applied", 1, 1)


def test_a_concurrent_drop_that_was_not_counted_is_done(dsn):
    database = a_database(dsn)
    database.apply([a_file("0001", SMALL + "CREATE INDEX gone ON items (id);")])
    file = stepwise("0002", "DROP INDEX CONCURRENTLY gone;")
    database.apply([file])
    change(
        dsn,
        "UPDATE schema_migrations SET status = 'running', statements_done = 0"
        " WHERE version = '0002'",
    )

    database.apply([file])

    assert row(dsn)[:3] == ("applied", 1, 1)
    assert indexes(dsn) == {}


@pytest.mark.parametrize(
    ("statement", "says"),
    [
        ("CREATE INDEX CONCURRENTLY taken ON items (name);", '"taken" already exists'),
        ("DROP INDEX CONCURRENTLY mistyped;", 'index "mistyped" does not exist'),
        ("ALTER TABLE items DETACH PARTITION other CONCURRENTLY;", "is not partitioned"),
    ],
)
def test_a_statement_that_failed_fails_again_and_is_never_taken_for_done(dsn, statement, says):
    """What is there, or is not, when it is tried again is not its doing."""
    database = a_database(dsn)
    made = SMALL + "CREATE INDEX taken ON items (id); CREATE TABLE other ();"
    database.apply([a_file("0001", made)])
    for _ in range(2):
        with pytest.raises(MigrationFailed) as caught:
            database.apply([stepwise("0002", statement)])
        assert says in caught.value.what

    assert row(dsn)[:3] == ("failed", 0, 1)
    assert indexes(dsn) == {"taken": True}


def test_a_half_detached_partition_is_finished(dsn):
    database = a_database(dsn, lock_budget_s=1)
    parent = "CREATE TABLE p (id int) PARTITION BY RANGE (id);"
    part = "CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (10);"
    database.apply([a_file("0001", parent + part)])
    file = stepwise("0002", "ALTER TABLE p DETACH PARTITION p1 CONCURRENTLY;", "lock-timeout=200ms")
    with psycopg.connect(dsn) as reader:
        reader.execute("SELECT * FROM p")
        with pytest.raises(MigrationFailed, match="0 of 1 statement done"):
            database.apply([file])
    half = ask(dsn, "SELECT inhdetachpending FROM pg_inherits")

    database.apply([file])

    assert half == [(True,)]
    assert ask(dsn, "SELECT count(*) FROM pg_inherits") == [(0,)]
    assert row(dsn)[:3] == ("applied", 1, 1)


def test_what_a_broken_rebuild_left_is_dropped(dsn):
    database = a_database(dsn)
    database.apply([a_file("0001", BIG + "CREATE INDEX items_by_id ON items (id);")])
    file = stepwise("0002", "REINDEX TABLE CONCURRENTLY items;")
    with a_writer(dsn) as writer, ThreadPoolExecutor(1) as pool:
        running = pool.submit(database.apply, [file])
        until(lambda: len(indexes(dsn)) > 1)
        ((pid,),) = building(dsn)
        ask(dsn, f"SELECT pg_terminate_backend({pid})")
        writer.rollback()
        running.result(timeout=60)

    assert indexes(dsn) == {"items_by_id": True}
    assert row(dsn)[:3] == ("applied", 1, 1)


# --- what is in the way ---------------------------------------------------------------------------


def test_a_build_that_waits_too_long_names_whom_it_waits_for_and_is_built_later(dsn):
    lines: list[str] = []
    database = a_database(dsn, lock_budget_s=4)
    database.apply([a_file("0001", SMALL)])
    file = stepwise("0002", INDEX, "lock-timeout=400ms")
    with a_writer(dsn), pytest.raises(MigrationFailed) as caught:
        database.apply([file], on_event=lines.append)

    assert "'left-open', idle in transaction" in caught.value.what
    assert "(4 s allowed)" in caught.value.what
    assert any("waiting for" in line and "'left-open'" in line for line in lines), "progress"
    assert "left INVALID until then" in caught.value.what, "its drop waits for the same session"
    ((status, waits, error),) = ask(
        dsn, "SELECT status, lock_waits, error FROM schema_migrations WHERE version = '0002'"
    )
    assert status == "failed"
    assert isinstance(waits, int)
    assert waits >= 2
    assert "left-open" in str(error)

    database.apply([file])

    assert indexes(dsn) == {"items_by_name": True}
    assert row(dsn)[:3] == ("applied", 1, 1)


def test_an_index_that_somebody_builds_by_hand_is_left_alone(dsn):
    database = a_database(dsn)
    database.apply([a_file("0001", BIG)])
    with a_writer(dsn) as writer, ThreadPoolExecutor(1) as pool:
        by_hand = pool.submit(change, dsn, INDEX)
        until(lambda: bool(indexes(dsn)))
        with pytest.raises(MigrationFailed, match="is being built by pid"):
            database.apply([stepwise("0002", IF_MISSING)])
        writer.rollback()
        by_hand.result(timeout=60)

    assert indexes(dsn) == {"items_by_name": True}


def test_a_waiting_runner_does_not_deadlock_a_build(dsn):
    """A session that waits inside pg_advisory_lock would: 40P01, and an INVALID index."""
    files = [a_file("0001", BIG), stepwise("0002", INDEX)]
    with ThreadPoolExecutor(2) as pool:
        both = [pool.submit(a_database(dsn).apply, files, Stamp(f"d-{n}")) for n in (1, 2)]
        results = [one.result(timeout=120) for one in both]

    assert sorted(len(one) for one in results) == [0, 2], "one applied, the other found it done"
    assert indexes(dsn) == {"items_by_name": True}
    assert row(dsn)[:3] == ("applied", 1, 1)
