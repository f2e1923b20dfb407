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
_OF_THE_ACCOUNT = {"username", "password"}  # the present account is used


class DeployedWith(Rules):
    """Where a release answers, and how it is checked. It holds no secret."""

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
        """The values that are configured now."""
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
        """The record as part of an event's payload."""
        return {_KEY: self.model_dump(mode="json", exclude={"auth": _OF_THE_ACCOUNT})}

    def layout(self, service: ServiceLayout) -> ServiceLayout:
        """The service as the release knows it."""
        fields = ("port", "health_path", "version_path", "version_field", "smoke")
        return service.model_copy(update={name: getattr(self, name) for name in fields})

    def auth_fields(self) -> dict[str, Any]:
        """How to log in to the release, without the account."""
        names = AuthSettings.model_fields.keys() - _OF_THE_ACCOUNT
        return {name: getattr(self.auth, name) for name in names}

    def rules(self, watch: WatchRules) -> WatchRules:
        """The rules of a watch, with the probes of the release."""
        return watch.model_copy(update={"probes": self.probes})


def read_deployed_with(payloads: Sequence[Mapping[str, Any]]) -> DeployedWith | None:
    """The first record in ``payloads``, those of the events of a release's deployment.

    Returns None if an older version deployed it, or if the record cannot be read.
    """
    for payload in payloads:
        try:
            return DeployedWith.model_validate(payload.get(_KEY))
        except ValidationError:
            continue
    return None
