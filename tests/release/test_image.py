"""What an image says of itself."""

import pytest

from release.image import (
    build_arguments,
    image_labels,
    image_report,
    same_commit,
)
from release.model import ImageRef, Release

RELEASE = Release("v1.1.0", "a" * 40)
IMAGE = ImageRef("localhost:5000/api", "sha256:" + "1" * 64)


def test_an_image_carries_version_revision_and_name() -> None:
    assert image_labels(RELEASE, "orders") == {
        "org.opencontainers.image.version": "v1.1.0",
        "org.opencontainers.image.revision": "a" * 40,
        "org.opencontainers.image.title": "orders",
    }


def test_settings_cannot_make_an_image_lie_about_its_version() -> None:
    arguments = build_arguments(RELEASE, {"VERSION": "v9.9.9", "REVISION": "x", "MODE": "fast"})

    assert arguments == {"VERSION": "v1.1.0", "REVISION": "a" * 40, "MODE": "fast"}


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [("a" * 40, "a" * 40, True), ("a" * 40, "b" * 40, False), ("", "", False), ("", "a", False)],
)
def test_an_unknown_commit_is_never_the_same_one(one: str, other: str, same: bool) -> None:
    assert same_commit(one, other) is same


def test_the_report_names_the_digest() -> None:
    text = image_report(RELEASE, IMAGE, "used again")

    assert text.startswith("# Image v1.1.0: used again\n")
    assert f"| image | `{IMAGE}` |" in text
