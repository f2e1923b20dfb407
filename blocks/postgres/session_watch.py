"""What a session waits for and how far it is, seen from a second connection while it works."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import psycopg

from blocks.postgres.connection import Connection
from release.duration import say_duration
from release.errors import DeployError

Say = Callable[[str], None]

_EVERY = 0.25  # seconds between two looks
_PROGRESS_EVERY = 2.0  # seconds between two lines about the same index
_UNKNOWN = "an unknown session"

_BLOCKERS = """
    SELECT pid, application_name, state, clock_timestamp() - xact_start AS age
    FROM pg_stat_activity WHERE pid = ANY (pg_blocking_pids(%s))"""
_PROGRESS = """
    SELECT phase, blocks_done, blocks_total, tuples_done, tuples_total,
           a.pid, a.application_name, a.state, clock_timestamp() - a.xact_start AS age
    FROM pg_stat_progress_create_index p LEFT JOIN pg_stat_activity a ON a.pid = current_locker_pid
    WHERE p.pid = %s"""


@dataclass
class _Work:
    """One try, and what was seen of it; times are in seconds of the monotonic clock."""

    since: float
    after: float  # seconds until it is looked at, and between two looks
    building: str  # the name of an index, or nothing
    blockers: str = _UNKNOWN
    said_at: float = 0.0
    said: str = ""

    @property
    def is_due(self) -> bool:
        """Whether it takes long enough to be looked at."""
        return time.monotonic() - self.since >= self.after


class SessionWatch:
    """Looks at one session, ``pid``, as long as it works on something; costs nothing before that.

    It only helps those who read the log: if it cannot look, the work goes on without it.
    """

    def __init__(self, open_connection: Callable[[], Connection], pid: int, say: Say) -> None:
        self.blockers = _UNKNOWN
        self._open = open_connection
        self._pid = pid
        self._say = say
        self._work: _Work | None = None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look_on, daemon=True)

    def __enter__(self) -> "SessionWatch":
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        if self._thread.ident is not None:
            self._thread.join(timeout=1)

    @contextmanager
    def over(self, lock_timeout: timedelta, building: str = "") -> Iterator[None]:
        """Look while the block runs; ``building`` names an index whose progress is logged."""
        if self._thread.ident is None:
            self._thread.start()
        after = min(_EVERY, lock_timeout.total_seconds() / 3)
        work = self._work = _Work(time.monotonic(), after, building)
        try:
            yield
        finally:
            self._work = None
            self.blockers = work.blockers

    def _look_on(self) -> None:
        """Most work is done before it is due, and costs no second connection.

        A connection that was needed is kept: on a busy machine the next try's lock timeout is
        over before another one is open, and the log would not say who is in the way.
        """
        try:
            while self._due() is None:
                if self._over.wait(self._pause()):
                    return
            with self._open() as connection:
                while not self._over.is_set():
                    if work := self._due():
                        self._look(connection, work)
                    self._over.wait(self._pause())
        except (psycopg.Error, DeployError):
            return

    def _pause(self) -> float:
        work = self._work
        return work.after if work else _EVERY / 5

    def _due(self) -> _Work | None:
        work = self._work
        return work if work and work.is_due else None

    def _look(self, connection: Connection, work: _Work) -> None:
        rows = connection.execute(_BLOCKERS, (self._pid,)).fetchall()
        if rows:
            work.blockers = " and ".join(say_session(row) for row in rows)
        if work.building and time.monotonic() - work.said_at >= _PROGRESS_EVERY:
            row = connection.execute(_PROGRESS, (self._pid,)).fetchone()
            line = f"{work.building}: {_progress(row)}" if row else work.said
            if line != work.said:
                self._say(line)
                work.said_at, work.said = time.monotonic(), line


def say_session(row: Mapping[str, Any]) -> str:
    """A session in words; what this role may not see is left out."""
    age = f" for {say_duration(row['age'])}" if row["age"] else ""
    name = f" '{row['application_name']}'" if row["application_name"] else ""
    return f"pid {row['pid']}{name}, {row['state'] or 'state not visible'}{age}"


def _progress(row: Mapping[str, Any]) -> str:
    """How far an index is (PostgreSQL's documentation, "CREATE INDEX Progress Reporting")."""
    for unit in ("tuples", "blocks"):
        total = row[f"{unit}_total"]
        if total:
            return f"{row['phase']}, {row[f'{unit}_done'] / total:.0%} of {total} {unit}"
    waits = f", for {say_session(row)}" if row["pid"] else ""
    return f"{row['phase']}{waits}"
