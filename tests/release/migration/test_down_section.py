"""A file that makes a table and drops it again is refused, whichever tool it was written for."""

import pytest

from release.errors import MigrationRefused
from release.migration.down_section import refuse_down_section


@pytest.mark.parametrize(
    ("up", "down"),
    [
        ("-- migrate:up", "-- migrate:down"),  # dbmate
        ("-- migrate:up", "-- migrate:down transaction:false"),
        ("-- +goose Up", "-- +goose Down"),
        ("-- +migrate Up", "-- +migrate Down"),  # sql-migrate
        ("-- Up Migration", "-- Down Migration"),  # node-pg-migrate
        ("-- up migration", "  --- down migration"),
    ],
)
def test_a_file_with_a_way_back_is_refused_at_its_line(up: str, down: str):
    sql = f"{up}\nCREATE TABLE users ();\n\n{down}\nDROP TABLE users;\n"

    with pytest.raises(MigrationRefused) as caught:
        refuse_down_section("0007_users.sql", sql)

    assert caught.value.what.startswith("0007_users.sql:4: '--")
    assert "delete this line and all below it" in caught.value.hint


@pytest.mark.parametrize(
    "sql",
    [
        "CREATE TABLE users ();",
        "-- +goose Up\nCREATE TABLE users ();",  # nothing undoes it
        "-- slows down migrations of accounts\nCREATE TABLE users ();",
        "SELECT 'write -- migrate:down here';",
        "-- down migrationsteps\nSELECT 1;",
    ],
)
def test_a_file_that_goes_one_way_is_let_through(sql: str):
    refuse_down_section("0007_users.sql", sql)
