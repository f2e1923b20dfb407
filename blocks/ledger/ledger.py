"""The ledger: the durable record of what happened to each environment, and who holds it.

It lives in a PostgreSQL database of its own. Recording never fails a deployment: an event that
cannot be written is kept in the worker's spool, in order, and written by the next call that
reaches the ledger. Writing an event twice is the same as writing it once, so that two processes
may empty the spool at the same time.
"""

import json
import logging
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from operator import attrgetter
from pathlib import Path
from typing import Any

import psycopg
from psycopg import errors
from pydantic import Field, SecretStr

from blocks.ledger.lock import EVENT_COLUMNS, LOCK_COLUMNS, events_of, holder_of, locked
from blocks.ledger.spool import Entry, Spool
from blocks.part import Part
from blocks.postgres.connection import Connection, connected, open_connection, where
from blocks.postgres.database import Database, apply_folder, read_folder
from blocks.postgres.session_watch import Say
from release.errors import BadConfiguration, BadRequest, DeployError, Unreachable
from release.ledger import (
    Break,
    Event,
    EventKind,
    Lock,
    LogRow,
    short_run,
    verify_chain,
    write_payload,
)
from release.migration.files import plan_migrations

MIGRATIONS = Path(__file__).parents[2] / "migrations"

_LOCK_TIMEOUT = timedelta(seconds=5)
_STATEMENT_TIMEOUT = timedelta(seconds=10)
_SERVED = ("Deployed", "RollbackDone")  # endings after which the named release serves
_LOG_COLUMNS = (
    "date, version, deployer, notes, environment, ending, run_id, digest, revision, image"
)

_IDENTITY = attrgetter("kind", "step", "key")  # of an event in its run, as the table has it

_logger = logging.getLogger(__name__)


class Ledger(Part):
    """The deployments' record and the environments' locks."""

    _block_type_name = "Ignition Ledger"

    dsn: SecretStr = Field(description="PostgreSQL connection string of the ledger's own database.")
    spool: Path = Field(
        description="Folder of the worker for events that could not be written yet."
    )

    # --- setting up ---

    def check(self) -> None:
        """See that events can be written, here or there; write those that were kept.

        Raises Unreachable, or BadConfiguration where the schema is missing or old.
        """
        try:
            self._spool.check()
        except OSError as error:
            raise BadConfiguration(
                f"the ledger's spool {self.spool} cannot be written: {error.strerror}",
                "as the worker's user: ignition setup; or set state to a folder it may write",
            ) from None
        applied = Database(dsn=self.dsn).applied()
        pending = plan_migrations(read_folder(MIGRATIONS), applied).pending
        if pending:
            raise BadConfiguration(
                f"the ledger in {where(self.dsn)} lacks {pending[0].filename}", "ignition setup"
            )
        self.flush()

    def install(self, on_event: Say = lambda line: None) -> None:
        """Create the ledger's tables, or bring them up to date, with the migration runner."""
        apply_folder(self.dsn, MIGRATIONS, on_event)

    # --- events ---

    def record(
        self,
        environment: str,
        run_id: str,
        kind: EventKind,
        step: str = "",
        key: str = "",
        payload: Mapping[str, Any] | None = None,
        at: datetime | None = None,
    ) -> bool:
        """Write an event once for its run, kind, step and key; say whether the ledger has it now.

        Never raises: an event that cannot be written is kept in the spool, behind those before it.
        """
        entry = {
            "at": (at or datetime.now(UTC)).astimezone(UTC).isoformat(),
            "environment": _one_line(environment),
            "run_id": _one_line(run_id),
            "kind": kind.value,
            "step": _one_line(step),
            "key": _one_line(key),
            "payload": write_payload(payload or {}),
        }
        return self._write_or_keep(entry)

    def flush(self) -> bool:
        """Write what the spool keeps, in order; say whether it is empty now. Never raises."""
        try:
            return self._empty_spool()
        except OSError as error:
            _logger.error("the ledger's spool %s cannot be emptied: %s", self.spool, error)
            return False

    def events(
        self,
        environment: str | None = None,
        run_id: str | None = None,
        kinds: Iterable[EventKind] | None = None,
    ) -> list[Event]:
        """Events, oldest first; an argument that is None selects all. Raises Unreachable."""
        wanted = None if kinds is None else [kind.value for kind in kinds]
        with self._connect() as connection:
            rows = connection.execute(
                f"SELECT {EVENT_COLUMNS} FROM ledger_events"
                " WHERE (%(environment)s::text IS NULL OR environment = %(environment)s)"
                " AND (%(run_id)s::text IS NULL OR run_id = %(run_id)s)"
                " AND (%(kinds)s::text[] IS NULL OR kind = ANY (%(kinds)s)) ORDER BY seq".encode(),
                {"environment": environment, "run_id": run_id, "kinds": wanted},
            ).fetchall()
        return [Event(**row) for row in rows]

    def run_events(self, run_id: str, *kinds: EventKind) -> list[Event]:
        """What a run did, oldest first: what the ledger has and what the spool keeps.

        Never raises: from a ledger that does not answer, only what this worker kept is known.
        """
        self.flush()
        kept = [  # before the ledger is read: another process may write them meanwhile
            Event(
                seq=0,
                at=datetime.fromisoformat(entry["at"]),
                environment=entry["environment"],
                run_id=run_id,
                kind=entry["kind"],
                step=entry["step"],
                payload=json.loads(entry["payload"]),
                key=entry["key"],
            )
            for entry in self._kept()
            if entry["run_id"] == run_id and (not kinds or entry["kind"] in kinds)
        ]
        try:
            written = self.events(run_id=run_id, kinds=kinds or None)
        except DeployError as error:
            _logger.warning("the events of %s are incomplete: %s", short_run(run_id), error.what)
            written = []
        there = set(map(_IDENTITY, written))
        return written + [event for event in kept if _IDENTITY(event) not in there]

    def steps_begun(self, run_id: str) -> tuple[str, ...]:
        """The steps that a run began, in order, also those that only this worker knows of.

        A rollback is planned from them, so it must not depend on the ledger: the worker keeps a
        note of its own until the run has ended. Raises Unreachable only where neither is there.
        """
        noted = self._spool.noted_steps(run_id)
        kept = [
            e["step"] for e in self._kept() if (e["run_id"], e["kind"]) == (run_id, "step_begun")
        ]
        try:
            events = self.events(run_id=run_id, kinds=[EventKind.STEP_BEGUN])
        except DeployError:
            if not noted and not kept:
                raise
            events = []
        return tuple(dict.fromkeys([*(event.step for event in events), *noted, *kept]))

    def verify(self) -> list[Break]:
        """Check the chain of hashes over all events. Empty: nothing was changed. Unreachable."""
        return verify_chain(self.events())

    # --- the lock ---

    def acquire(self, environment: str, run_id: str, owner: str, reason: str) -> Lock:
        """Take the environment for a run; the run that holds it already gets the same lock again.

        Raises EnvironmentLocked naming the holder, or Unreachable.
        """
        if not self.flush():  # a release that is kept here must not meet a newer lock
            raise Unreachable(f"the ledger in {where(self.dsn)} takes no events", "ignition doctor")
        with self._connect() as connection, connection.transaction():
            row = connection.execute(
                "INSERT INTO environment_locks AS held (environment, run_id, owner, reason)"
                " VALUES (%s, %s, %s, %s) ON CONFLICT (environment) DO UPDATE"
                " SET heartbeat_at = clock_timestamp() WHERE held.run_id = excluded.run_id"
                f" RETURNING {LOCK_COLUMNS}".encode(),
                (environment, run_id, owner, reason),
            ).fetchone()
            if row is None:
                raise locked(connection, environment, holder_of(connection, environment))
            lock = Lock(**row)
            _note_lock(connection, lock, EventKind.LOCK_TAKEN, {"owner": owner, "reason": reason})
        return lock

    def holder(self, environment: str) -> Lock | None:
        """Who holds the environment; None: it is free. Raises Unreachable."""
        with self._connect() as connection:
            return holder_of(connection, environment)

    def events_of_holder(self, lock: Lock) -> list[Event]:
        """What the holder did, and the runs that it took the environment over from, oldest first.

        Raises Unreachable.
        """
        with self._connect() as connection:
            return events_of(connection, lock)

    def heartbeat(self, environment: str, run_id: str) -> bool:
        """Say that the run is alive; False: it does not hold the environment (any more).

        Raises Unreachable: then nobody can have taken the environment either.
        """
        with self._connect() as connection:
            done = connection.execute(
                "UPDATE environment_locks SET heartbeat_at = clock_timestamp()"
                " WHERE environment = %s AND run_id = %s",
                (environment, run_id),
            )
        return done.rowcount == 1

    def release(self, environment: str, run_id: str) -> bool:
        """Give the environment back; say whether it was the run's and is free now.

        Never raises: with the ledger down, the release is kept in the spool like an event.
        """
        token = ""
        try:
            held = self.holder(environment)
            if held is None or held.run_id != run_id:
                return False
            token = str(held.token)
        except DeployError as error:
            _logger.warning("%s is given back later: %s", environment, error.what)
        entry = {
            "at": datetime.now(UTC).isoformat(),
            "environment": _one_line(environment),
            "run_id": _one_line(run_id),
            "kind": EventKind.LOCK_RELEASED.value,
            "step": "",
            "key": token,  # "": it is not known, whichever the run has then
            "payload": write_payload({}),
        }
        return self._write_or_keep(entry)

    def break_lock(
        self, environment: str, owner: str, reason: str, held_by: str | None = None
    ) -> Lock | None:
        """Take the environment from whoever holds it, and write down who did and why.

        ``held_by`` is the only run that it is taken from; None: from any. Returns the lock that
        was broken; None: there was none. Raises Unreachable.
        """
        with self._connect() as connection, connection.transaction():
            row = connection.execute(
                "DELETE FROM environment_locks WHERE environment = %(environment)s"
                " AND (%(held_by)s::text IS NULL OR run_id = %(held_by)s)"
                f" RETURNING {LOCK_COLUMNS}".encode(),
                {"environment": environment, "held_by": held_by},
            ).fetchone()
            if row is None:
                return None
            lock = Lock(**row)
            _note_lock(connection, lock, EventKind.LOCK_BROKEN, {"owner": owner, "reason": reason})
        return lock

    def take_over(
        self, environment: str, run_ids: Iterable[str], by: str, owner: str, reason: str
    ) -> Lock:
        """Take the environment for the run ``by`` from one of ``run_ids``, which have ended.

        The new token is larger: should the old holder wake up, it has lost the environment.
        Raises EnvironmentLocked where another run holds it, BadRequest where nobody does, or
        Unreachable.
        """
        self.flush()
        with self._connect() as connection, connection.transaction():
            held = holder_of(connection, environment, "FOR UPDATE")
            if held is None:
                raise BadRequest(f"{environment} is free: there is nothing to take over")
            if held.run_id not in {*run_ids, by}:
                raise locked(connection, environment, held)
            row = connection.execute(
                "UPDATE environment_locks SET run_id = %s, owner = %s, reason = %s,"
                " token = nextval('environment_lock_tokens'), acquired_at = clock_timestamp(),"
                f" heartbeat_at = clock_timestamp() WHERE environment = %s"
                f" RETURNING {LOCK_COLUMNS}".encode(),
                (by, owner, reason, environment),
            ).fetchone()
            assert row is not None, "it is held, and locked"
            lock = Lock(**row)
            _note_lock(connection, held, EventKind.LOCK_TAKEN_OVER, {"by": by, "reason": reason})
            _note_lock(connection, lock, EventKind.LOCK_TAKEN, {"owner": owner, "reason": reason})
        return lock

    # --- one-time codes ---

    def use_code(self, approver: str, step: int, run_id: str, gate: str) -> bool:
        """Say whether the code of an approver's ``step`` counts for this answer: it is the first.

        ``step`` counts 30 s since 1970 (RFC 6238, T). The same answer may ask again.
        Raises Unreachable: a code that cannot be marked as used proves nothing.
        """
        with self._connect() as connection, connection.transaction():
            connection.execute(
                "INSERT INTO used_codes (approver, step, run_id, gate) VALUES (%s, %s, %s, %s)"
                " ON CONFLICT DO NOTHING",
                (approver, step, run_id, gate),
            )
            row = connection.execute(
                "SELECT run_id, gate FROM used_codes WHERE approver = %s AND step = %s",
                (approver, step),
            ).fetchone()
        return row == {"run_id": run_id, "gate": gate}

    def unproven(self, approver: str, since: datetime) -> list[datetime]:
        """When answers in a name had no good code since then, over all runs. Raises Unreachable."""
        with self._connect() as connection:
            rows = connection.execute(
                "SELECT at FROM ledger_events WHERE kind = %s AND at > %s"
                " AND lower(payload ->> 'approver') = lower(%s)"
                " AND payload ->> 'unproven' = 'true'",
                (EventKind.ANSWER_REFUSED.value, since, approver),
            ).fetchall()
        return [row["at"] for row in rows]

    # --- what it is asked ---

    def log(self, environment: str | None = None, limit: int = 50) -> list[LogRow]:
        """The deployment log, newest first. Raises Unreachable."""
        return self._log(
            "(%(environment)s::text IS NULL OR environment = %(environment)s)",
            environment=environment,
            limit=limit,
        )

    def served(self, environment: str, limit: int = 50) -> list[LogRow]:
        """The releases that served an environment, newest first. Raises Unreachable."""
        return self._log(
            "environment = %(environment)s AND ending = ANY (%(endings)s)",
            environment=environment,
            endings=list(_SERVED),
            limit=limit,
        )

    def p0_declared(self, environment: str, since: datetime) -> Event | None:
        """The newest P0 that was declared for an environment since then. Raises Unreachable."""
        declared = self.events(environment=environment, kinds=[EventKind.P0_DECLARED])
        return next((event for event in reversed(declared) if event.at >= since), None)

    def _log(self, condition: str, **values: Any) -> list[LogRow]:
        self.flush()
        with self._connect() as connection:
            rows = connection.execute(
                f"SELECT {_LOG_COLUMNS} FROM deployment_log WHERE {condition}"
                " ORDER BY date DESC, seq DESC LIMIT %(limit)s".encode(),
                values,
            ).fetchall()
        return [LogRow(**row) for row in rows]

    # --- connection and spool ---

    def _open(self) -> Connection:
        return open_connection(self.dsn, "ignition-ledger", _LOCK_TIMEOUT, _STATEMENT_TIMEOUT)

    def _connect(self) -> AbstractContextManager[Connection]:
        return connected(self._open)

    @property
    def _spool(self) -> Spool:
        return Spool(self.spool)

    def _kept(self) -> list[Entry]:
        return [kept.entry for kept in self._spool.kept()]

    def _write_or_keep(self, entry: Entry) -> bool:
        try:
            if entry["kind"] == EventKind.STEP_BEGUN:
                self._spool.note_step(entry["run_id"], entry["step"])
            self._spool.keep(entry)
            return self._empty_spool()
        except OSError as error:  # bookkeeping fails no deployment; the log keeps what is lost
            _logger.error("the ledger's spool %s cannot be written: %s", self.spool, error)
            return self._write(entry)

    def _empty_spool(self) -> bool:
        """Write the kept entries in order; say whether none is left. Raises OSError."""
        kept = self._spool.kept()
        if not kept:
            return True
        left = len(kept)
        try:
            with self._open() as connection:
                for one in kept:
                    if one.is_there:
                        self._take(connection, one.entry)
                        one.drop()
                    left -= 1
        except (psycopg.Error, DeployError) as error:
            _logger.warning("the ledger takes no events: %s; %s kept", _reason(error), left)
        return not left

    def _write(self, entry: Entry) -> bool:
        """Write an entry that cannot be kept; say whether the ledger has it."""
        try:
            with self._open() as connection:
                self._take(connection, entry)
        except (psycopg.Error, DeployError) as error:
            _logger.error("an event is lost: %s: %s", _reason(error), entry)
            return False
        except OSError as error:
            _logger.error("the ledger's spool %s cannot be written: %s", self.spool, error)
        return True

    def _take(self, connection: Connection, entry: Entry) -> None:
        """Write an entry; put aside what the ledger will never take, so it holds up no other."""
        try:
            _write_entry(connection, entry)
        except (errors.DataError, errors.IntegrityError) as error:
            _logger.error("the ledger refuses an event (%s): %s", error.sqlstate, entry)
            self._spool.put_aside(entry)
        if entry["kind"] == EventKind.DEPLOYMENT_ENDED:
            self._spool.forget_steps(entry["run_id"])


def _reason(error: psycopg.Error | DeployError) -> str:
    return error.what if isinstance(error, DeployError) else type(error).__name__


def _write_entry(connection: Connection, entry: Entry) -> None:
    """Write one event, once; a lock's release also gives the lock back, in the same transaction."""
    with connection.transaction():
        if entry["kind"] == EventKind.LOCK_RELEASED:
            row = connection.execute(
                "DELETE FROM environment_locks WHERE environment = %(environment)s"
                " AND run_id = %(run_id)s AND %(key)s IN ('', token::text) RETURNING token",
                entry,
            ).fetchone()
            if row is None:
                return
            entry = entry | {"key": str(row["token"])}
        _insert(connection, entry)


def _insert(connection: Connection, entry: Entry) -> None:
    connection.execute(
        "INSERT INTO ledger_events (at, environment, run_id, kind, step, key, payload)"
        " VALUES (%(at)s, %(environment)s, %(run_id)s, %(kind)s, %(step)s, %(key)s, %(payload)s)"
        " ON CONFLICT (run_id, kind, step, key) DO NOTHING",
        entry,
    )


def _note_lock(
    connection: Connection, lock: Lock, kind: EventKind, payload: Mapping[str, Any]
) -> None:
    _insert(
        connection,
        {
            "at": datetime.now(UTC),
            "environment": lock.environment,
            "run_id": lock.run_id,
            "kind": kind.value,
            "step": "",
            "key": str(lock.token),
            "payload": write_payload({**payload, "token": lock.token}),
        },
    )


def _one_line(text: str) -> str:
    """What the ledger's columns take: one line, no NUL."""
    return " ".join(text.replace("\0", " ").splitlines()) if text else ""
