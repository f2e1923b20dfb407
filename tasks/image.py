"""Step 2 of the runbook: an image that holds exactly the release's commit."""

from datetime import timedelta

from prefect.artifacts import create_markdown_artifact

from blocks.builder import Build
from blocks.target import Target
from release.configuration.layout import ServiceLayout
from release.errors import BuildFailed
from release.image import REVISION_LABEL, build_arguments, image_labels, image_report, same_commit
from release.model import ImageRef, Release
from tasks.say import say, sayer
from tasks.step import step


@step("Build Docker image", timeout=timedelta(minutes=30), retries=3)
def build_image(target: Target, release: Release, service: ServiceLayout) -> Release:
    """Build and push the release's image, unless the registry has it from the same commit."""
    image = find_image(target, release, service)
    origin = "used again"
    if image is None:
        image = _build_and_push(target, release, service)
        origin = "built and pushed"
    say(f"{release.version} {origin} {image.short}")
    create_markdown_artifact(
        key=f"image-{target.environment}",
        markdown=image_report(release, image, origin),
        description=f"{release.version}: {image.short}, {origin}",
    )
    return Release(release.version, release.revision, image)


def find_image(target: Target, release: Release, service: ServiceLayout) -> ImageRef | None:
    """The image that the registry has under the release's version, if it was built from its commit.

    Raises BuildFailed if that version holds another commit: an image tag is never moved.
    """
    found = target.registry.find(service.name, release.version)
    if found is None:
        return None
    built_from = target.registry.labels(found).get(REVISION_LABEL, "")
    if not same_commit(built_from, release.revision):
        raise BuildFailed(
            f"the registry's {service.name}:{release.version} was built from "
            f"{built_from[:12] or 'an unknown commit'}, not from {release.revision[:12]}",
            "choose the next version; a published image is never replaced",
        )
    return found


def _build_and_push(target: Target, release: Release, service: ServiceLayout) -> ImageRef:
    tag = f"{target.registry.repository(service.name)}:{release.version}"
    with target.repository.export(release.revision) as tree:
        build = Build(
            context=tree / service.backend,
            dockerfile=service.dockerfile,
            tag=tag,
            arguments=build_arguments(release, service.build_arguments),
            labels=image_labels(release, service.name),
        )
        target.builder.build(build, sayer())
    return target.registry.push(service.name, release.version, sayer())
