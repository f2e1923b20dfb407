"""Brings a schema forward, file by file, and survives the loss of its connection.

A file and its record are one transaction: after any failure a file is applied and recorded, or
neither. That takes three round trips: what begins it, the file, the record with the commit. Files
without a transaction are in :mod:`blocks.migration_steps`.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from typing import Any

import psycopg
from pydantic import SecretStr

from blocks.migration_steps import StepwiseFile
from blocks.migration_table import RUNNER, RUNNER_KEY, TABLE, prepare_table, records
from blocks.migration_tries import TRY_AGAIN, Limits, Tries, milliseconds
from blocks.postgres import (
    Connection,
    ScriptFailed,
    is_lost,
    literal,
    one_row,
    reason_of,
    refuse_pooler,
    run_script,
    where,
    without_secret,
)
from blocks.session_watch import Say, SessionWatch, say_session
from release.duration import say_duration
from release.errors import MigrationFailed, MigrationRefused, Unreachable
from release.migration import AppliedMigration, MigrationFile, what_helps
from release.migration_header import Phase
from release.sqltext import failing_line, pieces
from release.wording import count_of

_LOCK_POLL = 0.25  # seconds between two tries to get the runner's lock
_SAY_EVERY = 5.0  # seconds between two lines about the same wait
_RECONNECTS = 3  # how often one run survives the loss of its connection
_PIECE = 1024 * 1024  # characters that are sent at once: client and server hold a copy of each


@dataclass(frozen=True)
class _Failure:
    error: psycopg.Error
    piece: int  # the character at which the text begins that failed
    statement: int | None  # statements of that text that ran before; None: the commit failed


class Runner:
    """One call of ``Database.apply``: its connections, and what it has done so far."""

    def __init__(
        self,
        dsn: SecretStr,
        connect: Callable[[], Connection],
        limits: Limits,
        stamp: Mapping[str, str],
        say: Say,
    ) -> None:
        self.dsn = dsn
        self.limits = limits
        self.stamp = stamp
        self.say = say
        self.recorded_before: set[str] | None = None  # None: nothing was read yet
        self.done: list[str] = []
        self._connect = connect

    def apply(self, files: Sequence[MigrationFile]) -> tuple[AppliedMigration, ...]:
        """See ``Database.apply``."""
        for _ in range(_RECONNECTS + 1):
            connection = self._open()
            try:
                refuse_pooler(connection, self.place)
                with SessionWatch(self._connect, connection.info.backend_pid, self.say) as watch:
                    return self._apply_with(connection, files, watch)
            except psycopg.Error as error:
                reason = self.without_secret(reason_of(error))
                if not is_lost(connection, error):
                    raise MigrationFailed(f"{self.place}: {reason}; {self.so_far()}") from None
                self.say(f"connection lost ({reason}); the record says what was done")
            finally:
                connection.close()  # frees the runner's lock, whatever happened
        raise Unreachable(
            f"{self.place}: the connection was lost {_RECONNECTS + 1} times; {self.so_far()}",
            "start the deployment again: what is applied is skipped",
        )

    @cached_property
    def place(self) -> str:
        """The database, without its password."""
        return where(self.dsn)

    def without_secret(self, text: str) -> str:
        """A server's words, should they quote the connection string."""
        return without_secret(text, self.dsn)

    def count(self, file: MigrationFile, how: str) -> None:
        """Note that a file is done, and say so."""
        self.done.append(file.filename)
        self.say(f"{file.filename} {how}")

    def so_far(self) -> str:
        """What stays applied of the files before the present one."""
        if not self.done:
            return "no file was applied before it"
        stay = "stays" if len(self.done) == 1 else "stay"
        files = count_of(len(self.done), "file")
        return f"{files} before it {stay} applied (up to {self.done[-1]})"

    def _open(self) -> Connection:
        """Connect; once the run has begun, wait for a server that restarts."""
        deadline = time.monotonic() + self.limits.budget.total_seconds()
        while True:
            try:
                return self._connect()
            except Unreachable as error:
                if self.recorded_before is None:
                    raise
                if time.monotonic() > deadline:
                    raise Unreachable(f"{error.what}; {self.so_far()}", error.hint) from None
            time.sleep(_LOCK_POLL)

    def _apply_with(
        self, connection: Connection, files: Sequence[MigrationFile], watch: SessionWatch
    ) -> tuple[AppliedMigration, ...]:
        take_turn(connection, self.limits.budget, self.say, self.place, self.so_far)
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
                StepwiseFile(self, connection, file, watch).apply(row)
        new = {file.version for file in files} - self.recorded_before
        rows = tuple(row for row in records(connection) if row.version in new)
        connection.execute(f"SELECT pg_advisory_unlock({RUNNER_KEY})".encode())
        return rows

    def _skip(self, file: MigrationFile, row: AppliedMigration) -> None:
        assert self.recorded_before is not None
        if file.version in self.recorded_before:
            self.say(f"{file.filename} is applied already")
        elif file.filename not in self.done:
            self.count(file, f"was committed before the connection broke, try {row.attempts}")

    def _apply_file(self, connection: Connection, file: MigrationFile, watch: SessionWatch) -> None:
        """Apply one file, trying again as long as it only lacks a lock."""
        limits = self.limits.of(file)
        tries = Tries(limits.budget)
        while True:
            with watch.over(limits.lock_timeout):
                failure = self._attempt(connection, file, limits, tries)
            if failure is None:
                took = say_duration(tries.took)
                self.count(file, f"applied in {took}, try {tries.number}")
                return
            if not isinstance(failure.error, TRY_AGAIN):
                raise self._failed(file, failure)
            self.wait(
                file.filename,
                tries,
                failure.error,
                watch,
                f"nothing of it remains; {self.so_far()}",
            )

    def wait(
        self, what: str, tries: Tries, error: psycopg.Error, watch: SessionWatch, remains: str
    ) -> None:
        """Say who is in the way and pause before the next try.

        Raises MigrationFailed when the time for it is over: there is never a try without a limit.
        """
        reason = f"{reason_of(error)}, blocked by {watch.blockers}"
        pause = tries.pause(error)
        if pause is None:
            raise MigrationFailed(
                f"{what}: {reason}; tried {tries.number} times in {say_duration(tries.took)} "
                f"({say_duration(tries.budget)} allowed); {remains}",
                "end what blocks it, then start the deployment again",
            )
        self.say(f"{what}: {reason}; try {tries.number} in {pause:.1f} s")
        time.sleep(pause)

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
                f"none of it is recorded; {self.so_far()}",
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
            "min_app": self.min_app(file),
            **{key: self.stamp[key] for key in ("deploy_id", "git_sha", "app_version")},
        }

    def _failed(self, file: MigrationFile, failure: _Failure) -> MigrationFailed:
        if failure.statement is None:
            place = f"{file.filename}: when it was to be committed"
        else:
            line = line_of(file.sql, failure.piece, failure.error, failure.statement)
            place = f"{file.filename}:{line}"
        return MigrationFailed(
            f"{place}: {self.reason(failure.error)}; nothing of it remains; {self.so_far()}",
            what_helps(
                failure.error.sqlstate,
                "mend the file and deploy again: the files that are applied are skipped",
            ),
        )

    def min_app(self, file: MigrationFile) -> str | None:
        """The oldest release that runs on what a contract file leaves; None for an expand file."""
        given = file.header.min_app or self.stamp["min_app"]
        return given if file.phase is Phase.CONTRACT else None

    def reason(self, error: psycopg.Error) -> str:
        """What the server said, with its detail and its code."""
        detail = f": {error.diag.message_detail}" if error.diag.message_detail else ""
        return f"{self.without_secret(f'{reason_of(error)}{detail}')} ({error.sqlstate})"


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
    while not one_row(connection, f"SELECT pg_try_advisory_lock({RUNNER_KEY}) AS mine")["mine"]:
        holder = connection.execute(RUNNER.encode()).fetchone()
        who = say_session(holder) if holder else "a runner that is just ending"
        waited = timedelta(seconds=time.monotonic() - started)
        if waited > budget:
            raise MigrationFailed(
                f"{place}: another migration runner, {who}, went on for {say_duration(waited)}; "
                f"{so_far()}",
                "wait for it to end, then start the deployment again",
            )
        if time.monotonic() - said >= _SAY_EVERY:
            said = time.monotonic()
            say(f"waiting for another migration runner: {who}")
        time.sleep(_LOCK_POLL)


def line_of(text: str, begins: int, error: psycopg.Error, statement: int) -> int:
    """The line of an error in a file: where the server points, else where its statement is."""
    at = error.diag.statement_position
    before = text.count("\n", 0, begins)
    return before + failing_line(text[begins:], int(at) if at else None, statement)


def _opening(file: MigrationFile, limits: Limits) -> str:
    """What begins a file's transaction, and answers with its id.

    RESET ALL takes back what the file before it has set; the session's own limits come back too.
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
    """What writes the record and commits; no record where the file ended its own transaction.

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
