"""What a migration file says about itself, in ``-- migrate:`` comments above its first statement.

``phase=contract``            runs after the watch, when no older release needs what it removes
``min-app=v1.4.0``            the oldest release that runs on what a contract file leaves
``no-transaction``            each statement by itself: CREATE INDEX CONCURRENTLY, VACUUM, …
``idempotent``                its statements may run twice, so that a killed run goes on by itself
``lock-timeout=200ms``        what traffic may stall at most, for this file
``lock-budget=10min``         how long to go on trying for its locks
``statement-timeout=30min``   how long one of its statements may take
``allow=rule,rule``           rules of the lint that its author sets aside, with …
``reason="…"``                … the reason, for whoever signs
"""

import difflib
import shlex
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from enum import StrEnum
from typing import Any

from release.duration import parse_duration
from release.errors import BadRequest, MigrationRefused
from release.migration.sql.text import line_at, tokens
from release.model import parse_version

MARK = "migrate:"


class Phase(StrEnum):
    """When a migration may run, seen from the release that brings it."""

    EXPAND = "expand"  # before the rollout: the old release still runs on it
    CONTRACT = "contract"  # after the watch: an older release would not run on it any more


@dataclass(frozen=True, slots=True)
class Header:
    """A file's own settings; None and "" leave the environment's, or nothing."""

    phase: Phase = Phase.EXPAND
    min_app: str = ""
    in_transaction: bool = True
    idempotent: bool = False
    lock_timeout: timedelta | None = None
    lock_budget: timedelta | None = None
    statement_timeout: timedelta | None = None
    allows: frozenset[str] = frozenset()
    reason: str = ""


def read_header(filename: str, sql: str) -> Header:
    """Read the ``-- migrate:`` comments of a file.

    Raises MigrationRefused, with file and line, for an unknown key or value, for one that stands
    below the first statement, and for settings that contradict each other.
    """
    header = Header()
    if MARK not in sql:
        return header
    in_statement = False
    for token in tokens(sql, filename):
        text = token.text.removeprefix("--").strip() if token.kind == "comment" else ""
        if text.startswith(MARK):
            where = f"{filename}:{line_at(sql, token.start)}"
            if in_statement:
                raise MigrationRefused(
                    f"{where}: '-- migrate:' stands below the first statement",
                    "move it to the top of the file",
                )
            header = _read_settings(where, text.removeprefix(MARK), header)
        in_statement = in_statement or token.kind not in ("space", "comment")
    _refuse_contradictions(filename, header)
    return header


def _read_settings(where: str, text: str, header: Header) -> Header:
    try:
        settings = shlex.split(text)
    except ValueError as error:
        raise MigrationRefused(
            f"{where}: '-- migrate:{text}' cannot be read: {error}", 'quote as in reason="…"'
        ) from None
    for setting in settings:
        key, equals, value = setting.partition("=")
        flag = key in _FLAGS
        if flag == bool(equals) or key not in {*_FLAGS, *_READERS}:
            raise _unknown(where, setting, key)
        if flag:
            header = replace(header, **_FLAGS[key])
            continue
        field, read = _READERS[key]
        try:
            header = replace(header, **{field: read(value)})
        except ValueError as error:
            raise MigrationRefused(f"{where}: {setting} is unknown: {error}", _HINT) from None
        except BadRequest as error:
            raise MigrationRefused(f"{where}: {setting}: {error.what}", _HINT) from None
    return header


_HINT = "docs/migrations.md lists what a header may say"


def _unknown(where: str, setting: str, key: str) -> MigrationRefused:
    known = [*_FLAGS, *(f"{name}=…" for name in _READERS)]
    near = difflib.get_close_matches(key, [*_FLAGS, *_READERS], n=1, cutoff=0.5)
    meant, hint = "", f"remove it; {_HINT}"
    if key in ("up", "down"):
        meant = "; that is dbmate's way to write two files in one"
        hint = "remove it; a file that undoes another is a new, higher number"
    elif near:
        meant = f"; did you mean {near[0]}?" if near[0] != key else ""
        value = setting.partition("=")[2] or "…"
        hint = f"write {near[0] if near[0] in _FLAGS else f'{near[0]}={value}'}"
    return MigrationRefused(
        f"{where}: '-- migrate: {setting}' is unknown{meant}; there is {', '.join(known)}", hint
    )


def _phase(value: str) -> Phase:
    if value not in set(Phase):
        raise ValueError("write phase=expand or phase=contract")
    return Phase(value)


def _length(value: str) -> timedelta:
    length = parse_duration(value)
    if length <= timedelta():
        raise ValueError("a limit must be longer than zero: without one, traffic could stall")
    return length


def _names(value: str) -> frozenset[str]:
    return frozenset(name for name in value.split(",") if name)


_FLAGS: dict[str, dict[str, Any]] = {
    "no-transaction": {"in_transaction": False},
    "idempotent": {"idempotent": True},
}
_READERS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "phase": ("phase", _phase),
    "min-app": ("min_app", parse_version),
    "lock-timeout": ("lock_timeout", _length),
    "lock-budget": ("lock_budget", _length),
    "statement-timeout": ("statement_timeout", _length),
    "allow": ("allows", _names),
    "reason": ("reason", str.strip),
}


def _refuse_contradictions(filename: str, header: Header) -> None:
    problem = ""
    if header.min_app and header.phase is not Phase.CONTRACT:
        problem = (
            "min-app is for phase=contract: every release runs on the schema of an expand file"
        )
    elif header.idempotent and header.in_transaction:
        problem = "idempotent is for no-transaction: a transaction leaves nothing behind"
    elif header.allows and not header.reason:
        problem = f'allow={",".join(sorted(header.allows))} needs a reason="…" beside it'
    elif header.reason and not header.allows:
        problem = "reason is for allow=…"
    if problem:
        raise MigrationRefused(f"{filename}:1: {problem}", _HINT)
