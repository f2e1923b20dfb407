"""Migration files as values: what a file says, whether it can run, and what is still to run.

A file is ``NNNN_snake_name.sql`` and runs as one transaction together with its own record in
``schema_migrations``; or, if its header says ``no-transaction``, statement by statement, each
counted when it is done. What PostgreSQL cannot run, or would run differently from what its author
sees, is refused here, before anything is changed, with the file, the line and what to do.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from itertools import islice, pairwise

from release.errors import MigrationRefused
from release.migration.down_section import refuse_down_section
from release.migration.header import Header, Phase, read_header
from release.migration.sql.text import Statement, statements
from release.migration.stepwise import steps_of
from release.migration.text import checksum_of, decode
from release.wording import count_of

TIMESTAMP_WIDTH = 14  # digits: Rails and dbmate number by the time of writing, which leaves gaps

_FILENAME = re.compile(r"(\d{4,})_([a-z0-9_]+)\.sql")

_BEGINS = {"BEGIN", "START", "SAVEPOINT"}
_ENDS = {"COMMIT", "END", "ROLLBACK", "ABORT", "RELEASE"}


class Status(StrEnum):
    """What a record says of its file."""

    APPLIED = "applied"
    ADOPTED = "adopted"  # another tool had applied it before this one came
    RUNNING = "running"  # of a file without a transaction: it was begun
    FAILED = "failed"  # of a file without a transaction: a statement failed, those before it stay


DONE = frozenset({Status.APPLIED, Status.ADOPTED})


@dataclass(frozen=True, slots=True)
class MigrationFile:
    """A migration as it stands in the repository."""

    version: str
    name: str
    sql: str  # with LF line ends, whatever the checkout made of them
    checksum: str  # sha256 of the text with LF line ends and without trailing blanks
    header: Header = field(default_factory=Header)

    @property
    def filename(self) -> str:
        return f"{self.version}_{self.name}.sql"

    @property
    def phase(self) -> Phase:
        return self.header.phase

    @property
    def in_transaction(self) -> bool:
        """Whether the whole file and its record are one transaction."""
        return self.header.in_transaction

    @property
    def allows(self) -> frozenset[str]:
        """The lint rules that its author has set aside."""
        return self.header.allows


@dataclass(frozen=True, slots=True)
class Stamp:
    """Whose work a file is, as its record in ``schema_migrations`` says; "" if nobody's."""

    deploy_id: str = ""  # the run's id
    git_sha: str = ""
    app_version: str = ""
    min_app: str = ""  # for contract files: the oldest release that runs on what they leave

    def columns(self) -> dict[str, str]:
        """What every record says of it; ``min_app`` depends on the file."""
        return {
            "deploy_id": self.deploy_id,
            "git_sha": self.git_sha,
            "app_version": self.app_version,
        }


@dataclass(frozen=True, slots=True)
class AppliedMigration:
    """A row of ``schema_migrations``. A table that another tool began leaves fields empty."""

    version: str
    name: str = ""
    status: str = Status.APPLIED.value
    applied_at: datetime | None = None
    duration_ms: int | None = None
    phase: str = Phase.EXPAND.value
    checksum: str = ""  # "": recorded by another tool, not verified
    applied_by: str = ""
    deploy_id: str = ""
    git_sha: str = ""
    app_version: str = ""
    attempts: int = 1
    lock_waits: int = 0  # tries that ended because a lock was not granted in time
    started_at: datetime | None = None
    statements_total: int | None = None  # of a file without a transaction
    statements_done: int | None = None
    done_checksum: str = ""  # sha256 over the statements that are done
    min_app: str = ""  # of a contract file: the oldest release that runs on it
    error: str = ""  # of a failed one
    note: str = ""

    @property
    def filename(self) -> str:
        return f"{self.version}_{self.name}.sql" if self.name else self.version

    @property
    def done(self) -> bool:
        """Whether nothing of the file is left to do."""
        return self.status in DONE

    @property
    def foreign(self) -> bool:
        """Whether another tool wrote it, which keeps numbers and nothing else."""
        return not self.name and not self.checksum


@dataclass(frozen=True, slots=True)
class MigrationPlan:
    """What is still to be applied, in order, and what is."""

    pending: tuple[MigrationFile, ...]
    applied: tuple[AppliedMigration, ...]
    unfinished: tuple[AppliedMigration, ...] = ()  # begun without a transaction; also in pending

    @property
    def expand(self) -> tuple[MigrationFile, ...]:
        """To be applied before the rollout."""
        return self.of(Phase.EXPAND)

    @property
    def contract(self) -> tuple[MigrationFile, ...]:
        """To be applied after the watch has passed."""
        return self.of(Phase.CONTRACT)

    def of(self, phase: Phase) -> tuple[MigrationFile, ...]:
        return tuple(file for file in self.pending if file.phase is phase)

    @property
    def schema_version(self) -> str:
        """The newest applied version; "" for none."""
        return schema_version(self.applied)


def schema_version(rows: Iterable[AppliedMigration]) -> str:
    """The newest version that is done; "" for none. Another tool's rows count if there is no other:
    their numbers may be of another kind."""
    done = [row for row in rows if row.done]
    ours = [row.version for row in done if not row.foreign]
    return max(ours or [row.version for row in done], default="")


def read_migrations(
    contents: Mapping[str, bytes | Iterable[bytes]],
) -> tuple[MigrationFile, ...]:
    """Read a folder's files, given as name → content; what does not end in .sql is left out.

    Raises MigrationRefused for the first file that cannot run.
    """
    names = sorted(name for name in contents if name.lower().endswith(".sql"))
    return tuple(read_migration(name, contents[name]) for name in names)


def read_migration(filename: str, content: bytes | Iterable[bytes]) -> MigrationFile:
    """Read one migration, whole or in pieces: of a large one no second copy is made.

    Raises MigrationRefused with file, line and what to do.
    """
    named = _FILENAME.fullmatch(filename)
    if named is None:
        raise MigrationRefused(
            f"{filename}: a migration is named NNNN_snake_name.sql, such as 0007_add_email.sql",
            "rename it, or move it out of the migrations folder",
        )
    sql = decode(filename, content)
    refuse_down_section(filename, sql)
    header = read_header(filename, sql)
    first = None
    for first in statements(sql, filename):
        _refuse_what_cannot_run(filename, first, header.in_transaction)
    if first is None:
        raise MigrationRefused(f"{filename}: it holds no statement", "write it, or delete it")
    if not header.in_transaction:
        for _ in steps_of(sql, filename, header.idempotent):
            pass  # each can be taken up again, or is refused
    return MigrationFile(named[1], named[2], sql, checksum_of(sql), header)


def plan_migrations(
    files: Iterable[MigrationFile], applied: Iterable[AppliedMigration]
) -> MigrationPlan:
    """Compare the files of a release with what a database holds.

    An expand file must be newer than everything applied. A contract file may be older than an
    applied expand file: it waits until its own release has passed the watch.
    Raises MigrationRefused for a duplicate, mixed width, gap, out-of-order file, and for an
    applied file that was edited, renamed or deleted since.
    """
    on_disk = sorted(files, key=lambda file: file.version)
    rows = tuple(sorted(applied, key=lambda row: row.version))
    _refuse_bad_numbers(on_disk, rows)
    by_version = {file.version: file for file in on_disk}
    done = tuple(row for row in rows if row.done)
    unfinished = tuple(row for row in rows if not row.done)
    applied_versions = {row.version for row in done}
    pending = tuple(file for file in on_disk if file.version not in applied_versions)
    for row in done:
        _refuse_changed_history(row, by_version.get(row.version), on_disk, pending)
    for row in unfinished:
        _refuse_changed_beginning(row, by_version.get(row.version))
    ours = tuple(row for row in done if row.version in by_version or not row.foreign)
    _refuse_out_of_order(pending, on_disk, ours)
    return MigrationPlan(pending, done, unfinished)


def was_killed(row: AppliedMigration | None) -> bool:
    """Whether a record's runner was killed in a statement, so that its outcome is not known."""
    return row is not None and row.status == Status.RUNNING


def what_helps(sqlstate: str | None, otherwise: str) -> str:
    """What to do about a failed migration whose file is not at fault.

    Source: PostgreSQL's documentation, "PostgreSQL Error Codes".
    """
    code = sqlstate or ""
    if code.startswith("53"):
        return "the server lacks disk, memory or connections: give it some, then deploy again"
    if code == "42501":
        return "grant the migration's role what it lacks, then deploy again"
    if code == "57014":
        return "write '-- migrate: statement-timeout=1h' at the top, then deploy again"
    return otherwise


def statements_checksum(file: MigrationFile, count: int) -> str:
    """A checksum of the file's first ``count`` statements, comments and blanks around them aside.

    It tells whether the part of a file that is done was edited afterwards; the rest may be.
    """
    found = (statement.text(file.sql) for statement in statements(file.sql, file.filename))
    *_, last = running_checksums(islice(found, count))
    return last


def running_checksums(texts: Iterable[str]) -> Iterator[str]:
    """The checksums of no statement, of the first, of the first two, … of ``texts``."""
    digest = hashlib.sha256()
    yield digest.hexdigest()
    for text in texts:
        digest.update(text.encode() + b";\n")
        yield digest.hexdigest()


def _refuse_what_cannot_run(filename: str, statement: Statement, in_transaction: bool) -> None:
    where, words = f"{filename}:{statement.line}", statement.words
    first = words[0] if words else ""
    if first in _BEGINS | _ENDS or words[:2] == ("PREPARE", "TRANSACTION"):
        raise MigrationRefused(
            f"{where}: {first} would end the transaction that holds the file and its record"
            if in_transaction
            else f"{where}: {first} would hold the statements together that are counted one by one",
            f"remove {first}: transactions are the runner's",
        )
    if first == "COPY" and _in_a_row(words, ("FROM", "STDIN"), ("TO", "STDOUT")):
        raise MigrationRefused(
            f"{where}: COPY over the connection needs a client that feeds it",
            "write INSERTs, or load the data in a task of its own",
        )


def _in_a_row(words: tuple[str, ...], *pairs: tuple[str, str]) -> bool:
    return any(pair in pairs for pair in pairwise(words))


def _refuse_bad_numbers(files: list[MigrationFile], rows: tuple[AppliedMigration, ...]) -> None:
    if not files:
        return
    width = len(files[0].version)
    numbered: tuple[MigrationFile | AppliedMigration, ...] = (*files, *rows)
    for other in numbered:
        if len(other.version) != width and not (
            isinstance(other, AppliedMigration) and other.foreign
        ):
            raise MigrationRefused(
                f"{files[0].filename} and {other.filename} have numbers of different width, which "
                "sort differently as text and as numbers",
                f"write every number with {max(width, len(other.version))} digits",
            )
    for earlier, later in pairwise(files):
        if earlier.version == later.version:
            raise MigrationRefused(
                f"{earlier.version} is used by {earlier.filename} and {later.filename}",
                f"renumber one of them to {_next_number(files)}",
            )
    if width == TIMESTAMP_WIDTH:
        return
    expected = min(int(files[0].version), 1)
    for file in files:
        if int(file.version) != expected:
            raise MigrationRefused(
                f"{file.filename}: {expected:0{width}} is missing before it",
                f"add {expected:0{width}}, or renumber what follows the gap",
            )
        expected += 1


def _refuse_changed_history(
    row: AppliedMigration,
    file: MigrationFile | None,
    files: list[MigrationFile],
    pending: tuple[MigrationFile, ...],
) -> None:
    if file is None and row.foreign:
        return
    if file is None or (row.name and file.name != row.name):
        now = file or next((file for file in pending if file.name == row.name), None)
        by = f" by {row.app_version}" if row.app_version else ""
        raise MigrationRefused(
            f"{row.filename} was applied{by}, "
            + (f"but the file is {now.filename} now" if now else "but the file is gone"),
            f"name it {row.filename} again" if now else f"bring {row.filename} back, as it was",
        )
    if row.checksum and file.checksum != row.checksum:
        raise MigrationRefused(
            f"{file.filename} was edited after it was applied: sha256 {row.checksum[:12]}… was "
            f"applied, the file is {file.checksum[:12]}… now",
            f"bring the old text back and put the change into {_next_number(files)}_….sql",
        )


def _refuse_changed_beginning(row: AppliedMigration, file: MigrationFile | None) -> None:
    """Raise MigrationRefused if the statements that are done are no longer those of the file."""
    done = row.statements_done or 0
    if file is None or file.name != row.name:
        raise MigrationRefused(
            f"{row.filename} was begun, {done} of {row.statements_total} statements are done, but "
            f"the file is {file.filename if file else 'gone'} now",
            f"bring {row.filename} back, so that it can be finished",
        )
    if file.in_transaction:
        raise MigrationRefused(
            f"{row.filename} was begun without a transaction, and now it asks for one",
            "bring the header '-- migrate: no-transaction' back",
        )
    if statements_checksum(file, done) != row.done_checksum:
        raise MigrationRefused(
            f"{row.filename}: its first {count_of(done, 'statement')} ran already, and the text of "
            "that part was edited since",
            "bring the old text back there; what follows it may be edited",
        )


def _refuse_out_of_order(
    pending: tuple[MigrationFile, ...],
    files: list[MigrationFile],
    rows: tuple[AppliedMigration, ...],
) -> None:
    newest = rows[-1] if rows else None
    contracts = [row for row in rows if row.phase == Phase.CONTRACT]
    for file in pending:
        waits_by_design = file.phase is Phase.CONTRACT
        newer = (contracts[-1] if contracts else None) if waits_by_design else newest
        if newer and newer.version > file.version:
            raise MigrationRefused(
                f"{file.filename} is pending but {newer.filename} is applied",
                f"renumber it to {_next_number(files)}",
            )


def _next_number(files: list[MigrationFile]) -> str:
    last = files[-1].version
    return f"{int(last) + 1:0{len(last)}}"
