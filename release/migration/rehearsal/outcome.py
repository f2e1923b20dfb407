"""The rehearsal of pending migrations on a copy of the target's schema, and what follows from it.

What a copy shows: whether the files run at all, the locks that each statement takes, the tables
that it rewrites or reads whole, and whether what the running release says is still understood.
What it cannot show: how long a statement takes on the target, because the copy holds no rows; so
the target's own sizes stand beside each finding.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum

from release.duration import say_duration
from release.errors import MigrationRefused
from release.migration.files import MigrationFile
from release.migration.lint.rules import BREAKING
from release.migration.rehearsal.compatibility import (
    Broken,
    Restriction,
    RollbackVerdict,
    StatementCheck,
)
from release.migration.rehearsal.trace import Failure, StatementTrace
from release.model import Check
from release.wording import count_of


class SmokeOutcome(StrEnum):
    """How the old release's smoke tests ended on the new schema."""

    PASSED = "passed"
    FAILED = "failed"
    NOT_RUN = "not run"


@dataclass(frozen=True, slots=True)
class SmokeResult:
    """The old release's smoke tests on the new schema.

    They count as failed only if they passed on the same copy before the migrations.
    """

    outcome: SmokeOutcome = SmokeOutcome.NOT_RUN
    reason: str = "no old release was started on the copy"

    @property
    def sentence(self) -> str:
        return f"{self.outcome}: {self.reason}" if self.reason else self.outcome.value


@dataclass(frozen=True, slots=True)
class TableSize:
    """How large a table is on the target."""

    table: str
    size: int  # bytes, with its indexes and TOAST
    rows: int | None  # as the planner estimates; None: never analysed

    def __str__(self) -> str:
        rows = "rows unknown" if self.rows is None else f"about {count_of(self.rows, 'row')}"
        return f"{self.table} ({say_bytes(self.size)}, {rows})"


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """All that a rehearsal found. It holds no secret, and no value of a row."""

    files: tuple[str, ...]
    took: timedelta = timedelta()
    traces: tuple[StatementTrace, ...] = ()
    sizes: tuple[TableSize, ...] = ()  # on the target, of the tables that the traces name
    statements: StatementCheck = field(default_factory=StatementCheck)
    restrictions: tuple[Restriction, ...] = ()
    smoke: SmokeResult = SmokeResult()
    failure: Failure | None = None
    reason: str = ""  # why it was not rehearsed

    @property
    def verdict(self) -> tuple[RollbackVerdict, str]:
        """Whether the old release can run on the new schema, in one sentence.

        Safe needs a proof: all recorded statements still prepare, or the old release's smoke tests
        pass. A statement that is refused, and smoke tests that fail now, make it unsafe. What
        depends on the values that the old release writes leaves it unknown.
        """
        return _judge(self)

    def lines(self) -> list[str]:
        """The rehearsal in a few lines, as a gate shows it."""
        if self.reason:
            return [f"not rehearsed: {self.reason}"]
        head = f"rehearsed {count_of(len(self.files), 'file')} in {say_duration(self.took)}"
        lines = [f"{head} on a copy of the schema without rows"]
        if self.failure:
            return [*lines, f"it failed: {self.failure}"]
        lines += [self._trace_line(trace) for trace in self.traces if trace.noteworthy]
        if len(lines) == 1:
            lines.append("no statement takes a lock that traffic would notice")
        lines.append(f"running release: {self.statements.sentence}")
        lines += [f"broken: {_broken(broken)}" for broken in self.statements.broken[:5]]
        lines += [restriction.sentence for restriction in self.restrictions]
        lines.append(f"old release's smoke tests on the new schema: {self.smoke.sentence}")
        return lines

    def markdown(self) -> str:
        """The rehearsal as an artifact."""
        verdict, why = self.verdict
        head = "\n".join(f"- {line}" for line in self.lines())
        parts = [f"# Rehearsal\n\nA code-only rollback is **{verdict}**: {why}.\n\n{head}\n"]
        if self.traces:
            rows = [
                f"| {trace.place} | `{_cell(trace.text_short)}` | {_cell(self._effect(trace))} "
                f"| {say_duration(trace.took)} |"
                for trace in self.traces
            ]
            parts += ["| Line | Statement | Effect | Took, without rows |\n|---|---|---|---|"]
            parts += [*rows, ""]
        if self.statements.broken:
            parts += ["| Statement of the running release | Why it breaks | Calls |\n|---|---|---|"]
            parts += [
                f"| `{_cell(b.statement)}` | {_cell(b.reason)} | {b.calls} |"
                for b in self.statements.broken
            ]
        return "\n".join(parts).rstrip() + "\n"

    def _trace_line(self, trace: StatementTrace) -> str:
        return f"{trace.place} `{trace.text_short}`: {self._effect(trace)}"

    def _effect(self, trace: StatementTrace) -> str:
        """What a statement does to traffic, with the target's own sizes."""
        found = [str(lock) for lock in trace.locks if lock.blocks]
        found += [f"rewrites {self._sized(table)}" for table in trace.rewrites]
        found += [f"reads all of {self._sized(table)}" for table in trace.reads]
        if not trace.traced:
            found.append("outside of a transaction, its locks were not seen")
        if trace.times > 1:
            found.append(f"{trace.times} times")
        return "; ".join(found) or "no new lock that blocks traffic"

    def _sized(self, table: str) -> str:
        return next((str(size) for size in self.sizes if size.table == table), table)


def refuse_breaking(rehearsal: Rehearsal, files: Iterable[MigrationFile]) -> None:
    """Raise MigrationRefused if expand files break the release that serves while they run.

    A file whose header allows ``breaking-running-release`` takes that upon itself, with a reason.
    """
    verdict, why = rehearsal.verdict
    if verdict is RollbackVerdict.UNSAFE and not any(BREAKING.name in f.allows for f in files):
        raise MigrationRefused(
            f"{', '.join(rehearsal.files)}: {why} [{BREAKING.name}]", BREAKING.recipe
        )


def not_rehearsed(reason: str, files: Sequence[MigrationFile] = ()) -> Rehearsal:
    """A rehearsal that did not take place, and why."""
    return Rehearsal(tuple(file.filename for file in files), reason=reason)


def compare_smoke(control: Check, after: Check) -> SmokeResult:
    """The smoke tests after the migrations, against the same tests on the same copy before them."""
    if not control.passed:
        said = f"before the migrations they fail on the copy too: {_first_line(control)}"
        return SmokeResult(SmokeOutcome.NOT_RUN, said)
    if after.passed:
        return SmokeResult(SmokeOutcome.PASSED, "")
    return SmokeResult(SmokeOutcome.FAILED, _first_line(after))


def say_bytes(size: int) -> str:
    """A size as people write it: ``8 kB``, ``1.2 GB``."""
    number = float(size)
    for unit in ("bytes", "kB", "MB", "GB"):
        if number < 1024:
            return (
                f"{number:.0f} {unit}" if number >= 10 or unit == "bytes" else _tenth(number, unit)
            )
        number /= 1024
    return f"{number:.0f} TB" if number >= 10 else _tenth(number, "TB")


def _first_line(check: Check) -> str:
    return (check.sentence.splitlines() or [check.name])[0]


def _tenth(number: float, unit: str) -> str:
    return f"{number:.1f} {unit}".replace(".0 ", " ")


def _judge(rehearsal: Rehearsal) -> tuple[RollbackVerdict, str]:
    if not rehearsal.files:
        return RollbackVerdict.SAFE, "no schema change before the watch has passed"
    if rehearsal.reason:
        return RollbackVerdict.UNKNOWN, f"not rehearsed: {rehearsal.reason}"
    if rehearsal.failure:
        return RollbackVerdict.UNKNOWN, f"the rehearsal failed: {rehearsal.failure}"
    unsafe = _unsafe(rehearsal)
    if unsafe:
        return RollbackVerdict.UNSAFE, unsafe
    possible = [restriction.sentence for restriction in rehearsal.restrictions]
    if possible:
        more = f" (and {len(possible) - 1} more)" if len(possible) > 1 else ""
        why = f"it depends on what the old release writes: {possible[0]}{more}"
        return RollbackVerdict.UNKNOWN, why
    statements, smoke = rehearsal.statements, rehearsal.smoke
    passed = smoke.outcome is SmokeOutcome.PASSED
    if passed and statements.checked:
        return RollbackVerdict.SAFE, f"{statements.sentence}, and its smoke tests pass on it"
    if passed:
        return RollbackVerdict.SAFE, "the old release's smoke tests pass on the new schema"
    if statements.complete:
        return RollbackVerdict.SAFE, statements.sentence
    return (
        RollbackVerdict.UNKNOWN,
        f"{statements.sentence}; the old release's smoke tests: {smoke.sentence}",
    )


def _unsafe(rehearsal: Rehearsal) -> str:
    """Why the old release does not work on the new schema; "" if nothing shows that it does not."""
    broken = rehearsal.statements.broken
    if broken:
        checked = rehearsal.statements.checked
        verb = "does" if len(broken) == 1 else "do"
        return (
            f"{len(broken)} of {checked} statements of the running release {verb} not prepare any "
            f"more, such as {_broken(broken[0])}"
        )
    certain = [r.sentence for r in rehearsal.restrictions if r.certain]
    if certain:
        return certain[0]
    if rehearsal.smoke.outcome is SmokeOutcome.FAILED:
        return f"the old release's smoke tests fail on the new schema: {rehearsal.smoke.reason}"
    return ""


def _broken(broken: Broken) -> str:
    return f"`{broken.statement}`: {broken.reason}"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ").replace("`", "'")
