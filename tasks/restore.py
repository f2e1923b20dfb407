"""The two ends of a rollback: which release to go back to, and whether it serves."""

from datetime import UTC, datetime, timedelta

from prefect import get_run_logger

from blocks.target import Target
from release.baseline import NOTHING, baseline_from, previous_release, release_of_image
from release.errors import BadRequest
from release.image import REVISION_LABEL, VERSION_LABEL
from release.layout import ServiceLayout
from release.model import Baseline, ImageRef, Release
from release.rules import RolloutRules
from tasks.baseline import serving
from tasks.step import step


@step("Find baseline", timeout=timedelta(minutes=2), retries=2)
def find_baseline(
    target: Target, to: str, service: ServiceLayout, rules: RolloutRules, run: str
) -> Baseline:
    """The release that ``to`` names: an image by digest, a version, nothing, or (empty) the one
    that served before the present one."""
    release = _named(target, to, service)
    log = get_run_logger()
    log.info("[%s] Rollback  to %s", run, release.version if release else NOTHING)
    return baseline_from(
        target.environment,
        release,
        target.orchestrator.instances(),
        rules.replicas,
        schema_version="",  # the schema is never taken back
        at=datetime.now(UTC),
    )


def _named(target: Target, to: str, service: ServiceLayout) -> Release | None:
    if to == NOTHING:
        return None
    if "@" in to:
        return _by_image(target, ImageRef.parse(to))
    if to:
        return _by_version(target, to, service)
    now = serving(target)
    served = target.ledger.served(target.environment, limit=10)
    return previous_release(
        target.environment,
        [_with_image(target, row.release, service) for row in served],
        now[0].image if now else None,
    )


def _with_image(target: Target, release: Release, service: ServiceLayout) -> Release:
    """The release with its image, which the registry knows where the ledger does not: a release
    from before the ledger, such as the runbook's own first row."""
    image = release.image or target.registry.find(service.name, release.version)
    return Release(release.version, release.revision, image)


def _by_image(target: Target, image: ImageRef) -> Release:
    # The containers are asked first: a rollback must not depend on the registry being up.
    for instance in target.orchestrator.instances():
        if instance.image == image:
            return release_of_image(image, instance.version, instance.revision)
    labels = target.registry.labels(image)
    return release_of_image(image, labels.get(VERSION_LABEL, ""), labels.get(REVISION_LABEL, ""))


def _by_version(target: Target, version: str, service: ServiceLayout) -> Release:
    image = target.registry.find(service.name, version)
    if image is None:
        raise BadRequest(
            f"the registry has no {service.name}:{version}",
            f"ignition log {target.environment}",
        )
    return _by_image(target, image)
