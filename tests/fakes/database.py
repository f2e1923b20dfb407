"""A real PostgreSQL database, as the tests of what changes one talk to it."""

import psycopg
from pydantic import SecretStr

from blocks.postgres.database import Database
from release.migration.files import MigrationFile, read_migration


def a_file(version: str, sql: str) -> MigrationFile:
    return read_migration(f"{version}_step.sql", sql.encode())


def a_database(dsn: str, **limits: int) -> Database:
    return Database(dsn=SecretStr(dsn), **limits)  # type: ignore[arg-type]


def ask(dsn: str, query: str) -> list[tuple[object, ...]]:
    with psycopg.connect(dsn, autocommit=True) as connection:
        return connection.execute(query.encode()).fetchall()


def change(dsn: str, statement: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(statement.encode())
