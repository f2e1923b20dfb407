"""GitHub as the ticket system, by its issue API."""

import re

import httpx

from blocks.ticketing import Ticketing
from release.configuration.github import GithubTicketSettings
from release.errors import Unreachable

_TICKET = re.compile(r"[0-9A-Za-z][0-9A-Za-z_-]*")
_BY_HAND = "close it by hand"


class GithubTicketing(GithubTicketSettings, Ticketing):
    """Comments on an issue and closes it."""

    _block_type_name = "Ignition Ticketing"

    def close(self, ticket: str, comment: str) -> None:
        """Write ``comment`` on the ticket, then close it; closing a closed one does nothing.

        Raises Unreachable with the ticket's address, never with the token.
        Source: docs.github.com, REST API, issues: "Create an issue comment", "Update an issue".
        """
        number = ticket.strip().lstrip("#")
        if not _TICKET.fullmatch(number):  # a path would be another address of the API
            raise Unreachable(f"{ticket!r} is not a ticket number, so none was closed", _BY_HAND)
        issue = f"{self.url.rstrip('/')}/issues/{number}"
        headers = {"Accept": "application/vnd.github+json"}
        token = self.token.get_secret_value().strip()  # a pasted one ends with a line break
        if token:
            headers["Authorization"] = f"Bearer {token}"
        try:
            with httpx.Client(headers=headers, timeout=10) as client:
                client.post(f"{issue}/comments", json={"body": comment}).raise_for_status()
                client.patch(issue, json={"state": "closed"}).raise_for_status()
        except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:
            said = str(error).replace(token, "…") if token else str(error)
            raise Unreachable(f"ticket {issue} was not closed: {said}", _BY_HAND) from None
