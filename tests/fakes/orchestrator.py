"""A container engine in memory: containers with states, started from images that behave."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path

from pydantic import PrivateAttr, SecretStr

from blocks.compose.by_hand import Host, commands, meanwhile, stopping
from blocks.orchestrator import ByHand, Orchestrator
from release.errors import RolloutFailed, Unreachable
from release.model import ImageRef, Instance, Release
from release.rollback.baseline import release_of_image
from release.rollout import did_not_come_up, unfit_instance


@dataclass
class FakeHost:
    """What a host has: containers, images, and the names that the registry knows."""

    containers: list[Instance] = field(default_factory=list)
    registry: dict[ImageRef, tuple[str, str]] = field(default_factory=dict)  # version, behaviour
    apart: list[str] = field(default_factory=list)  # ids of containers that are no instances
    pulled: set[ImageRef] = field(default_factory=set)
    pinned: ImageRef | None = None
    named: str = ""  # where no digest is pinned: what the host's own start names instead
    made: int = 0  # containers ever made; names are not used twice
    started: int = 0  # addresses are not used twice either
    answers: bool = True


class FakeOrchestrator(Orchestrator):
    """Behaviours: ``good``, ``errors`` (answers 500), ``never-healthy``, ``exits`` at its start."""

    _block_type_name = "Fake Orchestrator"
    kind: str = "in memory"
    _host: FakeHost = PrivateAttr(default_factory=FakeHost)

    @property
    def host(self) -> FakeHost:
        return self._host

    def behaviour(self, instance: Instance) -> str:
        return self._host.registry[instance.image][1] if instance.image else "good"

    def check(self, replicas: int, routed: bool) -> None:
        self._ask()

    def instances(self) -> tuple[Instance, ...]:
        self._ask()
        return tuple(i for i in self._host.containers if i.id not in self._host.apart)

    def has_image(self, image: ImageRef) -> bool:
        self._ask()
        return image in self._host.pulled

    def pull(self, image: ImageRef) -> None:
        self._ask()
        if image not in self._host.registry:
            raise RolloutFailed(f"the registry has no {image}")
        self._host.pulled.add(image)

    def start_beside(
        self, image: ImageRef, count: int, keep: Collection[str] = ()
    ) -> tuple[Instance, ...]:
        self.remove([i.id for i in self.instances() if not i.running and i.id not in keep])
        new = [self._make(image) for _ in range(count)]
        self.start(new)
        return tuple(self._find(id) for id in new)

    def await_healthy(
        self,
        ids: Sequence[str],
        within: timedelta,
        answers: Callable[[Instance], bool] | None = None,
    ) -> tuple[Instance, ...]:
        self._ask()
        for id in ids:
            instance = self._find(id)
            if instance.running and answers is not None and answers(instance):
                continue
            if instance.running and self.behaviour(instance) != "never-healthy":
                self._change(id, health="healthy")
            why = unfit_instance(
                self._find(id), restarts=0, waited=within + timedelta(seconds=1), within=within
            )
            if why:
                raise RolloutFailed(did_not_come_up(why, "", self.logs(id, 10)))
        return tuple(self._find(id) for id in ids)

    def start(self, ids: Sequence[str]) -> None:
        self._ask()
        for id in ids:
            instance = self._find(id)
            if instance.running:
                continue
            if self.behaviour(instance) == "exits":
                self._change(id, state="exited", exit_code=3)
                continue
            self._host.started += 1
            address = f"172.30.0.{self._host.started + 1}"
            self._change(id, state="running", health="starting", address=address)

    def stop(self, ids: Sequence[str], grace: timedelta) -> None:
        self._ask()
        for instance in self._those(ids):
            self._change(instance.id, state="exited", health="unhealthy", address="")

    def remove(self, ids: Sequence[str]) -> None:
        self._ask()
        for instance in self._those(ids):
            if instance.running:
                raise RolloutFailed(f"cannot remove {instance.name}: it is running")
            self._host.containers.remove(instance)

    def reach(self, instance: Instance, port: int) -> str:
        if not instance.address:
            raise RolloutFailed(f"{instance.name} has no address")
        return f"http://{instance.address}:{port}"

    @contextmanager
    def apart(
        self, image: ImageRef, variables: Mapping[str, SecretStr], within: timedelta
    ) -> Iterator[Instance]:
        id = self._make(image, "apart")
        self._host.apart.append(id)
        try:
            self.start([id])
            yield self.await_healthy([id], within)[0]
        finally:
            self._remove_apart(id)

    def remove_apart(self) -> int:
        self._ask()
        found = list(self._host.apart)
        for id in found:
            self._remove_apart(id)
        return len(found)

    def leave_apart(self, image: ImageRef) -> None:
        """As a run that is killed while it rehearses."""
        id = self._make(image, "apart")
        self._host.apart.append(id)
        self.start([id])

    def logs(self, id: str, tail: int) -> str:
        found = self._those([id])
        return f"{found[0].name} was here" if found else "(the container is gone)"

    def health_output(self, id: str) -> str:
        found = self._those([id])
        return "HTTP 503" if found and self.behaviour(found[0]) == "never-healthy" else ""

    def listing(self) -> str:
        return "\n".join(f"{i.name}  {i.state}" for i in self.instances())

    def pin(self, image: ImageRef) -> None:
        self._host.pinned = image

    def pinned(self) -> ImageRef | None:
        return self._host.pinned

    def by_hand(self, image: ImageRef | None, replicas: int, routed: bool) -> ByHand:
        folder, file = Path("/srv/production"), "docker-compose.yml"
        count = max(replicas, len(self._host.containers))
        host = Host(folder, file, "api", "API_IMAGE", folder / ".env", True, count)
        there = image in self._host.pulled and self._host.answers
        typed = commands(host, image, there) if image else stopping(host)
        return ByHand(typed, meanwhile(routed))

    def kept_releases(self) -> tuple[Release, ...]:
        self._ask()
        known = [image for image in self._host.registry if image in self._host.pulled]
        return tuple(
            release_of_image(image, self._host.registry[image][0], "") for image in reversed(known)
        )

    def pin_text(self) -> str:
        return str(self._host.pinned or self._host.named)

    def unpin(self, before: str) -> None:
        self._host.pinned, self._host.named = None, before

    def restart_in_place(self, image: ImageRef, replicas: int) -> tuple[Instance, ...]:
        self.pin(image)
        self.stop([i.id for i in self.instances()], timedelta())
        return self.start_beside(image, replicas)

    def _ask(self) -> None:
        if not self._host.answers:
            raise Unreachable("the container engine does not answer")

    def _remove_apart(self, id: str) -> None:
        self.stop([id], timedelta())
        self.remove([id])
        self._host.apart.remove(id)

    def _make(self, image: ImageRef, what: str = "api") -> str:
        if image not in self._host.pulled:
            raise RolloutFailed(f"no image {image} on this engine")
        self._host.made += 1
        number, version = self._host.made, self._host.registry[image][0]
        id = f"{number:064x}"
        self._host.containers.append(
            Instance(id, f"app-{what}-{number}", "", image, version, "", "created", "none")
        )
        return id

    def _find(self, id: str) -> Instance:
        found = self._those([id])
        if not found:
            raise RolloutFailed(f"container engine has no container {id[:12]}")
        return found[0]

    def _those(self, ids: Sequence[str]) -> list[Instance]:
        return [i for i in self._host.containers if i.id in ids]

    def _change(self, id: str, **values: object) -> None:
        containers = self._host.containers
        at = next(n for n, instance in enumerate(containers) if instance.id == id)
        containers[at] = replace(containers[at], **values)  # type: ignore[arg-type]
