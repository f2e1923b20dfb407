"""The image registry: what is in it, under which digest, and how an image gets there."""

from collections.abc import Callable

import docker
import docker.errors
import httpx

from blocks.engine import client_of, is_refused_for_good
from blocks.http_client import tls
from blocks.part import Part
from release.configuration.places import RegistrySettings
from release.errors import BuildFailed, Unreachable
from release.model import ImageRef


class Registry(RegistrySettings, Part):
    """One registry and the login for it."""

    _block_type_name = "Ignition Registry"

    def repository(self, name: str) -> str:
        """The image name with the registry before it, without a tag."""
        return f"{self.address}/{name}"

    def check(self) -> None:
        """Raise Unreachable if the registry does not answer, or refuses the login."""
        address = f"{'http' if self.insecure else 'https'}://{self.address}/v2/"
        login = (self.username, self.password.get_secret_value()) if self.username else None
        try:
            answer = httpx.get(address, timeout=10, auth=login, verify=tls())
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise Unreachable(
                f"registry {self.address} does not answer: {error}", "ignition doctor"
            ) from None
        # 401 is how a registry asks for a login, or for a token: it is there. Only one that asks
        # for the login that it was just given refuses it.
        asks_for_token = answer.headers.get("WWW-Authenticate", "").lower().startswith("bearer")
        refused = answer.status_code == 401 and login and not asks_for_token
        if answer.status_code not in (200, 401) or refused:
            raise Unreachable(
                f"registry {self.address} answers {answer.status_code} to user "
                f"{self.username or 'nobody'}",
                f"docker login {self.address}",
            )

    def find(self, name: str, tag: str) -> ImageRef | None:
        """The digest that the registry has under ``tag``, read from it now. None if it has none.

        Raises Unreachable if the registry does not answer or refuses.
        """
        try:
            data = self._client().images.get_registry_data(
                f"{self.repository(name)}:{tag}", auth_config=self._login()
            )
        except docker.errors.NotFound:
            return None
        except (docker.errors.APIError, docker.errors.DockerException) as error:
            raise Unreachable(f"registry {self.address} refuses {name}:{tag}: {error}") from None
        return ImageRef(self.repository(name), str(data.id))

    def holds(self, image: ImageRef) -> bool:
        """Whether the registry still has an image. Raises Unreachable."""
        try:
            self._client().images.get_registry_data(str(image), auth_config=self._login())
        except docker.errors.NotFound:
            return False
        except docker.errors.DockerException as error:
            raise Unreachable(f"registry {self.address} does not say: {error}") from None
        return True

    def labels(self, image: ImageRef) -> dict[str, str]:
        """The labels of an image; it is pulled to this engine. Raises Unreachable."""
        try:
            pulled = self._client().images.pull(str(image), auth_config=self._login())
        except docker.errors.DockerException as error:
            raise Unreachable(f"registry {self.address} does not give {image}: {error}") from None
        return dict(pulled.labels)

    def push(self, name: str, tag: str, say: Callable[[str], None]) -> ImageRef:
        """Push a local image and return the digest that the registry then holds.

        Raises BuildFailed if the registry refuses it for good, or holds another digest afterwards
        than the one that it acknowledged; Unreachable if it may take it later.
        """
        repository = self.repository(name)
        acknowledged = ""
        try:
            # The SDK does not raise when a push fails: the error is one of the stream's events.
            for event in self._client().api.push(
                repository, tag=tag, stream=True, decode=True, auth_config=self._login()
            ):
                if "error" in event:
                    raised = BuildFailed if is_refused_for_good(event["error"]) else Unreachable
                    raise raised(
                        f"registry {self.address} did not take {name}:{tag}: {event['error']}",
                        f"docker push {repository}:{tag}",
                    )
                acknowledged = event.get("aux", {}).get("Digest", acknowledged)
                if event.get("status") in ("Pushed", "Layer already exists"):
                    say(f"{event['status'].lower()} {event.get('id', '')}".strip())
        except docker.errors.DockerException as error:
            raise Unreachable(
                f"the engine could not push {name}:{tag} to {self.address}: {error}", "docker info"
            ) from None
        held = self.find(name, tag)
        if held is None or held.digest != acknowledged:
            raise BuildFailed(
                f"registry {self.address} holds {held.short if held else 'nothing'} as "
                f"{name}:{tag}, it acknowledged {acknowledged[:14] or 'nothing'}…"
            )
        return held

    def _client(self) -> docker.DockerClient:
        return client_of(self.engine)

    def _login(self) -> dict[str, str] | None:
        if not self.username:
            return None
        return {"username": self.username, "password": self.password.get_secret_value()}
