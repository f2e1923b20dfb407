"""A schema that another tool made: what every text says to do about it, and that it helps."""

import re
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row
from pydantic import SecretStr

from blocks.postgres.database import Database
from blocks.postgres.table import prepare_table
from release.errors import MigrationRefused
from release.migration.adoption import (
    OUR_TABLE,
    TOOLS,
    VERSIONS_ALONE,
    History,
    plan_adoption,
    recognise,
    refuse_foreign_schema,
)
from release.migration.files import MigrationFile
from tests.fakes.refusals import (
    EDITED,
    HALF,
    ONE,
    TWO,
    Case,
    applied,
    begun,
    case,
    follow,
    renamed,
)
from tests.fakes.shell import Shell
from tests.hints.conftest import hint_of

GOLANG = next(tool for tool in TOOLS if tool.name == "golang-migrate")


def foreign(*files: MigrationFile, **of: Any) -> None:
    history = {"tool": VERSIONS_ALONE, "table": OUR_TABLE, **of}
    refuse_foreign_schema([History(**history)], files, [], "production")


def adopts(*files: MigrationFile, through: str = "0001", rows: Any = (), **of: Any) -> object:
    histories = [History(**{"tool": VERSIONS_ALONE, "table": OUR_TABLE, **of})] if of else []
    return plan_adoption(files, rows, histories, through)


CASES: dict[str, Case] = {
    "would meet another tool's work": case(
        lambda: foreign(ONE, TWO, tool=GOLANG, applied=("1",)),
        r"hint: ignition adopt production --through (\d+) ",
        lambda through: adopts(ONE, TWO, through=through, tool=GOLANG, applied=("1",)),
    ),
    "an empty table in our place": case(
        lambda: foreign(ONE, tool=GOLANG),
        r"hint: ALTER TABLE public.schema_migrations RENAME TO (\w+);$",
        lambda _: refuse_foreign_schema([], [ONE], [], "production"),
    ),
    "another tool's timestamps": case(
        lambda: foreign(ONE, applied=("20260101120000",)),
        r"hint: number the files as the table does, from (\d+) on",
        lambda first: foreign(renamed(ONE, f"{first}_a.sql"), applied=("20260101120000",)),
    ),
    "another tool's own numbers": case(
        lambda: adopts(ONE, applied=("1",)),
        r"hint: ALTER TABLE .* RENAME TO (?:\w+); then: the same adoption again$",
        lambda: adopts(ONE),
    ),
    "an adoption up to no file": case(
        lambda: adopts(ONE, through="7"),
        r"--through takes a file's number as it is written, such as \d+",
        lambda: adopts(ONE, through="0001"),
    ),
    "an adoption of what was begun": case(
        lambda: adopts(HALF, rows=[begun(HALF)]),
        "hint: a deployment will continue it: let it finish first",
        lambda: adopts(HALF, rows=[applied(HALF)]),
    ),
    "an adoption of another text": case(
        lambda: adopts(EDITED, rows=[applied(ONE)]),
        "hint: bring the old text back, and put the change into a new file",
        lambda: adopts(ONE, TWO, rows=[applied(ONE)]),
    ),
    **{
        f"{tool.name} was interrupted": case(
            lambda tool=tool: foreign(ONE, tool=tool, table=f"x.{tool.table}", unfinished="it"),
            f"hint: {re.escape(tool.mend)}$",
            lambda tool=tool: foreign(ONE, tool=tool, table=f"x.{tool.table}"),
        )
        for tool in TOOLS
        if tool.mend
    },
}


@pytest.mark.parametrize("name", CASES)
def test_what_a_refusal_says_is_done_and_the_schema_is_taken(name: str) -> None:
    follow(CASES[name])


@pytest.mark.parametrize(
    ("table", "of"),
    [
        ("version bigint, dirty bool", {"tool": GOLANG}),
        pytest.param(
            "version varchar PRIMARY KEY",
            {"applied": ("1",)},
            marks=pytest.mark.hint("adopt_command: adopt"),
        ),
    ],
    ids=["empty", "of another width"],
)
def test_a_table_that_is_in_our_place_is_renamed_by_what_is_said(
    shell: Shell, dsn: str, table: str, of: dict[str, Any]
) -> None:
    """… and where it held a history, the schema is not taken for an empty one after that."""
    with pytest.raises(MigrationRefused) as refused:
        foreign(ONE, **of)
    statement, _, then = refused.value.hint.partition("; then: ")
    if of.get("applied"):
        assert shell.words(then, "ignition adopt", VERSION="0001")[2:5] == [
            "production",
            "--through",
            "0001",
        ]
    with psycopg.connect(dsn, autocommit=True, row_factory=dict_row) as connection:
        connection.execute(f"CREATE TABLE {OUR_TABLE} ({table})".encode())
        connection.execute(statement.encode())
        found = connection.execute(
            "SELECT 'public.' || relname AS name FROM pg_class"
            " WHERE relkind = 'r' AND relname LIKE 'schema_migrations%'"
        ).fetchall()
    columns = frozenset(re.findall(r"(\w+) (?:bigint|bool|varchar)", table))
    assert recognise({row["name"]: columns for row in found}) == ()


# ── At a shell ────────────────────────────────────────────────────────────────────────────────────


def adopted(dsn: str) -> list[str]:
    return [row.version for row in Database(dsn=SecretStr(dsn)).applied()]


@pytest.mark.hint("adopt_command: adopt")
def test_a_schema_of_flyway_is_adopted_as_is_proposed(
    shell: Shell, repository: None, dsn: str
) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(
            "CREATE TABLE flyway_schema_history (installed_rank int PRIMARY KEY,"
            " version varchar(50), description varchar(200) NOT NULL, type varchar(20) NOT NULL,"
            " script varchar(1000) NOT NULL, checksum int, installed_by varchar(100) NOT NULL,"
            " installed_on timestamp NOT NULL DEFAULT now(), execution_time int NOT NULL,"
            " success bool NOT NULL)"
        )
        connection.execute(
            "INSERT INTO flyway_schema_history VALUES"
            " (1, '1', 'users', 'SQL', 'V1__users.sql', 1, 'ada', now(), 3, true),"
            " (2, '2', 'orders', 'SQL', 'V2__orders.sql', 2, 'ada', now(), 3, true)"
        )
    refused = shell.ignition("adopt", "production")
    assert (refused.code, adopted(dsn)) == (1, [])

    done = shell.type(refused.hint, "ignition adopt")

    assert done.code == 0, done.text
    assert adopted(dsn) == ["0001", "0002"]


@pytest.mark.hint("prepare_table: adopt")
def test_a_table_of_golang_migrate_is_adopted(shell: Shell, repository: None, dsn: str) -> None:
    with psycopg.connect(dsn, autocommit=True, row_factory=dict_row) as connection:
        connection.execute("CREATE TABLE schema_migrations (version bigint, dirty boolean)")
        connection.execute("INSERT INTO schema_migrations VALUES (2, false)")
        said = hint_of(lambda: prepare_table(connection))

    done = shell.type(said, "ignition adopt", ENVIRONMENT="production", NUMBER="0002")

    assert done.code == 0, done.text
    assert adopted(dsn) == ["0001", "0002"]
