"""Brings a schema forward, file by file, and survives the loss of its connection.

A file and its record are one transaction: after any failure a file is applied and recorded, or
neither. That takes three round trips: what begins it, the file, the record with the commit. Files
without a transaction are in :mod:`blocks.postgres.steps`.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import psycopg

from blocks.polling import poll
from blocks.postgres.connection import (
    Connection,
    ScriptFailed,
    is_lost,
    literal,
    one_row,
    reason_of,
    refuse_pooler,
    run_script,
)
from blocks.postgres.progress import Progress
from blocks.postgres.session_watch import Say, SessionWatch, say_session
from blocks.postgres.steps import StepwiseFile
from blocks.postgres.table import RUNNER, RUNNER_KEY, TABLE, prepare_table, records
from blocks.postgres.tries import TRY_AGAIN, Limits, Tries, milliseconds
from release.duration import say_duration
from release.errors import MigrationFailed, MigrationRefused, Unreachable
from release.migration.files import AppliedMigration, MigrationFile, what_helps
from release.migration.sql.text import failing_line, pieces

_LOCK_POLL = timedelta(milliseconds=250)  # between two tries to get the runner's lock
_SAY_EVERY = 5.0  # seconds between two lines about the same wait
_RECONNECTS = 3  # how often one run survives the loss of its connection
_PIECE = 1024 * 1024  # characters that are sent at once: client and server hold a copy of each


@dataclass(frozen=True)
class _Failure:
    error: psycopg.Error
    piece: int  # the character at which the text begins that failed
    statement: int | None  # statements of that text that ran before; None if the commit failed


class Runner:
    """One call of ``Database.apply``: its connections, and what it has done so far."""

    def __init__(
        self,
        progress: Progress,
        connect: Callable[[], Connection],
        limits: Limits,
    ) -> None:
        self.progress = progress
        self.limits = limits
        self.recorded_before: set[str] | None = None  # None until it was read
        self._connect = connect

    def apply(self, files: Sequence[MigrationFile]) -> tuple[AppliedMigration, ...]:
        """See ``Database.apply``."""
        for _ in range(_RECONNECTS + 1):
            connection = self._open()
            try:
                refuse_pooler(connection, self.progress.place)
                with SessionWatch(
                    self._connect, connection.info.backend_pid, self.progress.say
                ) as watch:
                    return self._apply_with(connection, files, watch)
            except psycopg.Error as error:
                reason = self.progress.without_secret(reason_of(error))
                if not is_lost(connection, error):
                    raise MigrationFailed(
                        f"{self.progress.place}: {reason}; {self.progress.so_far()}"
                    ) from None
                self.progress.say(f"connection lost ({reason}); the record says what was done")
            finally:
                connection.close()  # frees the runner's lock, whatever happened
        raise Unreachable(
            f"{self.progress.place}: the connection was lost {_RECONNECTS + 1} times; "
            f"{self.progress.so_far()}",
            "start the deployment again: what is applied is skipped",
        )

    def _open(self) -> Connection:
        """Connect; once the run has begun, wait for a server that restarts."""
        if self.recorded_before is None:
            return self._connect()
        try:
            return poll(
                self._connect,
                lambda connection: True,
                every=_LOCK_POLL,
                within=self.limits.budget,
                forgiving=Unreachable,
            )
        except Unreachable as error:
            raise Unreachable(f"{error.what}; {self.progress.so_far()}", error.hint) from None

    def _apply_with(
        self, connection: Connection, files: Sequence[MigrationFile], watch: SessionWatch
    ) -> tuple[AppliedMigration, ...]:
        take_turn(
            connection,
            self.limits.budget,
            self.progress.say,
            self.progress.place,
            self.progress.so_far,
        )
        prepare_table(connection)
        recorded = {row.version: row for row in records(connection)}
        if self.recorded_before is None:
            self.recorded_before = {row.version for row in recorded.values() if row.done}
        for file in files:
            _refuse_other_text(file, recorded.get(file.version))
        for file in files:
            row = recorded.get(file.version)
            if row is not None and row.done:
                self._skip(file, row)
            elif file.in_transaction:
                self._apply_file(connection, file, watch)
            else:
                StepwiseFile(self.progress, self.limits.of(file), connection, file, watch).apply(
                    row
                )
        new = {file.version for file in files} - self.recorded_before
        rows = tuple(row for row in records(connection) if row.version in new)
        connection.execute(f"SELECT pg_advisory_unlock({RUNNER_KEY})".encode())
        return rows

    def _skip(self, file: MigrationFile, row: AppliedMigration) -> None:
        assert self.recorded_before is not None
        if file.version in self.recorded_before:
            self.progress.say(f"{file.filename} is applied already")
        elif file.filename not in self.progress.done:
            self.progress.count(
                file, f"was committed before the connection broke, try {row.attempts}"
            )

    def _apply_file(self, connection: Connection, file: MigrationFile, watch: SessionWatch) -> None:
        """Apply one file, trying again as long as it only lacks a lock."""
        limits = self.limits.of(file)
        tries = Tries(limits.budget)
        while True:
            with watch.over(limits.lock_timeout):
                failure = self._attempt(connection, file, limits, tries)
            if failure is None:
                took = say_duration(tries.took)
                self.progress.count(file, f"applied in {took}, try {tries.number}")
                return
            if not isinstance(failure.error, TRY_AGAIN):
                raise self._failed(file, failure)
            self.progress.wait(
                file.filename,
                tries,
                failure.error,
                watch,
                f"nothing of it remains; {self.progress.so_far()}",
            )

    def _attempt(
        self, connection: Connection, file: MigrationFile, limits: Limits, tries: Tries
    ) -> _Failure | None:
        """Apply the file and record it, in one transaction. A lost connection is raised."""
        start, ran = 0, False
        try:
            begun = run_script(connection, _opening(file, limits))[-1].get_value(0, 0)
            for start, end in pieces(file.sql, _PIECE):
                run_script(connection, file.sql[start:end])
            ran = True
            assert begun is not None, "pg_current_xact_id() is never null"
            closing = _closing(connection, self._record(file, tries), begun.decode())
            written = run_script(connection, closing)[-2].command_tuples
        except ScriptFailed as failed:
            if is_lost(connection, failed.error):
                raise failed.error from None
            connection.rollback()
            return _Failure(failed.error, start, None if ran else failed.statement)
        if written != 1:
            raise MigrationFailed(
                f"{file.filename}: it ended its own transaction, so a part of it may stay and "
                f"none of it is recorded; {self.progress.so_far()}",
                "compare the schema with the file, then put the rest into a new file",
            )
        return None

    def _record(self, file: MigrationFile, tries: Tries) -> dict[str, Any]:
        return {
            "version": file.version,
            "name": file.name,
            "status": "applied",
            "duration_ms": round(tries.took.total_seconds() * 1000),
            "phase": file.phase.value,
            "checksum": file.checksum,
            "attempts": tries.number,
            "lock_waits": tries.lock_waits,
            "min_app": self.progress.min_app(file),
            **self.progress.stamp.columns(),
        }

    def _failed(self, file: MigrationFile, failure: _Failure) -> MigrationFailed:
        if failure.statement is None:
            place = f"{file.filename}: at its commit"
        else:
            line = line_of(file.sql, failure.piece, failure.error, failure.statement)
            place = f"{file.filename}:{line}"
        return MigrationFailed(
            f"{place}: {self.progress.reason(failure.error)}; nothing of it remains; "
            f"{self.progress.so_far()}",
            what_helps(
                failure.error.sqlstate,
                "fix the file and deploy again: the files that are applied are skipped",
            ),
        )


def take_turn(
    connection: Connection,
    budget: timedelta,
    say: Say,
    place: str,
    so_far: Callable[[], str] = lambda: "nothing was changed",
) -> None:
    """Take the runner's lock, or wait for the runner that holds it, by asking again and again.

    Raises MigrationFailed when ``budget`` is over, naming the session that holds it.
    """
    started = time.monotonic()
    said = started - _SAY_EVERY

    def in_the_way() -> str:
        """The runner that holds the lock; "" once it is this one."""
        nonlocal said
        if one_row(connection, f"SELECT pg_try_advisory_lock({RUNNER_KEY}) AS mine")["mine"]:
            return ""
        holder = connection.execute(RUNNER.encode()).fetchone()
        who = say_session(holder) if holder else "a runner that is just ending"
        if time.monotonic() - said >= _SAY_EVERY:
            said = time.monotonic()
            say(f"waiting for another migration runner: {who}")
        return who

    who = poll(in_the_way, lambda who: not who, every=_LOCK_POLL, within=budget)
    if who:
        waited = timedelta(seconds=time.monotonic() - started)
        raise MigrationFailed(
            f"{place}: another migration runner, {who}, went on for {say_duration(waited)}; "
            f"{so_far()}",
            "wait for it to end, then start the deployment again",
        )


def line_of(text: str, begins: int, error: psycopg.Error, statement: int) -> int:
    """The line of an error in a file: where the server points, else where its statement is."""
    at = error.diag.statement_position
    before = text.count("\n", 0, begins)
    return before + failing_line(text[begins:], int(at) if at else None, statement)


def _opening(file: MigrationFile, limits: Limits) -> str:
    """The SQL that begins a file's transaction, and returns the transaction's id.

    RESET ALL undoes what the file before it has set, and restores the session's own limits.
    """
    local = "".join(
        f"SET LOCAL {name} = {milliseconds(length)}; "
        for name, length, given in (
            ("lock_timeout", limits.lock_timeout, file.header.lock_timeout),
            ("statement_timeout", limits.statement_timeout, file.header.statement_timeout),
        )
        if given
    )
    return f"RESET ALL; BEGIN; {local}SELECT pg_current_xact_id()"


def _closing(connection: Connection, record: Mapping[str, Any], begun: str) -> str:
    """The SQL that writes the record, unless the file ended its own transaction, and commits.

    Made from libpq's own quoting: psycopg's composition costs a third of the client's time.
    """
    values = ", ".join(literal(connection, value) for value in record.values())
    return (
        "RESET SESSION AUTHORIZATION; RESET ROLE; "  # the file may have changed them
        f"INSERT INTO {TABLE} ({', '.join(record)}, applied_at, applied_by)"
        f" SELECT {values}, clock_timestamp(), session_user"
        f" WHERE pg_current_xact_id()::text = {literal(connection, begun)}; COMMIT"
    )


def _refuse_other_text(file: MigrationFile, row: AppliedMigration | None) -> None:
    if row is not None and row.done and row.checksum and row.checksum != file.checksum:
        raise MigrationRefused(
            f"{file.filename}: another text is applied under this number: sha256 "
            f"{row.checksum[:12]}… as {row.filename}, the file is {file.checksum[:12]}…",
            "plan again: another deployment was faster, or the file was edited",
        )
