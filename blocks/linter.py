"""squawk, the linter of migrations: one run over all pending files.

It works offline and changes nothing. What its findings mean is decided in
release/migration/lint/findings.py.
"""

import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from blocks.program import run
from release.errors import Unreachable
from release.migration.files import MigrationFile
from release.migration.lint.squawk import (
    OPT_IN,
    SYNTAX_ERROR,
    SquawkFinding,
    offset_of,
    without_unreadable,
)
from release.wording import count_of

LINT_TIMEOUT = timedelta(seconds=60)  # 1,000 files take about 0.2 s, one of 50 MB about 1 s

_FOUND_NOTHING, _FOUND_SOMETHING = 0, 1  # squawk's exit codes
# Only the file's header allows anything, because it asks for a reason.
_OWN_COMMENTS = re.compile(r"squawk-(?=ignore|disable|enable)")


def run_squawk(
    files: Iterable[MigrationFile],
    server_version: int | None = None,
    timeout: timedelta = LINT_TIMEOUT,
) -> tuple[SquawkFinding, ...]:
    """What squawk says about some files, in the order of files and lines.

    ``server_version`` is the server's as libpq gives it (150018 for 15.18); None takes squawk's
    own assumption. Comments such as ``-- squawk-ignore`` and a ``.squawk.toml`` do not count. The
    part of a file that squawk can read is linted even if another part has a syntax error.
    Raises Unreachable if squawk is missing, fails or takes longer than ``timeout``.
    """
    files = tuple(files)
    found: list[SquawkFinding] = []
    for in_transaction in (True, False):
        group = {file.filename: file for file in files if file.in_transaction is in_transaction}
        run = _Run(in_transaction, server_version, timeout)
        said = run.over({name: file.sql for name, file in group.items()})
        unread = {f.filename for f in said if f.rule == SYNTAX_ERROR}
        again = {name: without_unreadable(group[name], _of(name, said)) for name in sorted(unread)}
        found += [*said, *run.over(again)]
    order = {file.filename: number for number, file in enumerate(files)}
    return tuple(sorted(found, key=lambda f: (order[f.filename], f.line, f.column)))


class _Run:
    """How squawk is started for files that run alike."""

    def __init__(
        self, in_transaction: bool, server_version: int | None, timeout: timedelta
    ) -> None:
        self.timeout = timeout
        self.options = ["--reporter=json", "--config=squawk.toml"]
        self.options += [f"--include={rule}" for rule in OPT_IN]
        if in_transaction:
            self.options.append("--assume-in-transaction")
        if server_version is not None:
            major, minor = divmod(server_version, 10_000)
            self.options.append(f"--pg-version={major}.{minor}")

    def over(self, texts: Mapping[str, str]) -> list[SquawkFinding]:
        if not texts:
            return []
        with tempfile.TemporaryDirectory(prefix="ignition-lint-") as folder:
            # An empty one: otherwise squawk looks for one in every folder above.
            Path(folder, "squawk.toml").touch()
            for name, sql in texts.items():
                text = _OWN_COMMENTS.sub("squawk_", sql)
                Path(folder, name).write_text(text, encoding="utf-8", newline="")
            said = self._say(folder, list(texts))
        return [_finding(entry, texts) for entry in said]

    def _say(self, folder: str, names: Sequence[str]) -> list[dict[str, Any]]:
        command = [_program(), *self.options, *names]
        try:
            done = run(command, self.timeout, cwd=Path(folder))
        except OSError as error:
            raise _silent(f"could not be started: {error.strerror}") from None
        except subprocess.TimeoutExpired:
            limit = f"{self.timeout.total_seconds():g} s"
            raise _silent(f"took longer than {limit} for {count_of(len(names), 'file')}") from None
        if done.returncode not in (_FOUND_NOTHING, _FOUND_SOMETHING):
            raise _silent(f"ended with {done.returncode}: {_last_line(done.stderr)}")
        try:
            said: list[dict[str, Any]] = json.loads(done.stdout)
        except json.JSONDecodeError:
            raise _silent(f"gave no findings: {_last_line(done.stderr)}") from None
        return said


def _program() -> str:
    beside = Path(sys.executable).with_name("squawk")
    found = str(beside) if beside.exists() else shutil.which("squawk")
    if found is None:
        raise Unreachable("squawk, the linter of migrations, is not installed", "make setup")
    return found


def _of(name: str, findings: Iterable[SquawkFinding]) -> list[SquawkFinding]:
    return [finding for finding in findings if finding.filename == name]


def _finding(entry: Mapping[str, Any], texts: Mapping[str, str]) -> SquawkFinding:
    """Read one finding. squawk counts lines from 0, and columns in bytes."""
    name, line, column = Path(entry["file"]).name, entry["line"] + 1, entry["column"]
    sql = texts[name]
    if not sql.isascii():
        start = offset_of(sql, line, 0)
        before = sql[start : start + column].encode()[:column]
        column = len(before.decode(errors="ignore"))
    return SquawkFinding(
        name, line, column, entry["rule_name"], entry["message"], entry["help"] or ""
    )


def _last_line(text: bytes) -> str:
    lines = [line.strip() for line in text.decode(errors="replace").splitlines() if line.strip()]
    return lines[-1] if lines else "without a word"


def _silent(why: str) -> Unreachable:
    return Unreachable(
        f"squawk, the linter of migrations, {why}", "squawk --version, then make setup"
    )
