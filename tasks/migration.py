"""Database migrations (runbook, step 3): plan what is pending, apply it, then show the check."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from logging import WARNING

from prefect.artifacts import create_markdown_artifact, create_table_artifact

from blocks.linter import run_squawk
from blocks.postgres.adoption import refuse_foreign_history
from blocks.target import Target
from release.configuration.layout import ServiceLayout
from release.errors import MigrationRefused, Unreachable
from release.migration.change import SchemaChange, applied_report, schema_change
from release.migration.contract import refuse_contracted, refuse_while_older_runs
from release.migration.files import (
    AppliedMigration,
    MigrationFile,
    Stamp,
    plan_migrations,
    read_migrations,
)
from release.migration.header import Phase
from release.migration.lint.findings import lint_all
from release.model import Baseline, Release
from release.wording import count_of
from tasks.say import say, sayer
from tasks.step import step


@step("Plan migrations", timeout=timedelta(minutes=3), retries=3)
def plan_schema(
    target: Target, revision: str, baseline: Baseline, service: ServiceLayout
) -> SchemaChange:
    """Compare the release's files with what the database holds; nothing is changed."""
    change = read_schema_change(target, revision, baseline.release, service)
    due, later = len(change.contract.due), len(change.contract.waiting)
    say(
        f"{count_of(len(change.expand), 'migration')}, {due} after the watch, "
        f"{later} for a later deployment"
    )
    return change


def read_schema_change(
    target: Target, revision: str, rollback_target: Release | None, service: ServiceLayout
) -> SchemaChange:
    """The pending migrations of a commit. Raises MigrationRefused; the database is only read."""
    files = read_migrations(target.repository.files(revision, service.migrations, ".sql"))
    contract = any(file.phase is Phase.CONTRACT for file in files)
    known = _known_to(target, rollback_target, service) if contract else None
    return plan_files(target, files, rollback_target, known)


def plan_files(
    target: Target,
    files: Sequence[MigrationFile],
    rollback_target: Release | None,
    known_to_target: Mapping[str, str] | None,
) -> SchemaChange:
    """What of ``files`` is pending, and when it runs. Raises MigrationRefused."""
    applied = target.database.applied()
    refuse_foreign_history(target.database, files, applied, target.environment)
    plan = plan_migrations(files, applied)
    warnings = lint_all(plan.pending, run_squawk(plan.pending, target.database.server_version()))
    return schema_change(plan, rollback_target, known_to_target, warnings)


def _known_to(
    target: Target, release: Release | None, service: ServiceLayout
) -> dict[str, str] | None:
    """The migrations that a release came with: file name → checksum. Returns None if that is not
    known."""
    if release is None or not target.repository.knows(release.revision):
        return None
    contents = target.repository.files(release.revision, service.migrations, ".sql")
    with suppress(MigrationRefused):  # it was deployed when more was accepted
        return {file.filename: file.checksum for file in read_migrations(contents)}
    return None


@step("Run migrations", timeout=timedelta(hours=2), retries=3)
def apply_migrations(
    target: Target,
    files: Sequence[MigrationFile],
    stamp: Stamp,
    *,
    key: str,
) -> tuple[AppliedMigration, ...]:
    """Apply the files in order, and return the records of those that were pending.

    Safe to repeat: what is recorded is skipped. ``key`` tells the expand files, before the rollout,
    from the contract files, after the watch.
    """
    say(count_of(len(files), f"{key} migration"))
    applied = target.database.apply(files, stamp, sayer())
    show_schema(target, applied)
    return applied


@step("Check for older releases", timeout=timedelta(minutes=1), retries=2)
def refuse_older_releases(target: Target, files: Sequence[MigrationFile], release: Release) -> None:
    """Contract files remove what an older release needs, so none may run any more."""
    refuse_while_older_runs(files, target.orchestrator.instances(), release)


@step("Check schema", timeout=timedelta(minutes=1), retries=2)
def check_schema(target: Target, baseline: Baseline) -> None:
    """Refuse to go back to a release whose schema a contract migration has removed.

    A database that does not answer stops no rollback: at 3 am it may be what is being fixed.
    """
    try:
        applied = target.database.applied()
    except Unreachable as error:
        say(f"the schema was not checked: {error.what}", WARNING)
        return
    unsure = refuse_contracted(baseline.release, applied, target.environment)
    say(f"schema: {unsure or 'no contract in the way'}")


def show_schema(target: Target, applied: Sequence[AppliedMigration]) -> None:
    """The runbook's check, ``SELECT * FROM schema_migrations …``, as a table artifact; and who ran
    what, when, for how long, and what it waited for."""
    rows = target.database.latest()
    create_table_artifact(
        key=f"schema-migrations-{target.environment}",
        table=[
            {name: "" if cell is None else str(cell) for name, cell in row.items()} for row in rows
        ],
        description="SELECT * FROM schema_migrations ORDER BY version DESC LIMIT 5",
    )
    create_markdown_artifact(
        key=f"migrations-{target.environment}",
        markdown=applied_report(applied, target.environment),
        description=f"{count_of(len(applied), 'migration')} applied",
    )
    newest = rows[0]["version"] if rows else "no migration"
    say(f"{target.environment} stands at {newest}")
