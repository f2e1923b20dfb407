"""A Docker Compose project on one host.

Compose reads its own file, makes networks and creates containers; everything else is asked of the
engine itself. Compose alone would stop the old containers first, would start those that are kept
stopped, and calls a container that died a second later a success.
"""

import secrets
import socket
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import docker
import docker.errors
import requests.exceptions
from pydantic import PrivateAttr, SecretStr

from blocks.compose.by_hand import commands, meanwhile, stopping
from blocks.compose.fitness import (
    Problem,
    Wanted,
    external_parts,
    network_name,
    others_of,
    problems_of,
)
from blocks.compose.project import PROBE, ComposeProject
from blocks.engine import client_of, name_of
from blocks.orchestrator import ByHand, Orchestrator
from blocks.polling import poll
from release.configuration.compose import ComposeSettings
from release.errors import BadConfiguration, BadRequest, DeployError, RolloutFailed, Unreachable
from release.masking import secrets_of, without_secrets
from release.model import ImageRef, Instance, Release
from release.rollback.baseline import release_of_image
from release.rollout import did_not_come_up, is_ready, or_why_not, unfit_instance

_POLL = timedelta(milliseconds=200)
_LAST_LINES = 10
_VERSION = "org.opencontainers.image.version"
_REVISION = "org.opencontainers.image.revision"
_APART = "ignition.apart"  # label of a container that is not an instance
_FORGOTTEN_AFTER = timedelta(hours=1)


class ComposeOrchestrator(ComposeSettings, Orchestrator):
    """One service of a Compose project, on one engine."""

    _block_type_name = "Ignition Compose Orchestrator"

    _read: dict[tuple[Any, ...], Any] = PrivateAttr(default_factory=dict)

    # ---- what is

    def check(self, replicas: int, routed: bool) -> None:
        """Raise Unreachable or BadConfiguration, in one sentence, if nothing could be deployed."""
        with self._asking("does not answer") as engine:
            engine.ping()
            log_driver = str(engine.info().get("LoggingDriver") or "")
        self._files.check()
        config, path = self._files.config(), str(self.directory / self.file)
        problems = list(problems_of(config, self._wanted(replicas, routed, log_driver), path))
        if self.service not in config["services"]:
            problems = [self._files.in_a_profile(self.service) or problems[0]]
        problems = [*filter(None, [self._files.read_otherwise()]), *problems]
        problems += self._missing_parts() if not problems else []
        if problems:
            raise BadConfiguration(
                "; ".join(problem.sentence for problem in problems),
                "; ".join(problem.hint for problem in problems),
            )
        self._network_name()

    def left_behind(self) -> tuple[str, ...]:
        """The project's other services that run the same image, and keep the one that they have."""
        return others_of(self._files.config(), self._wanted(replicas=1, routed=False))

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
                container = engine.containers.get(id)
                text: bytes = engine.api.logs(id, tail=tail)
            except docker.errors.NotFound:
                return "(the container is gone)"
        return self._masked_for(container, text.decode(errors="replace"))

    def health_output(self, id: str) -> str:
        """What the last health check of a container said, without the environment's secrets."""
        with self._asking(f"does not describe {id[:12]}") as engine:
            try:
                container = engine.containers.get(id)
            except docker.errors.NotFound:
                return ""
        return self._health_output(container)

    def listing(self) -> str:
        """All containers of the project as a table (runbook, step 4: `ps`)."""
        return self._mask(self._files.run("ps", "--all", failure=Unreachable))

    def reach(self, instance: Instance, port: int) -> str:
        """The base URL at which this one instance answers: its own address, past the router."""
        if not instance.address:
            raise RolloutFailed(f"{instance.name} has no address on the service's network")
        return f"http://{instance.address}:{port}"

    # ---- what changes

    def pull(self, image: ImageRef) -> None:
        """Fetch the image by digest. Raises RolloutFailed if the registry does not have it."""
        login = None
        if self.registry_username:
            password = self.registry_password.get_secret_value()
            login = {"username": self.registry_username, "password": password}
        with self._asking(f"cannot pull {image}", RolloutFailed) as engine:
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
        self._files.run(
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

        def look() -> tuple[Instance, ...]:
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
            return instances

        network = self._network_name()
        began = time.monotonic()
        return poll(look, lambda instances: all(map(ready, instances)), every=_POLL)

    def start(self, ids: Sequence[str]) -> None:
        """Start stopped containers; one that runs is left alone."""
        self._each(ids, "cannot start", lambda container: container.start())

    def stop(self, ids: Sequence[str], grace: timedelta) -> None:
        """Stop containers, all at once, and keep them; SIGKILL follows SIGTERM after ``grace``."""
        seconds = round(grace.total_seconds())
        self._each(ids, "cannot stop", lambda container: container.stop(timeout=seconds), gone=True)

    def remove(self, ids: Sequence[str]) -> None:
        """Remove stopped containers. One that is gone is not an error, one that runs is."""
        self._each(ids, "cannot remove", lambda container: container.remove(v=True), gone=True)

    @contextmanager
    def apart(
        self, image: ImageRef, variables: Mapping[str, SecretStr], within: timedelta
    ) -> Iterator[Instance]:
        """A healthy container of the service with other variables, which is not its instance.

        It is on the service's networks, but without its names, so that no router finds it, and
        :meth:`instances` does not list it. It is removed at the end; one that a killed worker left
        behind, by :meth:`remove_apart`, or by a later call when it is older than an hour. Raises
        RolloutFailed if it does not come up ``within`` this time.
        """
        for name in self._apart(_FORGOTTEN_AFTER):
            self._remove_apart(name)
        name = f"{self._project()}-{self.service}-apart-{secrets.token_hex(4)}"
        try:
            self._files.run(
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
        self._files.run(
            *("up", "--detach", "--no-deps", "--no-build", "--quiet-pull"),
            *("--scale", f"{self.service}={replicas}", self.service),
            image=image,
        )
        return tuple(i for i in self.instances() if i.image == image)

    # ---- what the host starts by itself

    def pin(self, image: ImageRef) -> None:
        """Write the digest into the directory's .env, in one rename; all other lines stay."""
        self._files.pin(image)

    def unpin(self, before: str) -> None:
        """Put ``before`` into the directory's .env instead; "" removes the line."""
        self._files.unpin(before)

    def pinned(self) -> ImageRef | None:
        """The image that the directory's .env names. Returns None if it names no digest."""
        return self._files.pinned()

    def by_hand(self, image: ImageRef | None, replicas: int, routed: bool) -> ByHand:
        """How a person makes the host serve ``image`` (None: nothing), also after a reboot."""
        containers, there = replicas, False
        with suppress(DeployError):  # then the commands start the least that is needed
            containers = max(replicas, len(self._containers()))
        with suppress(DeployError):  # then it is pulled, which is harmless
            there = image is not None and self.has_image(image)
        host = self._files.host(self.service, containers)
        typed = commands(host, image, there) if image is not None else stopping(host)
        return ByHand(typed, meanwhile(routed))

    def kept_releases(self) -> tuple[Release, ...]:
        """The releases whose images the engine holds, newest first: they need no registry."""
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

    def pin_text(self) -> str:
        """What the directory's .env names, as it is written there; "" for nothing."""
        return self._files.pin_text()

    @property
    def _files(self) -> ComposeProject:
        return ComposeProject(
            self.directory, self.file, self.image_variable, self.engine, self._read
        )

    # ---- the engine

    @contextmanager
    def _asking(
        self, trouble: str, refused: type[DeployError] = Unreachable
    ) -> Iterator[docker.DockerClient]:
        """A client of the engine, whose errors become ours.

        ``refused`` is raised for what the engine refuses to do: RolloutFailed if it was told to
        change something. A question that it does not answer says nothing about the release.
        """
        name = name_of(self.engine)
        try:
            client = client_of(self.engine)
            try:
                yield client
            finally:
                client.close()
        except docker.errors.APIError as error:
            text = self._mask(str(error.explanation or error))
            kind = refused if error.is_client_error() else Unreachable
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
            # ignore_removed: a container that disappears while the list is read is not an error.
            found = engine.containers.list(all=True, filters={"label": labels}, ignore_removed=True)
        return sorted(found, key=lambda container: str(container.attrs["Created"]))

    def _container(self, id: str) -> Any:
        """A container that must exist. Raises RolloutFailed if it does not."""
        with self._asking(f"has no container {id[:12]}", RolloutFailed) as engine:
            return engine.containers.get(id)

    def _each(
        self, ids: Sequence[str], trouble: str, act: Callable[[Any], None], gone: bool = False
    ) -> None:
        """Do something to each container, all at once; ``gone`` forgives a missing one."""

        def one(id: str) -> None:
            with self._asking(f"{trouble} {id[:12]}", RolloutFailed) as engine:
                try:
                    act(engine.containers.get(id))
                except docker.errors.NotFound:
                    if not gone:
                        raise

        if ids:
            with ThreadPoolExecutor(len(ids)) as pool:
                list(pool.map(one, ids))

    def _apart(self, least: timedelta) -> list[str]:
        """The names of the containers started apart that are at least ``least`` old."""
        label = f"{_APART}={self._project()}/{self.service}"
        with self._asking("cannot list containers") as engine:
            found = engine.containers.list(all=True, filters={"label": label}, ignore_removed=True)
        made = {c.name: datetime.fromisoformat(c.attrs["Created"][:19] + "Z") for c in found}
        return [name for name, at in made.items() if datetime.now(UTC) - at >= least]

    def _remove_apart(self, name: str) -> None:
        removing = self._asking(f"cannot remove {name}", RolloutFailed)
        with removing as engine, suppress(docker.errors.NotFound):
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
            exit_code=self._exit_code(container),
            restarts=int(attrs.get("RestartCount") or 0),
        )

    def _exit_code(self, container: Any) -> int:
        """The exit code of its last end; 0 if the engine no longer knows it.

        A container that runs again has none in its state: the engine's events have it, for as long
        as it keeps them. Both ends of the time asked for are by the engine's own clock, and past.
        """
        attrs, state = container.attrs, container.attrs["State"]
        code = int(state.get("ExitCode") or 0)
        if code or not state.get("Running") or not attrs.get("RestartCount"):
            return code
        made, began = (
            str(datetime.fromisoformat(at).timestamp())
            for at in (attrs["Created"], state["StartedAt"])
        )
        died = {"container": container.id, "event": "die"}
        with suppress(DeployError), self._asking("does not list its events") as engine:
            for event in engine.events(since=made, until=began, filters=died, decode=True):
                code = int(event["Actor"]["Attributes"].get("exitCode") or 0)
        return code

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
        """What is known of it, in the error itself: it is stopped and removed a moment later.

        What cannot be read of it does not hide why it failed.
        """
        said = or_why_not(lambda: self._health_output(container))
        log = or_why_not(lambda: self.logs(container.id, _LAST_LINES))
        return RolloutFailed(did_not_come_up(why, said, log))

    def _health_output(self, container: Any) -> str:
        checks = (container.attrs["State"].get("Health") or {}).get("Log") or []
        said = str(checks[-1].get("Output", "")).strip() if checks else ""
        return self._masked_for(container, said)

    # ---- compose

    def _project(self) -> str:
        return str(self._files.config()["name"])

    def _network_name(self) -> str:
        """The network by which the router reaches an instance, as the engine calls it."""
        return network_name(self._files.config(), self.service, self.network)

    def _wanted(self, replicas: int, routed: bool, log_driver: str = "json-file") -> Wanted:
        return Wanted(
            service=self.service,
            image_variable=self.image_variable,
            image=PROBE,
            replicas=replicas,
            routed=routed,
            network=self.network,
            log_driver=log_driver,
        )

    def _missing_parts(self) -> list[Problem]:
        """External networks and volumes that do not exist."""
        missing = []
        with self._asking("does not list its networks") as engine:
            known = {
                "network": {network.name for network in engine.networks.list()},
                "volume": {volume.name for volume in engine.volumes.list()},
            }
        for kind, name in external_parts(self._files.config(), self.service):
            if name not in known[kind]:
                sentence = f"the external {kind} {name} of service {self.service} does not exist"
                missing.append(Problem(sentence, f"docker {kind} create {name}"))
        return missing

    # ---- secrets

    def _mask(self, text: str) -> str:
        """Mask what the project's services get, and every value in `.env`, however it is read."""
        return without_secrets(text, self._files.secrets())

    def _masked_for(self, container: Any, text: str) -> str:
        """Mask what this container got, wherever it came from, and the project's secrets.

        What its image says is known to everyone who has the image.
        """
        if not text:
            return text
        self._files.try_to_read()
        config = container.attrs["Config"]
        own = set(config.get("Env") or ())
        with self._asking("does not describe an image") as engine:
            try:
                image = engine.images.get(container.attrs["Image"])
                own -= set((image.attrs.get("Config") or {}).get("Env") or ())
            except docker.errors.ImageNotFound:
                pass
        return without_secrets(text, secrets_of(_variables(own)) | self._files.secrets())


def _variables(lines: Iterable[str]) -> dict[str, str]:
    """The engine's ``NAME=value`` lines."""
    return {name: value for name, _, value in (line.partition("=") for line in lines)}


def _first_line(error: object) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
