"""A Docker Compose project on one host.

Compose reads its own file, makes networks and creates containers; everything else is asked of the
engine itself. Compose alone would stop the old containers first, would start those that are kept
stopped, and calls a container that died a second later a success.
"""

import json
import os
import re
import secrets
import shlex
import socket
import subprocess
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import docker
import docker.errors
import requests.exceptions
from pydantic import Field, PrivateAttr, SecretStr

from blocks.orchestrator import Orchestrator
from release.baseline import release_of_image
from release.by_hand import Host
from release.errors import BadConfiguration, BadRequest, DeployError, RolloutFailed, Unreachable
from release.model import ImageRef, Instance, Release
from release.rollout import is_ready, unfit_instance

_POLL = 0.2  # seconds
_LAST_LINES = 10
_ASK_WITHIN = 60.0  # seconds for a compose command that only reads
_ACT_WITHIN = 300.0  # seconds for one that changes something
_SHORTEST_SECRET = 6  # characters; shorter values of .env are ordinary words and numbers
_NEVER_SECRET = re.compile(r"COMPOSE_.*|(.*_)?(IMAGE|NETWORK|PORT|USER|HOST|NAME|TAG|VERSION)")
_VERSION = "org.opencontainers.image.version"
_REVISION = "org.opencontainers.image.revision"
_APART = "ignition.apart"  # label of a container that is no instance
_FORGOTTEN_AFTER = timedelta(hours=1)
_PROBE = "probe.invalid/image@sha256:" + 64 * "0"
# The project's .env decides, never what the worker happens to have in its environment.
_PASSED_ON = re.compile(r"PATH|HOME|USER|LANG|TMPDIR|SSH_.*|DOCKER_.*|XDG_.*|.*_proxy|.*_PROXY")


class ComposeOrchestrator(Orchestrator):
    """One service of a Compose project, on one engine."""

    _block_type_name = "Ignition Compose Orchestrator"

    directory: Path = Field(description="Where the host's own `docker compose up` runs.")
    file: str = Field(default="docker-compose.yml", description="The Compose file in it.")
    service: str = Field(default="api", description="The service that is deployed.")
    image_variable: str = Field(
        default="API_IMAGE", description="The variable of .env that names the image by digest."
    )
    engine: str = Field(default="", description="DOCKER_HOST; empty: the worker's own.")
    port: int = Field(default=8000, description="The port that an instance listens on.")
    network: str = Field(
        default="", description="By which the router reaches it; empty: the project's default."
    )
    registry_username: str = Field(default="", description="Empty: the engine's own login.")
    registry_password: SecretStr = Field(default=SecretStr(""), description="For pulling.")

    _read: dict[tuple[Any, ...], Any] = PrivateAttr(default_factory=dict)

    # ---- what is

    def check(self) -> None:
        """Raise Unreachable or BadConfiguration, in one sentence, if nothing could be deployed."""
        with self._asking("does not answer") as engine:
            engine.ping()
        if not self.directory.is_dir():
            raise BadConfiguration(f"no directory {self.directory} for the Compose project")
        if not (self.directory / self.file).is_file():
            raise BadConfiguration(f"no Compose file at {self.directory / self.file}")
        service = self._config()["services"].get(self.service)
        if service is None:
            known = ", ".join(sorted(self._config()["services"]))
            raise BadConfiguration(
                f"{self.directory / self.file} has no service {self.service!r}; there is: {known}"
            )
        if service.get("image") != _PROBE:
            raise BadConfiguration(
                f"the image of {self.service} in {self.directory / self.file} is not exactly "
                f"${{{self.image_variable}}}, so no digest could be deployed",
                f"image: ${{{self.image_variable}}}",
            )
        self._network_name()

    def instances(self) -> tuple[Instance, ...]:
        """All containers of the service, stopped ones too, oldest first."""
        network = self._network_name()
        found = [self._instance(container, network) for container in self._containers()]
        return tuple(found)

    def has_image(self, image: ImageRef) -> bool:
        """Whether the engine holds the image, so that it starts even without the registry."""
        with self._asking(f"cannot look for {image}") as engine:
            try:
                engine.images.get(str(image))
            except docker.errors.ImageNotFound:
                return False
        return True

    def logs(self, id: str, tail: int) -> str:
        """The last ``tail`` lines of a container, without the environment's secrets."""
        with self._asking(f"has no log of {id[:12]}") as engine:
            try:
                text: bytes = engine.api.logs(id, tail=tail)
            except docker.errors.NotFound:
                return "(the container is gone)"
        return self._without_secrets(text.decode(errors="replace"))

    def listing(self) -> str:
        """All containers of the project as a table (runbook, step 4: `ps`)."""
        return self._compose("ps", "--all", failure=Unreachable)

    # ---- what changes

    def pull(self, image: ImageRef) -> None:
        """Fetch the image by digest. Raises RolloutFailed if the registry does not have it."""
        login = None
        if self.registry_username:
            password = self.registry_password.get_secret_value()
            login = {"username": self.registry_username, "password": password}
        with self._asking(f"cannot pull {image}") as engine:
            try:
                engine.images.pull(str(image), auth_config=login)
            except docker.errors.NotFound as error:
                raise RolloutFailed(
                    f"the registry has no {image}: {error.explanation}", f"docker pull {image}"
                ) from None

    def start_beside(
        self, image: ImageRef, count: int, keep: Collection[str] = ()
    ) -> tuple[Instance, ...]:
        """Start ``count`` new containers beside those that run, and return the new ones.

        Compose counts stopped containers when it scales, and starts them: so leftovers are
        removed, it is asked to create only, and the engine starts the new ones.
        """
        before = self.instances()
        leftovers = [i.id for i in before if not i.running and i.id not in keep]
        self.remove(leftovers)
        there = {i.id for i in before} - set(leftovers)
        scale = f"{self.service}={len(there) + count}"
        self._compose(
            *("up", "--no-start", "--no-deps", "--no-recreate", "--no-build", "--quiet-pull"),
            *("--scale", scale, self.service),
            image=image,
        )
        new = [i.id for i in self.instances() if i.id not in there]
        self.start(new)
        return tuple(i for i in self.instances() if i.id in new)

    def await_healthy(
        self,
        ids: Sequence[str],
        within: timedelta,
        answers: Callable[[Instance], bool] | None = None,
    ) -> tuple[Instance, ...]:
        """Wait until all are healthy and return them.

        One whose image declares no health check counts as healthy when its port is open: the
        engine says "running" before it listens. ``answers`` is another way to know it.
        """

        def ready(instance: Instance) -> bool:
            if is_ready(instance) and self._listens(instance):
                return True
            return answers is not None and instance.running and answers(instance)

        network = self._network_name()
        began = time.monotonic()
        while True:
            waited = timedelta(seconds=time.monotonic() - began)
            found = [self._container(id) for id in ids]
            instances = tuple(self._instance(container, network) for container in found)
            for container, instance in zip(found, instances, strict=True):
                why = unfit_instance(
                    instance,
                    restarts=int(container.attrs.get("RestartCount", 0)),
                    waited=waited,
                    within=within,
                )
                if not why and waited > within and not self._listens(instance):
                    why = f"{instance.name} does not listen on port {self.port}"
                if why:
                    raise self._did_not_come_up(container, why)
            if all(ready(instance) for instance in instances):
                return instances
            time.sleep(_POLL)

    def start(self, ids: Sequence[str]) -> None:
        """Start stopped containers; one that runs is left alone."""
        self._each(ids, "cannot start", lambda container: container.start())

    def stop(self, ids: Sequence[str], grace: timedelta) -> None:
        """Stop containers, all at once, and keep them; SIGKILL follows SIGTERM after ``grace``."""
        seconds = round(grace.total_seconds())
        self._each(ids, "cannot stop", lambda container: container.stop(timeout=seconds), gone=True)

    def remove(self, ids: Sequence[str]) -> None:
        """Remove stopped containers; one that is gone is no error, one that runs is."""
        self._each(ids, "cannot remove", lambda container: container.remove(v=True), gone=True)

    @contextmanager
    def apart(
        self, image: ImageRef, variables: Mapping[str, SecretStr], within: timedelta
    ) -> Iterator[Instance]:
        """A healthy container of the service with other variables, which is no instance of it.

        It is on the service's networks, but without its names, so that no router finds it, and
        :meth:`instances` does not list it. It is removed at the end; one that a killed worker left
        behind, by :meth:`remove_apart`, or by a later call when it is older than an hour. Raises
        RolloutFailed where it does not come up ``within`` this time.
        """
        for name in self._apart(_FORGOTTEN_AFTER):
            self._remove_apart(name)
        name = f"{self._project()}-{self.service}-apart-{secrets.token_hex(4)}"
        try:
            self._compose(
                *("run", "--detach", "--no-deps", "--quiet-pull", "--name", name),
                *("--label", f"{_APART}={self._project()}/{self.service}"),
                *(part for variable in variables for part in ("--env", variable)),
                self.service,
                image=image,
                variables={key: value.get_secret_value() for key, value in variables.items()},
            )
            yield self.await_healthy([str(self._container(name).id)], within)[0]
        finally:
            with suppress(DeployError):  # then a later call removes it
                self._remove_apart(name)

    def remove_apart(self) -> int:
        """Remove every container that :meth:`apart` started."""
        found = self._apart(timedelta())
        for name in found:
            self._remove_apart(name)
        return len(found)

    def restart_in_place(self, image: ImageRef, replicas: int) -> tuple[Instance, ...]:
        """The runbook's plain restart: pin, stop the old, start the new. Users notice."""
        self.pin(image)
        self._compose(
            *("up", "--detach", "--no-deps", "--no-build", "--quiet-pull"),
            *("--scale", f"{self.service}={replicas}", self.service),
            image=image,
        )
        return tuple(i for i in self.instances() if i.image == image)

    # ---- what the host starts by itself

    def pin(self, image: ImageRef) -> None:
        """Write the digest into the directory's .env, in one rename; all other lines stay."""
        path = self._env_file()
        # As bytes, so that whatever ends the file's lines stays.
        old = path.read_bytes().decode() if path.exists() else ""
        line = f"{self.image_variable}={image}"
        new, count = self._assignment().subn(lambda _: line, old)
        if not count:
            new = old + ("\n" if old and not old.endswith("\n") else "") + line + "\n"
        if new != old:
            _replace_file(path, new)

    def pinned(self) -> ImageRef | None:
        """What the directory's .env names; None where it is nothing, or no digest."""
        path = self._env_file()
        found = self._assignment().findall(path.read_text()) if path.exists() else []
        if not found:
            return None
        try:
            return ImageRef.parse(found[-1].partition("=")[2].strip().strip("\"'"))
        except BadRequest:
            return None

    def by_hand(self, replicas: int) -> Host:
        """What a person needs to know to start the service on the host, without any of us."""
        path, there = self._env_file(), 0
        with suppress(DeployError):  # what is typed is right for the least there has to be
            there = len(self._containers())
        return Host(
            directory=self.directory,
            file=self.file,
            service=self.service,
            variable=self.image_variable,
            env_file=path,
            assigned=path.exists() and bool(self._assignment().search(path.read_text())),
            containers=max(replicas, there),
            engine=self.engine,
        )

    def kept_releases(self) -> tuple[Release, ...]:
        """The releases whose images the engine holds, newest first: those start without others."""
        pinned = self.pinned()
        known = {i.image.repository for i in self.instances() if i.image}
        known |= {pinned.repository} if pinned else set()
        with self._asking("cannot list images") as engine:
            images = sorted(engine.api.images(), key=lambda image: image["Created"], reverse=True)
        return tuple(
            release_of_image(
                ImageRef.parse(name), labels.get(_VERSION, ""), labels.get(_REVISION, "")
            )
            for image in images
            for labels in [image.get("Labels") or {}]
            for name in image.get("RepoDigests") or []
            if name.partition("@")[0] in known
        )

    def _env_file(self) -> Path:
        return (self.directory / ".env").resolve()

    def _assignment(self) -> re.Pattern[str]:
        name = re.escape(self.image_variable)
        return re.compile(rf"^[ \t]*(?:export[ \t]+)?{name}[ \t]*=[^\r\n]*", re.MULTILINE)

    # ---- the engine

    def _client(self) -> docker.DockerClient:
        return docker.DockerClient(base_url=self.engine) if self.engine else docker.from_env()

    @contextmanager
    def _asking(self, trouble: str) -> Iterator[docker.DockerClient]:
        """A client of the engine, whose errors become ours."""
        name = self.engine or os.environ.get("DOCKER_HOST", "") or "of this host"
        try:
            client = self._client()
            try:
                yield client
            finally:
                client.close()
        except docker.errors.APIError as error:
            text = self._without_secrets(str(error.explanation or error))
            kind = RolloutFailed if error.is_client_error() else Unreachable
            raise kind(f"container engine {name} {trouble}: {text}", "docker ps --all") from None
        except (docker.errors.DockerException, requests.exceptions.RequestException) as error:
            raise Unreachable(
                f"container engine {name} does not answer: {_first_line(error)}", "docker info"
            ) from None

    def _containers(self) -> list[Any]:
        labels = [
            f"com.docker.compose.project={self._project()}",
            f"com.docker.compose.service={self.service}",
            "com.docker.compose.oneoff=False",
        ]
        with self._asking("cannot list containers") as engine:
            # ignore_removed: a container that goes while the list is read is no error.
            found = engine.containers.list(all=True, filters={"label": labels}, ignore_removed=True)
        return sorted(found, key=lambda container: str(container.attrs["Created"]))

    def _container(self, id: str) -> Any:
        with self._asking(f"has no container {id[:12]}") as engine:
            return engine.containers.get(id)

    def _each(
        self, ids: Sequence[str], trouble: str, act: Callable[[Any], None], gone: bool = False
    ) -> None:
        """Do something to each container, all at once; ``gone`` forgives a missing one."""

        def one(id: str) -> None:
            with self._asking(f"{trouble} {id[:12]}") as engine:
                try:
                    act(engine.containers.get(id))
                except docker.errors.NotFound:
                    if not gone:
                        raise

        if ids:
            with ThreadPoolExecutor(len(ids)) as pool:
                list(pool.map(one, ids))

    def _apart(self, least: timedelta) -> list[str]:
        """The names of the containers apart that are at least so old."""
        label = f"{_APART}={self._project()}/{self.service}"
        with self._asking("cannot list containers") as engine:
            found = engine.containers.list(all=True, filters={"label": label}, ignore_removed=True)
        made = {c.name: datetime.fromisoformat(c.attrs["Created"][:19] + "Z") for c in found}
        return [name for name, at in made.items() if datetime.now(UTC) - at >= least]

    def _remove_apart(self, name: str) -> None:
        with self._asking(f"cannot remove {name}") as engine, suppress(docker.errors.NotFound):
            engine.containers.get(name).remove(v=True, force=True)

    def _instance(self, container: Any, network: str) -> Instance:
        attrs = container.attrs
        state, config = attrs["State"], attrs["Config"]
        labels = config.get("Labels") or {}
        networks = attrs["NetworkSettings"]["Networks"]
        return Instance(
            id=container.id,
            name=container.name,
            address=(networks.get(network) or {}).get("IPAddress") or "",
            image=self._image(config["Image"], attrs["Image"]),
            version=labels.get(_VERSION, ""),
            revision=labels.get(_REVISION, ""),
            state=state["Status"],
            health=(state.get("Health") or {}).get("Status") or "none",
            exit_code=int(state.get("ExitCode") or 0),
            restarts=int(attrs.get("RestartCount") or 0),
        )

    def _image(self, name: str, id: str) -> ImageRef | None:
        """The image by digest: as the container was asked for, else as the engine knows it."""
        try:
            return ImageRef.parse(name)
        except BadRequest:
            pass
        with self._asking("cannot describe an image") as engine:
            try:
                digests = engine.images.get(id).attrs.get("RepoDigests") or []
            except docker.errors.ImageNotFound:
                return None
        repository = name.rsplit(":", 1)[0] if ":" in name.rsplit("/", 1)[-1] else name
        digests.sort(key=lambda digest: not digest.startswith(f"{repository}@"))
        return ImageRef.parse(digests[0]) if digests else None

    def _listens(self, instance: Instance) -> bool:
        if instance.health != "none":
            return True
        try:
            with socket.create_connection((instance.address, self.port), timeout=1):
                return True
        except OSError:
            return False

    def _did_not_come_up(self, container: Any, why: str) -> RolloutFailed:
        checks = (container.attrs["State"].get("Health") or {}).get("Log") or []
        said = str(checks[-1].get("Output", "")).strip() if checks else ""
        log = self.logs(container.id, _LAST_LINES).rstrip()
        parts = [why]
        if said:
            parts.append(f"health check: {self._without_secrets(said)}")
        parts.append(f"last log lines:\n{log}" if log else "it logged nothing")
        return RolloutFailed("; ".join(parts), f"docker logs {container.name}")

    # ---- compose

    def _project(self) -> str:
        return str(self._config()["name"])

    def _network_name(self) -> str:
        """The network by which the router reaches an instance, as the engine calls it."""
        config = self._config()
        joined = list(config["services"].get(self.service, {}).get("networks") or {"default": None})
        networks = config.get("networks") or {}
        wanted = self.network or ("default" if "default" in joined else joined[0])
        for key in joined:
            name = (networks.get(key) or {}).get("name") or f"{config['name']}_{key}"
            if wanted in (key, name):
                return str(name)
        raise BadConfiguration(
            f"service {self.service} is on {', '.join(joined)}, not on network {wanted!r}"
        )

    def _config(self) -> Any:
        """The Compose file as Compose reads it. It holds secrets: never show it."""
        sources = self._sources()
        if sources not in self._read:
            text = self._compose("config", "--format", "json", failure=BadConfiguration)
            self._read = {sources: json.loads(text)}
        return self._read[sources]

    def _sources(self) -> tuple[Any, ...]:
        """What the configuration is read from, and when that was changed last."""
        paths = (self.directory / self.file, self._env_file())
        times = tuple(path.stat().st_mtime_ns if path.exists() else 0 for path in paths)
        return (*paths, *times, self.image_variable, self.engine)

    def _compose(
        self,
        *arguments: str,
        image: ImageRef | None = None,
        failure: type[DeployError] = RolloutFailed,
        variables: Mapping[str, str] | None = None,
    ) -> str:
        """Run one compose command in the project and return what it wrote.

        The image is given by the process's environment, which comes before .env. Raises
        ``failure`` with command, exit code and the last lines of its output.
        """
        command = ["docker", "compose", "--file", self.file, *arguments]
        reads = failure is not RolloutFailed
        # No digest is deployed by reading: the probe shows where the variable is used.
        value = str(image) if image else (_PROBE if reads else "")
        try:
            done = subprocess.run(
                command,
                cwd=self.directory,
                env={**self._environment(value), **(variables or {})},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=_ASK_WITHIN if reads else _ACT_WITHIN,
                check=True,
            )
        except subprocess.CalledProcessError as error:
            tail = _tail(self._without_secrets(error.stderr or error.stdout))
            raise failure(
                f"exit code {error.returncode} from `{shlex.join(command)}`:\n{tail}",
                f"cd {self.directory} && {shlex.join(command)}",
            ) from None
        except subprocess.TimeoutExpired as error:
            raise failure(
                f"no end of `{shlex.join(command)}` after {error.timeout:.0f} s"
            ) from None
        except OSError as error:
            raise failure(
                f"cannot run `{shlex.join(command)}` in {self.directory}: {error.strerror}"
            ) from None
        return done.stdout

    def _environment(self, image: str) -> dict[str, str]:
        found = {n: v for n, v in os.environ.items() if _PASSED_ON.fullmatch(n)}
        if self.engine:
            found["DOCKER_HOST"] = self.engine
        return {**found, self.image_variable: image}

    # ---- secrets

    def _without_secrets(self, text: str) -> str:
        """Take out what .env says, unless its name is one of those that are never secret."""
        for secret in sorted(self._secrets(), key=len, reverse=True):
            text = text.replace(secret, "***")
        return text

    def _secrets(self) -> set[str]:
        path = self._env_file()
        lines = path.read_text(errors="replace").splitlines() if path.exists() else []
        found = set()
        for line in lines:
            name, _, value = line.partition("=")
            words = name.split()
            if not words or words[0].startswith("#") or _NEVER_SECRET.fullmatch(words[-1]):
                continue
            value = (value or name).strip().strip("\"'")
            found |= {value, _password(value)}
        return {secret for secret in found if len(secret) >= _SHORTEST_SECRET}


def _password(text: str) -> str:
    """The password in a URL; "" where there is none."""
    try:
        return urlsplit(text).password or ""
    except ValueError:
        return ""


def _replace_file(path: Path, text: str) -> None:
    """Replace a file at once, with its owner and mode; a new one is its owner's alone."""
    draft = path.with_name(f".{path.name}.new")
    draft.unlink(missing_ok=True)
    draft.touch(mode=0o600)
    if path.exists():
        status = path.stat()
        os.chown(draft, status.st_uid, status.st_gid)
        draft.chmod(status.st_mode & 0o777)
    with draft.open("wb") as file:
        file.write(text.encode())
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def _tail(text: str) -> str:
    return "\n".join(text.strip().splitlines()[-_LAST_LINES:])


def _first_line(error: object) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
