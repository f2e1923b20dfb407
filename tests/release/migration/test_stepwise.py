"""How each statement of a file without a transaction is taken up again."""

import pytest

from release.errors import MigrationRefused
from release.migration.stepwise import Relation, Repeat, StatementStep, steps_of


def one(sql: str) -> StatementStep:
    (step,) = steps_of(sql, "0007_x.sql", idempotent=False)
    return step


@pytest.mark.parametrize(
    ("sql", "repeat"),
    [
        ("SET work_mem = '1GB'", Repeat.SETTING),
        ("RESET work_mem", Repeat.SETTING),
        ("VACUUM (ANALYZE) t", Repeat.AGAIN),
        ("ANALYZE t", Repeat.AGAIN),
        ("ALTER SYSTEM SET work_mem = '4MB'", Repeat.AGAIN),
        ("ALTER TYPE mood ADD VALUE IF NOT EXISTS 'calm'", Repeat.AGAIN),
        ("REFRESH MATERIALIZED VIEW CONCURRENTLY v", Repeat.AGAIN),
        ("CREATE UNIQUE INDEX CONCURRENTLY i ON t (x)", Repeat.BUILD_INDEX),
        ("DROP INDEX CONCURRENTLY IF EXISTS i", Repeat.DROP_INDEX),
        ("REINDEX (CONCURRENTLY, VERBOSE) TABLE t", Repeat.REINDEX),
        ("ALTER TABLE p DETACH PARTITION c CONCURRENTLY", Repeat.DETACH),
    ],
)
def test_a_statement_that_can_be_asked_for_or_repeated_needs_no_word_of_its_author(sql, repeat):
    assert one(sql).repeat is repeat


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE t SET x = x + 1",
        "INSERT INTO t VALUES (1)",
        "SELECT next()",
        "CREATE TABLE t (x int)",
        "ALTER TYPE mood ADD VALUE 'calm'",
        "DROP INDEX CONCURRENTLY a, b",
        "ALTER TABLE t ADD COLUMN y int",
        "CREATE INDEX i ON t (x)",
        "SET ROLE somebody",
        "SET SESSION AUTHORIZATION somebody",
        "CREATE DATABASE other",
        "THIS IS NEWER THAN THE GRAMMAR",
    ],
)
def test_a_statement_of_which_nobody_could_tell_whether_it_ran_is_refused(sql):
    """Nothing was sent; the author may say that it runs twice without harm."""
    with pytest.raises(MigrationRefused) as caught:
        list(steps_of(f"VACUUM t;\n{sql};", "0007_x.sql", idempotent=False))

    assert caught.value.what.startswith("0007_x.sql:2: if this statement is interrupted")
    assert "no-transaction idempotent" in caught.value.hint
    assert next(iter(steps_of(sql, "0007_x.sql", idempotent=True))).repeat is Repeat.AGAIN


def test_an_index_is_known_by_its_own_name_and_its_table():
    step = one('CREATE INDEX CONCURRENTLY IF NOT EXISTS "By Name" ON shop.items (name)')

    assert step.relation == Relation("By Name", "shop")
    assert step.table == Relation("items", "shop")
    assert step.relation.quoted == '"shop"."By Name"'
    assert step.if_not_exists
    assert step.builds


def test_an_index_without_a_name_is_refused():
    """A broken one could not be found again."""
    with pytest.raises(MigrationRefused, match="the index has no name"):
        one("CREATE INDEX CONCURRENTLY ON items (name)")


def test_statements_keep_their_numbers_and_lines():
    steps = list(steps_of("VACUUM a;\n\n-- then\nVACUUM b;", "0007_x.sql", idempotent=False))

    assert [(step.number, step.line, step.sql) for step in steps] == [
        (0, 1, "VACUUM a"),
        (1, 4, "VACUUM b"),
    ]


def test_a_name_with_quotes_in_it_stays_a_name():
    assert Relation('a"; DROP TABLE b; --').quoted == '"a""; DROP TABLE b; --"'
