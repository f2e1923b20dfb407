"""Where things are in the backend's repository and in its HTTP interface.

Whether a commit holds what step 2 and step 5 need is checked in the plan, by
:func:`refuse_unfit_source`: later, its tag and its image would already exist.
"""

import json
import posixpath
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import Field

from release.configuration.address import ImageName, NeededPath
from release.configuration.rules import Rules
from release.errors import BadConfiguration
from release.wording import there_is

_RUN = ("run", "run-script", "rum", "urn")  # npm-run(1) and its aliases
_NAMED_ALIKE = {"test": "test", "t": "test", "tst": "test"}  # npm-test(1)
_WITHOUT_SCRIPT = ("start", "restart", "env")  # npm does something where there is no such script
_FLAGS = ("--silent", "-s", "--ignore-scripts", "--foreground-scripts", "--quiet", "-q", "-d")
_HINT = "commit it, or edit service.smoke in ignition.toml"


class SourceLayout(Rules):
    """Where things are in the repository, and under which names they run."""

    name: ImageName = Field(examples=["ignition-api"])
    """The image's name, without the registry: `ignition-api`."""

    backend: str = "app/backend"
    """The build context, from the repository's root (runbook, step 2: `cd app/backend`)."""

    dockerfile: str = "Dockerfile"
    """The Dockerfile, from the build context."""

    build_arguments: dict[str, str] = {}  # noqa: RUF012  # pydantic copies it
    """Extra `--build-arg`s. VERSION and REVISION are always given. No secrets: anyone who has the
    image can read its build arguments."""

    migrations: str = "app/backend/migrations"
    """The folder of ordered SQL files, from the repository's root (runbook, step 3)."""

    compose_service: str = "api"
    """The service in the Compose file (runbook, step 4: `docker compose up -d --no-deps api`)."""


class ServiceInterface(Rules):
    """Where an instance answers, and what."""

    port: int = Field(default=8000, ge=1, le=65535)
    """The port that a container of the service listens on."""

    health_path: NeededPath = "/health"
    """Answers 200 while the service can serve (runbook, step 5)."""

    version_path: NeededPath = "/api/"
    """Answers JSON that names the version (runbook, step 5)."""

    version_field: str = "version"
    """The field of that JSON (runbook: `jq '.version'`)."""


class ServiceLayout(ServiceInterface, SourceLayout):
    """What is deployed, as the runbook's commands know it."""

    smoke: tuple[str, ...] = Field(
        default=("npm", "run", "test:smoke", "--prefix", "tests/"), min_length=1
    )
    """The smoke tests, run in a clean export of the release (runbook, step 5). They get BASE_URL
    and EXPECT_VERSION in their environment."""


@dataclass(frozen=True, slots=True)
class NpmScript:
    """What `npm run` starts: a script of a package.json, by its path from the repository's root."""

    manifest: str
    name: str


def build_file(service: ServiceLayout) -> str:
    """The Dockerfile, from the repository's root."""
    return posixpath.normpath(f"{service.backend}/{service.dockerfile}".lstrip("/"))


def smoke_script(command: Sequence[str]) -> NpmScript | None:
    """The script that a smoke command starts with npm. Returns None for other programs, and if the
    script is uncertain: an option that is not known here may take the next word.

    Source: npm-run(1), npm-test(1) and npm's `prefix`.
    """
    if not command or posixpath.basename(command[0]) != "npm":
        return None
    folder, words = "", []
    rest = list(command[1 : command.index("--")] if "--" in command else command[1:])
    while rest:
        word = rest.pop(0)
        option, equals, value = word.partition("=")
        if option in ("--prefix", "-C"):
            if not equals and not rest:
                return None
            folder = value if equals else rest.pop(0)
        elif word.startswith("-") and word not in _FLAGS:
            return None
        elif not word.startswith("-"):
            words.append(word)
    if words and words[0] in _NAMED_ALIKE:
        name = _NAMED_ALIKE[words[0]]
    elif len(words) > 1 and words[0] in _RUN and words[1] not in _WITHOUT_SCRIPT:
        name = words[1]
    else:
        return None
    if folder.startswith("/"):  # of the worker, not of the release
        return None
    return NpmScript(posixpath.normpath(posixpath.join(folder, "package.json")), name)


def smoke_program(command: Sequence[str]) -> str:
    """The program of a smoke command if the release itself must contain it: `tests/smoke.sh`."""
    program = command[0] if command else ""
    inside = "/" in program and not program.startswith("/")
    return posixpath.normpath(program) if inside else ""


def refuse_unfit_source(
    service: ServiceLayout, revision: str, read: Callable[[str], bytes | None]
) -> None:
    """Raise BadConfiguration if a commit cannot be built or smoke-tested as configured.

    ``read`` returns the content of one of its files, or None if there is no such file. The
    Dockerfile, the program of the smoke tests and, if npm starts them, their script must exist.
    """
    commit = revision[:12]
    dockerfile = build_file(service)
    if read(dockerfile) is None:
        raise BadConfiguration(
            f"{commit} has no {dockerfile} to build from",
            "commit it, or edit service.backend and service.dockerfile in ignition.toml",
        )
    program = smoke_program(service.smoke)
    if program and read(program) is None:
        raise BadConfiguration(f"{commit} has no {program} to run as smoke tests", _HINT)
    script = smoke_script(service.smoke)
    if script is not None:
        _refuse_missing_script(script, commit, read(script.manifest))


def _refuse_missing_script(script: NpmScript, commit: str, content: bytes | None) -> None:
    if content is None:
        raise BadConfiguration(
            f"{commit} has no {script.manifest}, so npm finds no script {script.name!r}", _HINT
        )
    try:
        found: Any = json.loads(content.decode("utf-8-sig"))
    except ValueError as error:  # of JSON or of UTF-8
        raise BadConfiguration(
            f"{script.manifest} of {commit} is not JSON: {error}", f"fix {script.manifest}"
        ) from None
    scripts = found.get("scripts") if isinstance(found, dict) else None
    names = sorted(scripts) if isinstance(scripts, dict) else []
    if script.name not in names:
        known = there_is(script.name, names)
        raise BadConfiguration(
            f"{script.manifest} of {commit} has no script {script.name!r}{known}", _HINT
        )
