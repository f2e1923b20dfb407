"""The runbook's deployment log, as a view of the ledger's events."""

from typing import Any

from blocks.postgres.connection import Connection
from release.ledger import LogRow

_COLUMNS = "date, version, deployer, notes, environment, ending, run_id, digest, revision, image"
_SERVED = ("Deployed", "RollbackDone")  # endings after which the named release serves


def select_log(connection: Connection, environment: str | None, limit: int) -> list[LogRow]:
    """Deployments, newest first; of every environment if it is None."""
    return _select(
        connection,
        "(%(environment)s::text IS NULL OR environment = %(environment)s)",
        environment=environment,
        limit=limit,
    )


def select_served(connection: Connection, environment: str, limit: int) -> list[LogRow]:
    """The deployments whose release served the environment, newest first."""
    return _select(
        connection,
        "environment = %(environment)s AND ending = ANY (%(endings)s)",
        environment=environment,
        endings=list(_SERVED),
        limit=limit,
    )


def _select(connection: Connection, condition: str, **values: Any) -> list[LogRow]:
    rows = connection.execute(
        f"SELECT {_COLUMNS} FROM deployment_log WHERE {condition}"
        " ORDER BY date DESC, seq DESC LIMIT %(limit)s".encode(),
        values,
    ).fetchall()
    return [LogRow(**row) for row in rows]
