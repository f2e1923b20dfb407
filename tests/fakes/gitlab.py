"""A second kind of ticket system, as a team would add it: GitLab's issues.

What it takes is here: a class of settings, a module with a block, and a line of the registry, which
:func:`register` adds. It is no part of the project: the tests keep the seam open with it.
"""

import re
from typing import ClassVar, Literal

import httpx
from pydantic import SecretStr

from blocks.kinds import TICKETING, Kind
from blocks.ticketing import Ticketing
from release.configuration.address import ApiAddress
from release.configuration.kinds import TicketSettings
from release.configuration.rules import Need
from release.errors import Unreachable

_BY_HAND = "close it by hand"


class GitlabTicketSettings(TicketSettings):
    """The ticket system, in the shape of GitLab's issue API."""

    needs: ClassVar[tuple[Need, ...]] = (Need("access_token", asked_by="project"),)

    kind: Literal["gitlab"] = "gitlab"
    """The system that has the tickets."""

    project: ApiAddress = ""
    """`https://gitlab.com/api/v4/projects/ID`; empty: tickets are only named in the log."""

    access_token: SecretStr = SecretStr("")
    """A project access token of the role Reporter."""

    @property
    def configured(self) -> bool:
        """Whether there is a ticket system at all."""
        return bool(self.project)


class GitlabTicketing(GitlabTicketSettings, Ticketing):
    """Comments on an issue of GitLab and closes it."""

    _block_type_name = "Ignition GitLab Ticketing"

    def close(self, ticket: str, comment: str) -> None:
        """Write ``comment`` on the issue, then close it.

        Source: docs.gitlab.com, REST API: "Create new issue note", "Update an issue".
        """
        number = ticket.strip().lstrip("#")
        if not re.fullmatch(r"[0-9]+", number):
            raise Unreachable(f"{ticket!r} is not a ticket number, so none was closed", _BY_HAND)
        issue = f"{self.project.rstrip('/')}/issues/{number}"
        try:
            with httpx.Client(headers=self._login(), timeout=10) as client:
                client.post(f"{issue}/notes", json={"body": comment}).raise_for_status()
                client.put(issue, json={"state_event": "close"}).raise_for_status()
        except httpx.HTTPStatusError as error:
            said = f"HTTP {error.response.status_code}"
            raise Unreachable(f"ticket {issue} was not closed: {said}", _BY_HAND) from None
        except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:
            said = type(error).__name__  # a message may quote a header
            raise Unreachable(f"ticket {issue} was not closed: {said}", _BY_HAND) from None

    def _login(self) -> dict[str, str]:
        return {"PRIVATE-TOKEN": self.access_token.get_secret_value().strip()}


KIND = Kind(GitlabTicketSettings, "tests.fakes.gitlab:GitlabTicketing")


def register() -> None:
    """The line of the registry."""
    TICKETING.add(KIND)
