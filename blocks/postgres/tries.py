"""How long a migration may wait and work, and how often it is tried."""

import random
import time
from dataclasses import dataclass
from datetime import timedelta

import psycopg
from psycopg import errors

from release.migration.files import MigrationFile

TRY_AGAIN = (errors.LockNotAvailable, errors.DeadlockDetected, errors.SerializationFailure)
"""Errors that go away by themselves. All others are the file's fault, and never tried again."""


@dataclass(frozen=True)
class Limits:
    """How long a migration may wait and work."""

    lock_timeout: timedelta  # the longest that traffic may stall
    budget: timedelta  # how long to go on trying for locks, or for another runner
    statement_timeout: timedelta

    def of(self, file: MigrationFile) -> "Limits":
        """These, or what the file's header says instead."""
        header = file.header
        return Limits(
            header.lock_timeout or self.lock_timeout,
            header.lock_budget or self.budget,
            header.statement_timeout or self.statement_timeout,
        )


@dataclass
class Tries:
    """Tries at the same thing, until it works or the time for it is over."""

    budget: timedelta
    number: int = 1
    lock_waits: int = 0

    def __post_init__(self) -> None:
        self.began = time.monotonic()

    @property
    def took(self) -> timedelta:
        """The time since the first try began."""
        return timedelta(seconds=time.monotonic() - self.began)

    def pause(self, error: psycopg.Error) -> float | None:
        """Seconds until the next try, with jitter. Returns None if there is no time for one."""
        self.lock_waits += isinstance(error, errors.LockNotAvailable)
        seconds: float = random.uniform(0.5, 1) * min(10.0, 0.5 * 2 ** min(self.number - 1, 10))
        if (self.took + timedelta(seconds=seconds)) > self.budget:
            return None
        self.number += 1
        return seconds


def milliseconds(length: timedelta) -> int:
    """A limit as PostgreSQL takes it; never 0, which would be no limit."""
    return max(round(length.total_seconds() * 1000), 1)
