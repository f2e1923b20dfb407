"""What the lint says about PostgreSQL, asked of a PostgreSQL."""

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest
from psycopg import errors

from release.migration.lint.squawk import SAME_FOR_EVERY_ROW
from release.migration.sql.facts import is_refused_in_transactions, locked, referenced
from release.migration.sql.tree import Node, parse_statement

KEEPS_WRITERS_OUT = {
    "ShareLock",
    "ShareRowExclusiveLock",
    "ExclusiveLock",
    "AccessExclusiveLock",
}

SCHEMA = """
CREATE TABLE orders (id bigint, total int, name varchar(10));
INSERT INTO orders SELECT n, n, 'x' FROM generate_series(1, 1000) AS n;
CREATE UNIQUE INDEX orders_id ON orders (id);
CREATE SCHEMA elsewhere;
CREATE TABLE customers (id bigint PRIMARY KEY);
CREATE TABLE events (at int NOT NULL) PARTITION BY RANGE (at);
CREATE TABLE events_1 PARTITION OF events FOR VALUES FROM (0) TO (10);
CREATE TABLE events_2 (at int NOT NULL);
INSERT INTO events_2 SELECT 15 FROM generate_series(1, 100);
CREATE MATERIALIZED VIEW totals AS SELECT total FROM orders;
CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE TRIGGER orders_audit BEFORE INSERT ON orders FOR EACH ROW EXECUTE FUNCTION nothing();
"""


def tree(statement: str) -> Node:
    node = parse_statement(statement)
    assert node is not None
    return node


@contextmanager
def connected(dsn: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(dsn, autocommit=True) as connection:
        yield connection


@pytest.fixture
def session(dsn: str) -> Iterator[psycopg.Connection]:
    """A database with a few tables, and a session in it that is in no transaction."""
    with connected(dsn) as connection:
        connection.execute(SCHEMA.encode())
        yield connection


# ── Transactions ─────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE INDEX CONCURRENTLY i ON orders (total)",
        "DROP INDEX CONCURRENTLY orders_id",
        "REINDEX INDEX CONCURRENTLY orders_id",
        "REINDEX (CONCURRENTLY) TABLE orders",
        "REINDEX SCHEMA public",
        "VACUUM orders",
        "VACUUM (FULL) orders",
        "CLUSTER",
        "ALTER SYSTEM SET work_mem = '5MB'",
        "CREATE DATABASE another",
        "DROP DATABASE another",
        "CREATE TABLESPACE elsewhere LOCATION '/nowhere'",
        "DROP TABLESPACE elsewhere",
        "CREATE SUBSCRIPTION s CONNECTION 'dbname=another' PUBLICATION p",
        "ALTER TABLE events DETACH PARTITION events_1 CONCURRENTLY",
        "ALTER DATABASE postgres SET TABLESPACE elsewhere",
    ],
)
def test_what_postgresql_refuses_inside_a_transaction_is_known(session, statement):
    assert is_refused_in_transactions(tree(statement))

    session.execute("BEGIN")
    with pytest.raises(errors.ActiveSqlTransaction):
        session.execute(statement.encode())


def test_a_subscription_is_refreshed_and_dropped_outside_of_transactions_alone(session):
    make = "CREATE SUBSCRIPTION s CONNECTION 'dbname=none' PUBLICATION p WITH (connect = false)"
    refresh, drop = "ALTER SUBSCRIPTION s REFRESH PUBLICATION", "DROP SUBSCRIPTION s"
    assert not is_refused_in_transactions(tree(make))
    session.execute(f"BEGIN; {make}; COMMIT; ALTER SUBSCRIPTION s ENABLE".encode())
    try:
        for statement in (refresh, drop):
            assert is_refused_in_transactions(tree(statement))
            session.execute("BEGIN")
            with pytest.raises(errors.ActiveSqlTransaction):
                session.execute(statement.encode())
            session.execute("ROLLBACK")
    finally:
        session.execute("ALTER SUBSCRIPTION s DISABLE")
        session.execute("ALTER SUBSCRIPTION s SET (slot_name = NONE)")
        session.execute(drop.encode())


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE INDEX i ON orders (total)",
        "DROP INDEX orders_id",
        "REINDEX INDEX orders_id",
        "REINDEX TABLE orders",
        "ANALYZE orders",
        "CLUSTER orders USING orders_id",
        "ALTER TABLE events DETACH PARTITION events_1",
        "REFRESH MATERIALIZED VIEW totals",
        "ALTER DATABASE postgres SET work_mem = '5MB'",
        "CHECKPOINT",
    ],
)
def test_what_postgresql_accepts_inside_a_transaction_is_known(session, statement):
    assert not is_refused_in_transactions(tree(statement))

    session.execute("BEGIN")
    session.execute(statement.encode())
    session.execute("ROLLBACK")


def test_a_do_block_cannot_commit_inside_a_transaction(session):
    session.execute("BEGIN")
    with pytest.raises(errors.InvalidTransactionTermination):
        session.execute("DO 'BEGIN COMMIT; END'")


@pytest.mark.parametrize(
    "use",
    [
        "INSERT INTO parcels VALUES ('lost')",
        "UPDATE parcels SET state = 'lost'",
        "ALTER TABLE parcels ALTER state SET DEFAULT 'lost'",
        "ALTER TABLE parcels ADD CHECK (state <> 'lost')",
        "CREATE INDEX ON parcels (state) WHERE state = 'lost'",
        "CREATE TABLE others (state state DEFAULT 'lost')",
    ],
)
def test_a_new_enum_value_cannot_be_used_in_its_own_transaction(session, use):
    session.execute("CREATE TYPE state AS ENUM ('sent'); CREATE TABLE parcels (state state)")
    session.execute("INSERT INTO parcels VALUES ('sent')")
    session.execute("BEGIN")
    session.execute("ALTER TYPE state ADD VALUE 'lost'")
    with pytest.raises(errors.UnsafeNewEnumValueUsage):
        session.execute(use.encode())


@pytest.mark.parametrize("statement", ["DISCARD ALL", "SELECT pg_advisory_unlock_all()"])
def test_the_runners_lock_can_be_let_go_by_a_statement(session, statement):
    held = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()"
    session.execute("SELECT pg_try_advisory_lock(1)")
    assert session.execute(held.encode()).fetchone() == (1,)

    session.execute(statement.encode())

    assert session.execute(held.encode()).fetchone() == (0,)


# ── Rows ─────────────────────────────────────────────────────────────────────────────────────────


def said_during(session: psycopg.Connection, statement: str) -> list[str]:
    """What PostgreSQL says of its work: "rewriting table …", "verifying table …"."""
    said: list[str] = []
    session.add_notice_handler(lambda notice: said.append(notice.message_primary or ""))
    session.execute("SET client_min_messages = debug1")
    session.execute(statement.encode())
    return said


@pytest.mark.parametrize(
    ("statement", "rewrites"),
    [
        ("ALTER TABLE orders ADD COLUMN x bigserial", True),
        ("ALTER TABLE orders ADD COLUMN x bigint GENERATED ALWAYS AS IDENTITY", True),
        ("ALTER TABLE orders ADD COLUMN x int GENERATED ALWAYS AS (total + 1) STORED", True),
        ("ALTER TABLE orders ADD COLUMN x uuid DEFAULT gen_random_uuid()", True),
        ("ALTER TABLE orders SET UNLOGGED", True),
        ("ALTER TABLE orders ALTER id TYPE numeric", True),
        ("VACUUM FULL orders", True),
        ("CLUSTER orders USING orders_id", True),
        ("ALTER TABLE orders ADD COLUMN x int NOT NULL DEFAULT 7", False),
        ("ALTER TABLE orders ADD COLUMN x timestamptz DEFAULT now()", False),
        ("ALTER TABLE orders ADD COLUMN x text DEFAULT lower('A') || 'b'", False),
        ("ALTER TABLE orders ALTER name TYPE varchar(20)", False),
        ("VACUUM orders", False),
    ],
)
def test_what_copies_a_table_gives_it_another_file(session, statement, rewrites):
    file = "SELECT pg_relation_filenode('orders')"
    before = session.execute(file.encode()).fetchone()

    session.execute(statement.encode())

    assert (session.execute(file.encode()).fetchone() != before) is rewrites


@pytest.mark.parametrize(
    ("statement", "reads"),
    [
        ("ALTER TABLE orders ADD COLUMN x int CHECK (x > 0)", True),
        ("ALTER TABLE orders ADD CONSTRAINT k CHECK (total > 0)", True),
        ("ALTER TABLE orders ALTER total SET NOT NULL", True),
        ("ALTER TABLE orders ADD COLUMN x int", False),
        ("ALTER TABLE orders ADD CONSTRAINT k CHECK (total > 0) NOT VALID", False),
        ("ALTER TABLE events ATTACH PARTITION events_2 FOR VALUES FROM (10) TO (20)", True),
    ],
)
def test_what_checks_every_row_says_so(session, statement, reads):
    said = said_during(session, statement)

    assert any(message.startswith("verifying table") for message in said) is reads


def test_a_validated_check_spares_set_not_null_its_read(session):
    session.execute("ALTER TABLE orders ADD CONSTRAINT k CHECK (total IS NOT NULL) NOT VALID")
    session.execute("ALTER TABLE orders VALIDATE CONSTRAINT k")

    said = said_during(session, "ALTER TABLE orders ALTER total SET NOT NULL")

    assert not any(message.startswith("verifying table") for message in said)


def test_a_partition_that_proves_its_bounds_is_not_read(session):
    session.execute("ALTER TABLE events_2 ADD CONSTRAINT k CHECK (at >= 10 AND at < 20)")

    said = said_during(
        session, "ALTER TABLE events ATTACH PARTITION events_2 FOR VALUES FROM (10) TO (20)"
    )

    assert not any(message.startswith("verifying table") for message in said)


def test_functions_that_are_called_the_same_for_every_row_are_not_volatile(session):
    found = session.execute(
        "SELECT DISTINCT proname FROM pg_proc WHERE provolatile <> 'v' AND proname = ANY(%s)",
        [sorted(SAME_FOR_EVERY_ROW)],
    ).fetchall()
    volatile = session.execute(
        "SELECT DISTINCT proname FROM pg_proc WHERE provolatile = 'v' AND proname = ANY(%s)",
        [sorted(SAME_FOR_EVERY_ROW)],
    ).fetchall()

    assert {name for (name,) in found} == SAME_FOR_EVERY_ROW
    assert volatile == []


# ── Locks ────────────────────────────────────────────────────────────────────────────────────────


def kept_from_writers(session: psycopg.Connection, statement: str) -> set[str]:
    """The tables and views that no other session can write to until the commit."""
    # By name before: afterwards it may have another one, or none.
    relations = "SELECT oid, relname FROM pg_class WHERE relkind IN ('r', 'p', 'm') AND oid > 16383"
    name_of = dict(session.execute(relations.encode()).fetchall())
    session.execute("BEGIN")
    session.execute(statement.encode())
    locks = "SELECT relation, mode FROM pg_locks WHERE pid = pg_backend_pid()"
    rows = session.execute(locks.encode()).fetchall()
    session.execute("ROLLBACK")
    return {name_of[oid] for oid, mode in rows if oid in name_of and mode in KEEPS_WRITERS_OUT}


@pytest.mark.parametrize(
    "statement",
    [
        "ALTER TABLE orders ADD COLUMN x int",
        "ALTER TABLE orders ALTER total SET DEFAULT 1",
        "ALTER TABLE orders ALTER total SET STORAGE PLAIN",
        "ALTER TABLE orders DISABLE TRIGGER orders_audit",
        "ALTER TABLE orders ALTER total SET STATISTICS 200",
        "ALTER TABLE orders SET (fillfactor = 70)",
        "ALTER TABLE orders CLUSTER ON orders_id",
        "ALTER TABLE orders OWNER TO CURRENT_USER",
        "ALTER TABLE orders RENAME total TO sum",
        "ALTER TABLE orders RENAME TO sales",
        "ALTER INDEX orders_id RENAME TO orders_key",
        "ALTER TABLE orders SET SCHEMA elsewhere",
        "ALTER TABLE events ATTACH PARTITION events_2 FOR VALUES FROM (10) TO (20)",
        "CREATE INDEX i ON orders (total)",
        "CREATE TRIGGER other AFTER INSERT ON orders FOR EACH ROW EXECUTE FUNCTION nothing()",
        "CREATE POLICY p ON orders USING (true)",
        "CREATE RULE r AS ON DELETE TO orders DO INSTEAD NOTHING",
        "DROP TRIGGER orders_audit ON orders",
        "DROP TABLE orders CASCADE",
        "TRUNCATE orders",
        "LOCK TABLE orders IN SHARE MODE",
        "LOCK TABLE orders IN SHARE UPDATE EXCLUSIVE MODE",
        "REFRESH MATERIALIZED VIEW totals",
        "CLUSTER orders USING orders_id",
        "REINDEX TABLE orders",
        "COMMENT ON TABLE orders IS 'x'",
        "GRANT SELECT ON orders TO PUBLIC",
        "UPDATE orders SET total = 1 WHERE id = 1",
        "ANALYZE orders",
        "CREATE STATISTICS s ON id, total FROM orders",
    ],
)
def test_a_statement_keeps_writers_from_the_table_that_it_is_said_to(session, statement):
    named = locked(tree(statement))

    kept = kept_from_writers(session, statement)

    assert kept.issuperset(named)  # DROP … CASCADE and ATTACH PARTITION lock others, unnamed
    assert not {"orders", "events"} & kept.difference(named)


def test_a_new_tables_foreign_key_keeps_writers_from_the_other_table(session):
    statement = "CREATE TABLE items (customer bigint REFERENCES customers (id))"

    assert set(referenced(tree(statement))) == {"customers"}
    assert kept_from_writers(session, statement) == {"customers"}


def test_attaching_a_partition_lets_through_what_creating_one_in_place_does_not(session):
    attach = "ALTER TABLE events ATTACH PARTITION events_2 FOR VALUES FROM (10) TO (20)"
    create = "CREATE TABLE events_3 PARTITION OF events FOR VALUES FROM (20) TO (30)"

    assert "events" not in kept_from_writers(session, attach)
    assert "events" in kept_from_writers(session, create)
