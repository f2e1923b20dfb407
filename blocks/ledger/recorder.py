"""How an event comes into the ledger: through the worker's spool, in order, and never raising."""

import logging
from collections.abc import Callable
from dataclasses import dataclass

import psycopg
from psycopg import errors

from blocks.ledger.events import Entry, insert_event
from blocks.ledger.lock import delete_lock
from blocks.ledger.spool import Spool
from blocks.postgres.connection import Connection
from release.errors import DeployError
from release.ledger import EventKind

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Recorder:
    """Writes events to the ledger, and keeps in the spool what it does not accept now."""

    spool: Spool
    connect: Callable[[], Connection]

    def record(self, entry: Entry) -> bool:
        """Write an entry behind those that are kept; say whether the ledger has it now."""
        try:
            if entry["kind"] == EventKind.STEP_BEGUN:
                self.spool.note_step(entry["run_id"], entry["step"])
            self.spool.keep(entry)
            return self._empty_spool()
        except OSError as error:  # bookkeeping fails no deployment; the log keeps what is lost
            _logger.error("the ledger's spool %s cannot be written: %s", self.spool.folder, error)
            return self._write(entry)

    def flush(self) -> bool:
        """Write what the spool keeps, in order; say whether it is empty now."""
        try:
            return self._empty_spool()
        except OSError as error:
            _logger.error("the ledger's spool %s cannot be emptied: %s", self.spool.folder, error)
            return False

    def _empty_spool(self) -> bool:
        """Write the kept entries in order; say whether none is left. Raises OSError."""
        kept = self.spool.kept()
        if not kept:
            return True
        left = len(kept)
        try:
            with self.connect() as connection:
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
            with self.connect() as connection:
                self._take(connection, entry)
        except (psycopg.Error, DeployError) as error:
            _logger.error("an event is lost: %s: %s", _reason(error), entry)
            return False
        except OSError as error:
            _logger.error("the ledger's spool %s cannot be written: %s", self.spool.folder, error)
        return True

    def _take(self, connection: Connection, entry: Entry) -> None:
        """Write an entry; put aside what the ledger will never accept, so that it holds up no
        other."""
        try:
            _write_entry(connection, entry)
        except (errors.DataError, errors.IntegrityError) as error:
            _logger.error("the ledger refuses an event (%s): %s", error.sqlstate, entry)
            self.spool.put_aside(entry)
        if entry["kind"] == EventKind.DEPLOYMENT_ENDED:
            self.spool.forget_steps(entry["run_id"])


def _write_entry(connection: Connection, entry: Entry) -> None:
    """Write one event, once; a lock's release also gives the lock back, in the same transaction."""
    with connection.transaction():
        if entry["kind"] == EventKind.LOCK_RELEASED:
            token = delete_lock(connection, entry["environment"], entry["run_id"], entry["key"])
            if token is None:
                return
            entry = entry | {"key": str(token)}
        insert_event(connection, entry)


def _reason(error: psycopg.Error | DeployError) -> str:
    return error.what if isinstance(error, DeployError) else type(error).__name__
