"""What an image says of itself."""

import pytest

from release.image import (
    build_arguments,
    image_labels,
    image_report,
    is_refused_for_good,
    is_worth_another_build,
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


@pytest.mark.parametrize(
    "said",
    [
        'Get "http://127.0.0.1:5000/v2/": dial tcp 127.0.0.1:5000: connect: connection refused',
        'Get "https://registry/v2/": dial tcp: lookup registry: no such host',
        "received unexpected HTTP status: 503 Service Unavailable",
        "net/http: TLS handshake timeout",
        "toomanyrequests: slow down",
        "blob upload unknown to registry",
        "EOF",
        "",
    ],
)
def test_a_registry_that_is_away_for_a_moment_is_asked_again(said: str) -> None:
    assert not is_refused_for_good(said)


@pytest.mark.parametrize(
    "said",
    [
        "denied: requested access to the resource is denied",
        "unauthorized: authentication required",
        "no basic auth credentials",
        "name unknown: The repository with name 'api' does not exist in the registry",
        "unexpected status from POST request to http://registry/v2/: 403 Forbidden",
        "An image does not exist locally with the tag: registry/api",
        'Get "https://registry/v2/": http: server gave HTTP response to HTTPS client',
        "x509: certificate signed by unknown authority",
    ],
)
def test_what_no_second_try_changes_is_not_tried_again(said: str) -> None:
    assert is_refused_for_good(said)


@pytest.mark.parametrize(
    "said",
    [
        "Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is it running?",
        "ERROR: failed to solve: Canceled: context canceled",
        "rpc error: code = Unavailable desc = error reading from server: EOF",
        "Temporary failure resolving 'mirror.example'",
        "WARNING: Retrying after connection broken by 'ConnectTimeoutError: timed out'",
        "failed to fetch: 503 Service Unavailable",
        "dial tcp 10.0.0.5:443: connect: connection refused",
    ],
)
def test_a_build_that_met_a_hiccup_is_worth_another(said: str) -> None:
    assert is_worth_another_build(f"exit code 1\n#5 [2/6] RUN make\n{said}")


@pytest.mark.parametrize(
    "said",
    [
        "dockerfile parse error on line 2: unknown instruction: RNU",
        'process "/bin/sh -c make" did not complete successfully: exit code: 2',
        'failed to compute cache key: "/nothing": not found',
        "error: invalid syntax (app.py, line 3)",
        "SyntaxError: unexpected EOF while parsing",
        "No matching distribution found for ignition-nothing==9",
        "no space left on device",
        "",
    ],
)
def test_a_build_that_fails_by_itself_is_not_tried_again(said: str) -> None:
    assert not is_worth_another_build(f"exit code 1\n{said}")


def test_the_report_names_the_digest() -> None:
    text = image_report(RELEASE, IMAGE, "used again")

    assert text.startswith("# Image v1.1.0: used again\n")
    assert f"| image | `{IMAGE}` |" in text
