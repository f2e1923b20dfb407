"""A database that lives as long as one rehearsal: the schema of another one, without its rows.

It is dropped at the end, whatever happened. What a killed run leaves behind is recognised by its
name, and dropped by a later run.
"""

import os
import re
import secrets
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from urllib.parse import quote, urlsplit

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.pq import Conninfo
from pydantic import SecretStr

from blocks.postgres.connection import (
    CONNECT_TIMEOUT,
    Connection,
    connected,
    open_connection,
    where,
)
from blocks.postgres.session_watch import Say
from blocks.program import run
from release.errors import BadConfiguration, DeployError, Unreachable
from release.migration.sql.text import split_statements

APPLICATION = "ignition-rehearsal"

_NAME = re.compile(r"ignition_rehearsal_([0-9]+)_[0-9a-f]{8}")
_DUMP = (
    *("pg_dump", "--schema-only", "--no-owner", "--no-privileges", "--no-tablespaces"),
    *("--no-comments", "--no-security-labels", "--no-publications", "--no-subscriptions"),
    *("--no-password", "--encoding=UTF8", "--lock-wait-timeout=2000"),  # milliseconds
)
# Objects that lead out of the copy, or act by themselves, are never copied.
_LEFT_OUT = {("CREATE", "USER", "MAPPING"), ("CREATE", "EVENT", "TRIGGER")}
_META = re.compile(r"^\\(un)?restrict .*$", re.MULTILINE)  # psql's own, in newer dumps
_AT_ONCE = 200  # statements of a dump that are sent together
_LOCK_TIMEOUT = timedelta(seconds=10)  # only the old release's own sessions can hold one
_DROP_WITHIN = timedelta(seconds=60)

_SERVER = """
    SELECT pg_encoding_to_char(d.encoding) AS charset, d.datcollate, d.datctype,
           current_user AS role, current_setting('is_superuser')::boolean AS superuser,
           current_setting('search_path') AS search_path,
           current_setting('server_version_num')::int / 10000 AS major,
           ARRAY(SELECT extname::text FROM pg_extension) AS extensions,
           ARRAY(SELECT rolname::text FROM pg_roles) AS roles
    FROM pg_database d WHERE d.datname = current_database()"""
_INSTALLABLE = """
    SELECT DISTINCT v.name::text FROM pg_available_extension_versions v
    WHERE v.trusted OR NOT v.superuser
       OR (SELECT rolsuper FROM pg_roles WHERE rolname = current_user)"""
_LEFTOVERS = """
    SELECT d.datname AS name, extract(epoch FROM now()) AS now FROM pg_database d
    WHERE starts_with(d.datname, 'ignition_rehearsal_') AND NOT EXISTS (
        SELECT FROM pg_stat_activity a WHERE a.datname = d.datname AND a.application_name = %s)"""


@dataclass(frozen=True)
class Origin:
    """What a copy must have in common with the database that it is a copy of."""

    dsn: SecretStr
    major: int  # of the server's version
    charset: str
    collate: str
    ctype: str
    search_path: str  # of the role's sessions, with "$user" filled in
    extensions: frozenset[str]
    roles: frozenset[str]
    superuser: bool

    @classmethod
    def read(cls, connection: Connection, dsn: SecretStr) -> "Origin":
        """Ask a database for it."""
        row = connection.execute(_SERVER).fetchone()
        assert row is not None, "every session is in a database"
        role = '"' + row["role"].replace('"', '""') + '"'
        return cls(
            dsn,
            row["major"],
            row["charset"],
            row["datcollate"],
            row["datctype"],
            row["search_path"].replace('"$user"', role),
            frozenset(row["extensions"]),
            frozenset(row["roles"]),
            row["superuser"],
        )


@dataclass(frozen=True)
class Scratch:
    """The copy, and what it could not take over."""

    dsn: SecretStr
    name: str
    missing_roles: frozenset[str]  # of the origin, which its grants and migrations may name


@contextmanager
def scratch_copy(
    server: SecretStr, origin: Origin, limit: timedelta, deadline: float, say: Say
) -> Iterator[Scratch]:
    """Make a copy of the origin's schema on a server, and drop it at the end.

    ``server`` leads to a database of the server, with a role that may create others; leftovers
    older than twice ``limit`` are dropped first. Raises DeployError with one sentence, which says
    what to install if pg_dump is missing or too old.
    """
    _require_dump(origin)
    with connected(lambda: open_scratch(server, _DROP_WITHIN)) as connection:
        _drop_leftovers(connection, limit, say)
        there = Origin.read(connection, server)
        if there.major < origin.major:
            raise BadConfiguration(
                f"the scratch server is PostgreSQL {there.major}, the target is {origin.major}",
                f"rehearse on a server of PostgreSQL {origin.major}",
            )
        row = connection.execute("SELECT extract(epoch FROM now())::bigint AS now").fetchone()
        installable = {row["name"] for row in connection.execute(_INSTALLABLE)}
    name = f"ignition_rehearsal_{row['now'] if row else 0}_{secrets.token_hex(4)}"
    dsn = _session(server, name, origin.search_path, there.superuser)
    try:
        with connected(lambda: open_scratch(server, _DROP_WITHIN)) as connection:
            _create(connection, name, origin)
        dump = _dump(origin, deadline)
        with open_scratch(dsn, _DROP_WITHIN) as connection, cancelled_at(connection, deadline):
            _load(connection, dump, origin.extensions - installable, origin)
        yield Scratch(dsn, name, origin.roles - there.roles)
    finally:
        _drop(server, name, say)


def open_scratch(dsn: SecretStr, statement_timeout: timedelta) -> Connection:
    """Connect to the scratch server as the rehearsal does."""
    return open_connection(dsn, APPLICATION, _LOCK_TIMEOUT, statement_timeout)


@contextmanager
def cancelled_at(connection: Connection, deadline: float) -> Iterator[None]:
    """Cancel the statement that runs at the deadline, whatever it set for itself.

    ``deadline`` is in seconds of the monotonic clock.
    """
    timer = threading.Timer(max(0.0, deadline - time.monotonic()), connection.cancel_safe)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def in_database(dsn: SecretStr, name: str) -> SecretStr:
    """The same server, another database; a URL stays a URL, because programs may read no other."""
    text = dsn.get_secret_value()
    if "://" not in text:
        return SecretStr(make_conninfo(text, dbname=name))
    return SecretStr(urlsplit(text)._replace(path=f"/{quote(name)}").geturl())


def server_words(error: psycopg.Error) -> str:
    """The server's own words, with the SQLSTATE; never the statement, which may hold values."""
    message = error.diag.message_primary or type(error).__name__
    return f"{message} ({error.sqlstate})" if error.sqlstate else message


def _require_dump(origin: Origin) -> None:
    install = f"install postgresql-client-{origin.major} where the worker runs"
    try:
        said = run(["pg_dump", "--version"], timedelta(seconds=30)).stdout.decode()
    except (OSError, subprocess.TimeoutExpired):
        raise BadConfiguration("pg_dump cannot be run, which copies the schema", install) from None
    found = re.search(r"\(PostgreSQL\) ([0-9]+)", said)
    if found is None or int(found[1]) < origin.major:
        raise BadConfiguration(
            f"pg_dump {found[1] if found else 'of unknown version'} cannot read PostgreSQL "
            f"{origin.major}",
            install,
        )


def _dump(origin: Origin, deadline: float) -> str:
    """The origin's schema as SQL. The connection is described by the environment alone."""
    within = timedelta(seconds=max(1.0, deadline - time.monotonic()))
    place = where(origin.dsn)
    try:
        done = run(_DUMP, within, env=_environment(origin.dsn))
    except subprocess.TimeoutExpired:
        limit = f"{within.total_seconds():.0f} s"
        raise Unreachable(f"pg_dump of {place} took longer than {limit}") from None
    if done.returncode:
        lines = done.stderr.decode(errors="replace").strip().splitlines()
        raise BadConfiguration(f"pg_dump cannot read {place}: {lines[0] if lines else 'no reason'}")
    return done.stdout.decode()


def _environment(dsn: SecretStr) -> dict[str, str]:
    """The connection as libpq's own variables: the command line shows nothing of it."""
    kept = {n: v for n, v in os.environ.items() if n in ("PATH", "HOME") or n.startswith("PG")}
    given = {
        option.envvar.decode(): option.val.decode()
        for option in Conninfo.parse(dsn.get_secret_value().encode())
        if option.envvar and option.val is not None
    }
    limits = {
        "PGCONNECT_TIMEOUT": str(round(CONNECT_TIMEOUT.total_seconds())),
        "PGAPPNAME": APPLICATION,
        "LC_ALL": "C.UTF-8",
    }
    return {**kept, **given, **limits}


def _session(server: SecretStr, name: str, search_path: str, unseen: bool) -> SecretStr:
    """The connection string of a database on the server, with the origin's search_path.

    ``unseen``: what is sent there is not recorded. A copy of 300 tables is 1,500 statements, and
    on the target's own server they would push its own out of pg_stat_statements.
    """
    given = conninfo_to_dict(server.get_secret_value()).get("options") or ""
    escaped = search_path.replace("\\", "\\\\").replace(" ", "\\ ")
    options = f"{given} -c search_path={escaped} -c synchronous_commit=off".strip()
    if unseen:
        options += " -c pg_stat_statements.track=none"
    return SecretStr(make_conninfo(server.get_secret_value(), dbname=name, options=options))


def _create(connection: Connection, name: str, origin: Origin) -> None:
    """Create it with the origin's locale, or with C if this server does not have that one."""
    statement = sql.SQL(
        "CREATE DATABASE {} TEMPLATE template0 ENCODING {} LC_COLLATE {} LC_CTYPE {}"
    )
    locale = (origin.collate, origin.ctype)
    try:
        connection.execute(statement.format(sql.Identifier(name), origin.charset, *locale))
    except (psycopg.errors.WrongObjectType, psycopg.errors.InvalidParameterValue):
        connection.execute(statement.format(sql.Identifier(name), origin.charset, "C", "C"))


def _load(connection: Connection, dump: str, missing: frozenset[str], origin: Origin) -> None:
    """Send a dump, except for extensions that this server cannot install."""
    text = _META.sub("", dump)
    parts = split_statements(text, "pg_dump")
    ends = [*(part.start for part in parts[1:]), len(text)]
    left_out = {form for name in missing for form in (name.upper(), f'"{name}"')}
    kept = [
        text[part.start : end]
        for part, end in zip(parts, ends, strict=True)
        if part.words[:3] not in _LEFT_OUT
        and not (part.words[:2] == ("CREATE", "EXTENSION") and left_out & set(part.words))
    ]
    try:
        for number in range(0, len(kept), _AT_ONCE):
            connection.execute("".join(kept[number : number + _AT_ONCE]).encode())
    except psycopg.Error as error:
        without = f" (without the extension {', '.join(sorted(missing))})" if missing else ""
        raise BadConfiguration(
            f"the schema of {where(origin.dsn)} cannot be copied to the scratch server{without}: "
            f"{server_words(error)}"
        ) from None


def _drop_leftovers(connection: Connection, limit: timedelta, say: Say) -> None:
    for row in connection.execute(_LEFTOVERS, (APPLICATION,)).fetchall():
        begun = _NAME.fullmatch(row["name"])
        if begun and float(row["now"]) - int(begun[1]) > 2 * limit.total_seconds():
            drop = sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)")
            connection.execute(drop.format(sql.Identifier(row["name"])))
            say(f"dropped {row['name']}, which an earlier rehearsal left behind")


def _drop(server: SecretStr, name: str, say: Say) -> None:
    try:
        with connected(lambda: open_scratch(server, _DROP_WITHIN)) as connection:
            drop = sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)")
            connection.execute(drop.format(sql.Identifier(name)))
    except DeployError as error:  # a later rehearsal drops it; this one has its result
        say(f"{name} stays behind: {error.what}")
