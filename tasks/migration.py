"""Database migrations (runbook, step 3): apply what is pending, then show the check."""

from collections.abc import Sequence
from datetime import timedelta

from prefect import get_run_logger
from prefect.artifacts import create_table_artifact

from blocks.target import Target
from release.migration import AppliedMigration, MigrationFile
from release.model import Release
from release.wording import count_of
from tasks.step import step


@step("Run migrations", timeout=timedelta(hours=2), retries=3)
def apply_migrations(
    target: Target,
    files: Sequence[MigrationFile],
    release: Release,
    run_id: str,
    run: str,
    key: str,
) -> tuple[AppliedMigration, ...]:
    """Apply the files in order, and return the records of those that were pending.

    Safe to repeat: what is recorded is skipped. ``key`` tells the expand files, before the rollout,
    from the contract files, after the watch.
    """
    log = get_run_logger()
    log.info("[%s] 3. Migrate  %s", run, count_of(len(files), f"{key} migration"))
    applied = target.database.apply(
        files,
        deploy_id=run_id,
        revision=release.revision,
        version=release.version,
        on_event=lambda line: log.info("[%s] 3. Migrate  %s", run, line),
    )
    show_schema(target, run)
    return applied


def show_schema(target: Target, run: str) -> None:
    """The runbook's check, ``SELECT * FROM schema_migrations …``, as a table artifact."""
    rows = target.database.latest()
    create_table_artifact(
        key=f"schema-migrations-{target.environment}",
        table=[
            {name: "" if cell is None else str(cell) for name, cell in row.items()} for row in rows
        ],
        description="SELECT * FROM schema_migrations ORDER BY version DESC LIMIT 5",
    )
    newest = rows[0]["version"] if rows else "no migration"
    get_run_logger().info("[%s] 3. Migrate  %s stands at %s", run, target.environment, newest)
