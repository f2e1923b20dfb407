"""SQL text as PostgreSQL reads it: tokens, statements, and where in the text they stand.

It knows quotes, comments and parentheses, and no grammar: :mod:`release.migration.sql.tree`
knows that.
A text of 50 MB is read piece by piece.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

from release.errors import MigrationRefused

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
_VARIABLE = re.compile(rf":['\"]?[{_LETTER}][0-9${_LETTER}]*")
_UNCLOSED = {"'": "a string", '"': "a quoted name"}


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
    end: int  # behind its last character, without the semicolon

    def text(self, sql: str) -> str:
        """The statement alone, out of the text that it was found in."""
        return sql[self.start : self.end]


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


def statements(sql: str, filename: str = "the text") -> Iterator[Statement]:
    """Cut SQL text at the semicolons that end a statement; empty statements are left out.

    A semicolon inside parentheses (CREATE RULE) or BEGIN ATOMIC … END ends nothing.
    Raises MigrationRefused for what only psql knows: a backslash command, a ``:variable``.
    """
    words: list[str] = []
    start = end = parentheses = brackets = blocks = counted = 0
    line, begun = 1, False
    for token in tokens(sql, filename):
        if token.kind in ("space", "comment"):
            continue
        if token.text == ";" and parentheses <= 0 and blocks <= 0:
            if begun:
                yield Statement(start, line, tuple(words), end)
            words, parentheses, brackets, blocks, begun = [], 0, 0, 0, False
            continue
        if not begun:
            line += sql.count("\n", counted, token.start)
            start = counted = token.start
            begun = True
        end = token.start + len(token.text)
        if token.kind == "other":
            parentheses += (token.text == "(") - (token.text == ")")
            brackets += (token.text == "[") - (token.text == "]")
            _refuse_psql(filename, sql, token, brackets)
        elif token.kind == "quoted":
            words.append(token.text)
        elif token.kind == "word":
            words.append(token.text.upper())
            blocks += _atomic_step(words, blocks)
    if begun:
        yield Statement(start, line, tuple(words), end)


def split_statements(sql: str, filename: str = "the text") -> tuple[Statement, ...]:
    """All :func:`statements` at once."""
    return tuple(statements(sql, filename))


def pieces(sql: str, largest: int) -> Iterator[tuple[int, int]]:
    """Cut SQL text into runs of whole statements, given as start and end.

    A run has about ``largest`` characters. A single statement is never cut.
    """
    if len(sql) <= largest:
        yield 0, len(sql)
        return
    begun = 0
    for statement in statements(sql):
        if statement.end - begun > largest and statement.start > begun:
            yield begun, statement.start
            begun = statement.start
    yield begun, len(sql)


def line_at(sql: str, position: int) -> int:
    """The line, from 1, of a character position, from 0."""
    return sql.count("\n", 0, position) + 1


def failing_line(sql: str, position: int | None, statement: int) -> int:
    """The line of an error: where the server points (a character, from 1), else its statement's.

    ``statement`` counts the statements that ran before it.
    """
    if position is not None:
        return line_at(sql, position - 1)
    line = 1
    for found in islice(statements(sql), statement + 1):
        line = found.line
    return line


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


def _refuse_psql(filename: str, sql: str, token: Token, brackets: int) -> None:
    """Raise MigrationRefused if psql would act by itself: ``\\i file``, ``:variable``.

    ``x::text`` and ``a[1:n]`` are SQL.
    """
    start = token.start
    if token.text == "\\":
        command = sql[start:].split(maxsplit=1)[0]
        raise MigrationRefused(
            f"{filename}:{line_at(sql, start)}: {command} is a command of psql, not SQL",
            "write it as SQL; data belongs into INSERTs or into a data task",
        )
    if token.text != ":" or brackets > 0 or sql[start - 1 : start] == ":":
        return
    variable = _VARIABLE.match(sql, start)
    if variable:
        raise MigrationRefused(
            f"{filename}:{line_at(sql, start)}: {variable[0]} is a variable of psql, not SQL",
            "write its value; a migration does the same in every environment",
        )
