"""What a person types on the host of a Compose project, if nothing of ours answers."""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

from release.model import ImageRef


@dataclass(frozen=True, slots=True)
class Host:
    """What the host's own start of the service consists of."""

    directory: Path
    file: str  # the Compose file in it
    service: str
    variable: str  # of the .env, which names the image
    env_file: Path  # the .env itself, where it is a link
    assigned: bool  # whether it names an image already
    containers: int  # how many there are, or should be
    engine: str = ""  # DOCKER_HOST; "" for the one that a shell has


def commands(host: Host, image: ImageRef, there: bool) -> tuple[str, ...]:
    """What to type on the host so that it serves ``image``, also after a reboot.

    ``there``: whether the engine holds the image. All containers keep their names, because a router
    knows them by name.
    """
    quoted = shlex.quote
    env = quoted(_env(host))
    line = f"{host.variable}={image}"
    if host.assigned:
        pin = f"sed -i -E {quoted(f's|{_assignment(host)}|{line}|')} {env}"
    else:
        pin = f"printf '\\n%s\\n' {quoted(line)} >> {env}"
    up = ("up", "--detach", "--no-deps", "--no-build")
    scale = f"{host.service}={host.containers}"
    return (
        f"cd {quoted(str(host.directory))}",
        *(() if there else (_on_engine(host, "pull", str(image)),)),
        pin,
        _on_engine(host, "compose", "--file", host.file, *up, "--scale", scale, host.service),
    )


def stopping(host: Host) -> tuple[str, ...]:
    """What to type so that nothing serves, as before the first deployment, also after a reboot."""
    away = f"/{_assignment(host)}/d"
    return (
        f"cd {shlex.quote(str(host.directory))}",
        _on_engine(host, "compose", "--file", host.file, "stop", host.service),
        *((f"sed -i -E {shlex.quote(away)} {shlex.quote(_env(host))}",) if host.assigned else ()),
    )


def _assignment(host: Host) -> str:
    """The line of .env, as sed finds it."""
    return rf"^[[:blank:]]*(export[[:blank:]]+)?{re.escape(host.variable)}[[:blank:]]*=.*"


def _on_engine(host: Host, *arguments: str) -> str:
    prefix = f"DOCKER_HOST={shlex.quote(host.engine)} " if host.engine else ""
    return prefix + shlex.join(["docker", *arguments])


def _env(host: Host) -> str:
    """The .env as seen from its folder: sed would replace a link by a file."""
    plain = host.directory / ".env"
    return ".env" if host.env_file == plain else str(host.env_file)


def meanwhile(routed: bool) -> str:
    """What these commands do to users. ``routed``: whether users come through a router."""
    if routed:
        return (
            "meet errors for some seconds: Compose stops each container before it starts the "
            "other, and HAProxy waits until it answers"
        )
    return "meet errors for some seconds, as with every plain restart, and nothing is verified"
