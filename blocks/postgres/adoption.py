"""A database whose schema another migration tool made: its history read, its files adopted."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import LiteralString

from psycopg import Cursor, errors, sql
from psycopg.rows import DictRow

from blocks.postgres.connection import Connection, refuse_pooler, where
from blocks.postgres.database import Database
from blocks.postgres.runner import take_turn
from blocks.postgres.table import TABLE, prepare_table, records
from release.errors import MigrationFailed
from release.migration.adoption import (
    TOOLS,
    Adoption,
    History,
    Tool,
    has_own_history,
    plan_adoption,
    recognise,
    refuse_foreign_schema,
)
from release.migration.files import AppliedMigration, MigrationFile

# Where a tool says that it is not done, in a table of its own beside its history.
_LOCK_TABLES = {"Liquibase": "databasechangeloglock", "yoyo": "yoyo_lock"}
_TABLES = """
    SELECT n.nspname || '.' || c.relname AS name, array_agg(a.attname::text) AS columns
    FROM pg_class c
    JOIN pg_namespace n ON n.oid = c.relnamespace
    JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
    WHERE c.relkind IN ('r', 'p') AND c.relname = ANY (%(tables)s)
      AND (n.nspname = ANY (current_schemas(false)) OR n.nspname = ANY (%(schemas)s))
    GROUP BY n.nspname, c.relname"""
_NUMBERED: LiteralString = (
    "SELECT version::text AS version FROM {table} ORDER BY length(version::text), version"
)
# What counts as applied, oldest first: the newest row of a version, where a tool appends.
_APPLIED: dict[str, LiteralString] = {
    "Rails": _NUMBERED,
    "dbmate or a like tool": _NUMBERED,
    "golang-migrate": _NUMBERED,
    "Ecto": _NUMBERED,
    "Flyway": """
        SELECT version FROM (
            SELECT DISTINCT ON (version) version, type, success, installed_rank FROM {table}
            WHERE version IS NOT NULL ORDER BY version, installed_rank DESC) latest
        WHERE success AND type <> 'DELETE' AND type NOT LIKE 'UNDO%' ORDER BY installed_rank""",
    "Alembic": "SELECT version_num AS version FROM {table} ORDER BY version_num",
    "Django": "SELECT app || '.' || name AS version FROM {table} ORDER BY applied, id",
    "Liquibase": "SELECT id AS version FROM {table} ORDER BY orderexecuted, dateexecuted",
    "Prisma": """
        SELECT migration_name AS version FROM {table}
        WHERE finished_at IS NOT NULL AND rolled_back_at IS NULL ORDER BY started_at""",
    "node-pg-migrate": "SELECT name AS version FROM {table} ORDER BY run_on, id",
    "yoyo": "SELECT migration_id AS version FROM {table} ORDER BY applied_at_utc, migration_id",
    "Sqitch": "SELECT project || ':' || change AS version FROM {table} ORDER BY committed_at",
    "Atlas": "SELECT version FROM {table} WHERE version NOT LIKE '.%' ORDER BY version",
    "goose": """
        SELECT version_id::text AS version FROM (
            SELECT DISTINCT ON (version_id) version_id, is_applied FROM {table}
            ORDER BY version_id, id DESC) latest
        WHERE is_applied AND version_id > 0 ORDER BY version_id""",
}
_UNFINISHED: dict[str, LiteralString] = {
    "golang-migrate": """
        SELECT 'version ' || version || ' is dirty' AS what FROM {table} WHERE dirty""",
    "Flyway": """
        SELECT coalesce(version, script) || ' failed' AS what FROM {table}
        WHERE NOT success ORDER BY installed_rank""",
    "Liquibase": """
        SELECT 'its lock is held by ' || coalesce(lockedby, 'nobody known') AS what
        FROM {lock} WHERE locked""",
    "Prisma": """
        SELECT migration_name || ' was begun and has not ended' AS what FROM {table}
        WHERE finished_at IS NULL AND rolled_back_at IS NULL ORDER BY started_at""",
    "yoyo": "SELECT 'its lock is held by process ' || pid AS what FROM {lock} WHERE locked = 1",
    "Atlas": """
        SELECT version || ' stopped at statement ' || applied || ' of ' || total AS what
        FROM {table} WHERE applied < total AND version NOT LIKE '.%' ORDER BY version""",
}


@dataclass(frozen=True)
class Adopted:
    """What an adoption decided, and the records that it wrote; none if it wrote nothing."""

    adoption: Adoption
    records: tuple[AppliedMigration, ...] = ()


def read_histories(database: Database) -> tuple[History, ...]:
    """The histories that other tools keep in this database; empty for none.

    Looks into the schemas of the connection's search path, ``public``, and the tools' own. Raises
    Unreachable, or BadConfiguration if this role may not read such a table.
    """
    with database.session() as connection:
        return _histories(connection)


def refuse_foreign_history(
    database: Database,
    files: Sequence[MigrationFile],
    rows: Sequence[AppliedMigration],
    environment: str,
) -> None:
    """Raise MigrationRefused if ``files`` would be applied to a schema that another tool made.

    ``rows`` are those of :meth:`Database.applied`; the database is asked only if they show no file
    of ours: one query, and two for each tool that is found. Changes nothing.
    """
    if files and not has_own_history(rows):
        refuse_foreign_schema(read_histories(database), files, rows, environment)


def plan_to_adopt(database: Database, files: Sequence[MigrationFile], through: str) -> Adoption:
    """What :func:`adopt` would write. Changes nothing."""
    with database.session() as connection:
        return _plan(connection, files, through)


def adopt(
    database: Database, files: Sequence[MigrationFile], through: str, who: str, reason: str
) -> Adopted:
    """Record the files up to ``through`` as adopted, without running them.

    Under the runner's lock and in one transaction: another tool's table that has the name of ours
    is renamed, ours is made or completed, every file gets its record. Repeating it writes nothing.
    Raises MigrationRefused, MigrationFailed (nothing was written), Unreachable or BadConfiguration.
    """
    with database.session() as connection:
        place = where(database.dsn)
        refuse_pooler(connection, place)
        take_turn(connection, timedelta(seconds=database.lock_budget_s), _silent, place)
        adoption = _plan(connection, files, through)
        if not adoption.record:
            return Adopted(adoption)
        try:
            with connection.transaction():
                _write(connection, database, adoption, adoption.note(who, reason))
        except errors.LockNotAvailable:
            raise MigrationFailed(
                f"{where(database.dsn)}: {TABLE} is in use by another session for longer than "
                f"{database.lock_timeout_ms} ms; nothing was written",
                "type it again",
            ) from None
        written = {file.version for file in adoption.record}
        rows = records(connection)
    return Adopted(adoption, tuple(row for row in rows if row.version in written))


def _histories(connection: Connection) -> tuple[History, ...]:
    schemas = ["public", *(tool.schema for tool in TOOLS if tool.schema)]
    names = [*(tool.table for tool in TOOLS), *_LOCK_TABLES.values(), "ar_internal_metadata"]
    rows = connection.execute(_TABLES, {"tables": names, "schemas": schemas}).fetchall()
    tables = {row["name"]: frozenset(row["columns"]) for row in rows}
    return tuple(
        _history(connection, tool, table, set(tables)) for tool, table in recognise(tables)
    )


def _history(connection: Connection, tool: Tool, table: str, there: set[str]) -> History:
    schema, _, name = table.rpartition(".")
    lock = f"{schema}.{_LOCK_TABLES.get(tool.name, name)}"
    unfinished = None
    if tool.name in _UNFINISHED and lock in there:
        unfinished = _ask(connection, _UNFINISHED[tool.name], table, lock).fetchone()
    applied = _ask(connection, _APPLIED[tool.name], table, lock).fetchall()
    return History(
        tool,
        table,
        tuple(str(row["version"]) for row in applied),
        unfinished["what"] if unfinished else "",
    )


def _ask(connection: Connection, query: LiteralString, table: str, lock: str) -> Cursor[DictRow]:
    names = {"table": _identifier(table), "lock": _identifier(lock)}
    return connection.execute(sql.SQL(query).format(**names))


def _identifier(qualified: str) -> sql.Identifier:
    return sql.Identifier(*qualified.rsplit(".", 1))


def _plan(connection: Connection, files: Sequence[MigrationFile], through: str) -> Adoption:
    return plan_adoption(files, records(connection), _histories(connection), through)


def _silent(line: str) -> None:
    """Whoever adopts waits at a terminal, and is told at the end."""


def _write(connection: Connection, database: Database, adoption: Adoption, note: str) -> None:
    for table, name in adoption.renames:
        rename = sql.SQL("ALTER TABLE {} RENAME TO {}")
        connection.execute(rename.format(_identifier(table), sql.Identifier(name)))
    prepare_table(connection)
    for file in adoption.record:
        fields = {
            "name": file.name,
            "phase": file.phase.value,
            "checksum": file.checksum,
            "version": file.version,
            "note": note,
        }
        updated = connection.execute(
            f"UPDATE {TABLE} SET name = %(name)s, status = 'adopted', phase = %(phase)s,"
            " checksum = %(checksum)s, applied_by = session_user, note = %(note)s,"
            " applied_at = clock_timestamp() WHERE version = %(version)s".encode(),
            fields,
        )
        if not updated.rowcount:
            connection.execute(
                f"INSERT INTO {TABLE} (version, name, status, applied_at, phase, checksum,"
                " applied_by, deploy_id, note) VALUES (%(version)s, %(name)s, 'adopted',"
                " clock_timestamp(), %(phase)s, %(checksum)s, session_user, '', %(note)s)".encode(),
                fields,
            )
