"""A Compose project on its host: how Compose reads its files, and the digest in its .env."""

import json
import os
import re
import shlex
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from io import StringIO
from pathlib import Path
from typing import Any

from dotenv import dotenv_values

from blocks import program
from blocks.compose.by_hand import Host
from blocks.compose.fitness import Problem, in_a_profile, read_otherwise
from blocks.whole_file import replace_file
from release.errors import BadConfiguration, BadRequest, DeployError, RolloutFailed
from release.masking import secrets_in_lines, secrets_of, secrets_of_file, without_secrets
from release.model import ImageRef

PROBE = "probe.invalid/image@sha256:" + 64 * "0"
"""The image while nothing is deployed: it shows where the variable is used."""

_LAST_LINES = 10
_ASK_WITHIN = timedelta(minutes=1)  # for a compose command that only reads
_ACT_WITHIN = timedelta(minutes=5)  # for one that changes something
_LARGEST_SECRET = 64 * 1024  # bytes of a file that is mounted as a secret
_CONFIGURES = re.compile(r"\.ya?ml$|env", re.IGNORECASE)  # names of the files that Compose reads
# The project's .env decides, never what the worker happens to have in its environment.
_PASSED_ON = re.compile(r"PATH|HOME|USER|LANG|TMPDIR|SSH_.*|DOCKER_.*|XDG_.*|.*_proxy|.*_PROXY")


@dataclass(frozen=True)
class ComposeProject:
    """A folder with a Compose file and its .env."""

    directory: Path
    file: str
    image_variable: str
    engine: str  # DOCKER_HOST; empty: the worker's own
    _read: dict[tuple[Any, ...], Any] = field(default_factory=dict, compare=False)

    # ---- what Compose makes of it

    def config(self) -> Any:
        """The Compose file as Compose reads it. It holds secrets: never show it."""
        sources = self._sources()
        found = self._read.get(sources)  # once: another thread may put a newer one in its place
        if found is None:
            found = json.loads(self.run("config", "--format", "json", failure=BadConfiguration))
            self._read.clear()
            self._read[sources] = found
        return found

    def check(self) -> None:
        """Raise BadConfiguration, in one sentence, if there is no such project."""
        if not self.directory.is_dir():
            raise BadConfiguration(
                f"no directory {self.directory} for the Compose project",
                "edit the environment's orchestrator.directory in ignition.toml",
            )
        if not (self.directory / self.file).is_file():
            raise BadConfiguration(
                f"no Compose file at {self.directory / self.file}",
                "edit the environment's orchestrator.file in ignition.toml",
            )

    def read_otherwise(self) -> Problem | None:
        """The problem if the host's own `docker compose up` reads something else."""
        values = dotenv_values(stream=StringIO(self._env_text()), interpolate=False)
        separator = values.get("COMPOSE_PATH_SEPARATOR") or os.pathsep
        named = (values.get("COMPOSE_FILE") or "").split(separator)
        here = self.directory.resolve()
        files = [os.path.relpath(here / name.strip(), here) for name in named if name.strip()]
        return read_otherwise(self.file, {entry.name for entry in here.iterdir()}, files)

    def in_a_profile(self, service: str) -> Problem | None:
        """The problem if the service belongs to a profile that is not enabled."""
        everything = self.run(
            *("--profile", "*", "config", "--format", "json"), failure=BadConfiguration
        )
        return in_a_profile(json.loads(everything), service, str(self.directory / self.file))

    def run(
        self,
        *arguments: str,
        image: ImageRef | None = None,
        failure: type[DeployError] = RolloutFailed,
        variables: Mapping[str, str] | None = None,
    ) -> str:
        """Run one compose command in the project and return what it wrote.

        The image is given by the process's environment, which overrides .env. Raises
        ``failure`` with command, exit code and the last lines of its output; RolloutFailed is for
        a command that changes something.
        """
        command = ["docker", "compose", "--file", self.file, *arguments]
        reads = failure is not RolloutFailed
        value = str(image) if image else (PROBE if reads else "")
        try:
            done = program.run(
                command,
                _ASK_WITHIN if reads else _ACT_WITHIN,
                cwd=self.directory,
                env={**self._environment(value), **(variables or {})},
            )
        except subprocess.TimeoutExpired as error:
            raise failure(
                f"no end of `{shlex.join(command)}` after {error.timeout:.0f} s"
            ) from None
        except OSError as error:
            raise failure(
                f"cannot run `{shlex.join(command)}` in {self.directory}: {error.strerror}"
            ) from None
        if done.returncode:
            if "config" not in arguments:
                self.try_to_read()
            hidden = self.secrets() | secrets_of(variables or {})
            said = (done.stderr or done.stdout).decode(errors="replace")
            tail = _tail(without_secrets(said, hidden))
            # One that changes something is not to be typed: by then something else serves.
            hint = f"cd {self.directory} && {shlex.join(command)}" if reads else ""
            raise failure(
                f"exit code {done.returncode} from `{shlex.join(command)}`:\n{tail}", hint
            )
        return done.stdout.decode(errors="replace")

    def _sources(self) -> tuple[Any, ...]:
        """What the configuration is read from, and when that was changed last."""
        there = self.directory.iterdir() if self.directory.is_dir() else ()
        files = (path for path in there if _CONFIGURES.search(path.name))
        paths = sorted({self.directory / self.file, self._env_file(), *files})
        return (*((path, _changed(path)) for path in paths), self.image_variable, self.engine)

    def _environment(self, image: str) -> dict[str, str]:
        found = {n: v for n, v in os.environ.items() if _PASSED_ON.fullmatch(n)}
        if self.engine:
            found["DOCKER_HOST"] = self.engine
        return {**found, self.image_variable: image}

    # ---- secrets

    def try_to_read(self) -> None:
        """Learn the project's secrets, if Compose can read them."""
        with suppress(DeployError):
            self.config()

    def secrets(self) -> frozenset[str]:
        """The secrets of every service: as Compose reads them, and as they are written in `.env`.
        The latter alone if Compose cannot read the project."""
        # Read as logs are, or a value that is not UTF-8 would not be found in them.
        found = set(secrets_in_lines(_readable(self._env_text())))
        for config in list(self._read.values()):
            for service in (config.get("services") or {}).values():
                found |= secrets_of(_as_written(service.get("environment") or {}))
            for secret in (config.get("secrets") or {}).values():
                found |= secrets_of_file(_text_of(Path(secret.get("file") or "")))
        return frozenset(found)

    # ---- what the host starts by itself

    def pin(self, image: ImageRef) -> None:
        """Write the digest into the directory's .env, in one rename; all other lines stay."""
        self._assign(str(image))

    def unpin(self, before: str) -> None:
        """Put ``before`` there instead; "" removes the line."""
        if before:
            self._assign(before)
            return
        old = self._env_text()
        new = re.sub(rf"(?m){self._assignment().pattern}(?:\r?\n)?", "", old)
        if new != old:
            self._write_env(new)

    def pinned(self) -> ImageRef | None:
        """The image that the directory's .env names. Returns None if it names no digest."""
        try:
            return ImageRef.parse(self.pin_text().strip("\"'"))
        except BadRequest:
            return None

    def pin_text(self) -> str:
        """What the directory's .env names, as it is written there; "" for nothing."""
        found = self._assignment().findall(self._env_text())
        return found[-1].partition("=")[2].strip() if found else ""

    def host(self, service: str, containers: int) -> Host:
        """What the host's own start of ``service`` is made of."""
        return Host(
            directory=self.directory,
            file=self.file,
            service=service,
            variable=self.image_variable,
            env_file=self._env_file(),
            assigned=bool(self._assignment().search(self._env_text())),
            containers=containers,
            engine=self.engine,
        )

    def _assign(self, value: str) -> None:
        old = self._env_text()
        line = f"{self.image_variable}={value}"
        new, count = self._assignment().subn(lambda _: line, old)
        if not count:
            new = old + ("\n" if old and not old.endswith("\n") else "") + line + "\n"
        if new != old:
            self._write_env(new)

    def _env_file(self) -> Path:
        return (self.directory / ".env").resolve()

    def _env_text(self) -> str:
        """The file's text, decoded from its bytes so that its line endings stay."""
        path = self._env_file()
        return path.read_bytes().decode(errors="surrogateescape") if path.exists() else ""

    def _write_env(self, text: str) -> None:
        replace_file(self._env_file(), text.encode(errors="surrogateescape"))

    def _assignment(self) -> re.Pattern[str]:
        name = re.escape(self.image_variable)
        return re.compile(rf"^[ \t]*(?:export[ \t]+)?{name}[ \t]*=[^\r\n]*", re.MULTILINE)


def _changed(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


def _as_written(values: Mapping[str, str | None]) -> dict[str, str]:
    """What Compose's `config` says, which doubles each ``$`` so that it can be read again."""
    return {name: str(value).replace("$$", "$") for name, value in values.items() if value}


def _readable(text: str) -> str:
    """The text of `.env` as a container's log would show it."""
    return text.encode(errors="surrogateescape").decode(errors="replace")


def _text_of(path: Path) -> str:
    """A file that is mounted as a secret; "" if it cannot be read from here."""
    try:
        with path.open("rb") as file:
            return file.read(_LARGEST_SECRET).decode(errors="replace")
    except OSError:
        return ""


def _tail(text: str) -> str:
    return "\n".join(text.strip().splitlines()[-_LAST_LINES:])
