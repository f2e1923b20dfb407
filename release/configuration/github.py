"""GitHub: its checks and issues as evidence, and its issues as tickets."""

from typing import ClassVar, Literal

from pydantic import SecretStr

from release.configuration.address import ApiAddress
from release.configuration.kinds import ForgeSettings, TicketSettings
from release.configuration.rules import Need


class GithubForgeSettings(ForgeSettings):
    """Where commits have check runs and issues have labels, through GitHub's API (GitHub Enterprise
    and Gitea have the same): evidence for "tests passing" and "no critical issues"."""

    kind: Literal["github"] = "github"
    """The system that has the commits' checks and the issues."""

    url: ApiAddress = ""
    """`https://api.github.com/repos/OWNER/NAME`; empty: no forge is asked."""

    token: SecretStr = SecretStr("")
    """Bearer token. It needs to read commit statuses, checks and issues."""

    critical_label: str = "critical"
    """An open issue with this label is a critical issue."""

    @property
    def configured(self) -> bool:
        """Whether there is a forge to ask."""
        return bool(self.url)


class GithubTicketSettings(TicketSettings):
    """The ticket system, through GitHub's issue API (Gitea and others have the same)."""

    needs: ClassVar[tuple[Need, ...]] = (Need("token", asked_by="url"),)

    kind: Literal["github"] = "github"
    """The system that has the tickets."""

    url: ApiAddress = ""
    """`https://api.github.com/repos/OWNER/NAME`; empty: tickets are only named in the log."""

    token: SecretStr = SecretStr("")
    """Bearer token, for an account that may comment and close, nothing more."""

    @property
    def configured(self) -> bool:
        """Whether there is a ticket system at all."""
        return bool(self.url)
