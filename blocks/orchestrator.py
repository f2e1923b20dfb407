"""What runs the instances of a service, whatever system that is."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import timedelta

from pydantic import SecretStr

from blocks.part import Part
from release.configuration.kinds import OrchestratorSettings
from release.configuration.layout import ServiceInterface
from release.model import ImageRef, Instance, Release


@dataclass(frozen=True, slots=True)
class ByHand:
    """What a person does on the host if the pipeline cannot."""

    commands: tuple[str, ...]  # to type one after the other
    meanwhile: str  # what users do then: "meet errors for some seconds"


class Orchestrator(ServiceInterface, OrchestratorSettings, Part, ABC):
    """Starts, stops and describes the containers of one service in one environment.

    Every method asks the engine again and is safe to repeat. Errors are Unreachable when the engine
    does not answer, and otherwise name the container or the command.
    """

    service: str = "api"
    """The service that is deployed, as the orchestrator calls it."""

    network: str = ""
    """The network on which the router reaches an instance; empty: the only one there is."""

    registry_username: str = ""
    """The login for pulling; empty: the engine's own."""

    registry_password: SecretStr = SecretStr("")
    """The password of that login."""

    @abstractmethod
    def check(self, replicas: int, routed: bool) -> None:
        """Raise Unreachable or BadConfiguration, in one sentence, if nothing could be deployed.

        ``replicas`` instances are to serve; ``routed``: old and new side by side, behind a router.
        """

    def left_behind(self) -> tuple[str, ...]:
        """Other services of the environment that run the same image; no rollout touches them."""
        return ()

    @abstractmethod
    def instances(self) -> tuple[Instance, ...]:
        """All containers of the service, stopped ones too, oldest first."""

    @abstractmethod
    def has_image(self, image: ImageRef) -> bool:
        """Whether the engine holds the image, so that it starts even without the registry."""

    @abstractmethod
    def pull(self, image: ImageRef) -> None:
        """Fetch the image by digest. Raises RolloutFailed if the registry does not have it."""

    @abstractmethod
    def start_beside(
        self, image: ImageRef, count: int, keep: Collection[str] = ()
    ) -> tuple[Instance, ...]:
        """Start ``count`` new containers beside those that run, and return the new ones.

        Stopped containers whose id is not in ``keep`` are removed first; those in ``keep`` stay
        stopped. What the host itself starts after a reboot (:meth:`pinned`) is not changed.
        """

    @abstractmethod
    def await_healthy(
        self,
        ids: Sequence[str],
        within: timedelta,
        answers: Callable[[Instance], bool] | None = None,
    ) -> tuple[Instance, ...]:
        """Wait until all are healthy and return them.

        ``answers`` is another way to tell that a running one is healthy: an engine may first check
        a container half a minute after it has started it.

        Raises RolloutFailed, with the container's name, state, health output and last log lines,
        as soon as one has ended, was started again or is unhealthy, and when the time is up.
        """

    @abstractmethod
    def start(self, ids: Sequence[str]) -> None:
        """Start stopped containers; one that runs is left alone."""

    @abstractmethod
    def stop(self, ids: Sequence[str], grace: timedelta) -> None:
        """Stop containers, all at once, and keep them; SIGKILL follows SIGTERM after ``grace``."""

    @abstractmethod
    def remove(self, ids: Sequence[str]) -> None:
        """Remove stopped containers. One that is gone is not an error, one that runs is."""

    @abstractmethod
    def reach(self, instance: Instance, port: int) -> str:
        """The base URL at which this one instance answers, whether or not users meet it.

        ``port`` is the one that its release listens on. Raises RolloutFailed if the instance cannot
        be reached, for example because it does not run.
        """

    @abstractmethod
    def apart(
        self, image: ImageRef, variables: Mapping[str, SecretStr], within: timedelta
    ) -> AbstractContextManager[Instance]:
        """One healthy container more, with other ``variables``, for the length of the context.

        It is not an instance of the service: :meth:`instances` does not list it, and no router
        finds it. It is removed at the end. Raises RolloutFailed if it does not come up ``within``
        this time.
        """

    @abstractmethod
    def remove_apart(self) -> int:
        """Remove what a killed run left running :meth:`apart`; return how many.

        Only for the holder of the environment's lock: no other run rehearses there then.
        """

    @abstractmethod
    def logs(self, id: str, tail: int) -> str:
        """The last ``tail`` lines of a container, without the environment's secrets."""

    @abstractmethod
    def health_output(self, id: str) -> str:
        """What the last health check of a container said, without the environment's secrets; "" if
        there is none, or the container is gone."""

    @abstractmethod
    def listing(self) -> str:
        """All containers of the environment as a table (runbook, step 4: `ps`)."""

    @abstractmethod
    def pin(self, image: ImageRef) -> None:
        """Name the image where the host's own start reads it, so that a reboot brings it back."""

    @abstractmethod
    def pinned(self) -> ImageRef | None:
        """The image that :meth:`pin` named last. Returns None if no digest is named."""

    @abstractmethod
    def by_hand(self, image: ImageRef | None, replicas: int, routed: bool) -> ByHand:
        """How a person makes the host serve ``image`` (None: nothing), also after a reboot.

        Works even if the engine does not answer. ``routed``: whether users come through a router.
        """

    @abstractmethod
    def kept_releases(self) -> tuple[Release, ...]:
        """The releases whose images the engine holds, newest first: they need no registry."""

    @abstractmethod
    def pin_text(self) -> str:
        """What the host's own start names, as it is written there, perhaps not a digest; "" for
        nothing."""

    @abstractmethod
    def unpin(self, before: str) -> None:
        """Undo :meth:`pin`: the host starts ``before`` (a :meth:`pin_text`), or, with "",
        nothing."""

    @abstractmethod
    def restart_in_place(self, image: ImageRef, replicas: int) -> tuple[Instance, ...]:
        """The runbook's plain restart: pin, stop the old, start the new. Users notice."""
