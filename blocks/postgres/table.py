"""``schema_migrations``: the record of what a database's schema went through."""

from collections.abc import Mapping
from typing import Any

from blocks.postgres.connection import Connection
from release.errors import MigrationRefused
from release.migration.files import AppliedMigration

TABLE = "public.schema_migrations"

# In the order in which `SELECT *` shows them to a person.
_COLUMNS = {
    "version": "text COLLATE \"C\" PRIMARY KEY CHECK (version ~ '^[0-9]{4,}$')",
    "name": "text",
    "status": "text",
    "applied_at": "timestamptz",
    "duration_ms": "bigint",
    "phase": "text",
    "checksum": "text",
    "applied_by": "text",
    "deploy_id": "text",
    "git_sha": "text",
    "app_version": "text",
    "attempts": "int",
    "lock_waits": "int",
    "started_at": "timestamptz",
    "statements_total": "int",
    "statements_done": "int",
    "done_checksum": "text",
    "min_app": "text",
    "error": "text",
    "note": "text",
}

RUNNER_KEY = f"hashtextextended('migrate:' || current_database() || ':{TABLE}', 0)"
"""The advisory lock that one runner holds. It is polled with pg_try_advisory_lock: a session that
waits inside pg_advisory_lock deadlocks a concurrent index build."""

RUNNER = f"""
    SELECT a.pid, a.application_name, a.state, clock_timestamp() - a.backend_start AS age
    FROM pg_locks l JOIN pg_stat_activity a USING (pid)
    WHERE l.locktype = 'advisory' AND l.objsubid = 1 AND l.granted
      AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
      AND (l.classid::bigint << 32 | l.objid::bigint) = {RUNNER_KEY}"""
"""Which session holds it."""


def columns(connection: Connection) -> set[str]:
    """The columns that the table has; empty if there is no table."""
    rows = connection.execute(
        "SELECT attname FROM pg_attribute"
        " WHERE attrelid = to_regclass(%s) AND attnum > 0 AND NOT attisdropped",
        (TABLE,),
    )
    return {row["attname"] for row in rows}


def records(connection: Connection) -> tuple[AppliedMigration, ...]:
    """The rows, oldest first; empty if there is no such table."""
    if not columns(connection):
        return ()
    rows = connection.execute(f"SELECT * FROM {TABLE} ORDER BY version".encode()).fetchall()
    return tuple(_record(row) for row in rows)


def latest(connection: Connection, limit: int) -> list[dict[str, Any]]:
    """The runbook's own check: ``SELECT * FROM schema_migrations ORDER BY version DESC``."""
    if not columns(connection):
        return []
    query = f"SELECT * FROM {TABLE} ORDER BY version DESC LIMIT %s"
    return [dict(row) for row in connection.execute(query.encode(), (limit,))]


def prepare_table(connection: Connection) -> None:
    """Create the table, or add what another tool's table, or an older one of ours, lacks."""
    present = columns(connection)
    if "dirty" in present:
        raise MigrationRefused(
            f"{TABLE} is golang-migrate's: it holds one number and no history",
            "ignition adopt ENVIRONMENT --through NUMBER --as NAME --reason …",
        )
    missing = [f"{name} {kind}" for name, kind in _COLUMNS.items() if name not in present]
    if not present:
        connection.execute(f"CREATE TABLE {TABLE} ({', '.join(missing)})".encode())
    elif missing:
        adding = ", ".join(f"ADD COLUMN {column}" for column in missing)
        connection.execute(f"ALTER TABLE {TABLE} {adding}".encode())


def _record(row: Mapping[str, Any]) -> AppliedMigration:
    """A row as another tool, or an older version of this one, may have left it."""
    fields = {key: row[key] for key in _COLUMNS if row.get(key) is not None}
    return AppliedMigration(**fields | {"version": str(row["version"])})
