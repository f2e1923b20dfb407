"""PostgreSQL: the environment's own database, and the runner that brings its schema forward.

A file and its record are one transaction: after any failure a file is applied and recorded, or
neither. A runner waits for another one by asking again and again, never inside
``pg_advisory_lock``, because a session that waits there deadlocks a concurrent index build.
PostgreSQL 14 or newer.
"""

import itertools
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg
from prefect.blocks.core import Block
from psycopg import errors, generators
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.pq import ExecStatus, TransactionStatus
from psycopg.rows import DictRow, dict_row
from pydantic import Field, SecretStr

from release.duration import say_duration
from release.errors import (
    BadConfiguration,
    DeployError,
    MigrationFailed,
    MigrationRefused,
    Unreachable,
)
from release.migration import (
    AppliedMigration,
    MigrationFile,
    failing_line,
    plan_migrations,
    read_migrations,
)

TABLE = "public.schema_migrations"
CONNECT_TIMEOUT = timedelta(seconds=5)

_LOCK_POLL = 0.25  # seconds between two tries to get the runner's lock
_SAY_EVERY = 5.0  # seconds between two lines about the same wait
_RECONNECTS = 3  # how often one run survives the loss of its connection

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
}
_KEY = f"hashtextextended('migrate:' || current_database() || ':{TABLE}', 0)"
_HOLDER = f"""
    SELECT a.pid, a.application_name, a.state, clock_timestamp() - a.backend_start AS age
    FROM pg_locks l JOIN pg_stat_activity a USING (pid)
    WHERE l.locktype = 'advisory' AND l.objsubid = 1 AND l.granted
      AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
      AND (l.classid::bigint << 32 | l.objid::bigint) = {_KEY}"""
_BLOCKERS = """
    SELECT pid, application_name, state, clock_timestamp() - xact_start AS age
    FROM pg_stat_activity WHERE pid = ANY (pg_blocking_pids(%s))"""

_CONFIGURATION_FAULTS = (  # libpq gives no code for a refused connection, only the server's words
    "password authentication failed",
    "no password supplied",
    "no pg_hba.conf entry",
    "does not exist",
    "is not permitted to log in",
    "permission denied",
    "read-only",
    "unsupported startup parameter",
    "unrecognized configuration parameter",
    "invalid connection option",
)
_TRY_AGAIN = (errors.LockNotAvailable, errors.DeadlockDetected, errors.SerializationFailure)
_GONE = (errors.AdminShutdown, errors.CrashShutdown, errors.CannotConnectNow)

Say = Callable[[str], None]
Connection = psycopg.Connection[DictRow]


class Database(Block):
    """An environment's database, reached directly: no transaction pooler in between."""

    _block_type_name = "Ignition Database"

    dsn: SecretStr = Field(description="PostgreSQL connection string of a direct connection.")
    lock_timeout_ms: int = Field(
        default=500, ge=1, description="Milliseconds that traffic may stall at most."
    )
    lock_budget_s: int = Field(
        default=60, ge=1, description="Seconds to go on trying for locks, or for another runner."
    )
    statement_timeout_s: int = Field(
        default=900, ge=1, description="Seconds that one statement may take."
    )
    application_name: str = Field(
        default="ignition-migrate", description="How the runner is called in pg_stat_activity."
    )

    def check(self) -> None:
        """Connect, and see that migrations could be applied.

        Raises Unreachable, or BadConfiguration for a wrong password, a pooler, a read-only server
        or a missing grant. Names host, port and database, never the password.
        """
        with self._connect() as connection:
            _refuse_pooler(connection, self._where())
            row = _one(
                connection,
                "SELECT current_user AS role,"
                " has_schema_privilege('public', 'CREATE') AS may_create,"
                f" has_table_privilege(to_regclass('{TABLE}'), 'INSERT') AS may_add",
            )
        has_table = row["may_add"] is not None
        if not (row["may_add"] if has_table else row["may_create"]):
            right = f"INSERT ON {TABLE}" if has_table else "CREATE ON SCHEMA public"
            raise BadConfiguration(
                f"{row['role']} may not write schema_migrations in {self._where()}",
                f'GRANT {right} TO "{row["role"]}";',
            )

    def applied(self) -> tuple[AppliedMigration, ...]:
        """The rows of ``schema_migrations``, oldest first; empty where there is no such table."""
        with self._connect() as connection:
            return _applied(connection)

    def latest(self, limit: int = 5) -> list[dict[str, Any]]:
        """The runbook's own check: ``SELECT * FROM schema_migrations ORDER BY version DESC``."""
        with self._connect() as connection:
            if not _columns(connection):
                return []
            query = f"SELECT * FROM {TABLE} ORDER BY version DESC LIMIT %s"
            return [dict(row) for row in connection.execute(query.encode(), (limit,))]

    def schema_version(self) -> str:
        """The newest row of ``schema_migrations``; "" for none."""
        return max((row.version for row in self.applied()), default="")

    def apply(
        self,
        files: Sequence[MigrationFile],
        deploy_id: str = "",
        revision: str = "",
        version: str = "",
        on_event: Say = lambda line: None,
    ) -> tuple[AppliedMigration, ...]:
        """Apply ``files`` in the order given, and return the records of those that were pending.

        A file that is recorded already is skipped, so this is safe to repeat. Locks that are not
        granted within ``lock_timeout_ms`` are tried for again, for ``lock_budget_s`` a file. A lost
        connection is made again, and the record decides what was done. ``on_event`` gets a line
        for each fact. Raises MigrationRefused (nothing applied), MigrationFailed (nothing of the
        failing file remains), Unreachable or BadConfiguration.
        """
        if not files:
            return ()
        stamp = {"deploy_id": deploy_id, "git_sha": revision, "app_version": version}
        return _Run(self, stamp, on_event).apply(files)

    def _where(self) -> str:
        return where(self.dsn)

    def _connect(self) -> AbstractContextManager[Connection]:
        return connected(self._open)

    def _open(self) -> Connection:
        return open_connection(
            self.dsn,
            self.application_name,
            timedelta(milliseconds=self.lock_timeout_ms),
            timedelta(seconds=self.statement_timeout_s),
        )


def read_folder(folder: Path) -> tuple[MigrationFile, ...]:
    """Read the migration files of a folder. Raises MigrationRefused."""
    if not folder.is_dir():
        raise MigrationRefused(f"there is no migrations folder {folder}")
    return read_migrations({path.name: path.read_bytes() for path in folder.glob("*.[sS][qQ][lL]")})


def apply_folder(
    dsn: SecretStr | str, folder: Path, on_event: Say = lambda line: None
) -> tuple[AppliedMigration, ...]:
    """Bring a database forward to a folder of files, contract files too, in order of number."""
    secret = dsn if isinstance(dsn, SecretStr) else SecretStr(dsn)
    database = Database(dsn=secret)
    plan = plan_migrations(read_folder(folder), database.applied())
    return database.apply(plan.pending, on_event=on_event)


# --- connections ----------------------------------------------------------------------------------


def open_connection(
    dsn: SecretStr, application_name: str, lock_timeout: timedelta, statement_timeout: timedelta
) -> Connection:
    """Connect to a server that takes writes; every statement is its own transaction.

    The limits are the session's defaults, so RESET ALL brings them back. A backend whose client is
    gone notices within 500 ms. Raises Unreachable, or BadConfiguration for a refused login.
    """
    limits = {
        "lock_timeout": round(lock_timeout.total_seconds() * 1000),
        "statement_timeout": round(statement_timeout.total_seconds() * 1000),
        "idle_in_transaction_session_timeout": 60_000,
        "client_connection_check_interval": 500,
        "standard_conforming_strings": "on",
    }
    parameters = _parameters(dsn.get_secret_value())
    given = str(parameters.get("options") or "")
    parameters |= {
        "options": " ".join([given, *(f"-c {key}={value}" for key, value in limits.items())]),
        "application_name": application_name,
        "client_encoding": "utf8",
        "connect_timeout": round(CONNECT_TIMEOUT.total_seconds()),
        "target_session_attrs": "read-write",
        "keepalives_idle": 30,
        "keepalives_interval": 10,
        "keepalives_count": 3,
    }
    try:
        return psycopg.connect(
            make_conninfo(**parameters),
            autocommit=True,
            prepare_threshold=None,
            row_factory=dict_row,
        )
    except psycopg.OperationalError as error:
        raise _refused(dsn, error) from None


@contextmanager
def connected(opener: Callable[[], Connection]) -> Iterator[Connection]:
    """A connection for a few statements; whatever goes wrong with them is a DeployError."""
    connection = opener()
    try:
        yield connection
    except psycopg.OperationalError as error:
        raise Unreachable(f"{_place(connection)}: {_reason(error)}", "ignition doctor") from None
    except psycopg.Error as error:
        raise BadConfiguration(f"{_place(connection)}: {_reason(error)}") from None
    finally:
        connection.close()


def where(dsn: SecretStr) -> str:
    """Where a connection string leads: database, host and port, and nothing else of it."""
    parameters = _parameters(dsn.get_secret_value())
    name = parameters.get("dbname") or parameters.get("user") or "default"
    host, port = parameters.get("host") or "localhost", parameters.get("port") or 5432
    return f'database "{name}" at {host}:{port}'


def _place(connection: Connection) -> str:
    info = connection.info
    return f'database "{info.dbname}" at {info.host}:{info.port}' if not info.status else "database"


def _parameters(dsn: str) -> dict[str, Any]:
    try:
        return dict(conninfo_to_dict(dsn))
    except psycopg.Error:  # its message quotes the string, and with it the password
        raise BadConfiguration(
            "the connection string of a database cannot be read",
            "write it as postgresql://USER:PASSWORD@HOST:PORT/DATABASE; in a password, write "
            "@ : / % as %40 %3A %2F %25",
        ) from None


def _without_secret(text: str, dsn: SecretStr) -> str:
    password = str(_parameters(dsn.get_secret_value()).get("password") or "")
    for form in {password, quote(password, safe=""), quote(password)} - {""}:
        text = text.replace(form, "***")
    return text


def _refused(dsn: SecretStr, error: psycopg.OperationalError) -> DeployError:
    reason = _without_secret(_reason(error), dsn)
    fault = any(words in reason for words in _CONFIGURATION_FAULTS)
    kind = BadConfiguration if fault else Unreachable
    return kind(f"{where(dsn)}: {reason}", "ignition doctor")


def _reason(error: psycopg.Error) -> str:
    """The server's own words, in one line."""
    if error.diag.message_primary:
        return error.diag.message_primary
    text = " ".join(str(error).split())
    for lead in ("FATAL: ", "failed: "):
        text = text.rpartition(lead)[2].strip()
    return text


def _refuse_pooler(connection: Connection, place: str) -> None:
    """Behind a transaction pooler two runners would both hold the lock (measured)."""
    answering = _one(connection, "SELECT pg_backend_pid() AS pid")["pid"]
    if answering != connection.info.backend_pid:
        raise BadConfiguration(
            f"{place} is reached through a connection pooler, where no lock holds",
            "give a connection string that leads to PostgreSQL itself",
        )


def _one(connection: Connection, query: str) -> DictRow:
    row = connection.execute(query.encode()).fetchone()
    assert row is not None, "a SELECT without FROM gives one row"
    return row


def _columns(connection: Connection) -> set[str]:
    rows = connection.execute(
        "SELECT attname FROM pg_attribute"
        " WHERE attrelid = to_regclass(%s) AND attnum > 0 AND NOT attisdropped",
        (TABLE,),
    )
    return {row["attname"] for row in rows}


def _applied(connection: Connection) -> tuple[AppliedMigration, ...]:
    if not _columns(connection):
        return ()
    rows = connection.execute(f"SELECT * FROM {TABLE} ORDER BY version".encode()).fetchall()
    return tuple(_record(row) for row in rows)


def _record(row: Mapping[str, Any]) -> AppliedMigration:
    """A row as another tool, or an older version of this one, may have left it."""
    fields = {key: row[key] for key in _COLUMNS if row.get(key) is not None}
    return AppliedMigration(**fields | {"version": str(row["version"])})


# --- the runner -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Failure:
    """Why a file was not applied; its transaction is rolled back."""

    error: psycopg.Error
    statement: int | None  # how many of the file's statements ran before; None: all of them


class _Run:
    """One call of :meth:`Database.apply`, over as many connections as it takes."""

    def __init__(self, database: Database, stamp: Mapping[str, str], say: Say) -> None:
        self.database = database
        self.stamp = stamp
        self.say = say
        self.recorded_before: set[str] | None = None  # None: nothing was read yet
        self.done: list[str] = []

    def apply(self, files: Sequence[MigrationFile]) -> tuple[AppliedMigration, ...]:
        place = where(self.database.dsn)
        for _ in range(_RECONNECTS + 1):
            connection = self._open()
            try:
                _refuse_pooler(connection, place)
                return self._apply_with(connection, files)
            except psycopg.Error as error:
                reason = _without_secret(_reason(error), self.database.dsn)
                if not _is_lost(connection, error):
                    raise MigrationFailed(f"{place}: {reason}; {self._so_far()}") from None
                self.say(f"connection lost ({reason}); the record says what was done")
            finally:
                connection.close()  # frees the runner's lock, whatever happened
        raise Unreachable(
            f"{place}: the connection was lost {_RECONNECTS + 1} times; {self._so_far()}",
            "start the deployment again: what is applied is skipped",
        )

    def _open(self) -> Connection:
        """Connect; once the run has begun, wait for a server that restarts."""
        deadline = time.monotonic() + self.database.lock_budget_s
        while True:
            try:
                return self.database._open()
            except Unreachable as error:
                if self.recorded_before is None:
                    raise
                if time.monotonic() > deadline:
                    raise Unreachable(f"{error.what}; {self._so_far()}", error.hint) from None
            time.sleep(_LOCK_POLL)

    def _apply_with(
        self, connection: Connection, files: Sequence[MigrationFile]
    ) -> tuple[AppliedMigration, ...]:
        self._take_turn(connection)
        self._prepare_table(connection)
        recorded = {row.version: row for row in _applied(connection)}
        if self.recorded_before is None:
            self.recorded_before = set(recorded)
        for file in files:
            _refuse_other_text(file, recorded.get(file.version))
        for file in files:
            if file.version in recorded:
                self._skip(file, recorded[file.version])
            else:
                self._apply_file(connection, file)
        new = {file.version for file in files} - self.recorded_before
        rows = tuple(row for row in _applied(connection) if row.version in new)
        connection.execute(f"SELECT pg_advisory_unlock({_KEY})".encode())
        return rows

    def _take_turn(self, connection: Connection) -> None:
        """Take the runner's lock, or wait for the runner that holds it."""
        started = time.monotonic()
        said = started - _SAY_EVERY
        while not _one(connection, f"SELECT pg_try_advisory_lock({_KEY}) AS mine")["mine"]:
            holder = connection.execute(_HOLDER.encode()).fetchone()
            who = _session(holder) if holder else "a runner that is just ending"
            waited = time.monotonic() - started
            if waited > self.database.lock_budget_s:
                raise MigrationFailed(
                    f"{where(self.database.dsn)}: another migration runner, {who}, went on for "
                    f"{say_duration(timedelta(seconds=waited))}; {self._so_far()}",
                    "wait for it to end, then start the deployment again",
                )
            if time.monotonic() - said >= _SAY_EVERY:
                said = time.monotonic()
                self.say(f"waiting for another migration runner: {who}")
            time.sleep(_LOCK_POLL)

    def _prepare_table(self, connection: Connection) -> None:
        """Create ``schema_migrations``, or add what another tool's table lacks."""
        present = _columns(connection)
        if "dirty" in present:
            raise MigrationRefused(
                f"{TABLE} is golang-migrate's: it holds one number and no history",
                f"rename it, so that a new one can be made: ALTER TABLE {TABLE} RENAME TO …",
            )
        missing = [f"{name} {kind}" for name, kind in _COLUMNS.items() if name not in present]
        if not present:
            connection.execute(f"CREATE TABLE {TABLE} ({', '.join(missing)})".encode())
        elif missing:
            adding = ", ".join(f"ADD COLUMN {column}" for column in missing)
            connection.execute(f"ALTER TABLE {TABLE} {adding}".encode())

    def _skip(self, file: MigrationFile, row: AppliedMigration) -> None:
        assert self.recorded_before is not None
        if file.version in self.recorded_before:
            self.say(f"{file.filename} is applied already")
        elif file.filename not in self.done:
            self._count(file, f"was committed before the connection broke, try {row.attempts}")

    def _count(self, file: MigrationFile, how: str) -> None:
        self.done.append(file.filename)
        self.say(f"{file.filename} {how}")

    def _apply_file(self, connection: Connection, file: MigrationFile) -> None:
        """Apply one file, trying again as long as it only lacks a lock."""
        started = time.monotonic()
        with _BlockerWatch(self.database, connection.info.backend_pid) as watch:
            for attempt in itertools.count(1):
                failure = self._attempt(connection, file, attempt, started)
                took = timedelta(seconds=time.monotonic() - started)
                if failure is None:
                    self._count(file, f"applied in {say_duration(took)}, try {attempt}")
                    return
                if not isinstance(failure.error, _TRY_AGAIN):
                    raise self._failed(file, failure)
                reason = f"{_reason(failure.error)}, blocked by {watch.seen}"
                pause = random.uniform(0.5, 1) * min(10.0, 0.5 * 2 ** min(attempt - 1, 10))
                if took.total_seconds() + pause > self.database.lock_budget_s:
                    raise MigrationFailed(
                        f"{file.filename}: {reason}; tried {attempt} times in "
                        f"{say_duration(took)} ({self.database.lock_budget_s} s allowed); "
                        f"{self._remains()}",
                        "end what blocks it, then start the deployment again",
                    )
                self.say(f"{file.filename}: {reason}; try {attempt + 1} in {pause:.1f} s")
                time.sleep(pause)

    def _attempt(
        self, connection: Connection, file: MigrationFile, attempt: int, started: float
    ) -> _Failure | None:
        """Apply the file and record it, in one transaction. A lost connection is raised."""
        try:
            connection.execute("BEGIN")
            begun = _transaction(connection)
            failure = _send(connection, file.sql)
            if failure is not None:
                if not _is_lost(connection, failure.error):
                    connection.rollback()
                    return failure
                raise failure.error
            if _transaction(connection) != begun:
                connection.rollback()
                raise MigrationFailed(
                    f"{file.filename}: it ended its own transaction, so a part of it may stay and "
                    f"none of it is recorded; {self._so_far()}",
                    "compare the schema with the file, then put the rest into a new file",
                )
            connection.execute("RESET SESSION AUTHORIZATION")  # the file may have changed them
            connection.execute("RESET ROLE")
            self._write_record(connection, file, attempt, started)
            connection.execute("COMMIT")
        except psycopg.Error as error:
            if _is_lost(connection, error):
                raise
            connection.rollback()
            return _Failure(error, None)
        connection.execute("RESET ALL")
        return None

    def _write_record(
        self, connection: Connection, file: MigrationFile, attempt: int, started: float
    ) -> None:
        connection.execute(
            f"INSERT INTO {TABLE} (version, name, status, applied_at, duration_ms, phase,"
            " checksum, applied_by, deploy_id, git_sha, app_version, attempts)"
            " VALUES (%(version)s, %(name)s, 'applied', clock_timestamp(), %(ms)s, %(phase)s,"
            " %(checksum)s, session_user, %(deploy_id)s, %(git_sha)s, %(app_version)s,"
            " %(attempt)s)".encode(),
            {
                **self.stamp,
                "version": file.version,
                "name": file.name,
                "phase": file.phase.value,
                "checksum": file.checksum,
                "attempt": attempt,
                "ms": round((time.monotonic() - started) * 1000),
            },
        )

    def _failed(self, file: MigrationFile, failure: _Failure) -> MigrationFailed:
        diag = failure.error.diag
        if failure.statement is None:
            place = f"{file.filename}: when it was to be committed"
        else:
            position = int(diag.statement_position) if diag.statement_position else None
            place = f"{file.filename}:{failing_line(file.sql, position, failure.statement)}"
        detail = f": {diag.message_detail}" if diag.message_detail else ""
        reason = _without_secret(f"{_reason(failure.error)}{detail}", self.database.dsn)
        return MigrationFailed(
            f"{place}: {reason} ({failure.error.sqlstate}); {self._remains()}",
            "mend the file and deploy again: the files that are applied are skipped",
        )

    def _remains(self) -> str:
        return f"nothing of it remains; {self._so_far()}"

    def _so_far(self) -> str:
        if not self.done:
            return "no file was applied before it"
        count = len(self.done)
        files = "1 file" if count == 1 else f"{count} files"
        return f"{files} before it stay{'s' if count == 1 else ''} applied (up to {self.done[-1]})"


class _BlockerWatch:
    """Looks, from a second connection, at whom a session waits for, while it waits."""

    def __init__(self, database: Database, pid: int) -> None:
        self.seen = "an unknown session"
        self._database = database
        self._pid = pid
        self._every = min(0.25, database.lock_timeout_ms / 3000)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> "_BlockerWatch":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join(timeout=1)

    def _look(self) -> None:
        if self._over.wait(self._every):
            return  # most files are done by now, and cost no second connection
        try:
            with self._database._open() as connection:
                while not self._over.is_set():
                    rows = connection.execute(_BLOCKERS, (self._pid,)).fetchall()
                    if rows:
                        self.seen = " and ".join(_session(row) for row in rows)
                    self._over.wait(self._every)
        except (psycopg.Error, DeployError):
            return  # the migration goes on; only the name of what blocks it stays unknown


def _send(connection: Connection, sql: str) -> _Failure | None:
    """Send a whole file by the simple protocol, which takes many statements and no parameters.

    ``Connection.execute`` does the same, but does not say how many statements had run.
    """
    connection.pgconn.send_query(sql.encode())
    results = connection.wait(generators.execute(connection.pgconn))
    for number, result in enumerate(results):
        if result.status == ExecStatus.FATAL_ERROR:
            return _Failure(errors.error_from_result(result, "utf-8"), number)
    return None


def _transaction(connection: Connection) -> object:
    """The transaction's id; None outside of one."""
    if connection.info.transaction_status != TransactionStatus.INTRANS:
        return None
    return _one(connection, "SELECT pg_current_xact_id()::text AS id")["id"]


def _is_lost(connection: Connection, error: psycopg.Error) -> bool:
    return connection.closed or connection.broken or isinstance(error, _GONE)


def _refuse_other_text(file: MigrationFile, row: AppliedMigration | None) -> None:
    if row is not None and row.checksum and row.checksum != file.checksum:
        raise MigrationRefused(
            f"{file.filename}: another text is applied under this number: sha256 "
            f"{row.checksum[:12]}… as {row.filename}, the file is {file.checksum[:12]}…",
            "plan again: another deployment was faster, or the file was edited",
        )


def _session(row: Mapping[str, Any]) -> str:
    """A session in words; what this role may not see is left out."""
    age = f" for {say_duration(row['age'])}" if row["age"] else ""
    name = f" '{row['application_name']}'" if row["application_name"] else ""
    return f"pid {row['pid']}{name}, {row['state'] or 'state not visible'}{age}"
