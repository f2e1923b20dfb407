"""Whether a Compose project lets a release be rolled out, judged by Compose's reading of its files.

Asked in the plan, so that nothing is refused after people have signed and migrations have run. Only
what is certain to fail is refused.

Source: the Compose specification; measured with Compose 2.26 and Docker 26.1.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from release.errors import BadConfiguration

# Compose reads the first of these that exists, and the first override beside it.
_FILES = ("compose.yaml", "compose.yml", "docker-compose.yml", "docker-compose.yaml")
_OVERRIDES = (
    "compose.override.yml",
    "compose.override.yaml",
    "docker-compose.override.yml",
    "docker-compose.override.yaml",
)
# What the engine reads back by itself. Of others it keeps a copy, unless it is told not to.
_READABLE = ("json-file", "local", "journald")


@dataclass(frozen=True, slots=True)
class Problem:
    """Why no release could be rolled out, and what to edit."""

    sentence: str
    hint: str


@dataclass(frozen=True, slots=True)
class Wanted:
    """How a service is going to be rolled out."""

    service: str
    image_variable: str
    image: str  # what the variable was set to when the project was read
    replicas: int
    routed: bool  # old and new run side by side, and a router finds them by their names
    network: str = ""  # on which it finds them; "" if none is named
    log_driver: str = "json-file"  # the engine's own, where the service names none


def problems_of(config: Mapping[str, Any], wanted: Wanted, file: str) -> tuple[Problem, ...]:
    """Everything in a project's ``file`` for which no release could be rolled out.

    ``config`` is what ``docker compose config --format json`` makes of it.
    """
    service = (config.get("services") or {}).get(wanted.service)
    if service is None:
        return (_no_service(config, wanted, file),)
    return tuple(
        problem
        for judge in (_image, _name, _ports, _mode, _addresses, _logging, _networks)
        for problem in judge(service, wanted, file)
    )


def network_name(config: Mapping[str, Any], service: str, wanted: str) -> str:
    """The network on which an instance is reached, as the engine calls it.

    ``wanted`` is its key in the project or its name; "" takes the project's default, or else the
    first one. Raises BadConfiguration if the service is not on it.
    """
    joined = _joined(config["services"].get(service) or {})
    networks = config.get("networks") or {}
    wanted = wanted or ("default" if "default" in joined else joined[0])
    for key in joined:
        name = str((networks.get(key) or {}).get("name") or f"{config['name']}_{key}")
        if wanted in (key, name):
            return name
    raise BadConfiguration(
        f"service {service} is on {', '.join(joined)}, not on network {wanted!r}",
        _name_one(joined),
    )


def external_parts(config: Mapping[str, Any], service: str) -> Iterator[tuple[str, str]]:
    """What must exist before the service can start: ``("network", name)``, and volumes."""
    found = config["services"].get(service) or {}
    volumes = [v.get("source") for v in found.get("volumes") or () if v.get("type") == "volume"]
    for kind, keys in (("network", _joined(found)), ("volume", volumes)):
        declared = config.get(f"{kind}s") or {}
        for key in keys:
            part = declared.get(key) or {}
            if part.get("external"):
                yield kind, str(part.get("name") or key)


def others_of(config: Mapping[str, Any], wanted: Wanted) -> tuple[str, ...]:
    """The project's other services that run the same image: a rollout leaves them as they are."""
    return tuple(
        name
        for name, service in sorted((config.get("services") or {}).items())
        if name != wanted.service and service.get("image") == wanted.image
    )


def read_otherwise(file: str, there: Collection[str], named: Sequence[str]) -> Problem | None:
    """The problem if the host's own `docker compose up` reads another project than ``file``.

    ``there`` are the names of the files in the folder, ``named`` those in the COMPOSE_FILE of its
    `.env`. A file that has none of Compose's own names is given to it by whoever starts it.
    """
    if named:
        if list(named) == [file]:
            return None
        return Problem(
            f"COMPOSE_FILE in .env names {', '.join(named)}, which the host's own `docker compose "
            f"up` reads, and a deployment would not: it reads {file}",
            f"COMPOSE_FILE={file} in .env, with what the others say moved into it; or take "
            "COMPOSE_FILE out",
        )
    if file not in _FILES:
        return None
    first = next(name for name in _FILES if name in there or name == file)
    if first != file:
        return Problem(
            f"{first} beside {file} is what the host's own `docker compose up` reads, and a "
            "deployment would not",
            f"orchestrator.file in ignition.toml: {first}; or remove one of the two",
        )
    override = next((name for name in _OVERRIDES if name in there), "")
    if not override:
        return None
    return Problem(
        f"{override} beside {file} is read by the host's own `docker compose up`, and would be "
        "ignored by a deployment",
        f"move what it says into {file} and remove it",
    )


def in_a_profile(config: Mapping[str, Any], service: str, file: str) -> Problem | None:
    """The problem if a service's profile is off; ``config`` was read with every profile."""
    found = (config.get("services") or {}).get(service) or {}
    profiles = found.get("profiles") or []
    if not profiles:
        return None
    return Problem(
        f"service {service} in {file} belongs to the profile {' or '.join(profiles)}, which is not "
        "enabled, so that the host's own `docker compose up` would not start it",
        f"COMPOSE_PROFILES={profiles[0]} in the .env beside it",
    )


# ---- one question each


def _no_service(config: Mapping[str, Any], wanted: Wanted, file: str) -> Problem:
    known = ", ".join(sorted(config.get("services") or {}))
    return Problem(
        f"{file} has no service {wanted.service!r}; there is: {known or 'none'}",
        "service.compose_service in ignition.toml",
    )


def _image(service: Mapping[str, Any], wanted: Wanted, file: str) -> Iterator[Problem]:
    if service.get("image") != wanted.image:
        yield Problem(
            f"the image of {wanted.service} in {file} is not exactly ${{{wanted.image_variable}}}, "
            "so no digest could be deployed",
            f"image: ${{{wanted.image_variable}}}",
        )


def _name(service: Mapping[str, Any], wanted: Wanted, file: str) -> Iterator[Problem]:
    name = service.get("container_name")
    if name and _several(wanted):
        yield Problem(
            f"service {wanted.service} has the container_name {name}, which only one container can "
            f"have: {_why(wanted)}",
            f"remove container_name from service {wanted.service} in {file}",
        )


def _ports(service: Mapping[str, Any], wanted: Wanted, file: str) -> Iterator[Problem]:
    side_by_side = wanted.replicas * (2 if wanted.routed else 1)
    taken = [
        str(port["published"])
        for port in service.get("ports") or ()
        if port.get("published") and _count(str(port["published"])) < side_by_side
    ]
    if taken and _several(wanted):
        yield Problem(
            f"service {wanted.service} publishes port {', '.join(taken)}, which only one container "
            f"can have: {_why(wanted)}",
            f"remove ports from service {wanted.service} in {file}"
            + ("; the router reaches it without" if wanted.routed else ", or rollout.replicas = 1"),
        )


def _mode(service: Mapping[str, Any], wanted: Wanted, file: str) -> Iterator[Problem]:
    mode = str(service.get("network_mode") or "")
    out = f"remove network_mode from service {wanted.service} in {file}"
    if mode and wanted.routed:
        yield Problem(
            f"service {wanted.service} has network_mode: {mode}, in which no router finds an "
            "instance by its name",
            out,
        )
    elif wanted.replicas > 1 and (mode == "host" or mode.startswith(("service:", "container:"))):
        yield Problem(
            f"service {wanted.service} has network_mode: {mode}, in which only one container can "
            f"listen on its port: {_why(wanted)}",
            f"{out}, or rollout.replicas = 1",
        )


def _addresses(service: Mapping[str, Any], wanted: Wanted, file: str) -> Iterator[Problem]:
    fixed = [
        str(network[key])
        for network in (service.get("networks") or {}).values()
        for key in ("ipv4_address", "ipv6_address")
        if network and network.get(key)
    ]
    if fixed and _several(wanted):
        yield Problem(
            f"service {wanted.service} has the address {', '.join(fixed)}, which only one "
            f"container can have: {_why(wanted)}",
            f"remove it from service {wanted.service} in {file}",
        )


def _logging(service: Mapping[str, Any], wanted: Wanted, file: str) -> Iterator[Problem]:
    logging = service.get("logging") or {}
    driver = logging.get("driver") or wanted.log_driver
    kept = str((logging.get("options") or {}).get("cache-disabled", "false")).lower() != "true"
    if driver == "none" or (driver not in _READABLE and not kept):
        yield Problem(
            f"the log of service {wanted.service} cannot be read back (logging driver {driver}"
            + ("" if kept else " with cache-disabled")
            + "), so nobody would see why a release failed",
            f"logging: {{driver: local}} for service {wanted.service} in {file}",
        )


def _networks(service: Mapping[str, Any], wanted: Wanted, file: str) -> Iterator[Problem]:
    joined = _joined(service)
    if wanted.routed and not wanted.network and len(joined) > 1:
        yield Problem(
            f"service {wanted.service} in {file} is on {len(joined)} networks, "
            f"{' and '.join(joined)}, and none is named as the router's",
            _name_one(joined),
        )


def _name_one(joined: Sequence[str]) -> str:
    choice = " or ".join(f'network = "{name}"' for name in joined)
    return (
        f"in the environment's router table of ignition.toml: {choice}, whichever HAProxy is on; "
        "then: ignition setup"
    )


def _several(wanted: Wanted) -> bool:
    return wanted.routed or wanted.replicas > 1


def _why(wanted: Wanted) -> str:
    if wanted.routed:
        return "with a router the next release starts beside the one that serves"
    return f"rollout.replicas is {wanted.replicas}"


def _count(published: str) -> int:
    """How many ports ``8000`` or ``8000-8003`` are."""
    first, _, last = published.partition("-")
    return int(last or first) - int(first) + 1 if first.isdigit() else 1


def _joined(service: Mapping[str, Any]) -> list[str]:
    return list(service.get("networks") or {"default": None})
