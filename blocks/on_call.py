"""Who is on call, in the shape of PagerDuty's REST API."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import httpx
from prefect.blocks.core import Block
from pydantic import Field, SecretStr

from release.errors import Unreachable
from release.evidence import Duty

_REQUEST_TIMEOUT = 5.0  # seconds; all evidence together has eight


class OnCall(Block):
    """Asks a schedule for the person who is on call now."""

    _block_type_name = "Ignition On-Call"

    url: str = Field(default="https://api.pagerduty.com", description="The API's address.")
    schedule: str = Field(default="", description="The schedule's id; empty: there is none.")
    token: SecretStr = Field(default=SecretStr(""), description="Read-only API key.")

    def now(self) -> Duty | None:
        """Who is on call; None: nobody is. Raises Unreachable, never with the token.

        Source: developer.pagerduty.com, API reference: "List all of the on-calls".
        """
        address = f"{self.url.rstrip('/')}/oncalls"
        headers = {
            "Accept": "application/vnd.pagerduty+json;version=2",
            "Authorization": f"Token token={self.token.get_secret_value().strip()}",
        }
        query = {"schedule_ids[]": self.schedule, "include[]": "users", "earliest": "true"}
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
            duties = [_duty(one) for one in answer.json()["oncalls"]]
        except (ValueError, KeyError, TypeError, AttributeError):
            raise Unreachable(f"{address} answers in another shape than PagerDuty's") from None
        return duties[0] if duties else None


def _duty(found: Mapping[str, Any]) -> Duty:
    user = found["user"]
    end = found.get("end")
    return Duty(
        name=str(user.get("name") or user["summary"]),
        until=datetime.fromisoformat(end) if end else None,
        link=str(user.get("html_url") or ""),
    )
