"""Which recorded statements are looked at, and what a new schema takes from an old release."""

import pytest

from release.migration.rehearsal.compatibility import (
    LONGEST_STATEMENT,
    Broken,
    Column,
    Constraint,
    RecordedStatement,
    RecordedStatements,
    Schema,
    compare_schemas,
    compare_statements,
    preparable,
    select_statements,
    shorten,
)

NAMES = {"orders", "Users", "next_number"}


@pytest.mark.parametrize(
    ("text", "chosen"),
    [
        ("SELECT * FROM orders WHERE id = $1", True),
        ("select * from public.ORDERS", True),
        ('SELECT * FROM "Users"', True),
        ("SELECT * FROM users", False),  # folded it is another name
        ("WITH a AS (SELECT $1) INSERT INTO orders SELECT * FROM a", True),
        ("(SELECT id FROM orders) UNION (SELECT $1)", True),
        ("/* shop */ UPDATE orders SET a = $1", True),
        ("SELECT next_number($1)", True),
        ("SELECT * FROM pg_class", False),
        ("SELECT 'orders'", False),
        ("CREATE TABLE orders (id int)", False),  # a utility statement keeps its values
        ("COPY orders FROM STDIN", False),
        ("SELECT * FROM orders WHERE a = 'cut off", False),
        ("", False),
    ],
)
def test_queries_that_name_something_of_the_database_are_looked_at(text, chosen):
    found, left_out = select_statements([RecordedStatement(text, 1, "")], NAMES, limit=10)

    assert (bool(found), left_out) == (chosen, 0)


def test_the_most_called_come_first_and_the_rest_is_counted():
    recorded = [RecordedStatement(f"SELECT {n} FROM orders", n, "") for n in (3, 50, 7)]

    found, left_out = select_statements(recorded, NAMES, limit=2)

    assert [statement.calls for statement in found] == [50, 7]
    assert left_out == 1


def test_a_statement_is_broken_that_fails_now_and_did_not_before():
    good, gone, odd = (RecordedStatement(f"SELECT {n} FROM orders", 9, "") for n in "abc")
    recorded = RecordedStatements((good, gone, odd), hidden=1, evictions=2)

    check = compare_statements(recorded, {odd: "no c"}, {gone: "no b", odd: "no c"})

    assert check.broken == (Broken("SELECT b FROM orders", "no b", 9),)
    assert (check.checked, check.unclear, check.hidden, check.evictions) == (2, 1, 1, 2)


@pytest.mark.parametrize(
    ("text", "prepared"),
    [
        ("SELECT now() - interval $1", "SELECT now() - CAST($1 AS interval)"),
        ("SELECT DATE $12 + $3", "SELECT CAST($12 AS DATE) + $3"),
        ("SELECT date, $1 FROM t WHERE date = $2", "SELECT date, $1 FROM t WHERE date = $2"),
    ],
)
def test_a_typed_literal_is_said_as_a_cast(text, prepared):
    assert preparable(text) == prepared


@pytest.mark.parametrize(
    ("text", "short"),
    [
        ("SELECT  a\n  FROM t;", "SELECT a FROM t"),
        ("-- why\nSELECT 'secret', E'se\\'cret' /* x */ FROM t", "SELECT '…', '…' FROM t"),
        ("DO $f$ SELECT 'secret' $f$", "DO $$…$$"),
        ("SELECT a, 'cut off", "SELECT a,"),
    ],
)
def test_a_short_statement_holds_nothing_that_stood_in_quotes(text, short):
    assert shorten(text) == short


def test_a_short_statement_is_one_short_line():
    assert len(shorten("SELECT " + "a, " * 100)) == LONGEST_STATEMENT


ID = Column("orders", "id", "integer", not_null=True, filled=False)
NOTE = Column("orders", "note", "character varying(10)", not_null=False, filled=False)
OLD = Schema((ID, NOTE))


def with_column(
    name: str, type: str = "integer", not_null: bool = False, filled: bool = False
) -> Schema:
    kept = tuple(column for column in OLD.columns if column.name != name)
    return Schema((*kept, Column("orders", name, type, not_null, filled)))


def with_constraint(definition: str, *columns: str) -> Schema:
    schema = with_column("new")
    constraint = Constraint("orders", "c", definition, frozenset(columns))
    return Schema(schema.columns, (constraint,))


INSERT = "INSERT INTO public.orders (id, note) VALUES ($1, $2)"


@pytest.mark.parametrize(
    ("after", "restrictions"),
    [
        (OLD, []),
        (with_column("new"), []),
        (with_column("new", not_null=True, filled=True), []),
        (
            with_column("new", not_null=True),
            [("orders.new is required now, and an INSERT of the running release lacks it", True)],
        ),
        # The INSERT names it, but may give NULL for it.
        (
            with_column("note", "character varying(10)", not_null=True),
            [("orders.note is required now", False)],
        ),
        (
            with_column("note", "character varying(10)", not_null=True, filled=True),
            [("orders.note no longer accepts NULL", False)],
        ),
        (with_column("note", "character varying(20)"), []),
        (with_column("note", "text"), []),
        (
            with_column("note", "character varying(9)"),
            [("orders.note is character varying(9) now, it was character varying(10)", False)],
        ),
        (
            with_column("id", "bigint", not_null=True),
            [("orders.id is bigint now, it was integer", False)],
        ),
        (Schema((ID,)), [("orders.note is gone", False)]),
        (Schema(()), [("table orders is gone", False)]),
        (
            Schema((*OLD.columns, Column("lines", "id", "integer", True, False))),
            [],  # nobody writes to a new table
        ),
        (
            with_constraint("CHECK (id > 0)", "id"),
            [("orders has to keep CHECK (id > 0) now", False)],
        ),
        # The old release leaves a new column empty, which every such constraint takes.
        (with_constraint("CHECK (new > 0)", "new"), []),
        (
            with_constraint("UNIQUE (id, new)", "id", "new"),
            [("orders has to keep UNIQUE (id, new) now", False)],
        ),
    ],
)
def test_what_an_old_release_can_trip_over_is_named(after, restrictions):
    found = compare_schemas(OLD, after, [INSERT, "SELECT new FROM other"])

    assert [(r.sentence, r.certain) for r in found] == restrictions


@pytest.mark.parametrize(
    ("insert", "certain"),
    [
        ("INSERT INTO orders VALUES ($1, $2)", True),
        ("INSERT INTO orders DEFAULT VALUES", True),
        ('WITH a AS (SELECT $1) INSERT INTO "orders" SELECT * FROM a', True),
        ("INSERT INTO orders (id, new) VALUES ($1, $2)", False),
        ("INSERT INTO old_orders (id) VALUES ($1)", False),
        ("SELECT id FROM orders", False),
    ],
)
def test_a_required_column_is_certain_trouble_where_an_insert_lacks_it(insert, certain):
    (found,) = compare_schemas(OLD, with_column("new", not_null=True), [insert])

    assert found.certain is certain


def test_a_constraint_that_stood_before_restricts_nobody():
    constraint = Constraint("orders", "c", "CHECK (id > 0)", frozenset({"id"}))
    schema = Schema(OLD.columns, (constraint,))

    assert compare_schemas(schema, schema, [INSERT]) == ()
