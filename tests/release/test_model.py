"""Versions, digests, image names."""

import pytest

from release.errors import BadRequest
from release.model import ImageRef, Instance, Release, image_of, parse_version

DIGEST = "sha256:" + "9f3c" * 16


@pytest.mark.parametrize(
    ("version", "typed"),
    [
        ("v1.0.0", "v1.0.0"),
        ("main-9f3c2ab", "main-9f3c2ab"),
        (DIGEST[:14] + "…", f"localhost:5000/api@{DIGEST}"),
    ],
)
def test_a_release_without_a_version_is_typed_as_its_whole_digest(version: str, typed: str) -> None:
    assert Release(version, "", ImageRef("localhost:5000/api", DIGEST)).typed == typed


def test_a_release_that_is_not_built_yet_is_typed_as_its_version() -> None:
    assert Release("v1.0.0", "").typed == "v1.0.0"


@pytest.mark.parametrize(
    "text",
    ["v1.2.3", "v0.0.0", "v10.20.30", "v1.2.3-rc.1", "v1.2.3-alpha", "v1.2.3-0a", "v1.2.3-x-y.7"],
)
def test_a_version_is_semver_with_a_v(text: str) -> None:
    assert parse_version(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1.2.3",
        "v1.2",
        "v1.2.3.4",
        "v01.2.3",
        "v1.02.3",
        "V1.2.3",
        "v1.2.3+build",
        "v1.2.3-",
        "v1.2.3-a..b",  # git refuses two dots in a tag
        "v1.2.3-01",
        "v1.2.3-a.",
        "v1.2.3-ä",
        "v١.2.3",
        "v1.2.3\n",
        " v1.2.3",
        "-v1.2.3",
        "--upload-pack=x",
        "v1.2.3-" + "a" * 122,  # 129 characters: no image tag can hold it
    ],
)
def test_what_is_no_version_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(BadRequest) as refused:
        parse_version(text)

    assert refused.value.what == (
        f"{text!r} is not a valid version: expected vMAJOR.MINOR.PATCH, such as v1.2.3"
    )
    assert refused.value.hint == "ignition deploy v1.2.3 --to staging"


def test_a_version_of_128_characters_is_the_longest() -> None:
    assert parse_version("v1.2.3-" + "a" * 121)


@pytest.mark.parametrize(
    ("text", "repository"),
    [
        (f"api@{DIGEST}", "api"),
        (f"registry.example.com/team/api@{DIGEST}", "registry.example.com/team/api"),
        (f"localhost:5000/api@{DIGEST}", "localhost:5000/api"),
        (f"localhost:5000/api:v1.2.3@{DIGEST}", "localhost:5000/api"),
        (f"api:latest@{DIGEST}", "api"),
    ],
)
def test_an_image_is_its_repository_and_digest_and_never_its_tag(
    text: str, repository: str
) -> None:
    image = ImageRef.parse(text)

    assert image.repository == repository
    assert str(image) == f"{repository}@{DIGEST}"
    assert image.short == "sha256:9f3c9f3…"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "api",
        "api:v1.2.3",
        f"@{DIGEST}",
        DIGEST,
        "api@sha256:abc",
        f"api@{DIGEST}0",
        f"api@{DIGEST.upper()}",
        f"api@x@{DIGEST}",
        f"api@{DIGEST}\n",
        f"--privileged@{DIGEST}",
        f"api\nEVIL=1@{DIGEST}",  # would be a second line of the .env file
        f"a b@{DIGEST}",
    ],
)
def test_an_image_without_a_whole_digest_or_a_plain_name_is_refused(text: str) -> None:
    with pytest.raises(BadRequest):
        ImageRef.parse(text)


def test_a_release_that_was_not_built_has_no_image_to_run() -> None:
    with pytest.raises(BadRequest, match=r"v1\.2\.3 has no image yet"):
        image_of(Release("v1.2.3", "a" * 40))


@pytest.mark.parametrize(("state", "running"), [("running", True), ("exited", False), ("", False)])
def test_an_instance_runs_only_if_the_engine_says_so(state: str, running: bool) -> None:
    instance = Instance("1", "api-1", "", None, "", "", state, "none")

    assert instance.running is running
