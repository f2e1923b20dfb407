"""Services that know who is on call, over HTTP: for each kind one that answers as it."""

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol

from pydantic import SecretStr
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from blocks.on_call import OnCall
from blocks.pagerduty.on_call import PagerDuty

TOKEN = "u+Tr0ub4dor"
AT = datetime(2026, 11, 3, 14, 2, tzinfo=UTC)


class Pager(Protocol):
    """What is on it, however it is asked."""

    refuses_with: int
    answers_with: str

    def block(self, url: str = "") -> OnCall:
        """A block for it, or for another address."""
        ...

    def on_duty(self, name: str, until: datetime | None) -> None:
        """Somebody is on call."""
        ...

    def message(self, title: str, acknowledged_by: str = "") -> None:
        """A message was delivered, after those before it."""
        ...


@dataclass
class PagerDutyServer:
    """As PagerDuty's API answers: incidents, the newest first."""

    server: HTTPServer
    refuses_with: int = 0
    answers_with: str = ""
    duties: list[dict[str, Any]] = field(default_factory=list)
    incidents: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.server.expect_request("/oncalls").respond_with_handler(self._answer)
        self.server.expect_request("/incidents").respond_with_handler(self._answer)

    def block(self, url: str = "") -> OnCall:
        address = url or self.server.url_for("/")
        return PagerDuty(url=address, schedule="PI7DH85", token=SecretStr(TOKEN))

    def on_duty(self, name: str, until: datetime | None) -> None:
        end = until.isoformat() if until else None
        self.duties.append({"user": {"summary": name, "html_url": "https://pager/1"}, "end": end})

    def message(self, title: str, acknowledged_by: str = "") -> None:
        found: dict[str, Any] = {"title": title, "html_url": "https://pager/7"}
        if acknowledged_by:
            who = {"acknowledger": {"summary": acknowledged_by}, "at": AT.isoformat()}
            found |= {"status": "acknowledged", "acknowledgements": [who]}
        self.incidents.insert(0, {"status": "triggered", **found})

    def _answer(self, request: Request) -> Response:
        known = request.headers.get("Authorization") == f"Token token={TOKEN}"
        if status := self.refuses_with or (0 if known else 401):
            return Response(TOKEN, status, headers={"Location": "/elsewhere"})
        if self.answers_with:
            return Response(self.answers_with)
        if request.path == "/incidents":
            return _json({"incidents": self.incidents})
        wanted = request.args["schedule_ids[]"] == "PI7DH85"
        return _json({"oncalls": self.duties if wanted else []})


def _json(body: object) -> Response:
    return Response(json.dumps(body), content_type="application/json")


PAGERS: dict[str, type[PagerDutyServer]] = {"pagerduty": PagerDutyServer}
