"""Which container engine is used: one and the same for the SDK and for Docker's own command.

Docker's command follows DOCKER_HOST, else DOCKER_CONTEXT, else the context that `docker context
use` chose; the SDK does the same, but takes a context that is not there for the default one.
"""

import json
import os
from collections.abc import Mapping

import docker
import docker.errors
from docker.context import ContextAPI
from docker.utils.config import find_config_file

from release.errors import Unreachable


def client_of(engine: str) -> docker.DockerClient:
    """A client of ``engine`` (DOCKER_HOST); empty: of the engine that Docker's command speaks to.

    Raises Unreachable where that is a context that does not exist, or cannot be read.
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
