"""What one run over a database's migrations has done so far, and how it reports it."""

import time
from dataclasses import dataclass, field
from functools import cached_property

import psycopg
from pydantic import SecretStr

from blocks.postgres.connection import reason_of, where, without_secret
from blocks.postgres.session_watch import Say, SessionWatch
from blocks.postgres.tries import Tries
from release.duration import say_duration
from release.errors import MigrationFailed
from release.migration.files import MigrationFile, Stamp
from release.migration.header import Phase
from release.wording import count_of


@dataclass
class Progress:
    """The files that one run has applied, the stamp of their records, and where it reports."""

    dsn: SecretStr
    stamp: Stamp
    say: Say
    done: list[str] = field(default_factory=list)  # file names, in their order

    @cached_property
    def place(self) -> str:
        """The database, without its password."""
        return where(self.dsn)

    def without_secret(self, text: str) -> str:
        """A server's words without the password, in case they quote the connection string."""
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

    def wait(
        self, what: str, tries: Tries, error: psycopg.Error, watch: SessionWatch, remains: str
    ) -> None:
        """Say what is in the way and pause before the next try.

        Raises MigrationFailed if the time for it is over: there is never a try without a limit.
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

    def min_app(self, file: MigrationFile) -> str | None:
        """The oldest release that runs on what a contract file leaves. None for an expand file."""
        given = file.header.min_app or self.stamp.min_app
        return given if file.phase is Phase.CONTRACT else None

    def reason(self, error: psycopg.Error) -> str:
        """What the server said, with its detail and its code."""
        detail = f": {error.diag.message_detail}" if error.diag.message_detail else ""
        return f"{self.without_secret(f'{reason_of(error)}{detail}')} ({error.sqlstate})"
