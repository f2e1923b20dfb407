"""The ledger's locks: one row for each environment that a run holds, and what becomes of it.

The turn to watch an environment has no row: a session holds it, and it ends with the session.
"""

from collections.abc import Iterable

from blocks.ledger.events import EVENT_COLUMNS, entry_of, insert_event
from blocks.postgres.connection import Connection
from release.errors import BadRequest, DeployError, Unreachable
from release.hold import hold_of
from release.ledger import Event, EventKind, Lock

_COLUMNS = (
    "environment, run_id, owner, reason, token, acquired_at, heartbeat_at,"
    " clock_timestamp() - heartbeat_at AS silent"
)


def take_lock(
    connection: Connection, environment: str, run_id: str, owner: str, reason: str
) -> Lock:
    """The run's lock, new or as it is. Raises EnvironmentLocked if another run holds it."""
    with connection.transaction():
        row = connection.execute(
            "INSERT INTO environment_locks AS held (environment, run_id, owner, reason)"
            " VALUES (%s, %s, %s, %s) ON CONFLICT (environment) DO UPDATE"
            " SET heartbeat_at = clock_timestamp() WHERE held.run_id = excluded.run_id"
            f" RETURNING {_COLUMNS}".encode(),
            (environment, run_id, owner, reason),
        ).fetchone()
        if row is None:
            raise _locked(connection, environment, holder_of(connection, environment))
        lock = Lock(**row)
        _note(connection, lock, EventKind.LOCK_TAKEN, owner=owner, reason=reason)
    return lock


def take_lock_over(
    connection: Connection,
    environment: str,
    run_ids: Iterable[str],
    by: str,
    owner: str,
    reason: str,
) -> Lock:
    """The lock of one of ``run_ids``, which is now that of the run ``by``, with a larger token.

    Raises EnvironmentLocked if another run holds it, BadRequest if none does.
    """
    with connection.transaction():
        held = holder_of(connection, environment, "FOR UPDATE")
        if held is None:
            raise BadRequest(f"{environment} is free: there is nothing to take over")
        if held.run_id not in {*run_ids, by}:
            raise _locked(connection, environment, held)
        row = connection.execute(
            "UPDATE environment_locks SET run_id = %s, owner = %s, reason = %s,"
            " token = nextval('environment_lock_tokens'), acquired_at = clock_timestamp(),"
            f" heartbeat_at = clock_timestamp() WHERE environment = %s"
            f" RETURNING {_COLUMNS}".encode(),
            (by, owner, reason, environment),
        ).fetchone()
        assert row is not None, "it is held, and locked"
        lock = Lock(**row)
        _note(connection, held, EventKind.LOCK_TAKEN_OVER, by=by, reason=reason)
        _note(connection, lock, EventKind.LOCK_TAKEN, owner=owner, reason=reason)
    return lock


def beat_lock(connection: Connection, environment: str, run_id: str) -> bool:
    """Say that the run is alive. Returns False if it does not, or no longer, hold the
    environment."""
    done = connection.execute(
        "UPDATE environment_locks SET heartbeat_at = clock_timestamp()"
        " WHERE environment = %s AND run_id = %s",
        (environment, run_id),
    )
    return done.rowcount == 1


def delete_lock(connection: Connection, environment: str, run_id: str, token: str) -> int | None:
    """Free the environment of the run's lock with that token, or any of its locks if that is "".

    Returns the token of the lock, or None if the run held none.
    """
    row = connection.execute(
        "DELETE FROM environment_locks WHERE environment = %(environment)s"
        " AND run_id = %(run_id)s AND %(key)s IN ('', token::text) RETURNING token",
        {"environment": environment, "run_id": run_id, "key": token},
    ).fetchone()
    return None if row is None else row["token"]


def break_lock(
    connection: Connection, environment: str, owner: str, reason: str, held_by: str | None
) -> Lock | None:
    """Delete the lock of the run ``held_by``, or of any. Returns it, or None if there was none."""
    with connection.transaction():
        row = connection.execute(
            "DELETE FROM environment_locks WHERE environment = %(environment)s"
            " AND (%(held_by)s::text IS NULL OR run_id = %(held_by)s)"
            f" RETURNING {_COLUMNS}".encode(),
            {"environment": environment, "held_by": held_by},
        ).fetchone()
        if row is None:
            return None
        lock = Lock(**row)
        _note(connection, lock, EventKind.LOCK_BROKEN, owner=owner, reason=reason)
    return lock


def holder_of(connection: Connection, environment: str, how: str = "") -> Lock | None:
    """Who holds the environment. Returns None if nobody does. ``how`` ends the query: FOR
    UPDATE."""
    row = connection.execute(
        f"SELECT {_COLUMNS} FROM environment_locks WHERE environment = %s {how}".encode(),
        (environment,),
    ).fetchone()
    return Lock(**row) if row else None


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


def take_turn(connection: Connection, environment: str) -> bool:
    """Take the turn to watch an environment, for as long as the connection is open.

    Returns False if another session has it.
    """
    row = connection.execute(
        "SELECT pg_try_advisory_lock(hashtextextended('watch:' || %s, 0)) AS mine", (environment,)
    ).fetchone()
    return row is not None and bool(row["mine"])


def _locked(connection: Connection, environment: str, lock: Lock | None) -> DeployError:
    """Why a run that wanted the environment does not have it."""
    if lock is None:
        return Unreachable(f"{environment} was given back just now", "try again")
    return hold_of(lock, events_of(connection, lock)).refusal(environment)


def _note(connection: Connection, lock: Lock, kind: EventKind, **payload: str) -> None:
    entry = entry_of(
        lock.environment,
        lock.run_id,
        kind,
        key=str(lock.token),
        payload={**payload, "token": lock.token},
    )
    insert_event(connection, entry)
