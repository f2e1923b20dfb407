"""A schema that another migration tool made: recognised, continued, adopted or refused.

Files are applied from the first one that has no record. On a schema that another tool made, the
first file would meet tables that exist already. So its history is read before anything is planned,
and either its rows are our own (a table of versions alone, numbered as the files are), or a person
says once up to which file the schema is complete: ``ignition adopt``. Nothing is guessed.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from release.errors import MigrationRefused
from release.migration.files import AppliedMigration, MigrationFile
from release.wording import count_of

OUR_TABLE = "public.schema_migrations"

# "0012", "0012_orders", "0012-orders", "0012.orders"; "1.1" is no number of a file.
_NUMBER = re.compile(r"(\d+)(?:[_-].*|\.(?!\d).*)?", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Tool:
    """A migration tool, and how its own table is recognised."""

    name: str
    table: str  # without its schema
    columns: frozenset[str]  # that the table has, beside others
    schema: str = ""  # that the tool makes for it; "": it is where the application's tables are
    numbered: bool = True  # its versions begin with the number of a file
    cumulative: bool = False  # its one row stands for every file up to it
    mend: str = ""  # what to do where it was interrupted; "": its table does not say

    @property
    def takes_our_name(self) -> bool:
        """Its table has the name, but not the columns, of ours: both cannot be there."""
        return self.table == "schema_migrations" and len(self.columns) > 1


RAILS = Tool("Rails", "schema_migrations", frozenset({"version"}))
VERSIONS_ALONE = replace(RAILS, name="dbmate or a like tool")
_RAILS_TOO = "ar_internal_metadata"  # beside schema_migrations, since Rails 5

# Of tools with a table of one name, the one that asks for more columns stands first.
TOOLS = (
    Tool(
        "golang-migrate",
        "schema_migrations",
        frozenset({"version", "dirty"}),
        cumulative=True,
        mend="fix the schema by hand, then: migrate force NUMBER",
    ),
    Tool("Ecto", "schema_migrations", frozenset({"version", "inserted_at"})),
    VERSIONS_ALONE,
    Tool(
        "Flyway",
        "flyway_schema_history",
        frozenset({"installed_rank", "version", "type", "success"}),
        mend="undo what the failed file left, then: flyway repair",
    ),
    Tool("Alembic", "alembic_version", frozenset({"version_num"}), numbered=False),
    Tool("Django", "django_migrations", frozenset({"app", "name", "applied"}), numbered=False),
    Tool(
        "Liquibase",
        "databasechangelog",
        frozenset({"id", "author", "orderexecuted"}),
        numbered=False,
        mend="wait for it to end; if nothing of it runs: liquibase release-locks",
    ),
    Tool(
        "Prisma",
        "_prisma_migrations",
        frozenset({"migration_name", "finished_at", "rolled_back_at"}),
        mend="npx prisma migrate resolve --applied NAME, or --rolled-back NAME",
    ),
    Tool("node-pg-migrate", "pgmigrations", frozenset({"id", "name", "run_on"})),
    Tool(
        "yoyo",
        "_yoyo_migration",
        frozenset({"migration_id", "applied_at_utc"}),
        mend="wait for it to end; if nothing of it runs: yoyo break-lock",
    ),
    Tool(
        "Sqitch",
        "changes",
        frozenset({"change", "script_hash", "planner_name"}),
        schema="sqitch",
        numbered=False,
    ),
    Tool(
        "Atlas",
        "atlas_schema_revisions",
        frozenset({"version", "applied", "total"}),
        schema="atlas_schema_revisions",
        mend="finish it: atlas migrate apply",
    ),
    Tool("goose", "goose_db_version", frozenset({"version_id", "is_applied"})),
)


@dataclass(frozen=True, slots=True)
class History:
    """What another tool's table says of a schema."""

    tool: Tool
    table: str  # with its schema
    applied: tuple[str, ...] = ()  # versions, as the tool writes them, oldest first
    unfinished: str = ""  # what it says of a migration that is not over; "": all are

    @property
    def newest(self) -> str:
        """What it applied last; "" for nothing."""
        return self.applied[-1] if self.applied else ""

    @property
    def in_our_place(self) -> bool:
        """Whether its table stands where ours has to."""
        return self.table == OUR_TABLE

    @property
    def set_aside_as(self) -> str:
        """The name that its table gets, so that ours can be made; "" if it may stay."""
        if not (self.in_our_place and self.tool.takes_our_name):
            return ""
        return "schema_migrations_" + self.tool.name.lower().replace("-", "_")

    @property
    def sentence(self) -> str:
        """Which tool it is, and what its table says."""
        if not self.applied:
            return f"{self.tool.name} keeps a history here: {self.table} is empty"
        rows = count_of(len(self.applied), "row")
        return f"{self.tool.name} made this schema: {self.table} stands at {self.newest} ({rows})"


@dataclass(frozen=True, slots=True)
class Adoption:
    """What adopting a schema up to a file writes down. Nothing of the files is run."""

    record: tuple[MigrationFile, ...]  # get a record, or a checksum where they have a record alone
    standing: tuple[MigrationFile, ...]  # have a record with this very text
    later: tuple[MigrationFile, ...]  # stay pending
    histories: tuple[History, ...]

    @property
    def renames(self) -> tuple[tuple[str, str], ...]:
        """Tables of another tool that make room for ours: name with schema, and new name."""
        return tuple((h.table, h.set_aside_as) for h in self.histories if h.set_aside_as)

    def note(self, who: str, reason: str) -> str:
        """The line that each record keeps."""
        found = [f"{h.tool.name} at {h.newest}" for h in self.histories if h.applied]
        origin = " and ".join(found) or "a schema without a history"
        return f"adopted by {who} from {origin}: {reason}"

    def lines(self) -> list[str]:
        """What will be written, for the person who is to say yes."""
        lines = [history.sentence for history in self.histories] or ["no other tool is known here"]
        lines.append(f"to be recorded, without running them: {_range(self.record)}")
        if self.standing:
            lines.append(f"recorded already: {_range(self.standing)}")
        lines.append(f"still to be applied by a deployment: {_range(self.later)}")
        for history in self.histories:
            if history.set_aside_as:
                lines.append(f"{history.table} is renamed to {history.set_aside_as}")
            lines.append(
                f"{history.tool.name} must no longer run when the release starts: two "
                "tools would change one schema"
            )
        return lines


def recognise(tables: Mapping[str, frozenset[str]]) -> tuple[tuple[Tool, str], ...]:
    """The tools that keep a history among ``tables``, each with its table.

    ``tables`` maps a name with its schema, ``public.schema_migrations``, to the columns. Our own
    table looks like one of versions alone; its rows tell it apart (see :func:`has_own_history`).
    """
    found = []
    for qualified, columns in sorted(tables.items()):
        schema, _, table = qualified.rpartition(".")
        for tool in TOOLS:
            if table == tool.table and columns >= tool.columns:
                rails = tool == VERSIONS_ALONE and f"{schema}.{_RAILS_TOO}" in tables
                found.append((RAILS if rails else tool, qualified))
                break
    return tuple(found)


def has_own_history(rows: Sequence[AppliedMigration]) -> bool:
    """Whether a file of ours was applied or adopted here: then another tool's table is history."""
    return any(row.checksum or row.status != "applied" for row in rows)


def refuse_foreign_schema(
    histories: Sequence[History],
    files: Sequence[MigrationFile],
    rows: Sequence[AppliedMigration],
    environment: str,
) -> None:
    """Let files be planned only if the first of them does not meet another tool's work.

    Let through: no file, no history, a history of our own, or versions in our own table that are
    numbered as the files are (the same ones, or all older than every file). Raises MigrationRefused
    for what the other tool has not finished, and for what has to be adopted first.
    """
    if not files or has_own_history(rows):
        return
    for history in histories:
        _refuse_unfinished(history)
    ordered = sorted(files, key=lambda file: int(file.version))
    for history in histories:
        _refuse_empty_in_our_place(history)
        if history.applied and not _carries_on(history, ordered):
            _refuse_other_width(history, ordered, adopt_command(environment))
            raise MigrationRefused(
                f"{history.sentence}; {ordered[0].filename} would be applied on top of it",
                adopt_command(environment, propose_through(history, ordered)),
            )


def adopt_command(environment: str, through: str = "") -> str:
    """What to type, with the file up to which the schema is complete if that is certain."""
    typed = f"ignition adopt {environment} --through {through or 'VERSION'} --as NAME --reason …"
    return typed if through else f"{typed}, VERSION: the last file that the schema has"


def propose_through(history: History, files: Sequence[MigrationFile]) -> str:
    """The newest file that a history covers, if its versions are numbers of our files; else "".

    Certain only if the tool's newest version is a file's number, and every file up to it is among
    the versions (golang-migrate keeps the newest alone). "1.1" of Flyway, an id of Alembic, two
    versions that begin with one number: no proposal.
    """
    numbers = [_number(version) for version in history.applied if history.tool.numbered]
    known = {number for number in numbers if number is not None}
    if not known or len(known) != len(numbers):
        return ""
    newest = max(known)
    covered = sorted(
        (file for file in files if int(file.version) <= newest), key=lambda f: int(f.version)
    )
    if not covered or int(covered[-1].version) != newest:
        return ""
    gaps = {int(file.version) for file in covered} - known
    return covered[-1].version if history.tool.cumulative or not gaps else ""


def plan_adoption(
    files: Sequence[MigrationFile],
    rows: Sequence[AppliedMigration],
    histories: Sequence[History],
    through: str,
) -> Adoption:
    """Decide what adopting the files up to ``through`` writes.

    A record of the same text stays as it is, so adopting twice changes nothing; a record without a
    checksum, as another tool leaves it, gets one. Raises MigrationRefused for a number that no file
    has, a record of another text, a migration that is not finished, and rows of another width.
    """
    ordered = sorted(files, key=lambda file: int(file.version))
    if through not in {file.version for file in ordered}:
        newest = f"the newest is {ordered[-1].filename}" if ordered else "there is no file at all"
        raise MigrationRefused(
            f"no migration file has the number {through!r}; {newest}",
            "--through takes a file's number as it is written, such as 0012",
        )
    if not has_own_history(rows):
        for history in histories:
            _refuse_unfinished(history)
            _refuse_other_width(history, ordered, "the same adoption again")
    if any(history.set_aside_as for history in histories):
        rows = ()  # they are the other tool's, in its own numbers
    recorded = {row.version: row for row in rows}
    upto = [file for file in ordered if int(file.version) <= int(through)]
    for file in upto:
        _refuse_other_record(file, recorded.get(file.version))
    standing = tuple(f for f in upto if f.version in recorded and recorded[f.version].checksum)
    return Adoption(
        record=tuple(file for file in upto if file not in standing),
        standing=standing,
        later=tuple(f for f in ordered if f not in upto and f.version not in recorded),
        histories=tuple(histories),
    )


def _carries_on(history: History, files: Sequence[MigrationFile]) -> bool:
    """Whether the rows can stand in our table as they are."""
    if not history.in_our_place or history.set_aside_as:
        return False
    versions = set(history.applied)
    if any(file.version in versions for file in files):
        return True
    numbers = [_number(version) for version in versions]
    same_width = len({len(version) for version in (*versions, files[0].version)}) == 1
    return same_width and all(n is not None and n < int(files[0].version) for n in numbers)


def _refuse_unfinished(history: History) -> None:
    if history.unfinished:
        raise MigrationRefused(
            f"{history.tool.name} has not finished with this schema: {history.unfinished} "
            f"({history.table}); nothing was changed",
            history.tool.mend,
        )


def _refuse_empty_in_our_place(history: History) -> None:
    if history.set_aside_as and not history.applied:
        raise MigrationRefused(
            f"{history.table} is {history.tool.name}'s and empty; the record of our files needs a "
            "table of that name",
            f"ALTER TABLE {history.table} RENAME TO {history.set_aside_as};",
        )


def _refuse_other_width(history: History, files: Sequence[MigrationFile], adopt: str) -> None:
    """Two widths in one table sort differently as text and as numbers. ``adopt``: what follows once
    the table is out of the way, because nothing else says then what the schema has."""
    if not history.applied or not history.in_our_place or history.set_aside_as:
        return
    width = len(history.newest)
    other = next((file for file in files if len(file.version) != width), None)
    if other is None or any(file.version in history.applied for file in files):
        return
    if width >= 4 and history.newest.isdigit():
        hint = f"number the files as the table does, from {int(history.newest) + 1:0{width}} on"
    else:
        hint = f"ALTER TABLE {history.table} RENAME TO schema_migrations_before; then: {adopt}"
    raise MigrationRefused(
        f"{history.sentence}; {other.filename} has a number of another width, and both would "
        f"stand in {history.table}",
        hint,
    )


def _refuse_other_record(file: MigrationFile, row: AppliedMigration | None) -> None:
    if row is None:
        return
    if row.status not in ("applied", "adopted"):
        raise MigrationRefused(
            f"{file.filename} is recorded as {row.status}; nothing was adopted",
            "a deployment will continue it: let it finish first",
        )
    if row.checksum and row.checksum != file.checksum:
        raise MigrationRefused(
            f"{file.filename} is {row.status} with another text: sha256 {row.checksum[:12]}…, the "
            f"file is {file.checksum[:12]}…; nothing was adopted",
            "bring the old text back, and put the change into a new file",
        )


def _number(version: str) -> int | None:
    found = _NUMBER.fullmatch(version)
    return int(found[1]) if found else None


def _range(files: Sequence[MigrationFile]) -> str:
    if len(files) < 2:
        return files[0].filename if files else "nothing"
    return f"{len(files)} files, {files[0].filename} to {files[-1].filename}"
