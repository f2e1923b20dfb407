"""What an image says about itself: its labels and build arguments."""

from collections.abc import Mapping

from release.model import ImageRef, Release

VERSION_LABEL = "org.opencontainers.image.version"
REVISION_LABEL = "org.opencontainers.image.revision"
TITLE_LABEL = "org.opencontainers.image.title"


def image_labels(release: Release, name: str) -> dict[str, str]:
    """Labels for a new image. Source: OCI image specification, "Pre-Defined Annotation Keys"."""
    return {
        VERSION_LABEL: release.version,
        REVISION_LABEL: release.revision,
        TITLE_LABEL: name,
    }


def build_arguments(release: Release, extra: Mapping[str, str]) -> dict[str, str]:
    """Arguments for the build; VERSION and REVISION cannot be overridden."""
    return {**extra, "VERSION": release.version, "REVISION": release.revision}


def same_commit(one: str, other: str) -> bool:
    """Whether two full commit hashes are the same one; an empty one is never the same."""
    return bool(one) and one == other


def image_report(release: Release, image: ImageRef, origin: str) -> str:
    """The image as an artifact."""
    return (
        f"# Image {release.version}: {origin}\n\n"
        f"| | |\n|---|---|\n| image | `{image}` |\n| version | {release.version} |\n"
        f"| revision | `{release.revision}` |\n"
    )
