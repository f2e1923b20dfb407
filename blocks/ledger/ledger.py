"""The ledger: the durable record of what happened to each environment, and who holds it.

It lives in a PostgreSQL database of its own. Recording never fails a deployment: an event that
cannot be written is kept in the worker's spool, in order, and written by the next call that
reaches the ledger. Writing an event twice is the same as writing it once, so that two processes
may empty the spool at the same time.
"""

import logging
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from pydantic import Field, SecretStr

from blocks.ledger import codes, lock, log
from blocks.ledger.events import Entry, entry_of, select_events, with_kept
from blocks.ledger.recorder import Recorder
from blocks.ledger.spool import Spool
from blocks.part import Part
from blocks.polling import poll
from blocks.postgres.connection import Connection, connected, open_connection, where
from blocks.postgres.database import Database, apply_folder, read_folder
from blocks.postgres.session_watch import Say
from release.errors import BadConfiguration, DeployError, Unreachable
from release.ledger import Break, Event, EventKind, Lock, LogRow, short_run, verify_chain
from release.migration.files import plan_migrations

MIGRATIONS = Path(__file__).parents[2] / "migrations"

_TURN_EVERY = timedelta(seconds=2)

_LOCK_TIMEOUT = timedelta(seconds=5)
_STATEMENT_TIMEOUT = timedelta(seconds=10)

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
        """Check that events can be written, here or there, and write those that were kept.

        Raises Unreachable, or BadConfiguration if the schema is missing or old.
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
        return self._recorder.record(entry_of(environment, run_id, kind, step, key, payload, at))

    def flush(self) -> bool:
        """Write what the spool keeps, in order; say whether it is empty now. Never raises."""
        return self._recorder.flush()

    def events(
        self,
        environment: str | None = None,
        run_id: str | None = None,
        kinds: Iterable[EventKind] | None = None,
    ) -> list[Event]:
        """Events, oldest first; an argument that is None selects all. Raises Unreachable."""
        with self._connect() as connection:
            return select_events(connection, environment, run_id, kinds)

    def run_events(self, run_id: str, *kinds: EventKind) -> list[Event]:
        """What a run did, oldest first: what the ledger has and what the spool keeps.

        Never raises: from a ledger that does not answer, only what this worker kept is known.
        """
        self.flush()
        kept = self._kept(run_id, *kinds)  # first: another process may write them meanwhile
        try:
            written = self.events(run_id=run_id, kinds=kinds or None)
        except DeployError as error:
            _logger.warning("the events of %s are incomplete: %s", short_run(run_id), error.what)
            written = []
        return with_kept(written, kept)

    def steps_begun(self, run_id: str) -> tuple[str, ...]:
        """The steps that a run began, in order, also those that only this worker knows of.

        A rollback is planned from them, so it must not depend on the ledger: the worker keeps a
        note of its own until the run has ended. Raises Unreachable only if neither is available.
        """
        noted = self._spool.noted_steps(run_id)
        kept = [entry["step"] for entry in self._kept(run_id, EventKind.STEP_BEGUN)]
        try:
            events = self.events(run_id=run_id, kinds=[EventKind.STEP_BEGUN])
        except DeployError:
            if not noted and not kept:
                raise
            events = []
        return tuple(dict.fromkeys([*(event.step for event in events), *noted, *kept]))

    def p0_declared(self, environment: str, since: datetime) -> Event | None:
        """The newest P0 that was declared for an environment since then. Raises Unreachable."""
        declared = self.events(environment=environment, kinds=[EventKind.P0_DECLARED])
        return next((event for event in reversed(declared) if event.at >= since), None)

    def verify(self) -> list[Break]:
        """Check the chain of hashes over all events. Empty if nothing was changed. Raises
        Unreachable."""
        return verify_chain(self.events())

    # --- the lock ---

    def acquire(self, environment: str, run_id: str, owner: str, reason: str) -> Lock:
        """Take the environment for a run; the run that holds it already gets the same lock again.

        Raises EnvironmentLocked naming the holder, or Unreachable.
        """
        if not self.flush():  # a release that is kept here must not meet a newer lock
            raise Unreachable(f"the ledger in {where(self.dsn)} takes no events", "ignition doctor")
        with self._connect() as connection:
            return lock.take_lock(connection, environment, run_id, owner, reason)

    def take_over(
        self, environment: str, run_ids: Iterable[str], by: str, owner: str, reason: str
    ) -> Lock:
        """Take the environment for the run ``by`` from one of ``run_ids``, which have ended.

        The new token is larger: should the old holder wake up, it has lost the environment. Raises
        EnvironmentLocked if another run holds it, BadRequest if none does, or Unreachable.
        """
        self.flush()
        with self._connect() as connection:
            return lock.take_lock_over(connection, environment, run_ids, by, owner, reason)

    def heartbeat(self, environment: str, run_id: str) -> bool:
        """Say that the run is alive. Returns False if it does not, or no longer, hold the
        environment.

        Raises Unreachable: then nobody can have taken the environment either.
        """
        with self._connect() as connection:
            return lock.beat_lock(connection, environment, run_id)

    def release(self, environment: str, run_id: str) -> bool:
        """Give the environment back; say whether it was the run's and is free now.

        Never raises: with the ledger down, the release is kept in the spool like an event.
        """
        token = ""  # it is not known: whichever the run has then
        try:
            held = self.holder(environment)
            if held is None or held.run_id != run_id:
                return False
            token = str(held.token)
        except DeployError as error:
            _logger.warning("%s is given back later: %s", environment, error.what)
        return self.record(environment, run_id, EventKind.LOCK_RELEASED, key=token)

    def break_lock(
        self, environment: str, owner: str, reason: str, held_by: str | None = None
    ) -> Lock | None:
        """Take the environment from whoever holds it, and record who did so and why.

        ``held_by`` is the only run that it is taken from; None means any. Returns the lock that was
        broken, or None if there was none. Raises Unreachable.
        """
        with self._connect() as connection:
            return lock.break_lock(connection, environment, owner, reason, held_by)

    def holder(self, environment: str) -> Lock | None:
        """Who holds the environment. Returns None if it is free. Raises Unreachable."""
        with self._connect() as connection:
            return lock.holder_of(connection, environment)

    @contextmanager
    def turn(self, environment: str, within: timedelta) -> Iterator[bool]:
        """Be the only run that watches an environment. Yields False if another still does after
        ``within``.

        The turn ends with the session, so that a run that dies gives it up. Raises Unreachable.
        """
        with self._connect() as connection:
            yield poll(
                lambda: lock.take_turn(connection, environment),
                bool,
                every=_TURN_EVERY,
                within=within,
            )

    def events_of_holder(self, held: Lock) -> list[Event]:
        """What the holder did, and the runs that it took the environment over from, oldest first.

        Raises Unreachable.
        """
        with self._connect() as connection:
            return lock.events_of(connection, held)

    # --- one-time codes ---

    def use_code(self, approver: str, step: int, run_id: str, gate: str) -> bool:
        """Say whether the code of an approver's ``step`` counts for this answer: it is the first.

        ``step`` counts 30 s since 1970 (RFC 6238, T). The same answer may ask again.
        Raises Unreachable: a code that cannot be marked as used proves nothing.
        """
        with self._connect() as connection:
            return codes.use_code(connection, approver, step, run_id, gate)

    def unproven(self, approver: str, since: datetime) -> list[datetime]:
        """When answers in a name had no good code since then, over all runs. Raises Unreachable."""
        with self._connect() as connection:
            return codes.unproven_answers(connection, approver, since)

    # --- the deployment log ---

    def log(self, environment: str | None = None, limit: int = 50) -> list[LogRow]:
        """The deployment log, newest first. Raises Unreachable."""
        self.flush()
        with self._connect() as connection:
            return log.select_log(connection, environment, limit)

    def served(self, environment: str, limit: int = 50) -> list[LogRow]:
        """The releases that served an environment, newest first. Raises Unreachable."""
        self.flush()
        with self._connect() as connection:
            return log.select_served(connection, environment, limit)

    # --- connection and spool ---

    def _connect(self) -> AbstractContextManager[Connection]:
        return connected(self._open)

    def _open(self) -> Connection:
        return open_connection(self.dsn, "ignition-ledger", _LOCK_TIMEOUT, _STATEMENT_TIMEOUT)

    @property
    def _recorder(self) -> Recorder:
        return Recorder(self._spool, self._open)

    @property
    def _spool(self) -> Spool:
        return Spool(self.spool)

    def _kept(self, run_id: str, *kinds: EventKind) -> list[Entry]:
        """What the spool keeps of a run, oldest first, of these kinds or of all."""
        entries = [kept.entry for kept in self._spool.kept() if kept.entry["run_id"] == run_id]
        return [entry for entry in entries if not kinds or entry["kind"] in kinds]
