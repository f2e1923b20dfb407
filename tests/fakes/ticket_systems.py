"""Ticket systems over HTTP, each with one open ticket, number 42: of each kind, one."""

from abc import ABC, abstractmethod

from pydantic import SecretStr
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from blocks.github.ticketing import GithubTicketing
from blocks.ticketing import Ticketing
from tests.fakes.gitlab import GitlabTicketing

TOKEN = "correct-horse-battery"


class TicketSystem(ABC):
    """What its users see of it, however it is asked."""

    def __init__(self, server: HTTPServer) -> None:
        self.server = server
        self.open = True
        self.comments: list[str] = []  # those that were written while it was open
        self.refuses_with = 0
        server.expect_request("/issues/42" + self.notes, method="POST").respond_with_handler(
            self._comment
        )
        server.expect_request("/issues/42", method=self.change).respond_with_handler(self._close)

    notes: str
    change: str

    @abstractmethod
    def block(self, url: str | None = None, token: str = TOKEN) -> Ticketing:
        """A block for it, or for another address."""

    @abstractmethod
    def knows(self, request: Request) -> bool:
        """Whether the request carries the token, in this kind's way."""

    @abstractmethod
    def closes(self, body: object) -> bool:
        """Whether a change of the ticket closes it."""

    @property
    def url(self) -> str:
        return self.server.url_for("")

    def _comment(self, request: Request) -> Response:
        if refused := self._refused(request):
            return refused
        if self.open:
            self.comments.append(request.json["body"])
        return Response("{}", 201)

    def _close(self, request: Request) -> Response:
        if refused := self._refused(request):
            return refused
        self.open = self.open and not self.closes(request.json)
        return Response("{}", 200)

    def _refused(self, request: Request) -> Response | None:
        status = self.refuses_with or (0 if self.knows(request) else 401)
        return Response(f"no, {TOKEN}", status) if status else None


class Github(TicketSystem):
    """As GitHub's API answers."""

    notes, change = "/comments", "PATCH"

    def block(self, url: str | None = None, token: str = TOKEN) -> Ticketing:
        return GithubTicketing(url=url or self.url, token=SecretStr(token))

    def knows(self, request: Request) -> bool:
        return request.headers.get("Authorization") == f"Bearer {TOKEN}"

    def closes(self, body: object) -> bool:
        return body == {"state": "closed"}


class Gitlab(TicketSystem):
    """As GitLab's API answers."""

    notes, change = "/notes", "PUT"

    def block(self, url: str | None = None, token: str = TOKEN) -> Ticketing:
        return GitlabTicketing(project=url or self.url, access_token=SecretStr(token))

    def knows(self, request: Request) -> bool:
        return request.headers.get("PRIVATE-TOKEN") == TOKEN

    def closes(self, body: object) -> bool:
        return body == {"state_event": "close"}


SYSTEMS = {"github": Github, "gitlab": Gitlab}
