"""The rehearsal of pending migrations: what they would do, and whether a rollback stays safe."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from logging import DEBUG
from typing import Protocol

from prefect.artifacts import create_markdown_artifact
from pydantic import SecretStr

from blocks.orchestrator import Orchestrator
from blocks.postgres.database import Database
from blocks.postgres.rehearsal import Rehearsal
from blocks.service import Service, SmokeTests
from release.configuration.layout import ServiceLayout
from release.migration.files import MigrationFile
from release.migration.rehearsal import outcome as rehearsal
from release.model import Baseline, Check, Release, image_of
from release.verification import check_smoke
from tasks.say import say, sayer
from tasks.step import step, write_report
from tasks.verification import Source


class Rehearsable(Protocol):
    """What a rehearsal needs of a target."""

    @property
    def environment(self) -> str: ...
    @property
    def database(self) -> Database: ...
    @property
    def rehearsal(self) -> Rehearsal: ...
    @property
    def orchestrator(self) -> Orchestrator: ...
    @property
    def service(self) -> Service: ...
    @property
    def repository(self) -> Source: ...


@dataclass(frozen=True)
class OldRelease:
    """The release that serves now, started once more beside itself, on a copy of its schema."""

    target: Rehearsable
    release: Release
    service: ServiceLayout
    smoke_timeout: timedelta
    healthy_within: timedelta

    @contextmanager
    def __call__(self, dsn: SecretStr) -> Iterator[Callable[[], Check]]:
        """Start it on the database, and give what runs its own smoke tests against it."""
        variables = {self.target.rehearsal.database_variable: dsn}
        image = image_of(self.release)
        beside = self.target.orchestrator.apart(image, variables, self.healthy_within)
        exported = self.target.repository.export(self.release.revision)
        with exported as tree, beside as instance:
            address = self.target.orchestrator.reach(instance, self.service.port)
            there = self.target.service.at(address)
            command, version = self.service.smoke, self.release.version
            tests = SmokeTests(command, tree, version, self.smoke_timeout)

            def smoke() -> Check:
                ran = there.run_smoke(tests, lambda line: say(f"smoke | {line}", DEBUG))
                return check_smoke(ran.exit_code, ran.output, ran.took)

            yield smoke


def old_release(
    target: Rehearsable,
    baseline: Baseline,
    service: ServiceLayout,
    smoke_timeout: timedelta,
    healthy_within: timedelta,
) -> OldRelease | None:
    """The release that serves, by digest, with its own smoke tests. Returns None if none does."""
    release = baseline.release
    if release is None or release.image is None:
        return None
    layout = baseline.layout(service)  # not the smoke tests of the next release
    return OldRelease(target, release, layout, smoke_timeout, healthy_within)


@step("Rehearse migrations", timeout=timedelta(minutes=30))
def rehearse_migrations(
    target: Rehearsable,
    files: Sequence[MigrationFile],
    old: OldRelease | None,
) -> rehearsal.Rehearsal:
    """Apply the expand files to a copy of the target's schema, and write the artifact.

    The old release's smoke tests run on the copy if its server can be reached from a container.
    Raises nothing that the files or the copy do.
    """
    found = target.rehearsal.rehearse(target.database, files, old, sayer())
    for line in found.lines():
        say(line)
    write_report(
        partial(
            create_markdown_artifact,
            key=f"rehearsal-{target.environment}",
            markdown=found.markdown(),
            description=f"code-only rollback: {found.verdict[0]}",
        )
    )
    return found
