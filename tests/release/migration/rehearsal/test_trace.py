"""What a statement did to the tables of others, from the catalogue before and after it."""

from datetime import timedelta

import pytest

from release.migration.files import MigrationFile, read_migration
from release.migration.rehearsal.trace import (
    MigrationStatement,
    TableLock,
    TableState,
    acts_on_the_server,
    statements_of,
    trace_statement,
)

TOOK = timedelta(milliseconds=5)
USERS = TableState("users", file=100, scans=0)


def a_file(sql: str) -> MigrationFile:
    return read_migration("0007_step.sql", sql.encode())


def a_statement(sql: str = "ALTER TABLE users ADD a int") -> MigrationStatement:
    return statements_of(a_file(sql))[0]


@pytest.mark.parametrize(
    ("modes", "words"),
    [
        (["AccessShareLock"], "ACCESS SHARE on t: blocks no traffic"),
        (["RowExclusiveLock", "RowShareLock"], "ROW EXCLUSIVE on t: blocks no traffic"),
        (
            ["ShareUpdateExclusiveLock"],
            "SHARE UPDATE EXCLUSIVE on t: blocks vacuum and other schema changes",
        ),
        (["ShareLock", "AccessShareLock"], "SHARE on t: blocks writes"),
        (["ShareRowExclusiveLock"], "SHARE ROW EXCLUSIVE on t: blocks writes"),
        (["ExclusiveLock"], "EXCLUSIVE on t: blocks writes and SELECT … FOR UPDATE"),
        (
            ["ShareRowExclusiveLock", "AccessExclusiveLock", "ShareLock"],
            "ACCESS EXCLUSIVE on t: blocks reads and writes",
        ),
    ],
)
def test_the_strongest_lock_is_said_by_what_waits_for_it(modes, words):
    assert str(TableLock.strongest("t", modes)) == words


@pytest.mark.parametrize(
    ("sql", "after", "rewrites", "reads"),
    [
        ("ALTER TABLE users ADD a int", TableState("users", 100, 0), (), ()),
        ("ALTER TABLE users ALTER a TYPE bigint", TableState("users", 200, 1), ("users",), ()),
        ("ALTER TABLE users ALTER a SET NOT NULL", TableState("users", 100, 1), (), ("users",)),
        ("TRUNCATE users", TableState("users", 200, 1), (), ()),
        # How a query reads depends on rows that the copy does not hold.
        ("UPDATE users SET a = 1", TableState("users", 100, 1), (), ()),
    ],
)
def test_a_new_file_is_a_rewrite_and_a_scan_a_whole_read(sql, after, rewrites, reads):
    trace = trace_statement(a_statement(sql), TOOK, {1: USERS}, {1: after})

    assert (trace.rewrites, trace.reads) == (rewrites, reads)


def test_a_lock_counts_where_it_is_newly_taken():
    held = TableState("users", 100, 0, ("AccessShareLock",))
    more = TableState("users", 100, 0, ("AccessShareLock", "ShareLock"))

    assert trace_statement(a_statement(), TOOK, {1: held}, {1: held}).locks == ()
    assert trace_statement(a_statement(), TOOK, {1: held}, {1: more}).locks == (
        TableLock("users", "SHARE"),
    )


def test_a_table_that_is_gone_or_new_is_nobodys():
    trace = trace_statement(a_statement(), TOOK, {1: USERS}, {2: TableState("new", 300, 9)})

    assert not trace.noteworthy


def test_a_file_is_sent_whole_in_statements_that_know_their_line():
    sql = "-- why\nALTER TABLE a ADD b int;\n\n/* and */ UPDATE a SET b = ';' -- odd\n;SELECT 1"

    first, second, third = statements_of(a_file(sql))

    assert [(s.line, s.verb) for s in (first, second, third)] == [
        (2, "ALTER"),
        (4, "UPDATE"),
        (5, "SELECT"),
    ]
    assert "-- why\n" + first.text + second.text + third.text == sql
    assert second.short == "UPDATE a SET b = '…'"


@pytest.mark.parametrize(
    ("position", "before", "line"),
    [(None, 0, 2), (1, 0, 2), (8, 0, 3), (None, 1, 4), (15, 1, 4), (None, 9, 4)],
)
def test_a_failure_is_on_the_line_that_the_server_points_to(position, before, line):
    """Or else on that of its own statement, of those that were sent together."""
    text = "INSERT\nno;\nINSERT no"
    statement = MigrationStatement("f.sql", (2, 4), text, "INSERT no", "INSERT")

    assert statement.failed("no", "42703", position, before).line == line


def test_inserts_in_a_row_are_sent_together_and_others_are_not():
    insert, update = "INSERT INTO t VALUES (1);", "UPDATE t SET a = 1;"

    found = statements_of(a_file("\n".join([insert, insert, update, update, insert])))

    assert [(s.lines, s.verb) for s in found] == [
        ((1, 2), "INSERT"),
        ((3,), "UPDATE"),
        ((4,), "UPDATE"),
        ((5,), "INSERT"),
    ]
    assert found[0].text == f"{insert}\n{insert}\n"
    assert trace_statement(found[0], TOOK, {}, {}).times == 2


@pytest.mark.parametrize(
    ("sql", "what"),
    [
        ("CREATE ROLE reporting", "CREATE ROLE"),
        ("create  user reporting", "CREATE USER"),
        ("ALTER ROLE app SET search_path = x", "ALTER ROLE"),
        ("ALTER TABLESPACE fast RENAME TO slow", "ALTER TABLESPACE"),
        ("GRANT reporting TO app", "GRANT of a role"),
        ("GRANT CONNECT ON DATABASE shop TO app", "GRANT CONNECT ON DATABASE"),
        ("COMMENT ON ROLE app IS 'x'", "COMMENT ON ROLE"),
        ("REASSIGN OWNED BY a TO b", "REASSIGN OWNED"),
        ("COPY t TO PROGRAM 'mail'", "COPY T TO PROGRAM"),
        ("DO $$ BEGIN\nCREATE ROLE x; END $$", "CREATE ROLE"),
        ("DO $$ BEGIN EXECUTE 'CREATE ROLE x'; END $$", "CREATE ROLE"),
        ("GRANT SELECT ON users TO app", ""),
        ("CREATE USER MAPPING FOR app SERVER s", ""),
        ("ALTER TABLE users ADD role text", ""),
        ("ALTER TABLE users ALTER role SET DEFAULT 'x', DROP user_id", ""),
        ("CREATE TABLE role (id int)", ""),
        ("INSERT INTO notes VALUES ('create role x')", ""),
        ("-- create role x\nSELECT 1", ""),
        ("DO $$ BEGIN -- create role x\nNULL; END $$", ""),
    ],
)
def test_what_a_copy_cannot_hold_is_recognised(sql, what):
    said = acts_on_the_server(a_file(f"SELECT 1;\n{sql}"))

    assert said == "" if not what else said.endswith(f": {what} acts on the whole server")
    if what:
        assert said.startswith("0007_step.sql:2:")
