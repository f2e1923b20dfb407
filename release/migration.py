"""Migration files as values: what a file says, whether it can run, and what is still to run.

A file is ``NNNN_snake_name.sql`` and runs as one transaction together with its own record in
``schema_migrations``. What PostgreSQL cannot run that way, or would run differently from what its
author sees, is refused here, before anything is changed, with the file, the line and what to do.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from itertools import pairwise
from typing import NamedTuple

from release.errors import MigrationRefused

LARGEST_FILE = 64 * 1024 * 1024  # bytes; PostgreSQL closes the connection above 1 GB

_FILENAME = re.compile(r"(\d{4,})_([a-z0-9_]+)\.sql")
_HEADER = re.compile(r"--\s*migrate:(.*)")

# PostgreSQL's own lexical rules: every character above ASCII may be part of a name.
_LETTER = "A-Za-z_\u0080-\U0010ffff"
_PLAIN = r"'(?:[^']|'')*+'"
_ESCAPED = r"'(?:[^'\\]|\\.|'')*+'"
_TOKEN = re.compile(
    rf"""
      (?P<space>[\ \t\n\r\f\v]+)
    | (?P<comment>--[^\n]*)
    | (?P<block>/\*)
    | (?P<escaped>[eE]{_ESCAPED}(?:[\ \t\f\v]*\n[\ \t\n\f\v]*{_ESCAPED})*)
    | (?P<string>{_PLAIN})
    | (?P<quoted>"(?:[^"]|"")*+")
    | (?P<dollar>\$(?:[{_LETTER}][0-9{_LETTER}]*)?\$)
    | (?P<word>[{_LETTER}][0-9${_LETTER}]*)
    | (?P<number>[0-9][0-9A-Za-z_.]*)
    | (?P<other>.)
    """,
    re.VERBOSE | re.DOTALL,
)
_BLOCK_EDGE = re.compile(r"/\*|\*/")
_UNCLOSED = {"'": "a string", '"': "a quoted name"}

_BEGINS = {"BEGIN", "START", "SAVEPOINT"}
_ENDS = {"COMMIT", "END", "ROLLBACK", "ABORT", "RELEASE"}


class Phase(StrEnum):
    """When a migration may run, seen from the release that brings it."""

    EXPAND = "expand"  # before the rollout: the old release still runs on it
    CONTRACT = "contract"  # after the watch: the old release would not run on it any more


@dataclass(frozen=True, slots=True)
class MigrationFile:
    """A migration as it stands in the repository."""

    version: str
    name: str
    sql: str  # with LF line ends, whatever the checkout made of them
    checksum: str  # sha256 of the text with LF line ends and without trailing blanks
    phase: Phase = Phase.EXPAND

    @property
    def filename(self) -> str:
        return f"{self.version}_{self.name}.sql"


@dataclass(frozen=True, slots=True)
class AppliedMigration:
    """A row of ``schema_migrations``. A table that another tool began leaves fields empty."""

    version: str
    name: str = ""
    status: str = "applied"
    applied_at: datetime | None = None
    duration_ms: int | None = None
    phase: str = Phase.EXPAND.value
    checksum: str = ""  # "": recorded by another tool, not verified
    applied_by: str = ""
    deploy_id: str = ""
    git_sha: str = ""
    app_version: str = ""
    attempts: int = 1

    @property
    def filename(self) -> str:
        return f"{self.version}_{self.name}.sql" if self.name else self.version


@dataclass(frozen=True, slots=True)
class MigrationPlan:
    """What is still to be applied, in order, and what is."""

    pending: tuple[MigrationFile, ...]
    applied: tuple[AppliedMigration, ...]

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
        return max((row.version for row in self.applied), default="")


class Token(NamedTuple):
    """A piece of SQL text. The texts of all tokens, joined, are the SQL again."""

    kind: str  # space, comment, string, quoted, dollar, word, number or other
    text: str
    start: int  # characters from the beginning


@dataclass(frozen=True, slots=True)
class Statement:
    """One SQL statement: where it begins, and its words outside of quotes and comments."""

    start: int  # characters from the beginning of the text
    line: int  # from 1
    words: tuple[str, ...]  # upper case; a quoted name keeps its quotes and its case


def read_migrations(contents: Mapping[str, bytes]) -> tuple[MigrationFile, ...]:
    """Read a folder's files, given as name → content; what does not end in .sql is left out.

    Raises MigrationRefused for the first file that cannot run.
    """
    names = sorted(name for name in contents if name.lower().endswith(".sql"))
    return tuple(read_migration(name, contents[name]) for name in names)


def read_migration(filename: str, content: bytes) -> MigrationFile:
    """Read one migration. Raises MigrationRefused with file, line and what to do."""
    named = _FILENAME.fullmatch(filename)
    if named is None:
        raise MigrationRefused(
            f"{filename}: a migration is named NNNN_snake_name.sql, such as 0007_add_email.sql",
            "rename it, or move it out of the migrations folder",
        )
    sql = re.sub(r"\r\n?", "\n", _decode(filename, content))
    phase = _read_header(filename, sql)
    parts = split_statements(sql, filename)
    if not parts:
        raise MigrationRefused(f"{filename}: it holds no statement", "write it, or delete it")
    for part in parts:
        _refuse_what_cannot_run(filename, part)
    return MigrationFile(named[1], named[2], sql, _checksum(sql), phase)


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
    done = {row.version for row in rows}
    pending = tuple(file for file in on_disk if file.version not in done)
    for row in rows:
        _refuse_changed_history(row, on_disk, pending)
    for file in pending:
        _refuse_out_of_order(file, on_disk, rows)
    return MigrationPlan(pending, rows)


def tokens(sql: str, filename: str = "the text") -> Iterator[Token]:
    """Cut SQL text into tokens as PostgreSQL does, with standard_conforming_strings on.

    Raises MigrationRefused for a quote or comment that is never closed.
    """
    position = 0
    while position < len(sql):
        found = _TOKEN.match(sql, position)
        assert found is not None, "'other' matches any character"
        kind, end = found.lastgroup or "other", found.end()
        if kind == "block":
            kind, end = "comment", _end_of_block_comment(sql, position)
        elif kind == "dollar":
            closing = sql.find(found[0], end)
            end = closing + len(found[0]) if closing >= 0 else -1
        elif kind == "escaped":
            kind = "string"
        elif kind == "other" and found[0] in _UNCLOSED:
            end = -1
        if end < 0:
            what = _UNCLOSED.get(found[0], f"what {found[0]} opens")
            raise MigrationRefused(
                f"{filename}:{line_at(sql, position)}: {what} that begins here is never closed",
                "close it",
            )
        yield Token(kind, sql[position:end], position)
        position = end


def split_statements(sql: str, filename: str = "the text") -> tuple[Statement, ...]:
    """Cut SQL text at the semicolons that end a statement; empty statements are left out.

    A semicolon inside parentheses (CREATE RULE) or BEGIN ATOMIC … END ends nothing.
    Raises MigrationRefused for a backslash outside of quotes: only psql knows such commands.
    """
    found: list[Statement] = []
    words: list[str] = []
    start = parentheses = blocks = counted = 0
    line, begun = 1, False
    for token in tokens(sql, filename):
        if token.kind in ("space", "comment"):
            continue
        if token.text == "\\":
            raise _psql_command(filename, sql, token.start)
        if token.text == ";" and parentheses <= 0 and blocks <= 0:
            if begun:
                found.append(Statement(start, line, tuple(words)))
            words, parentheses, blocks, begun = [], 0, 0, False
            continue
        if not begun:
            line += sql.count("\n", counted, token.start)
            start = counted = token.start
            begun = True
        parentheses += (token.text == "(") - (token.text == ")")
        if token.kind == "quoted":
            words.append(token.text)
        elif token.kind == "word":
            words.append(token.text.upper())
            blocks += _atomic_step(words, blocks)
    if begun:
        found.append(Statement(start, line, tuple(words)))
    return tuple(found)


def line_at(sql: str, position: int) -> int:
    """The line, from 1, of a character position, from 0."""
    return sql.count("\n", 0, position) + 1


def failing_line(sql: str, position: int | None, statement: int) -> int:
    """The line of an error: where the server points (a character, from 1), else its statement's.

    ``statement`` counts the statements that ran before it.
    """
    if position is not None:
        return line_at(sql, position - 1)
    parts = split_statements(sql)
    return parts[min(statement, len(parts) - 1)].line if parts else 1


def _end_of_block_comment(sql: str, start: int) -> int:
    """Behind the comment that opens at ``start``; comments nest. -1 if it is never closed."""
    depth = 0
    for edge in _BLOCK_EDGE.finditer(sql, start):
        depth += 1 if edge[0] == "/*" else -1
        if depth == 0:
            return edge.end()
    return -1


def _atomic_step(words: list[str], depth: int) -> int:
    """How the last word changes the depth of BEGIN ATOMIC … END, counted as psql counts it."""
    word = words[-1]
    if depth == 0:
        routine = words[0] == "CREATE" and not {"FUNCTION", "PROCEDURE"}.isdisjoint(words[1:4])
        return 1 if routine and words[-2:] == ["BEGIN", "ATOMIC"] else 0
    return (word in ("BEGIN", "CASE")) - (word == "END")


def _decode(filename: str, content: bytes) -> str:
    if len(content) > LARGEST_FILE:
        raise MigrationRefused(
            f"{filename}: {len(content) // 1024**2} MB > 64 MB allowed",
            "split it, or load the data",
        )
    save_as = "save it as UTF-8 without a byte order mark"
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise MigrationRefused(f"{filename}:1: it is UTF-16", save_as)
    if content.startswith(b"\xef\xbb\xbf"):
        raise MigrationRefused(f"{filename}:1: it begins with a byte order mark", save_as)
    nul = content.find(b"\0")
    if nul >= 0:
        raise MigrationRefused(
            f"{filename}:{content.count(10, 0, nul) + 1}: a NUL byte, behind which PostgreSQL "
            "would drop the rest of the file without an error",
            save_as,
        )
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(10, 0, error.start) + 1
        raise MigrationRefused(
            f"{filename}:{line}: byte 0x{content[error.start]:02x} is no UTF-8", save_as
        ) from None


def _read_header(filename: str, sql: str) -> Phase:
    """Read the ``-- migrate: key=value`` comments above the first statement."""
    phase = Phase.EXPAND
    if "migrate:" not in sql:
        return phase
    in_statement = False
    for token in tokens(sql, filename):
        header = _HEADER.match(token.text) if token.kind == "comment" else None
        if header is not None:
            where = f"{filename}:{line_at(sql, token.start)}"
            if in_statement:
                raise MigrationRefused(
                    f"{where}: '-- migrate:' stands below the first statement",
                    "move it to the top of the file",
                )
            phase = _read_settings(where, header[1]) or phase
        in_statement = in_statement or token.kind not in ("space", "comment")
    return phase


def _read_settings(where: str, text: str) -> Phase | None:
    phase = None
    for setting in text.split():
        key, _, value = setting.partition("=")
        if key != "phase":
            raise MigrationRefused(
                f"{where}: '-- migrate: {setting}' is unknown; there is phase=expand and "
                "phase=contract",
                "remove it; a file that undoes another is a new, higher number",
            )
        if value not in set(Phase):
            raise MigrationRefused(
                f"{where}: phase={value} is unknown", "write phase=expand or phase=contract"
            )
        phase = Phase(value)
    return phase


def _checksum(sql: str) -> str:
    kept = "\n".join(line.rstrip() for line in sql.split("\n")).strip("\n")
    return hashlib.sha256(kept.encode()).hexdigest()


def _psql_command(filename: str, sql: str, position: int) -> MigrationRefused:
    command = sql[position:].split(maxsplit=1)[0]
    return MigrationRefused(
        f"{filename}:{line_at(sql, position)}: {command} is a command of psql, not SQL",
        "write it as SQL; data belongs into INSERTs or into a data task",
    )


def _refuse_what_cannot_run(filename: str, statement: Statement) -> None:
    where, words = f"{filename}:{statement.line}", statement.words
    first = words[0] if words else ""
    if first in _BEGINS | _ENDS or words[:2] == ("PREPARE", "TRANSACTION"):
        raise MigrationRefused(
            f"{where}: {first} would end the transaction that holds the file and its record",
            f"remove {first}: every file runs in one transaction",
        )
    if first == "COPY" and _in_a_row(words, ("FROM", "STDIN"), ("TO", "STDOUT")):
        raise MigrationRefused(
            f"{where}: COPY over the connection needs a client that feeds it",
            "write INSERTs, or load the data in a task of its own",
        )
    outside = _outside_of_transactions(words)
    if outside:
        raise MigrationRefused(
            f"{where}: {outside} cannot run inside a transaction, and every file runs in one",
            "leave it out here and run it by hand, outside of the deployment",
        )


def _outside_of_transactions(words: tuple[str, ...]) -> str:
    """The command's name if PostgreSQL refuses it inside a transaction (25001), else ""."""
    first, second = (*words, "", "")[:2]
    pair = f"{first} {second}"
    if "CONCURRENTLY" in words:
        if first in ("CREATE", "DROP") and "INDEX" in words[1:3]:
            return f"{first} INDEX CONCURRENTLY"
        if first == "REINDEX":
            return "REINDEX CONCURRENTLY"
        if _in_a_row(words, ("DETACH", "PARTITION")):
            return "DETACH PARTITION CONCURRENTLY"
    if first == "VACUUM" or words in (("CLUSTER",), ("CLUSTER", "VERBOSE")):
        return first
    if first == "REINDEX" and not {"DATABASE", "SYSTEM"}.isdisjoint(words):
        return "REINDEX DATABASE"
    if first in ("CREATE", "DROP") and second in ("DATABASE", "TABLESPACE", "SUBSCRIPTION"):
        return pair
    return pair if pair == "ALTER SYSTEM" else ""


def _in_a_row(words: tuple[str, ...], *pairs: tuple[str, str]) -> bool:
    return any(pair in pairs for pair in pairwise(words))


def _refuse_bad_numbers(files: list[MigrationFile], rows: tuple[AppliedMigration, ...]) -> None:
    if not files:
        return
    width = len(files[0].version)
    numbered: tuple[MigrationFile | AppliedMigration, ...] = (*files, *rows)
    for other in numbered:
        if len(other.version) != width:
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
    expected = min(int(files[0].version), 1)
    for file in files:
        if int(file.version) != expected:
            raise MigrationRefused(
                f"{file.filename}: {expected:0{width}} is missing before it",
                f"add {expected:0{width}}, or renumber what follows the gap",
            )
        expected += 1


def _refuse_changed_history(
    row: AppliedMigration, files: list[MigrationFile], pending: tuple[MigrationFile, ...]
) -> None:
    file = next((file for file in files if file.version == row.version), None)
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


def _refuse_out_of_order(
    file: MigrationFile, files: list[MigrationFile], rows: tuple[AppliedMigration, ...]
) -> None:
    waits_by_design = file.phase is Phase.CONTRACT
    newer = [
        row
        for row in rows
        if row.version > file.version and (not waits_by_design or row.phase == Phase.CONTRACT)
    ]
    if newer:
        raise MigrationRefused(
            f"{file.filename} is pending but {newer[-1].filename} is applied",
            f"renumber it to {_next_number(files)}",
        )


def _next_number(files: list[MigrationFile]) -> str:
    last = files[-1].version
    return f"{int(last) + 1:0{len(last)}}"
