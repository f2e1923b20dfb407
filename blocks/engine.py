"""The container engine: which one is used, and what its words for a failure mean.

It is one and the same for the SDK and for Docker's own command.

Docker's command follows DOCKER_HOST, else DOCKER_CONTEXT, else the context that `docker context
use` chose; the SDK does the same, but treats a missing context as the default one.
"""

import json
import os
from collections.abc import Mapping

import docker
import docker.errors
from docker.context import ContextAPI
from docker.utils.config import find_config_file

from release.errors import Unreachable

# What a second try does not change: a registry's error codes, as an engine words them, and its own.
_FOR_GOOD = (
    *("unauthorized", "denied", "forbidden", "no basic auth credentials", "unsupported"),
    *("name invalid", "name unknown", "manifest invalid", "does not exist locally"),
    *("x509:", "http response to https client"),
)

# What a second try may change: errors of an engine that restarts, of names, connections, mirrors.
_MAY_PASS = (
    *("cannot connect to the docker daemon", "error during connect", "error reading from server"),
    *("code = unavailable", "context canceled", "broken pipe"),
    *("connection refused", "connection reset", "connection aborted", "timed out", "i/o timeout"),
    *("handshake timeout", "network is unreachable", "too many requests", "toomanyrequests"),
    *("temporary failure", "could not resolve", "no such host", "name or service not known"),
    *("502 bad gateway", "503 service unavailable", "504 gateway time"),
)


def client_of(engine: str) -> docker.DockerClient:
    """A client of ``engine`` (DOCKER_HOST); empty: of the engine that Docker's command speaks to.

    Raises Unreachable if that is a context that does not exist, or cannot be read.
    """
    if engine:
        return docker.DockerClient(base_url=engine)
    name = context_name(os.environ)
    if name != "default" and not _has_address(name):
        raise Unreachable(
            f"docker's context is {name!r}, which does not exist or names no engine",
            "docker context ls; docker context use default, or set DOCKER_HOST",
        )
    return docker.from_env()


def name_of(engine: str) -> str:
    """What a person calls the engine: its address, or the context that leads to it."""
    address = engine or os.environ.get("DOCKER_HOST", "")
    if address:
        return address
    name = context_name(os.environ)
    return "of this host" if name == "default" else f"of docker's context {name!r}"


def context_name(environment: Mapping[str, str]) -> str:
    """The context that Docker's command would use; "default" where DOCKER_HOST comes before it."""
    if environment.get("DOCKER_HOST"):
        return "default"
    if environment.get("DOCKER_CONTEXT"):
        return environment["DOCKER_CONTEXT"]
    try:
        with open(find_config_file() or "", encoding="utf-8") as file:
            return str(json.load(file).get("currentContext") or "default")
    except (OSError, ValueError, AttributeError):
        return "default"


def _has_address(name: str) -> bool:
    try:
        found = ContextAPI.get_context(name)
        return bool(found and found.Host)
    except Exception:  # noqa: BLE001  # a damaged file: the SDK raises whatever it met
        return False


def is_refused_for_good(said: str) -> bool:
    """Whether a registry that did not take an image will not take it later either.

    ``said`` is the engine's sentence. Whatever is not known as a refusal may pass: a connection
    that is refused or cut, a time limit, an HTTP status of 5xx, too many requests. Source: OCI
    distribution specification, "Error Codes".
    """
    return any(words in said.lower() for words in _FOR_GOOD)


def is_worth_another_build(said: str) -> bool:
    """Whether a build that failed may succeed when it is tried again, as it is.

    ``said`` is how it ended, and its last lines. What is not known as a hiccup counts as the
    release's own fault. A build whose own tests say "connection refused" is tried in vain, for a
    bounded time. Source: the status codes of gRPC and HTTP, and the C library's words for names and
    connections.
    """
    return any(words in said.lower() for words in _MAY_PASS)
