"""PostgreSQL: the environment's own database, and the schema that its migrations bring forward.

PostgreSQL 14 or newer.
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from blocks.part import Part
from blocks.postgres.connection import (
    Connection,
    connected,
    one_row,
    open_connection,
    refuse_pooler,
    where,
)
from blocks.postgres.progress import Progress
from blocks.postgres.runner import Runner
from blocks.postgres.session_watch import Say
from blocks.postgres.table import TABLE, latest, records
from blocks.postgres.tries import Limits
from release.configuration.places import DatabaseSettings
from release.errors import BadConfiguration, MigrationRefused
from release.migration.files import (
    AppliedMigration,
    MigrationFile,
    Stamp,
    plan_migrations,
    read_migrations,
    schema_version,
)

APPLICATION_NAME = "ignition-migrate"  # of the runner, in pg_stat_activity
_PIECE = 1024 * 1024  # bytes of a file that are read at once


class Database(DatabaseSettings, Part):
    """An environment's database, reached directly: no transaction pooler in between."""

    _block_type_name = "Ignition Database"

    dsn: SecretStr
    """PostgreSQL connection string of a direct connection."""

    def check(self) -> None:
        """Connect, and check that migrations could be applied.

        Raises Unreachable, or BadConfiguration for a wrong password, a pooler, a read-only server
        or a missing grant. Names host, port and database, never the password.
        """
        with self.session() as connection:
            refuse_pooler(connection, self._where())
            row = one_row(
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
        """The rows of ``schema_migrations``, oldest first; empty if there is no such table."""
        with self.session() as connection:
            return records(connection)

    def server_version(self) -> int:
        """The server's version as libpq gives it: 150018 for 15.18."""
        with self.session() as connection:
            return connection.info.server_version

    def latest(self, limit: int = 5) -> list[dict[str, Any]]:
        """The runbook's own check: ``SELECT * FROM schema_migrations ORDER BY version DESC``."""
        with self.session() as connection:
            return latest(connection, limit)

    def schema_version(self) -> str:
        """The newest row of ``schema_migrations`` that is done; "" for none."""
        return schema_version(self.applied())

    def apply(
        self,
        files: Sequence[MigrationFile],
        stamp: Stamp = Stamp(),
        on_event: Say = lambda line: None,
    ) -> tuple[AppliedMigration, ...]:
        """Apply ``files`` in the order given, and return the records of those that were pending.

        A file that is recorded already is skipped, and one that was begun without a transaction
        goes on where it stopped, so this is safe to repeat. Locks that are not granted within
        ``lock_timeout_ms`` are tried for again, for ``lock_budget_s`` a file, unless its header
        says otherwise. A lost connection is made again, and the record decides what was done.
        ``stamp`` is recorded with each file. ``on_event`` gets a line for each fact.

        Raises MigrationRefused (nothing applied), MigrationFailed (nothing of the failing file
        remains, unless it runs without a transaction: the message says what does), Unreachable or
        BadConfiguration.
        """
        if not files:
            return ()
        return Runner(Progress(self.dsn, stamp, on_event), self._open, self._limits()).apply(files)

    def _limits(self) -> Limits:
        return Limits(
            timedelta(milliseconds=self.lock_timeout_ms),
            timedelta(seconds=self.lock_budget_s),
            timedelta(seconds=self.statement_timeout_s),
        )

    def _where(self) -> str:
        return where(self.dsn)

    def session(self) -> AbstractContextManager[Connection]:
        """A connection for a few statements; whatever goes wrong with them is a DeployError."""
        return connected(self._open)

    def _open(self) -> Connection:
        return open_connection(
            self.dsn,
            APPLICATION_NAME,
            timedelta(milliseconds=self.lock_timeout_ms),
            timedelta(seconds=self.statement_timeout_s),
        )


def read_folder(folder: Path) -> tuple[MigrationFile, ...]:
    """Read the migration files of a folder. Raises MigrationRefused."""
    if not folder.is_dir():
        raise MigrationRefused(f"there is no migrations folder {folder}")
    return read_migrations({path.name: _content(path) for path in folder.glob("*.[sS][qQ][lL]")})


def _content(path: Path) -> Iterator[bytes]:
    """A file, opened when it is read, and never held as a whole."""
    with path.open("rb") as file:
        yield from iter(partial(file.read, _PIECE), b"")


def apply_folder(
    dsn: SecretStr | str, folder: Path, on_event: Say = lambda line: None
) -> tuple[AppliedMigration, ...]:
    """Bring a database forward to a folder of files, contract files too, in order of number."""
    secret = dsn if isinstance(dsn, SecretStr) else SecretStr(dsn)
    database = Database(dsn=secret)
    plan = plan_migrations(read_folder(folder), database.applied())
    return database.apply(plan.pending, on_event=on_event)
