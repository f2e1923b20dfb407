"""What a migration's statement does to the tables of others: locks, rewrites, whole reads."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from release.migration.files import MigrationFile
from release.migration.rehearsal.compatibility import shorten
from release.migration.sql.text import Statement, split_statements, tokens

_MODES = {  # pg_locks' word, the manual's word, what waits for it
    "AccessShareLock": ("ACCESS SHARE", ""),
    "RowShareLock": ("ROW SHARE", ""),
    "RowExclusiveLock": ("ROW EXCLUSIVE", ""),
    "ShareUpdateExclusiveLock": ("SHARE UPDATE EXCLUSIVE", "vacuum and other schema changes"),
    "ShareLock": ("SHARE", "writes"),
    "ShareRowExclusiveLock": ("SHARE ROW EXCLUSIVE", "writes"),
    "ExclusiveLock": ("EXCLUSIVE", "writes and SELECT … FOR UPDATE"),
    "AccessExclusiveLock": ("ACCESS EXCLUSIVE", "reads and writes"),
}
# Whether these read a table whole depends on its rows, and TRUNCATE reads what it has emptied.
_NOT_SAID_TO_READ = {
    *("SELECT", "INSERT", "UPDATE", "DELETE", "MERGE", "WITH", "VALUES", "TABLE", "TRUNCATE")
}
# What changes the whole server from inside one of its databases.
_SERVER_WIDE = re.compile(
    r"\b(?:(?:create|alter|drop|comment\s+on)\s+(?:role|user(?!\s+mapping)|group|database"
    r"|tablespace|subscription)|alter\s+system|reassign\s+owned|drop\s+owned"
    r"|(?:grant|revoke)\b[^;]*?\bon\s+(?:database|tablespace)"
    r"|copy\b[^;]*?\b(?:from|to)\s+program)\b",
    re.IGNORECASE,
)
# Whether these read a table whole depends on its rows, and TRUNCATE reads what it has emptied.
_NOT_SAID_TO_READ = {
    *("SELECT", "INSERT", "UPDATE", "DELETE", "MERGE", "WITH", "VALUES", "TABLE", "TRUNCATE")
}
_STRENGTH = {mode: number for number, (mode, _) in enumerate(_MODES.values())}
_BLOCKS = dict(_MODES.values())


@dataclass(frozen=True, slots=True)
class TableLock:
    """The strongest lock that a statement newly took on a table that stood before."""

    table: str
    mode: str  # in the manual's words: ACCESS EXCLUSIVE

    @classmethod
    def strongest(cls, table: str, modes: Sequence[str]) -> "TableLock":
        """Of pg_locks' modes, such as AccessExclusiveLock, the one that blocks most."""
        names = [_MODES.get(mode, (mode, ""))[0] for mode in modes]
        return cls(table, max(names, key=lambda name: _STRENGTH.get(name, -1)))

    @property
    def blocks(self) -> str:
        """What waits for it; "" if traffic does not notice."""
        return _BLOCKS.get(self.mode, "")

    def __str__(self) -> str:
        return f"{self.mode} on {self.table}: blocks {self.blocks or 'no traffic'}"


@dataclass(frozen=True, slots=True)
class StatementTrace:
    """What one statement did to the copy."""

    filename: str
    line: int  # from 1
    text_short: str
    took: timedelta  # on a copy without rows
    locks: tuple[TableLock, ...] = ()  # newly taken, on tables that stood before
    rewrites: tuple[str, ...] = ()  # tables that got a new file
    reads: tuple[str, ...] = ()  # tables that were read whole, and not rewritten
    traced: bool = True  # False: outside of a transaction a lock is gone before it can be seen
    times: int = 1  # alike statements in a row, counted as one

    @property
    def place(self) -> str:
        return f"{self.filename}:{self.line}"

    @property
    def noteworthy(self) -> bool:
        """Whether traffic could notice it."""
        return bool(self.rewrites or self.reads or any(lock.blocks for lock in self.locks))


@dataclass(frozen=True, slots=True)
class TableState:
    """A table of the copy, as the session that migrates sees it after a statement."""

    name: str  # with its schema, unless that is public
    file: int | None  # where its rows are stored; a rewrite changes it
    scans: int  # sequential scans that this session began
    modes: tuple[str, ...] = ()  # the locks that this session holds, in pg_locks' words


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a file cannot be applied: it failed on the copy, as it would on the target."""

    filename: str
    line: int
    sqlstate: str
    message: str

    def __str__(self) -> str:
        return f"{self.filename}:{self.line}: {self.message} ({self.sqlstate})"


@dataclass(frozen=True, slots=True)
class MigrationStatement:
    """One statement of a file, as it is sent."""

    filename: str
    lines: tuple[int, ...]  # from 1; several for INSERTs in a row, which are sent together
    text: str
    short: str  # of the first
    verb: str  # its first word, in upper case

    @property
    def line(self) -> int:
        return self.lines[0]

    def failed(
        self, message: str, sqlstate: str, position: int | None = None, before: int = 0
    ) -> Failure:
        """Its failure, at the character that the server points to, from 1.

        ``before`` counts those of it that ran before the one that failed.
        """
        line = self.lines[min(before, len(self.lines) - 1)]
        if position is not None:
            line = self.line + self.text.count("\n", 0, position - 1)
        return Failure(self.filename, line, sqlstate, message)


def statements_of(file: MigrationFile) -> tuple[MigrationStatement, ...]:
    """A file's statements as they are sent; together they are the whole file.

    INSERTs in a row are one: a data file has thousands, and none of them changes how a table is
    stored, or takes a lock that traffic notices.
    """
    parts = split_statements(file.sql, file.filename)
    ends = [*(part.start for part in parts[1:]), len(file.sql)]
    groups: list[list[tuple[Statement, int]]] = []
    for part, end in zip(parts, ends, strict=True):
        if groups and _verb(part) == _verb(groups[-1][0][0]) == "INSERT":
            groups[-1].append((part, end))
        else:
            groups.append([(part, end)])
    return tuple(_statement(file, group) for group in groups)


def _statement(file: MigrationFile, group: list[tuple[Statement, int]]) -> MigrationStatement:
    first, end_of_first = group[0]
    return MigrationStatement(
        file.filename,
        tuple(part.line for part, _ in group),
        file.sql[first.start : group[-1][1]],
        shorten(file.sql[first.start : end_of_first]),
        _verb(first),
    )


def _verb(part: Statement) -> str:
    return part.words[0] if part.words else ""


def trace_statement(
    statement: MigrationStatement,
    took: timedelta,
    before: Mapping[int, TableState],
    after: Mapping[int, TableState],
    traced: bool = True,
) -> StatementTrace:
    """What a statement did, from the tables before and after it, by their oids.

    ``before`` holds only tables that somebody may use already. What a query reads depends on how
    many rows there are, so only other statements are said to read a whole table.
    """
    kept = [(before[oid], after[oid]) for oid in before if oid in after]
    rewrites = [
        new.name for old, new in kept if old.file != new.file and statement.verb != "TRUNCATE"
    ]
    reads = [new.name for old, new in kept if new.scans > old.scans]
    locks = [
        TableLock.strongest(old.name, modes)
        for oid, old in before.items()
        if oid in after and (modes := sorted(set(after[oid].modes) - set(old.modes)))
    ]
    return StatementTrace(
        statement.filename,
        statement.line,
        statement.short,
        took,
        tuple(sorted(locks, key=lambda lock: lock.table)),
        tuple(sorted(rewrites)),
        tuple(sorted(set(reads) - set(rewrites)))
        if statement.verb not in _NOT_SAID_TO_READ
        else (),
        traced,
        len(statement.lines),
    )


def acts_on_the_server(file: MigrationFile) -> str:
    """Where a file would change more than its own database, as ``file:line: …``; "" for nowhere.

    A role that is created on a copy exists on the whole server. The bodies of functions and DO
    blocks are looked at too, as text; so it may be found where it never happens.
    """
    for statement in statements_of(file):
        if statement.verb == "INSERT":
            continue
        parts = list(tokens(statement.text))
        outer = " ".join(part.text for part in parts if part.kind in ("word", "other"))
        bodies = " ".join(part.text for part in parts if part.kind == "dollar")
        found = _SERVER_WIDE.match(outer) or _SERVER_WIDE.search(re.sub(r"--.*", "", bodies))
        membership = statement.verb in ("GRANT", "REVOKE") and not re.search(r"(?i)\bon\b", outer)
        if found or membership:
            what = " ".join(found[0].upper().split()) if found else f"{statement.verb} of a role"
            return f"{statement.filename}:{statement.line}: {what} acts on the whole server"
    return ""
