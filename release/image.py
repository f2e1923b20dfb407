"""What an image says about itself: its labels and build arguments."""

from collections.abc import Mapping

from release.model import ImageRef, Release

VERSION_LABEL = "org.opencontainers.image.version"
REVISION_LABEL = "org.opencontainers.image.revision"
TITLE_LABEL = "org.opencontainers.image.title"
# What no second try changes: of the codes of a registry, as an engine says them, and of its own.
_FOR_GOOD = (
    *("unauthorized", "denied", "forbidden", "no basic auth credentials", "unsupported"),
    *("name invalid", "name unknown", "manifest invalid", "does not exist locally"),
    *("x509:", "http response to https client"),
)

# What a second try may change: of an engine that is restarted, of names, connections and mirrors.
_MAY_PASS = (
    *("cannot connect to the docker daemon", "error during connect", "error reading from server"),
    *("code = unavailable", "context canceled", "broken pipe"),
    *("connection refused", "connection reset", "connection aborted", "timed out", "i/o timeout"),
    *("handshake timeout", "network is unreachable", "too many requests", "toomanyrequests"),
    *("temporary failure", "could not resolve", "no such host", "name or service not known"),
    *("502 bad gateway", "503 service unavailable", "504 gateway time"),
)


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


def is_refused_for_good(said: str) -> bool:
    """Whether a registry that did not take an image will not take it later either.

    ``said`` is the engine's sentence. Whatever is not known as a refusal may pass: a connection
    that is refused or cut, a time limit, an HTTP status of 5xx, too many requests. Source: OCI
    distribution specification, "Error Codes".
    """
    return any(words in said.lower() for words in _FOR_GOOD)


def is_worth_another_build(said: str) -> bool:
    """Whether a build that failed may succeed when it is tried again, as it is.

    ``said`` is how it ended, and its last lines. What is not known as a hiccup is the release's own
    fault. A build whose own tests say "connection refused" is tried in vain, for a bounded time.
    Source: the status codes of gRPC and HTTP, and the C library's words for names and connections.
    """
    return any(words in said.lower() for words in _MAY_PASS)


def image_report(release: Release, image: ImageRef, origin: str) -> str:
    """The image as an artifact."""
    return (
        f"# Image {release.version}: {origin}\n\n"
        f"| | |\n|---|---|\n| image | `{image}` |\n| version | {release.version} |\n"
        f"| revision | `{release.revision}` |\n"
    )
