"""What a statement's tree says, and what happens to text that has none."""

import re
from pathlib import Path

import pytest

from release.migration.sql.tree import (
    LARGEST_STATEMENT,
    Node,
    SqlUnreadable,
    created,
    defined_names,
    do_body,
    dropped_names,
    of_kind,
    parse_statement,
    setting_changed,
    touched,
    walk,
)

ROOT = Path(__file__).resolve().parents[4]


def tree(sql: str) -> Node:
    node = parse_statement(sql)
    assert node is not None
    return node


def unreadable(sql: str) -> SqlUnreadable:
    with pytest.raises(SqlUnreadable) as caught:
        parse_statement(sql)
    return caught.value


def test_a_statement_is_named_after_what_it_does():
    assert tree("CREATE INDEX CONCURRENTLY i ON orders (id);").kind == "index_stmt"
    assert tree("CREATE INDEX CONCURRENTLY i ON orders (id);").body.concurrent


@pytest.mark.parametrize("sql", ["", "  \n", "-- nothing", "/* nothing */ ;"])
def test_blanks_and_comments_have_no_tree(sql):
    assert parse_statement(sql) is None


def test_what_the_grammar_does_not_know_is_said_with_its_place_in_characters():
    error = unreadable("SELECT 'ä' frm x y")

    assert error.what == 'syntax error at or near "x"'
    assert error.position == 15


@pytest.mark.parametrize(
    ("sql", "what"),
    [
        ("SELECT 1" + " + 1" * 500, "nested too deep"),
        ("INSERT INTO t VALUES (" + "1" * LARGEST_STATEMENT + ")", "1.0 MB > 1 MB"),
    ],
)
def test_a_statement_that_would_take_too_much_is_unreadable_and_harms_nobody(sql, what):
    assert what in unreadable(sql).what


def test_one_parser_is_behind_one_door():
    """Another parser, or none, is a matter of one module."""
    importing = re.compile(r"^\s*(?:import|from) (?:postgast|google)\b", re.MULTILINE)
    found = [
        str(path.relative_to(ROOT))
        for folder in ("release", "blocks", "tasks", "flows", "cli")
        for path in (ROOT / folder).rglob("*.py")
        if importing.search(path.read_text(encoding="utf-8"))
    ]

    assert found == ["release/migration/sql/tree.py"]


def test_a_walk_meets_every_node_in_the_order_of_the_text():
    statement = tree("SELECT DISTINCT a FROM orders JOIN items ON x = 'p' WHERE y = 'q'")

    assert [node.body.relname for node in of_kind(statement, "range_var")] == ["orders", "items"]
    assert [node.body.sval.sval for node in of_kind(statement, "a_const")] == ["p", "q"]
    assert next(walk(statement)) == statement


@pytest.mark.parametrize(
    ("sql", "relations"),
    [
        ("ALTER TABLE audit.orders ADD COLUMN x int", ("audit.orders",)),
        ("ALTER TABLE public.orders ADD COLUMN x int", ("orders",)),
        ("DROP TABLE orders, audit.items", ("orders", "audit.items")),
        ("DROP TRIGGER checks ON audit.orders", ("audit.orders",)),
        ("DROP INDEX orders_id", ("orders_id",)),
        ("DROP TYPE audit.state", ("audit.state",)),
        ("DROP FUNCTION total(int)", ("total",)),
        ("CREATE INDEX i ON orders (id)", ("orders",)),
        ("ALTER TABLE orders RENAME a TO b", ("orders",)),
        ("ALTER TYPE state ADD VALUE 'x'", ("state",)),
        ("ALTER DOMAIN email SET NOT NULL", ("email",)),
        ("TRUNCATE orders, items", ("orders", "items")),
        ("VACUUM orders", ("orders",)),
        ("LOCK TABLE orders", ("orders",)),
        ("INSERT INTO orders SELECT * FROM items", ("orders",)),
        ("REVOKE ALL ON FUNCTION total(int) FROM PUBLIC", ("total",)),
        ("COMMENT ON TABLE orders IS 'x'", ("orders",)),
        ("CREATE POLICY p ON orders USING (true)", ("orders",)),
        ("REINDEX DATABASE shop", ()),
        ("SELECT * FROM orders", ()),
    ],
)
def test_a_statement_says_what_it_acts_on(sql, relations):
    assert touched(tree(sql)) == relations


@pytest.mark.parametrize(
    ("sql", "relations"),
    [
        ("CREATE TABLE orders (id int)", ("orders",)),
        ("CREATE TABLE audit.orders AS SELECT 1", ("audit.orders",)),
        ("SELECT 1 INTO orders", ("orders",)),
        ("CREATE VIEW totals AS SELECT 1", ("totals",)),
        ("CREATE MATERIALIZED VIEW totals AS SELECT 1", ("totals",)),
        ("CREATE INDEX i ON audit.orders (id)", ("audit.i",)),
        ("CREATE SEQUENCE numbers", ("numbers",)),
        ("CREATE TYPE state AS ENUM ()", ("state",)),
        ("CREATE TYPE pair AS (a int)", ("pair",)),
        ("CREATE DOMAIN email AS text", ("email",)),
        ("CREATE FUNCTION f() RETURNS int LANGUAGE sql AS ''", ("f",)),
        ("ALTER TABLE orders ADD COLUMN x int", ()),
        ("SELECT 1", ()),
    ],
)
def test_a_statement_says_what_it_creates(sql, relations):
    assert created(tree(sql)) == relations


def test_dropping_and_making_anew_can_be_told_by_the_name():
    pairs = [
        (
            "DROP TRIGGER t ON audit.orders",
            "CREATE TRIGGER t AFTER INSERT ON orders EXECUTE FUNCTION f()",
        ),
        ("DROP POLICY t ON orders", "CREATE POLICY t ON orders USING (true)"),
        ("DROP FUNCTION audit.t()", "CREATE FUNCTION t() RETURNS int LANGUAGE sql AS ''"),
        (
            "ALTER TABLE orders DROP CONSTRAINT t",
            "ALTER TABLE orders ADD CONSTRAINT t CHECK (a > 0)",
        ),
    ]

    for drop, make in pairs:
        assert dropped_names(tree(drop)) == ("t",) == defined_names(tree(make))


@pytest.mark.parametrize(
    ("sql", "settings"),
    [
        ("SET Lock_Timeout = '1s'", ("lock_timeout",)),
        ("SET LOCAL statement_timeout TO 0", ("statement_timeout",)),
        ("SET ROLE owner", ("role",)),
        ("SET SESSION AUTHORIZATION owner", ("session_authorization",)),
        ("RESET lock_timeout", ("lock_timeout",)),
        ("RESET ALL", ("all",)),
        ("SELECT pg_catalog.set_config('search_path', '', false)", ("search_path",)),
        ("SELECT set_config(name, '', false) FROM settings", ("all",)),
        ("SELECT 'lock_timeout'", ()),
    ],
)
def test_a_setting_is_seen_however_it_is_changed(sql, settings):
    assert setting_changed(tree(sql)) == settings


def test_the_code_of_a_do_block_is_its_text():
    assert do_body(tree("DO LANGUAGE plpgsql $x$ BEGIN COMMIT; END $x$")) == " BEGIN COMMIT; END "
