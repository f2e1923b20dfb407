"""The image builder: BuildKit if the engine's client has it, else the engine's own builder."""

import os
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import docker
import docker.errors
import requests.exceptions
from pydantic import Field

from blocks.engine import client_of, is_worth_another_build, name_of
from blocks.part import Part
from blocks.program import follow, run
from release.duration import say_duration
from release.errors import BuildFailed, DeployError, Unreachable

_LAST_LINES = 10
_ASK_WITHIN = timedelta(minutes=1)  # whether there is BuildKit


@dataclass(frozen=True, slots=True)
class Build:
    """What an image is built from, and what it says of itself."""

    context: Path
    dockerfile: str  # from the context
    tag: str
    arguments: Mapping[str, str]
    labels: Mapping[str, str]


class Builder(Part):
    """Builds images on one engine."""

    _block_type_name = "Ignition Builder"

    engine: str = Field(default="", description="DOCKER_HOST of the engine; empty: the worker's.")

    def check(self) -> None:
        """Raise Unreachable if the engine does not answer."""
        try:
            self._client().ping()
        except docker.errors.DockerException as error:
            raise Unreachable(
                f"container engine {name_of(self.engine)} does not answer: {error}",
                "docker info",
            ) from None

    def check_base(self, image: str) -> None:
        """Raise Unreachable if the engine has no such image and cannot find it in its registry.

        Nothing is pulled.
        """
        self.check()
        try:
            engine = self._client()
            try:
                engine.images.get(image)
            except docker.errors.ImageNotFound:
                engine.images.get_registry_data(image)
        except (docker.errors.DockerException, requests.exceptions.RequestException) as error:
            said = str(getattr(error, "explanation", "") or error).splitlines()[0]
            raise Unreachable(
                f"base image {image} is not on the container engine, and cannot be pulled: {said}",
                f"docker pull {image}",
            ) from None

    def build(self, build: Build, say: Callable[[str], None]) -> None:
        """Build an image and pass each line of progress to ``say``.

        Raises BuildFailed with the last lines of the build; Unreachable, with the same lines, if
        the engine, or something that the build fetches, became unreachable meanwhile.
        """
        if self._has_buildkit():
            self._with_buildkit(build, say)
        else:
            self._with_engine(build, say)

    def _has_buildkit(self) -> bool:
        command = ["docker", "buildx", "version"]
        try:
            return run(command, _ASK_WITHIN, env=self._environment()).returncode == 0
        except FileNotFoundError:  # an engine without Docker's own command
            return False
        except subprocess.TimeoutExpired:
            length = say_duration(_ASK_WITHIN)
            raise Unreachable(f"`{' '.join(command)}` has not ended after {length}") from None

    def _with_buildkit(self, build: Build, say: Callable[[str], None]) -> None:
        # No provenance: with it the digest names an index whose content changes on every build.
        command = ["docker", "buildx", "build", "--load", "--progress=plain", "--provenance=false"]
        for name, value in build.arguments.items():
            command.append(f"--build-arg={name}={value}")
        for name, value in build.labels.items():
            command.append(f"--label={name}={value}")
        file = build.context / build.dockerfile
        command += [f"--tag={build.tag}", f"--file={file}", "--", str(build.context)]
        lines: list[str] = []

        def heard(line: str) -> None:
            if said := line.rstrip():
                lines.append(said)
                say(said)

        code = follow(command, heard, env=self._environment())
        if code != 0:
            raise self._failed(build.tag, f"exit code {code}", lines)

    def _with_engine(self, build: Build, say: Callable[[str], None]) -> None:
        lines: list[str] = []
        try:
            for event in self._client().api.build(
                path=str(build.context),
                dockerfile=build.dockerfile,
                tag=build.tag,
                buildargs=dict(build.arguments),
                labels=dict(build.labels),
                rm=True,
                forcerm=True,  # of a build that fails, too
                decode=True,
            ):
                for line in filter(None, map(str.rstrip, event.get("stream", "").splitlines())):
                    lines.append(line)
                    say(line)
                if "error" in event:
                    raise self._failed(build.tag, str(event["error"]), lines)
        except docker.errors.DockerException as error:  # a Dockerfile that cannot be read, …
            raise self._failed(build.tag, str(error), lines) from None

    def _failed(self, tag: str, why: str, lines: list[str]) -> DeployError:
        tail = "\n".join(lines[-_LAST_LINES:])
        what = f"image {tag} was not built: {why}\n{tail}"
        if is_worth_another_build(what) or not self._answers():
            hint = "docker info; if that works, look for what was unreachable, then deploy again"
            return Unreachable(what, hint)
        return BuildFailed(what, "fix the build, then deploy")

    def _answers(self) -> bool:
        try:
            self.check()
        except Unreachable:
            return False
        return True

    def _environment(self) -> dict[str, str]:
        return {**os.environ, "DOCKER_HOST": self.engine} if self.engine else dict(os.environ)

    def _client(self) -> docker.DockerClient:
        return client_of(self.engine)
