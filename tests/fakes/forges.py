"""Forges over HTTP: for each kind one that answers as it."""

import json
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

from pydantic import SecretStr
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from blocks.forge import Forge
from blocks.github.forge import GithubForge

TOKEN = "ghp_Tr0ub4dor"
SHA = "0123456789abcdef0123456789abcdef01234567"


class ForgeServer(Protocol):
    """What is on it, however it is asked."""

    refuses_with: int
    answers_with: str

    def block(self, url: str = "") -> Forge:
        """A block for it, or for another address."""
        ...

    def checks(self, name: str, state: str) -> None:
        """A check of the commit has come to be in this state."""
        ...

    def issue(
        self, number: int, title: str, label: str, *, change: bool = False, open: bool = True
    ) -> None:
        """There is an issue, or a change that is to be merged."""
        ...


@dataclass
class Github:
    """As GitHub's API answers: commit statuses, the newest first, and a page at a time."""

    server: HTTPServer
    refuses_with: int = 0
    answers_with: str = ""
    statuses: list[dict[str, str]] = field(default_factory=list)
    issues: list[dict[str, Any]] = field(default_factory=list)

    _root: ClassVar[str] = "/repos/team/backend"

    def __post_init__(self) -> None:
        for path, answer in (
            (f"/commits/{SHA}/status", lambda request: {"statuses": _page(request, self.statuses)}),
            (f"/commits/{SHA}/check-runs", lambda request: {"check_runs": []}),
            ("/issues", self._found),
        ):
            self.server.expect_request(self._root + path).respond_with_handler(
                lambda request, answer=answer: self._answer(request, answer)
            )

    def block(self, url: str = "") -> Forge:
        return GithubForge(url=url or self.server.url_for(self._root), token=SecretStr(TOKEN))

    def checks(self, name: str, state: str) -> None:
        status = {"context": name, "state": state, "target_url": f"https://ci/{name}"}
        self.statuses.insert(0, status)

    def issue(
        self, number: int, title: str, label: str, *, change: bool = False, open: bool = True
    ) -> None:
        link = f"https://forge/{number}"
        pull = {"pull_request": {"url": link}} if change else {}
        found = {"number": number, "title": title, "html_url": link, **pull}
        self.issues.append({"label": label, "open": open, "found": found})

    def _found(self, request: Request) -> Any:
        wanted = request.args["labels"], request.args["state"] == "open"
        return [one["found"] for one in self.issues if (one["label"], one["open"]) == wanted]

    def _answer(self, request: Request, answer: Any) -> Response:
        known = request.headers.get("Authorization") == f"Bearer {TOKEN}"
        if status := self.refuses_with or (0 if known else 401):
            return Response(TOKEN, status, headers={"Location": "/elsewhere"})
        if self.answers_with:
            return Response(self.answers_with)
        return Response(json.dumps(answer(request)), content_type="application/json")


def _page(request: Request, whole: list[Any]) -> list[Any]:
    size, number = int(request.args["per_page"]), int(request.args["page"])
    return whole[size * (number - 1) : size * number]


FORGES: dict[str, type[Github]] = {"github": Github}
