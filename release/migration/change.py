"""What a deployment is going to do to the schema, and what it leaves for a later one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from release.duration import say_duration
from release.migration.contract import Contract, due_contract
from release.migration.files import AppliedMigration, MigrationFile, MigrationPlan
from release.model import Release
from release.wording import count_of


@dataclass(frozen=True, slots=True)
class SchemaChange:
    """The pending migrations of a release, divided by when they run."""

    expand: tuple[MigrationFile, ...] = ()
    contract: Contract = field(default_factory=Contract)
    warnings: tuple[str, ...] = ()  # of the lint, a line each
    stands_at: str = ""  # newest applied version; "" for none
    applied: int = 0  # files that are done
    unfinished: tuple[AppliedMigration, ...] = ()  # begun without a transaction, to be finished

    @property
    def files(self) -> tuple[MigrationFile, ...]:
        """What this deployment applies."""
        return (*self.expand, *self.contract.due)

    def lines(self, environment: str) -> list[str]:
        """The plan of the schema for a terminal: a line for each pending file, in order."""
        stands = f"stands at {self.stands_at}" if self.stands_at else "has no migration yet"
        head = f"{environment} {stands}, {count_of(self.applied, 'file')} applied"
        pending = [
            *((file, "before the rollout") for file in self.expand),
            *((file, "after the watch") for file in self.contract.due),
            *((file, f"waits: {self.contract.why}") for file in self.contract.waiting),
        ]
        if not pending:
            return [f"{head}; nothing is pending"]
        return [head, *(self._line(file, when) for file, when in pending), *self.warnings]

    def _line(self, file: MigrationFile, when: str) -> str:
        begun = next((row for row in self.unfinished if row.version == file.version), None)
        how = "one transaction" if file.in_transaction else "statement by statement"
        if begun:
            how = f"goes on: {begun.statements_done} of {begun.statements_total} statements done"
        return f"  {file.filename}  {when}, {how}  sha256 {file.checksum[:12]}"


def schema_change(
    plan: MigrationPlan,
    rollback_target: Release | None,
    known_to_target: Mapping[str, str] | None,
    warnings: tuple[str, ...] = (),
) -> SchemaChange:
    """Divide a plan's pending files. See :func:`release.migration.contract.due_contract`."""
    return SchemaChange(
        plan.expand,
        due_contract(plan.contract, rollback_target, known_to_target),
        warnings,
        plan.schema_version,
        len(plan.applied),
        plan.unfinished,
    )


def applied_report(rows: Sequence[AppliedMigration], environment: str) -> str:
    """Who applied what to an environment, when, for how long, and what it waited for."""
    if not rows:
        return f"No migration was pending in {environment}."
    lines = [
        "| File | Phase | At (UTC) | Took | Lock waits | Tries | Statements | By | Release |",
        "|---|---|---|---|---|---|---|---|---|",
        *(_applied_line(row) for row in rows),
    ]
    return "\n".join(lines) + "\n"


def _applied_line(row: AppliedMigration) -> str:
    at = f"{row.applied_at:%Y-%m-%d %H:%M:%S}" if row.applied_at else ""
    took = say_duration(timedelta(milliseconds=row.duration_ms)) if row.duration_ms else ""
    statements = f"{row.statements_done} of {row.statements_total}" if row.statements_total else ""
    cells = (
        *(f"`{row.filename}`", row.phase, at, took, str(row.lock_waits), str(row.attempts)),
        *(statements or "one transaction", row.applied_by, f"{row.app_version} {row.git_sha[:12]}"),
    )
    return "| " + " | ".join(cells) + " |"
