"""Refusals of migration files, with what their texts say to do."""

import re
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

from release.errors import MigrationRefused
from release.migration.files import (
    AppliedMigration,
    MigrationFile,
    read_migration,
    statements_checksum,
)

A = "CREATE TABLE a (id int);\n"
B = "CREATE TABLE b (id int);\n"
INDEX = "CREATE INDEX CONCURRENTLY {}ON a (id);\n"
ALONE = "-- migrate: no-transaction\n"


class Case(NamedTuple):
    refused: Callable[[], object]
    says: str  # a pattern of its text
    ways: tuple[Callable[..., object], ...]  # each is given what the pattern's groups found


def case(refused: Callable[[], object], says: str, *ways: Callable[..., object]) -> Case:
    return Case(refused, says, ways)


def read(text: str | bytes, name: str = "0001_a.sql") -> MigrationFile:
    return read_migration(name, text if isinstance(text, bytes) else text.encode())


def numbered(**texts: str) -> list[MigrationFile]:
    """Files by number and name: ``n0001_a=…``."""
    return [read(text, f"{name.removeprefix('n')}.sql") for name, text in texts.items()]


def text_case(refused: str | bytes, says: str, *instead: str | bytes) -> Case:
    """A file that cannot be read, and the files that are written instead."""
    return case(lambda: read(refused), says, *(lambda *_, one=one: read(one) for one in instead))


def header_case(settings: str, says: str, *instead: str) -> Case:
    return text_case(
        f"-- migrate: {settings}\n{A}", says, *(f"-- migrate: {one}\n{A}" for one in instead)
    )


def applied(file: MigrationFile, **fields: Any) -> AppliedMigration:
    given = {"name": file.name, "checksum": file.checksum, **fields}
    return AppliedMigration(file.version, **given)


def begun(file: MigrationFile) -> AppliedMigration:
    """Its first statement ran, and its second failed."""
    done = {"statements_total": 2, "statements_done": 1}
    first = statements_checksum(file, 1)
    return applied(file, status="failed", done_checksum=first, **done)


ONE, TWO, OTHER = numbered(n0001_a=A, n0002_b=B, n0002_c=B)
EDITED = read(f"{A}-- edited\n")
TWO_INDEXES = ALONE + INDEX.format("x ") + INDEX.format("y ")
HALF = read(TWO_INDEXES)
EARLY, LATE = numbered(n20260101120000_a=A, n20260102120000_b=B)


def renamed(file: MigrationFile, name: str) -> MigrationFile:
    return read(file.sql, name)


def refusal(one: Case) -> MigrationRefused:
    with pytest.raises(MigrationRefused) as refused:
        one.refused()
    return refused.value


def follow(one: Case) -> None:
    """Be refused, and do what that says, in each of its ways."""
    said = str(refusal(one))
    found = re.search(one.says, said)
    assert found, said
    assert one.ways
    for way in one.ways:
        assert way(*found.groups()) is not False
