"""The ledger's rows of locks: who holds an environment, and what that run did."""

from blocks.postgres.connection import Connection
from release.errors import DeployError, Unreachable
from release.hold import hold_of
from release.ledger import Event, EventKind, Lock

LOCK_COLUMNS = (
    "environment, run_id, owner, reason, token, acquired_at, heartbeat_at,"
    " clock_timestamp() - heartbeat_at AS silent"
)
EVENT_COLUMNS = "seq, at, environment, run_id, kind, step, payload, previous_hash, hash, key"


def holder_of(connection: Connection, environment: str, how: str = "") -> Lock | None:
    """Who holds the environment; None: nobody. ``how`` ends the query: FOR UPDATE."""
    row = connection.execute(
        f"SELECT {LOCK_COLUMNS} FROM environment_locks WHERE environment = %s {how}".encode(),
        (environment,),
    ).fetchone()
    return Lock(**row) if row else None


def locked(connection: Connection, environment: str, lock: Lock | None) -> DeployError:
    """Why a run that wanted the environment does not have it."""
    if lock is None:
        return Unreachable(f"{environment} was given back just now", "try again")
    return hold_of(lock, events_of(connection, lock)).refusal(environment)


def events_of(connection: Connection, lock: Lock) -> list[Event]:
    """What the holder did, and the runs that it took the environment over from, oldest first."""
    rows = connection.execute(
        "WITH RECURSIVE line (run_id) AS (SELECT %(run_id)s::text UNION"
        " SELECT before.run_id FROM ledger_events before JOIN line"
        " ON before.environment = %(environment)s AND before.kind = %(taken_over)s"
        " AND before.payload ->> 'by' = line.run_id)"
        f" SELECT {EVENT_COLUMNS} FROM ledger_events WHERE environment = %(environment)s"
        " AND run_id IN (SELECT run_id FROM line) ORDER BY seq".encode(),
        {
            "run_id": lock.run_id,
            "environment": lock.environment,
            "taken_over": EventKind.LOCK_TAKEN_OVER.value,
        },
    ).fetchall()
    return [Event(**row) for row in rows]
