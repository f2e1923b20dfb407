"""PagerDuty: who is on call and has acknowledged what, by its REST API."""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, TypeVar

import httpx

from blocks.on_call import OnCall
from release.configuration.pagerduty import PagerDutySettings
from release.errors import Unreachable
from release.gate.evidence import Duty, Message

T = TypeVar("T")

_REQUEST_TIMEOUT = 5.0  # seconds; all evidence together has six


class PagerDuty(PagerDutySettings, OnCall):
    """Asks a service of PagerDuty's shape."""

    _block_type_name = "Ignition On-Call"

    @property
    def rota(self) -> str:
        """The schedule, by its id."""
        return f"schedule {self.schedule}" if self.schedule else ""

    def now(self) -> Duty | None:
        """Who is on call. Returns None if nobody is. Raises Unreachable, never with the token.

        Source: developer.pagerduty.com, API reference: "List all of the on-calls".
        """
        query = {"schedule_ids[]": self.schedule, "include[]": "users", "earliest": "true"}
        duties = self._get("oncalls", query, _duty)
        return duties[0] if duties else None

    def message(self, about: str) -> Message | None:
        """The message whose title has ``about`` in it, among the last hundred of a month.

        A run sends several; the newest that somebody has acknowledged counts, else the newest.
        Returns None if there is none. Raises Unreachable, never with the token.
        Source: developer.pagerduty.com, API reference: "List incidents".
        """
        query = {"sort_by": "created_at:desc", "limit": "100"}
        titled = self._get("incidents", query, lambda one: (str(one["title"]), _message(one)))
        found = [message for title, message in titled if about in title]
        return next((one for one in found if one.acknowledged_by), found[0] if found else None)

    def _get(
        self, path: str, query: Mapping[str, str], read: Callable[[Mapping[str, Any]], T]
    ) -> list[T]:
        """What an address lists, each entry as ``read`` reads it. Raises Unreachable."""
        address = f"{self.url.rstrip('/')}/{path}"
        headers = {
            "Accept": "application/vnd.pagerduty+json;version=2",
            "Authorization": f"Token token={self.token.get_secret_value().strip()}",
        }
        try:
            # A redirect could carry the token to another host, so none is followed.
            answer = httpx.get(
                address,
                params=query,
                headers=headers,
                timeout=_REQUEST_TIMEOUT,
                follow_redirects=False,
            )
        except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:
            raise Unreachable(f"{address} does not answer: {type(error).__name__}") from None
        if answer.status_code != 200:
            raise Unreachable(f"{address} answers {answer.status_code}")
        try:
            return [read(one) for one in answer.json()[path]]
        except (ValueError, LookupError, TypeError, AttributeError):
            raise Unreachable(f"{address} answers in another shape than PagerDuty's") from None


def _duty(found: Mapping[str, Any]) -> Duty:
    user = found["user"]
    end = found.get("end")
    return Duty(
        name=str(user.get("name") or user["summary"]),
        until=datetime.fromisoformat(end) if end else None,
        link=str(user.get("html_url") or ""),
    )


def _message(found: Mapping[str, Any]) -> Message:
    """An incident, as a message: who has acknowledged it, or resolved it without."""
    link = str(found.get("html_url") or "")
    if found["status"] == "acknowledged":
        first = found["acknowledgements"][0]
        return Message(
            str(first["acknowledger"]["summary"]), datetime.fromisoformat(first["at"]), link
        )
    # A resolved one lists no acknowledgements any more. Only a person counts, not an automation.
    last = found.get("last_status_change_by") or {}
    if found["status"] == "resolved" and str(last.get("type", "")).startswith("user"):
        at = datetime.fromisoformat(found["last_status_change_at"])
        return Message(str(last["summary"]), at, link)
    return Message(link=link)
