"""PagerDuty: who is on call."""

from typing import ClassVar, Literal

from pydantic import SecretStr

from release.configuration.address import ApiAddress
from release.configuration.kinds import OnCallSettings
from release.configuration.rules import Need


class PagerDutySettings(OnCallSettings):
    """Who is on call, through PagerDuty's API: evidence for "on-call aware"."""

    needs: ClassVar[tuple[Need, ...]] = (Need("token", asked_by="schedule"),)

    kind: Literal["pagerduty"] = "pagerduty"
    """The system that knows who is on call."""

    url: ApiAddress = "https://api.pagerduty.com"
    """The API's address."""

    schedule: str = ""
    """The schedule's id; empty: nobody is asked."""

    token: SecretStr = SecretStr("")
    """A read-only API key."""

    @property
    def configured(self) -> bool:
        """Whether there is anybody to ask."""
        return bool(self.schedule or self.token.get_secret_value().strip())
