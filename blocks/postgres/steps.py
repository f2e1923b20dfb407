"""Files without a transaction: each statement by itself, counted in the record when it is done.

An interrupted file goes on at the first statement that is not counted: the database is asked
whether it is done (:mod:`release.migration.stepwise` says how), a broken index is dropped and built
again.
"""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import psycopg

from blocks.postgres.connection import Connection, ScriptFailed, is_lost, run_script
from blocks.postgres.progress import Progress
from blocks.postgres.session_watch import SessionWatch
from blocks.postgres.table import TABLE
from blocks.postgres.tries import TRY_AGAIN, Limits, Tries, milliseconds
from release.duration import say_duration
from release.errors import MigrationFailed, MigrationRefused
from release.migration.files import AppliedMigration, MigrationFile, running_checksums, was_killed
from release.migration.stepwise import Relation, Repeat, StatementStep, steps_of
from release.wording import count_of

# A concurrent index build blocks no traffic while it waits for old transactions, and if its wait is
# cut short all of its work is lost: so it may wait longer, and work as long as it takes.
_BUILD_LOCK_TIMEOUT = timedelta(seconds=60)

_INDEX = """
    SELECT c.oid::regclass::text AS name, i.indisvalid AS valid,
           i.indrelid = to_regclass(%(table)s) AS on_table,
           (SELECT min(pid) FROM pg_stat_progress_create_index p
             WHERE p.index_relid = c.oid AND p.pid <> pg_backend_pid()) AS builder
    FROM pg_class t JOIN pg_class c ON c.relnamespace = t.relnamespace AND c.relname = %(index)s
    JOIN pg_index i ON i.indexrelid = c.oid
    WHERE t.oid = to_regclass(%(table)s)"""
_REBUILD_LEFTOVERS = """
    SELECT indexrelid::regclass::text AS name FROM pg_index
    WHERE NOT indisvalid AND indexrelid::regclass::text ~ '_cc(new|old)[0-9]*"?$'
      AND (%(relation)s::text IS NULL OR to_regclass(%(relation)s) IN (indrelid,
           (SELECT d.oid FROM pg_class d WHERE d.oid = to_regclass(%(relation)s)
             AND d.relkind = 'i' AND pg_index.indrelid =
               (SELECT o.indrelid FROM pg_index o WHERE o.indexrelid = d.oid))))"""
_PARTITION = """
    SELECT inhdetachpending AS pending FROM pg_inherits
    WHERE inhrelid = to_regclass(%(partition)s) AND inhparent = to_regclass(%(parent)s)"""


class StepwiseFile:
    """One file without a transaction, on one connection."""

    def __init__(
        self,
        progress: Progress,
        limits: Limits,
        connection: Connection,
        file: MigrationFile,
        watch: SessionWatch,
    ) -> None:
        self.progress = progress
        self.limits = limits
        self.connection = connection
        self.file = file
        self.watch = watch
        self.tries = Tries(self.limits.budget)
        self.steps = tuple(steps_of(file.sql, file.filename, file.header.idempotent))
        self.checksums = tuple(running_checksums(step.sql for step in self.steps))
        self.done = 0
        self.lock_waits = 0
        self.attempts = 0

    def apply(self, row: AppliedMigration | None) -> None:
        """Run what is not done yet. ``row`` is the record of an earlier try, or None.

        Raises MigrationFailed, with the statements before the failing one done and counted.
        """
        self.connection.execute("RESET ALL")
        done = self.done = (row.statements_done or 0) if row else 0
        self._refuse_other_beginning(row)
        self._begin(row)
        if done:
            left = count_of(len(self.steps) - done, "statement")
            self.progress.say(f"{self.file.filename} goes on with its last {left}")
        for step in self.steps:
            if step.number < done:
                self._replay(step)
            else:
                self._run(step, killed=was_killed(row) and step.number == done)
                self._counted(step)
        self._end()

    def _refuse_other_beginning(self, row: AppliedMigration | None) -> None:
        """The plan has checked this; since then another runner may have begun another text."""
        if row and self.done and self.checksums[self.done : self.done + 1] != (row.done_checksum,):
            raise MigrationRefused(
                f"{self.file.filename}: another text of it was begun, and "
                f"{count_of(self.done, 'statement')} of that ran; {self.progress.so_far()}",
                "plan again: another deployment was faster, or the file was edited",
            )

    def _replay(self, step: StatementStep) -> None:
        """Repeat a setting of the session: a new session does not have it."""
        if step.repeat is Repeat.SETTING:
            run_script(self.connection, step.sql)

    def _run(self, step: StatementStep, killed: bool) -> None:
        tries = Tries(self.limits.budget)
        limit = self._lock_timeout(step)
        while True:
            try:
                if self._is_done(step, killed):
                    return
                self._set_limits(step, limit)
                building = f"{self.file.filename}:{step.line}" if step.builds else ""
                with self.watch.over(limit, building):
                    run_script(self.connection, step.sql)
                self._confirm(step)
                return
            except ScriptFailed as failed:
                error = failed.error
            if is_lost(self.connection, error):
                raise error
            self._retry(step, tries, error)

    def _retry(self, step: StatementStep, tries: Tries, error: psycopg.Error) -> None:
        """Wait for the next try, or record that there is none and raise MigrationFailed."""
        where = f"{self.file.filename}:{self._line(step, error)}"
        waits = tries.lock_waits
        try:
            if not isinstance(error, TRY_AGAIN):
                raise self._failed(where, self.progress.reason(error))
            self.progress.wait(where, tries, error, self.watch, self._stay(step.number))
        except MigrationFailed as failure:
            left = self._left_behind(step)
            self._write({"status": "failed", "error": failure.what})
            raise MigrationFailed(f"{failure.what}{left}", failure.hint) from None
        finally:
            self.lock_waits += tries.lock_waits - waits

    def _left_behind(self, step: StatementStep) -> str:
        """Clear what a failed build leaves. Returns what could not be cleared, "" for nothing."""
        try:
            self._drop_leftovers(step)
        except ScriptFailed as failed:
            if is_lost(self.connection, failed.error):
                raise failed.error from None
            return "; the index is left INVALID until then, and dropped by the next run"
        return ""

    def _is_done(self, step: StatementStep, killed: bool) -> bool:
        """Ask the database whether a statement is done already; clear what is half done.

        Only one whose runner was ``killed`` may be done without being counted. One that failed did
        not happen: if its name was taken then, what exists now is not its doing.
        """
        if step.repeat is Repeat.BUILD_INDEX:
            return self._index_is_there(step, killed)
        if step.repeat is Repeat.DROP_INDEX and step.relation:
            return killed and not self._exists(step.relation)
        if step.repeat is Repeat.REINDEX:
            self._drop_leftovers(step)
        if step.repeat is Repeat.DETACH:
            return self._partition_is_detached(step, killed)
        return False

    def _index_is_there(self, step: StatementStep, killed: bool) -> bool:
        """Whether the index of a statement exists and is valid. A broken one is dropped.

        ``CREATE INDEX CONCURRENTLY IF NOT EXISTS`` would call a broken one a success.
        """
        row = self._index(step)
        if row is None:
            return False
        if row["builder"]:
            raise self._failed(
                f"{self.file.filename}:{step.line}",
                f"index {row['name']} is being built by pid {row['builder']}",
            )
        if not row["valid"]:
            self._drop(step, row["name"], "was left INVALID by a build that was interrupted")
            return False
        if not row["on_table"]:
            raise self._failed(
                f"{self.file.filename}:{step.line}",
                f"another table has an index of the name {row['name']}",
            )
        return killed or step.if_not_exists

    def _confirm(self, step: StatementStep) -> None:
        """PostgreSQL reports success for an index that exists and is INVALID."""
        row = self._index(step) if step.repeat is Repeat.BUILD_INDEX else None
        if row is not None and not row["valid"]:
            raise self._failed(f"{self.file.filename}:{step.line}", f"{row['name']} is INVALID")

    def _drop_leftovers(self, step: StatementStep) -> None:
        """A broken index costs every write, and a unique one still refuses rows."""
        if step.repeat is Repeat.BUILD_INDEX:
            row = self._index(step)
            if row is not None and not row["valid"] and not row["builder"]:
                self._drop(step, row["name"], "was left INVALID")
        if step.repeat is Repeat.REINDEX:
            relation = step.relation.quoted if step.relation else None
            for row in self._rows(_REBUILD_LEFTOVERS, {"relation": relation}):
                self._drop(step, row["name"], "was left by a rebuild that was interrupted")

    def _drop(self, step: StatementStep, index: str, why: str) -> None:
        """Raises ScriptFailed while a transaction is open that may still use the index."""
        limit = self._lock_timeout(step)
        self._set_limits(step, limit)
        with self.watch.over(limit):
            run_script(self.connection, f"DROP INDEX CONCURRENTLY IF EXISTS {index}")
        self.progress.say(f"{self.file.filename}: index {index} {why}; it is dropped")

    def _partition_is_detached(self, step: StatementStep, killed: bool) -> bool:
        assert step.relation
        assert step.table
        names = {"partition": step.relation.quoted, "parent": step.table.quoted}
        rows = self._rows(_PARTITION, names)
        if rows and rows[0]["pending"]:
            parent, partition = names["parent"], names["partition"]
            run_script(
                self.connection, f"ALTER TABLE {parent} DETACH PARTITION {partition} FINALIZE"
            )
            return True
        return killed and not rows

    def _index(self, step: StatementStep) -> Mapping[str, Any] | None:
        assert step.relation
        assert step.table
        rows = self._rows(_INDEX, {"table": step.table.quoted, "index": step.relation.name})
        return rows[0] if rows else None

    def _exists(self, relation: Relation) -> bool:
        rows = self._rows("SELECT to_regclass(%(name)s) AS found", {"name": relation.quoted})
        return rows[0]["found"] is not None

    def _rows(self, query: str, values: Mapping[str, Any]) -> list[Mapping[str, Any]]:
        return list(self.connection.execute(query.encode(), values).fetchall())

    def _lock_timeout(self, step: StatementStep) -> timedelta:
        given = self.file.header.lock_timeout
        return given or (
            _BUILD_LOCK_TIMEOUT if _waits_beside_traffic(step) else self.limits.lock_timeout
        )

    def _set_limits(self, step: StatementStep, lock_timeout: timedelta) -> None:
        longest = milliseconds(self.limits.statement_timeout)
        if step.builds and not self.file.header.statement_timeout:
            longest = 0
        run_script(
            self.connection,
            f"SET lock_timeout = {milliseconds(lock_timeout)}; SET statement_timeout = {longest}",
        )

    def _begin(self, row: AppliedMigration | None) -> None:
        """Record that the file has begun, before any of it runs."""
        self.attempts = (row.attempts if row else 0) + 1
        self.lock_waits = row.lock_waits if row else 0
        if row is None:
            self.connection.execute(
                f"INSERT INTO {TABLE} (version, name, status, started_at, statements_done)"
                " VALUES (%s, %s, 'running', clock_timestamp(), 0)".encode(),
                (self.file.version, self.file.name),
            )
        self._write(
            {
                "status": "running",
                "phase": self.file.phase.value,
                "checksum": self.file.checksum,
                "statements_total": len(self.steps),
                "done_checksum": self.checksums[self.done],
                "error": None,
                "min_app": self.progress.min_app(self.file),
                **self.progress.stamp.columns(),
            }
        )

    def _counted(self, step: StatementStep) -> None:
        done = self.done = step.number + 1
        self._write({"statements_done": done, "done_checksum": self.checksums[done]})
        if len(self.steps) > 1:
            self.progress.say(
                f"{self.file.filename}: statement {done} of {len(self.steps)} is done"
            )

    def _end(self) -> None:
        self._write({"status": "applied"}, "applied_at = clock_timestamp(),")
        took = say_duration(self.tries.took)
        self.progress.count(self.file, f"applied in {took}, try {self.attempts}")

    def _write(self, values: Mapping[str, Any], also: str = "") -> None:
        values = {**values, "attempts": self.attempts, "lock_waits": self.lock_waits}
        assignments = ", ".join(f"{name} = %({name})s" for name in values)
        self.connection.execute(
            f"UPDATE {TABLE} SET {also} {assignments}, applied_by = session_user, duration_ms ="
            " (extract(epoch FROM clock_timestamp() - started_at) * 1000)::bigint"
            " WHERE version = %(version)s".encode(),
            {**values, "version": self.file.version},
        )

    def _failed(self, where: str, reason: str) -> MigrationFailed:
        return MigrationFailed(
            f"{where}: {reason}; {self._stay(self.done)}",
            "fix that statement and deploy again: the file goes on there",
        )

    def _stay(self, done: int) -> str:
        return f"{done} of {count_of(len(self.steps), 'statement')} done; {self.progress.so_far()}"

    def _line(self, step: StatementStep, error: psycopg.Error) -> int:
        at = error.diag.statement_position
        return step.line + (step.sql.count("\n", 0, int(at) - 1) if at else 0)


def _waits_beside_traffic(step: StatementStep) -> bool:
    return step.repeat in (Repeat.BUILD_INDEX, Repeat.DROP_INDEX, Repeat.REINDEX, Repeat.DETACH)
