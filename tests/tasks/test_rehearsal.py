"""The rehearsal with the example backend's own release, smoke tests and database."""

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from prefect import flow
from psycopg import sql
from pydantic import SecretStr

from blocks.auth import AuthFlow
from blocks.compose.orchestrator import ComposeOrchestrator
from blocks.postgres.database import Database
from blocks.postgres.rehearsal import Rehearsal
from blocks.repository import Repository
from blocks.service import Service
from release.configuration.layout import ServiceLayout
from release.migration.files import MigrationFile, read_migration
from release.migration.rehearsal import outcome as rehearsal
from release.migration.rehearsal.compatibility import RollbackVerdict
from release.migration.rehearsal.outcome import SmokeOutcome
from release.model import Baseline, ImageRef, Release
from sandbox.layout import BASELINE_VERSION, Ports, Sandbox
from sandbox.parts import engine, environments, images, origin, postgres, registry
from sandbox.parts.stack import ensure_release
from tasks.rehearsal import old_release, rehearse_migrations
from tests.fakes.project import free_ports

pytestmark = pytest.mark.engine


@dataclass(frozen=True)
class Staging:
    """The part of a target that a rehearsal needs, with a release that serves."""

    environment: str
    database: Database
    rehearsal: Rehearsal
    orchestrator: ComposeOrchestrator
    service: Service
    repository: Repository
    release: Release
    superuser: str  # connection string of the server

    def copies(self) -> list[str]:
        with psycopg.connect(self.superuser) as connection:
            rows = connection.execute("SELECT datname FROM pg_database").fetchall()
        return [name for (name,) in rows if name.startswith("ignition_rehearsal")]


@pytest.fixture(scope="module")
def staging() -> Iterator[Staging]:
    """The sandbox's staging environment, with all that it stands on."""
    with tempfile.TemporaryDirectory(prefix="ignition-") as folder, engine.engine_in_use():
        names = ("registry", "postgres", "production", "staging", "prometheus", "prefect")
        ports = Ports(**dict(zip(names, free_ports(len(names)), strict=True)))
        sandbox = Sandbox(folder=Path(folder) / f"rehearsal-{ports.staging}", ports=ports)
        try:
            yield stand_up(sandbox)
        finally:
            environments.remove_environment(sandbox.staging)
            postgres.remove_postgres(sandbox, keep_data=False)
            registry.remove_registry(sandbox)


def stand_up(sandbox: Sandbox) -> Staging:
    engine.ensure_engine()
    for image in (images.ensure_base, images.ensure_proxy, images.ensure_postgres):
        image()
    origin.ensure_origin(sandbox.origin)
    registry.ensure_registry(sandbox)
    postgres.ensure_postgres(sandbox)
    image = ImageRef(sandbox.image_repository, ensure_release(sandbox))
    environment = sandbox.staging
    environments.ensure_environment(sandbox, environment, str(image))
    repository = Repository(url=str(sandbox.origin), workspace=sandbox.folder / "repository.git")
    repository.fetch()
    seed = sql.SQL("INSERT INTO users (username, password_hash) VALUES ({}, {})").format(
        sandbox.seed_username, environments.password_hash(sandbox.seed_password)
    )
    return Staging(
        environment="staging",
        database=Database(dsn=SecretStr(environment.database_url)),
        rehearsal=Rehearsal(
            dsn=SecretStr(sandbox.database_url("postgres")),
            container_dsn=SecretStr(sandbox.container_database_url("postgres")),
            seed=SecretStr(seed.as_string()),
        ),
        orchestrator=ComposeOrchestrator(directory=environment.host_folder),
        service=Service(
            url=environment.public_url,
            auth=AuthFlow(
                username=sandbox.seed_username, password=SecretStr(sandbox.seed_password)
            ),
        ),
        repository=repository,
        release=Release(BASELINE_VERSION, origin.revision(sandbox.origin, BASELINE_VERSION), image),
        superuser=sandbox.database_url("postgres"),
    )


@pytest.fixture
def rehearse(staging: Staging, prefect_server: None) -> Callable[[str], rehearsal.Rehearsal]:
    """Rehearse one migration, as a flow does."""
    baseline = Baseline(
        environment="staging",
        release=staging.release,
        instances=tuple(i.id for i in staging.orchestrator.instances()),
        schema_version="0001",
        error_rate=None,
        p95=None,
        taken_at=datetime(2026, 11, 22, tzinfo=UTC),
    )

    @flow
    def plan(file: Any) -> rehearsal.Rehearsal:
        layout, within = ServiceLayout(name="api"), timedelta(seconds=60)
        old = old_release(staging, baseline, layout, timedelta(minutes=5), within)
        return rehearse_migrations(staging, [file], old)

    def run(text: str) -> rehearsal.Rehearsal:
        file: MigrationFile = read_migration("0002_step.sql", text.encode())
        found: rehearsal.Rehearsal = plan(file)
        return found

    return run


@pytest.mark.parametrize(
    ("migration", "outcome", "verdict"),
    [
        ("ALTER TABLE items ADD COLUMN note text", SmokeOutcome.PASSED, RollbackVerdict.SAFE),
        ("ALTER TABLE items RENAME name TO title", SmokeOutcome.FAILED, RollbackVerdict.UNSAFE),
        # Every statement is still understood; what it is to find is gone.
        ("UPDATE users SET username = 'x'", SmokeOutcome.FAILED, RollbackVerdict.UNSAFE),
    ],
)
def test_the_release_that_serves_runs_its_own_smoke_tests_on_the_new_schema(
    staging: Staging,
    rehearse: Callable[[str], rehearsal.Rehearsal],
    artifact: Callable[[str], Any],
    migration: str,
    outcome: SmokeOutcome,
    verdict: RollbackVerdict,
) -> None:
    """Users meet the same containers as before, and nothing is left."""
    before = staging.orchestrator.instances()
    listing = staging.orchestrator.listing()

    found = rehearse(migration)

    assert found.smoke.outcome is outcome, found.smoke
    assert found.verdict[0] is verdict
    assert f"A code-only rollback is **{verdict}**" in artifact("rehearsal-staging")
    assert staging.orchestrator.instances() == before
    assert staging.orchestrator.listing().count("\n") == listing.count("\n")
    assert staging.service.version()[0] == BASELINE_VERSION
    assert staging.copies() == []
    assert [row.version for row in staging.database.applied()] == ["0001"]
