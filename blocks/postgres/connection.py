"""Connections to PostgreSQL: the limits of a session, and errors that name no password."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any
from urllib.parse import quote

import psycopg
from psycopg import errors, generators
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.pq import Escaping, ExecStatus
from psycopg.pq.abc import PGresult
from psycopg.rows import DictRow, dict_row
from pydantic import SecretStr

from release.errors import BadConfiguration, DeployError, Unreachable

CONNECT_TIMEOUT = timedelta(seconds=5)
# No program is silent for so long in a transaction, unless it hangs; users wait for its locks.
_IDLE_TIMEOUT = timedelta(seconds=10)

_CONFIGURATION_FAULTS = (  # libpq gives no code for a refused connection, only the server's words
    "password authentication failed",
    "no password supplied",
    "no pg_hba.conf entry",
    "does not exist",
    "is not permitted to log in",
    "permission denied",
    "unrecognized configuration parameter",
    "invalid connection option",
)
_GONE = (errors.AdminShutdown, errors.CrashShutdown, errors.CannotConnectNow)

Connection = psycopg.Connection[DictRow]


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
        "idle_in_transaction_session_timeout": round(_IDLE_TIMEOUT.total_seconds() * 1000),
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
        raise Unreachable(
            f"{place_of(connection)}: {reason_of(error)}", "ignition doctor"
        ) from None
    except psycopg.Error as error:
        raise BadConfiguration(f"{place_of(connection)}: {reason_of(error)}") from None
    finally:
        connection.close()


def where(dsn: SecretStr) -> str:
    """Where a connection string leads: database, host and port, and nothing else of it."""
    parameters = _parameters(dsn.get_secret_value())
    name = parameters.get("dbname") or parameters.get("user") or "default"
    host, port = parameters.get("host") or "localhost", parameters.get("port") or 5432
    return f'database "{name}" at {host}:{port}'


def place_of(connection: Connection) -> str:
    """Where a connection leads: database, host and port, as the server's side knows them."""
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


def without_secret(text: str, dsn: SecretStr) -> str:
    """``text`` with the password of a connection string replaced, also where it is quoted."""
    try:
        password = str(conninfo_to_dict(dsn.get_secret_value()).get("password") or "")
    except psycopg.Error:  # what cannot be read was never connected with
        return text
    for form in {password, quote(password, safe=""), quote(password)} - {""}:
        text = text.replace(form, "***")
    return text


def _refused(dsn: SecretStr, error: psycopg.OperationalError) -> DeployError:
    reason = without_secret(reason_of(error), dsn)
    if "unsupported startup parameter" in reason:  # PgBouncer's words; no server has them
        return _behind_a_pooler(where(dsn))
    if "read-only" in reason:
        hint = "give the address of the primary: this is a standby, or it takes no writes"
        return BadConfiguration(f"{where(dsn)}: {reason}", hint)
    fault = any(words in reason for words in _CONFIGURATION_FAULTS)
    kind = BadConfiguration if fault else Unreachable
    return kind(f"{where(dsn)}: {reason}", "ignition doctor")


def _behind_a_pooler(place: str) -> BadConfiguration:
    return BadConfiguration(
        f"{place} is reached through a connection pooler, where no lock holds",
        "give a connection string that leads to PostgreSQL itself",
    )


def reason_of(error: psycopg.Error) -> str:
    """The server's own words, in one line."""
    if error.diag.message_primary:
        return error.diag.message_primary
    text = " ".join(str(error).split())
    for lead in ("FATAL: ", "failed: "):
        text = text.rpartition(lead)[2].strip()
    return text


def refuse_pooler(connection: Connection, place: str) -> None:
    """Behind a transaction pooler two runners would both hold the lock (measured)."""
    answering = one_row(connection, "SELECT pg_backend_pid() AS pid")["pid"]
    if answering != connection.info.backend_pid:
        raise _behind_a_pooler(place)


def one_row(connection: Connection, query: str) -> DictRow:
    """The row of a query that always gives one."""
    row = connection.execute(query.encode()).fetchone()
    assert row is not None, "a SELECT without FROM gives one row"
    return row


def run_script(connection: Connection, sql: str) -> list[PGresult]:
    """Send SQL text of many statements by the simple protocol, which takes no parameters.

    ``Connection.execute`` does the same, but does not say how many statements had run. Raises
    ScriptFailed, or psycopg.OperationalError when the connection breaks.
    """
    connection.pgconn.send_query(sql.encode())
    results: list[PGresult] = connection.wait(generators.execute(connection.pgconn))
    for number, result in enumerate(results):
        if result.status == ExecStatus.FATAL_ERROR:
            raise ScriptFailed(errors.error_from_result(result, "utf-8"), number)
    return results


def literal(connection: Connection, value: str | int | None) -> str:
    """A value as SQL text, for the simple protocol; quoted by libpq, for this connection."""
    if value is None:
        return "NULL"
    if isinstance(value, int):
        return str(value)
    return Escaping(connection.pgconn).escape_literal(value.encode()).decode()


class ScriptFailed(Exception):
    """A statement failed: the server's error, and how many ran before it in the same text."""

    def __init__(self, error: psycopg.Error, statement: int) -> None:
        super().__init__(error, statement)
        self.error = error
        self.statement = statement


def is_lost(connection: Connection, error: psycopg.Error) -> bool:
    """Whether that error ended the connection, so that it is unknown what was done."""
    return connection.closed or connection.broken or isinstance(error, _GONE)
