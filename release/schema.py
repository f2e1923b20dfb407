"""What a deployment is going to do to the schema, and what it leaves for a later one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from release.contract import Contract, due_contract
from release.duration import say_duration
from release.migration import AppliedMigration, MigrationFile, MigrationPlan
from release.model import Release


@dataclass(frozen=True, slots=True)
class SchemaChange:
    """The pending migrations of a release, divided by when they run."""

    expand: tuple[MigrationFile, ...] = ()
    contract: Contract = field(default_factory=Contract)
    warnings: tuple[str, ...] = ()  # of the lint, a line each

    @property
    def files(self) -> tuple[MigrationFile, ...]:
        """What this deployment applies."""
        return (*self.expand, *self.contract.due)


def schema_change(
    plan: MigrationPlan,
    rollback_target: Release | None,
    known_to_target: Mapping[str, str] | None,
    warnings: tuple[str, ...] = (),
) -> SchemaChange:
    """Divide a plan's pending files. See :func:`release.contract.due_contract`."""
    contract = due_contract(plan.contract, rollback_target, known_to_target)
    return SchemaChange(plan.expand, contract, warnings)


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
