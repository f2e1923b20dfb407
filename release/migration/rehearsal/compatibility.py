"""Whether the running release can work on a new schema: what it says, and what the schema refuses.

Two looks, because neither sees everything. The statements that the running release sends are
parsed against both schemas, which finds what was renamed, removed or given another type. The
schemas themselves are compared, which finds what a statement does not show: a column that every
INSERT has to fill now, or a constraint that old rows keep only by luck.
"""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from release.duration import say_duration
from release.errors import MigrationRefused
from release.migration.sql.text import split_statements, tokens

LONGEST_STATEMENT = 90  # characters of a statement, as it is shown

_QUERIES = {"SELECT", "INSERT", "UPDATE", "DELETE", "MERGE", "WITH", "VALUES", "TABLE"}
# A typed literal (interval '1 day') is normalised to interval $1, which only a cast can say.
_TYPED = re.compile(
    r"\b(interval|date|timestamp|timestamptz|time|timetz)\s+(\$[0-9]+)\b", re.IGNORECASE
)
_SIZED = re.compile(r"(?:character varying|numeric|varchar)\(([0-9]+)\)")


class RollbackVerdict(StrEnum):
    """Whether the old release can run on the new schema without touching the schema."""

    SAFE = "safe"
    UNSAFE = "unsafe"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class RecordedStatement:
    """A statement of the running release, as pg_stat_statements normalises it: no values."""

    text: str
    calls: int
    search_path: str  # of the role that sent it; "" for the server's default


@dataclass(frozen=True, slots=True)
class RecordedStatements:
    """What the target's pg_stat_statements knows of the running release."""

    statements: tuple[RecordedStatement, ...] = ()  # those that name a table or function of it
    hidden: int = 0  # texts of other roles that this role may not read
    left_out: int = 0  # beyond the number that is checked
    reason: str = ""  # why there is nothing to check
    since: timedelta | None = None  # how long they have been recorded; None: not known
    evictions: int = 0  # how often the least used made room for others


@dataclass(frozen=True, slots=True)
class Broken:
    """A statement of the running release that the new schema no longer understands."""

    statement: str  # shortened
    reason: str  # the server's own words, with the SQLSTATE
    calls: int  # as counted on the target


@dataclass(frozen=True, slots=True)
class StatementCheck:
    """How the running release's statements fared on the new schema.

    One that could not be prepared on the old schema either is counted and proves nothing.
    """

    checked: int = 0  # prepared on the old schema, so they had to on the new one
    broken: tuple[Broken, ...] = ()
    unclear: int = 0  # did not prepare on the old schema either
    hidden: int = 0
    left_out: int = 0
    reason: str = ""  # why nothing was checked
    since: timedelta | None = None  # how long statements have been recorded; None: not known
    evictions: int = 0  # how often the least used made room for others

    @property
    def complete(self) -> bool:
        """Whether all that was recorded was looked at, and something was."""
        missed = self.hidden or self.left_out or self.evictions
        return bool(self.checked) and not missed

    @property
    def sentence(self) -> str:
        if not self.checked:
            return f"no statement was checked: {self.reason or 'none could be prepared'}"
        good = self.checked - len(self.broken)
        span = f" of the last {say_duration(self.since)}" if self.since else ""
        parts = [f"{good} of {self.checked} statements{span} prepare on the new schema"]
        if self.unclear:
            parts.append(f"{self.unclear} did not prepare on the old one either")
        if self.hidden:
            parts.append(f"{self.hidden} may not be read: GRANT pg_read_all_stats")
        if self.left_out:
            parts.append(f"{self.left_out} were left out")
        if self.evictions:
            parts.append(
                f"rare ones made room {self.evictions} times: raise pg_stat_statements.max"
            )
        return "; ".join(parts)


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a user's table."""

    table: str
    name: str
    type: str  # as format_type writes it
    not_null: bool
    filled: bool  # by a default, an identity or a generation expression


@dataclass(frozen=True, slots=True)
class Constraint:
    """A constraint or unique index, and the columns it is over."""

    table: str
    name: str
    definition: str
    columns: frozenset[str]


@dataclass(frozen=True, slots=True)
class Schema:
    """What a database's tables take, as far as an old release can trip over it."""

    columns: tuple[Column, ...] = ()
    constraints: tuple[Constraint, ...] = ()


@dataclass(frozen=True, slots=True)
class Restriction:
    """Something that the new schema refuses or lacks, and the old one did not."""

    table: str
    sentence: str
    certain: bool  # a recorded statement is refused by it; else it depends on the values


def select_statements(
    recorded: Iterable[RecordedStatement], names: Collection[str], limit: int
) -> tuple[tuple[RecordedStatement, ...], int]:
    """The queries that name one of the database's own tables or functions, most called first.

    Catalog queries of monitoring prove nothing about a release, and utility statements are not
    normalised. Returns them, up to ``limit``, and how many more there are.
    """
    spelled = {form for name in names for form in _spellings(name)}
    found = sorted(
        (
            statement
            for statement in recorded
            if (words := _words(statement.text))[:1] != ()
            and words[0] in _QUERIES
            and not spelled.isdisjoint(words)
        ),
        key=lambda statement: -statement.calls,
    )
    return tuple(found[:limit]), len(found[limit:])


def preparable(text: str) -> str:
    """A normalised statement as it can be prepared: ``interval $1`` is said as a cast."""
    return _TYPED.sub(r"CAST(\2 AS \1)", text)


def compare_statements(
    recorded: RecordedStatements,
    before: Mapping[RecordedStatement, str],
    after: Mapping[RecordedStatement, str],
) -> StatementCheck:
    """How statements fared: ``before`` and ``after`` hold those that failed, with the reason."""
    good = [statement for statement in recorded.statements if statement not in before]
    broken = tuple(
        Broken(shorten(statement.text), after[statement], statement.calls)
        for statement in good
        if statement in after
    )
    return StatementCheck(
        checked=len(good),
        broken=broken,
        unclear=len(recorded.statements) - len(good),
        hidden=recorded.hidden,
        left_out=recorded.left_out,
        reason=recorded.reason,
        since=recorded.since,
        evictions=recorded.evictions,
    )


def compare_schemas(
    before: Schema, after: Schema, statements: Sequence[str]
) -> tuple[Restriction, ...]:
    """What tables that stood before refuse now, or lack.

    ``statements`` are the running release's own: an INSERT among them that leaves out a column
    which is required now makes the restriction certain. New tables restrict nobody.
    """
    old = {(column.table, column.name): column for column in before.columns}
    new = {(column.table, column.name): column for column in after.columns}
    tables = {column.table for column in before.columns}
    left = {column.table for column in after.columns}
    inserts = [words for text in statements if "INSERT" in (words := _words(text))]
    found = [Restriction(table, f"table {table} is gone", False) for table in sorted(tables - left)]
    for (table, name), column in old.items():
        if table in left:
            found += _of_column(column, new.get((table, name)), inserts)
    for (table, name), column in new.items():
        if table in tables and (table, name) not in old and _required(column):
            found.append(_must_be_given(column, inserts))
    known = {(c.table, c.name, c.definition) for c in before.constraints}
    for constraint in after.constraints:
        if (constraint.table, constraint.name, constraint.definition) in known:
            continue
        touches = {(constraint.table, name) for name in constraint.columns} & set(old)
        if constraint.table in tables and (touches or not constraint.columns):
            sentence = f"{constraint.table} has to keep {constraint.definition} now"
            found.append(Restriction(constraint.table, sentence, False))
    return tuple(found)


def shorten(text: str) -> str:
    """A statement in one short line: without comments, and without what stands in quotes."""
    try:
        shown = "".join(_shown(token.kind, token.text) for token in tokens(text))
    except MigrationRefused:  # a recorded text may be cut off in the middle
        shown = text.partition("'")[0]
    line = " ".join(shown.split()).rstrip("; ")
    return line if len(line) <= LONGEST_STATEMENT else line[: LONGEST_STATEMENT - 1] + "…"


def _shown(kind: str, text: str) -> str:
    if kind == "comment":
        return " "
    return {"string": "'…'", "dollar": "$$…$$"}.get(kind, text)


def _words(text: str) -> tuple[str, ...]:
    """The words of the first statement of a text; none if it cannot be read."""
    try:
        return next((part.words for part in split_statements(text)), ())
    except MigrationRefused:
        return ()


def _spellings(name: str) -> set[str]:
    """How SQL may write a name, as its words are given: folded, or in quotes."""
    quoted = '"' + name.replace('"', '""') + '"'
    return {quoted, name.upper()} if name == name.lower() else {quoted}


def _of_column(
    old: Column, new: Column | None, inserts: Sequence[tuple[str, ...]]
) -> list[Restriction]:
    place = f"{old.table}.{old.name}"
    if new is None:
        return [Restriction(old.table, f"{place} is gone", False)]
    found = []
    if new.type != old.type and not _widened(old.type, new.type):
        sentence = f"{place} is {new.type} now, it was {old.type}"
        found.append(Restriction(old.table, sentence, False))
    if _required(new) and not _required(old):
        found.append(_must_be_given(new, inserts))
    elif new.not_null and not old.not_null:
        found.append(Restriction(old.table, f"{place} no longer accepts NULL", False))
    return found


def _required(column: Column) -> bool:
    return column.not_null and not column.filled


def _must_be_given(column: Column, inserts: Sequence[tuple[str, ...]]) -> Restriction:
    place = f"{column.table}.{column.name}"
    for words in inserts:
        into = words.index("INSERT")
        target = set(words[into + 2 : into + 4])  # INSERT INTO [schema.]table
        if target & _spellings(_last(column.table)) and not _spellings(column.name) & set(words):
            sentence = f"{place} is required now, and an INSERT of the running release lacks it"
            return Restriction(column.table, sentence, True)
    return Restriction(column.table, f"{place} is required now", False)


def _last(table: str) -> str:
    """The table's own name, without its schema."""
    return table.rpartition(".")[2]


def _widened(old: str, new: str) -> bool:
    """Whether a type accepts whatever the old one accepted, in the same form."""
    was, now = _SIZED.fullmatch(old), _SIZED.fullmatch(new)
    if was is None or old.split("(")[0] == "numeric":
        return False
    return new in ("text", "character varying") or (now is not None and int(now[1]) >= int(was[1]))
