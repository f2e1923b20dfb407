"""The rehearsal of pending migrations: on a copy of the target's schema, on a scratch server.

The files run as the real runner runs them, but one statement at a time, so that each one's locks
and rewrites can be seen. The target is only read.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import NoReturn, Protocol

import psycopg
from psycopg import errors, generators
from psycopg.pq import ExecStatus, TransactionStatus
from pydantic import SecretStr

from blocks.part import Part
from blocks.postgres.catalogue import (
    look_at_tables,
    read_schema,
    recorded_statements,
    table_sizes,
    unprepared,
)
from blocks.postgres.connection import Connection, connected, without_secret
from blocks.postgres.database import Database
from blocks.postgres.scratch import (
    Origin,
    Scratch,
    cancelled_at,
    in_database,
    open_scratch,
    scratch_copy,
    server_words,
)
from blocks.postgres.session_watch import Say
from release.configuration.places import RehearsalSettings
from release.duration import say_duration
from release.errors import BadConfiguration, DeployError
from release.migration.files import MigrationFile
from release.migration.rehearsal import outcome as rehearsal
from release.migration.rehearsal.compatibility import (
    RecordedStatements,
    compare_schemas,
    compare_statements,
)
from release.migration.rehearsal.outcome import (
    SmokeOutcome,
    SmokeResult,
    compare_smoke,
    not_rehearsed,
)
from release.migration.rehearsal.trace import (
    Failure,
    MigrationStatement,
    StatementTrace,
    TableState,
    acts_on_the_server,
    statements_of,
    trace_statement,
)
from release.model import Check

# Errors that concern the copy or its server, and say nothing about the file.
_NOT_THE_FILES = (psycopg.OperationalError, errors.InsufficientPrivilege)


class Trial(Protocol):
    """Starts the old release on a copy, where no user reaches it."""

    def __call__(self, dsn: SecretStr) -> AbstractContextManager[Callable[[], Check]]:
        """Start it on the database that ``dsn`` names, as a container reaches it.

        Yields a function that runs its smoke tests once; removes the release at the end. Raises
        DeployError if it does not come up.
        """
        ...


class Rehearsal(RehearsalSettings, Part):
    """Where migrations are rehearsed, and within which limits."""

    _block_type_name = "Ignition Rehearsal"

    def rehearse(
        self,
        source: Database,
        files: Sequence[MigrationFile],
        trial: Trial | None = None,
        on_event: Say = lambda line: None,
    ) -> rehearsal.Rehearsal:
        """Apply ``files`` to a copy of the source's schema, and say what they do.

        ``source`` is only read. The copy is dropped at the end, whatever happened. If a rehearsal
        cannot take place, its result says why and nothing is raised: the deployment goes on, with
        an unknown verdict.
        """
        if not files:
            return rehearsal.Rehearsal(())
        if self.dsn is None:
            return not_rehearsed("no scratch server is configured", files)
        refused = next(filter(None, map(acts_on_the_server, files)), "")
        if refused:
            return not_rehearsed(refused, files)
        try:
            return _Run(self, self.dsn, source, trial, on_event).go(files)
        except DeployError as error:
            reason = f"{error.what} ({error.hint})" if error.hint else error.what
        except psycopg.Error as error:
            reason = server_words(error)
        return not_rehearsed(self._without_passwords(reason, source), files)

    def _without_passwords(self, text: str, source: Database) -> str:
        for dsn in (self.dsn, self.container_dsn, source.dsn):
            text = without_secret(text, dsn) if dsn else text
        return text


class _Run:
    """One rehearsal."""

    def __init__(
        self,
        block: Rehearsal,
        server: SecretStr,
        source: Database,
        trial: Trial | None,
        say: Say,
    ) -> None:
        self.block = block
        self.server = server
        self.source = source
        self.trial = trial
        self.say = say
        self.began = time.monotonic()
        self.limit = block.limit
        self.deadline = self.began + block.limit.total_seconds()

    def go(self, files: Sequence[MigrationFile]) -> rehearsal.Rehearsal:
        with connected(self._open_source) as connection:
            origin = Origin.read(connection, self.source.dsn)
            recorded = recorded_statements(connection, self.block.most_statements)
        copying = scratch_copy(self.server, origin, self.limit, self.deadline, self.say)
        with copying as scratch:
            self.say(f"copied the schema in {say_duration(self._so_far())}")
            found = self._rehearse(scratch, files, recorded)
        tables = {name for trace in found.traces for name in _tables_of(trace)}
        with connected(self._open_source) as connection:
            sizes = table_sizes(connection, tables)
        return replace(found, sizes=sizes, took=self._so_far())

    def _rehearse(
        self, scratch: Scratch, files: Sequence[MigrationFile], recorded: RecordedStatements
    ) -> rehearsal.Rehearsal:
        names = tuple(file.filename for file in files)
        with ExitStack() as stack:
            with self._session(scratch) as connection:
                self._seed(connection)
                before = read_schema(connection)
                stood = frozenset(look_at_tables(connection))
                prepared = unprepared(connection, recorded.statements)
            smoke, reason = self._start_old_release(scratch, stack)
            control = smoke() if smoke else None
            traces: list[StatementTrace] = []
            try:
                for file in files:
                    self._apply(scratch, file, stood, traces)
            except _FileFailed as error:
                return rehearsal.Rehearsal(names, traces=tuple(traces), failure=error.failure)
            with self._session(scratch) as connection:
                after = read_schema(connection)
                fared = unprepared(connection, recorded.statements)
            result = SmokeResult(SmokeOutcome.NOT_RUN, reason)
            if smoke and control:
                result = compare_smoke(control, smoke() if control.passed else control)
        return rehearsal.Rehearsal(
            names,
            traces=tuple(traces),
            statements=compare_statements(recorded, prepared, fared),
            restrictions=compare_schemas(before, after, [s.text for s in recorded.statements]),
            smoke=result,
        )

    # ---- the files

    def _apply(
        self,
        scratch: Scratch,
        file: MigrationFile,
        stood: frozenset[int],
        traces: list[StatementTrace],
    ) -> None:
        """Apply a file in a session of its own: what it counts and sets ends with it."""
        with self._session(scratch) as connection:
            step = self._in_one_transaction if file.in_transaction else self._one_by_one
            for trace in step(connection, scratch, statements_of(file), stood):
                traces.append(trace)
                self._refuse_late()

    def _in_one_transaction(
        self,
        connection: Connection,
        scratch: Scratch,
        statements: Sequence[MigrationStatement],
        stood: frozenset[int],
    ) -> Iterator[StatementTrace]:
        """As the runner applies a file: all of it, or nothing."""
        tables = _standing(connection, stood)
        connection.execute("BEGIN")
        for statement in statements:
            took = self._send(connection, scratch, statement)
            if connection.info.transaction_status != TransactionStatus.INTRANS:
                raise _FileFailed(statement.failed("it ends its own transaction", "25000"))
            before, tables = tables, _standing(connection, stood)
            yield trace_statement(statement, took, before, tables)
        self._commit(connection, scratch, statements[-1])

    def _one_by_one(
        self,
        connection: Connection,
        scratch: Scratch,
        statements: Sequence[MigrationStatement],
        stood: frozenset[int],
    ) -> Iterator[StatementTrace]:
        """Each statement by itself, inside a transaction if it can be, to see its locks."""
        for statement in statements:
            connection.execute("BEGIN")
            tables = _standing(connection, stood)
            try:
                took = self._send(connection, scratch, statement, alone=True)
                seen, traced = _standing(connection, stood), True
                self._commit(connection, scratch, statement)
            except errors.ActiveSqlTransaction:
                connection.execute("ROLLBACK")
                took = self._send(connection, scratch, statement)
                seen, traced = _standing(connection, stood), False
            yield trace_statement(statement, took, tables, seen, traced)

    def _send(
        self,
        connection: Connection,
        scratch: Scratch,
        statement: MigrationStatement,
        alone: bool = False,
    ) -> timedelta:
        """Run a statement; ``alone``: that it cannot run in a transaction is not its failure."""
        began = time.monotonic()
        # As Connection.execute does, which does not say how many statements ran.
        connection.pgconn.send_query(statement.text.encode())
        results = connection.wait(generators.execute(connection.pgconn))
        for number, result in enumerate(results):
            if result.status == ExecStatus.FATAL_ERROR:
                error = errors.error_from_result(result, "utf-8")
                if alone and isinstance(error, errors.ActiveSqlTransaction):
                    raise error
                self._explain(scratch, statement, error, number)
        return timedelta(seconds=time.monotonic() - began)

    def _commit(self, connection: Connection, scratch: Scratch, last: MigrationStatement) -> None:
        try:
            connection.execute("COMMIT")
        except psycopg.Error as error:
            self._explain(scratch, last, error)

    def _explain(
        self,
        scratch: Scratch,
        statement: MigrationStatement,
        error: psycopg.Error,
        number: int = 0,
    ) -> NoReturn:
        """Raise what a failed statement means: the file is wrong, or the copy falls short."""
        self._refuse_late()
        place = f"{statement.filename}:{statement.line}"
        reason = server_words(error)
        if isinstance(error, _NOT_THE_FILES):
            raise BadConfiguration(f"{place}: {reason}, on the copy") from None
        if isinstance(error, errors.UndefinedObject) and scratch.missing_roles:
            missing = ", ".join(sorted(scratch.missing_roles))
            raise BadConfiguration(
                f"{place}: {reason}, on the copy", f"create these roles there: {missing}"
            ) from None
        if isinstance(error, errors.FeatureNotSupported) and "EXTENSION" in statement.short.upper():
            raise BadConfiguration(f"{place}: {reason} on the scratch server") from None
        position = int(error.diag.statement_position) if error.diag.statement_position else None
        message = error.diag.message_primary or type(error).__name__
        failure = statement.failed(message, error.sqlstate or "", position, number)
        raise _FileFailed(failure) from None

    # ---- the running release

    def _start_old_release(
        self, scratch: Scratch, stack: ExitStack
    ) -> tuple[Callable[[], Check] | None, str]:
        """A function that runs its smoke tests on the copy, or None and why not."""
        if self.trial is None:
            return None, "no old release was started on the copy"
        if self.block.container_dsn is None:
            return None, "no address is configured at which a container reaches the scratch server"
        try:
            inside = in_database(self.block.container_dsn, scratch.name)
            return stack.enter_context(self.trial(inside)), ""
        except DeployError as error:
            return None, self.block._without_passwords(error.what, self.source)

    # ---- sessions and limits

    def _seed(self, connection: Connection) -> None:
        seed = self.block.seed.get_secret_value()
        try:
            if seed:
                connection.execute(seed.encode())
        except psycopg.Error as error:
            raise BadConfiguration(
                f"rehearsal.seed does not run on the target's schema: {server_words(error)}"
            ) from None

    def _open_source(self) -> Connection:
        return open_scratch(self.source.dsn, self.block.statement_timeout)

    @contextmanager
    def _session(self, scratch: Scratch) -> Iterator[Connection]:
        timeout = self.block.statement_timeout
        connection = open_scratch(scratch.dsn, timeout)
        try:
            with cancelled_at(connection, self.deadline):
                yield connection
        except psycopg.OperationalError:
            self._refuse_late()  # it was cancelled for that
            raise
        finally:
            connection.close()

    def _so_far(self) -> timedelta:
        return timedelta(seconds=time.monotonic() - self.began)

    def _refuse_late(self) -> None:
        if time.monotonic() > self.deadline:
            raise BadConfiguration(f"it took longer than the {say_duration(self.limit)} allowed")


class _FileFailed(Exception):
    """A file does not run on the target's schema."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(str(failure))
        self.failure = failure


def _standing(connection: Connection, stood: frozenset[int]) -> dict[int, TableState]:
    """The tables that existed before the migrations: no traffic waits for a lock on a new one."""
    return {oid: table for oid, table in look_at_tables(connection).items() if oid in stood}


def _tables_of(trace: StatementTrace) -> set[str]:
    return {*trace.rewrites, *trace.reads}
