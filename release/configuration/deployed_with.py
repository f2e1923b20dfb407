"""How a release was checked when it was deployed: kept in the ledger, for when it is restored.

Settings change with the releases. A release that a rollback brings back answers where it did, and
passes the checks that it came with, not those of the release that replaced it.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Self

from pydantic import ConfigDict, ValidationError

from release.configuration.auth import AuthSettings
from release.configuration.layout import ServiceLayout
from release.configuration.rules import Rules, WatchProbe, WatchRules

_KEY = "deployed_with"  # in the payload of the event that says what is deployed
_OF_THE_ACCOUNT = {"username", "password"}  # the account that there is now is used


class DeployedWith(Rules):
    """Where a release answers, and what it is asked. No secret is in it."""

    model_config = ConfigDict(extra="ignore")  # a newer version may have written more

    port: int
    health_path: str
    version_path: str
    version_field: str
    smoke: tuple[str, ...]
    auth: AuthSettings = AuthSettings()
    probes: tuple[WatchProbe, ...] = ()

    @classmethod
    def now(cls, service: ServiceLayout, auth: AuthSettings, watch: WatchRules) -> Self:
        """What is configured now."""
        return cls(
            port=service.port,
            health_path=service.health_path,
            version_path=service.version_path,
            version_field=service.version_field,
            smoke=service.smoke,
            auth=auth,
            probes=watch.probes,
        )

    def payload(self) -> dict[str, Any]:
        """It as an event carries it."""
        return {_KEY: self.model_dump(mode="json", exclude={"auth": _OF_THE_ACCOUNT})}

    def layout(self, service: ServiceLayout) -> ServiceLayout:
        """The service as the release knows it."""
        fields = ("port", "health_path", "version_path", "version_field", "smoke")
        return service.model_copy(update={name: getattr(self, name) for name in fields})

    def auth_fields(self) -> dict[str, Any]:
        """How one logs in to the release; with whose account is not in it."""
        names = AuthSettings.model_fields.keys() - _OF_THE_ACCOUNT
        return {name: getattr(self.auth, name) for name in names}

    def rules(self, watch: WatchRules) -> WatchRules:
        """The rules of a watch, with what the release is asked."""
        return watch.model_copy(update={"probes": self.probes})


def read_deployed_with(payloads: Sequence[Mapping[str, Any]]) -> DeployedWith | None:
    """The record among what the events of a release's deployment carry, the first that there is.

    None where an older version deployed it, or where the record cannot be read.
    """
    for payload in payloads:
        try:
            return DeployedWith.model_validate(payload.get(_KEY))
        except ValidationError:
            continue
    return None
