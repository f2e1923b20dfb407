"""`ignition plan`: what a deployment would do to a schema. Changes nothing."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blocks.postgres.database import read_folder
from cli.target import build_target
from release.migration.change import SchemaChange
from release.rollback.baseline import serving_release
from settings import Settings
from tasks.baseline import serving
from tasks.migration import plan_files, read_schema_change


@dataclass(frozen=True)
class PlanView:
    """The plan of one environment's schema."""

    environment: str
    change: SchemaChange

    def lines(self) -> list[str]:
        return self.change.lines(self.environment)

    def as_json(self) -> dict[str, Any]:
        change = self.change
        return {
            "environment": self.environment,
            "stands_at": change.stands_at,
            "before_the_rollout": [file.filename for file in change.expand],
            "after_the_watch": [file.filename for file in change.contract.due],
            "waiting": [file.filename for file in change.contract.waiting],
            "waits_for": change.contract.why,
            "warnings": list(change.warnings),
            "checksums": {
                file.filename: file.checksum for file in (*change.files, *change.contract.waiting)
            },
        }


def plan(settings: Settings, environment: str, ref: str, folder: Path | None) -> PlanView:
    """Plan the migrations of a commit, or of a folder of files that is not committed yet.

    Raises what the deployment's own plan raises: MigrationRefused, SourceRefused, Unreachable.
    """
    target = build_target(settings, environment)
    release = serving_release(environment, serving(target))
    if folder is not None:
        return PlanView(environment, plan_files(target, read_folder(folder), release, None))
    target.repository.fetch()
    revision = target.repository.resolve(ref)
    return PlanView(environment, read_schema_change(target, revision, release, settings.service))
