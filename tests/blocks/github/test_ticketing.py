"""The ticket system, in the shape of GitHub's issue API."""

import pytest
from pydantic import SecretStr, ValidationError
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from blocks.github.ticketing import GithubTicketing

TOKEN = "correct-horse-battery"


class Tickets:
    """A ticket system with one open ticket, number 42."""

    def __init__(self, server: HTTPServer) -> None:
        self.url = server.url_for("/repos/team/orders/")
        self.comments: list[str] = []
        self.state = "open"
        self.seen: list[tuple[str, str, str]] = []
        server.expect_request(
            "/repos/team/orders/issues/42/comments", method="POST"
        ).respond_with_handler(self._comment)
        server.expect_request("/repos/team/orders/issues/42", method="PATCH").respond_with_handler(
            self._change
        )

    def _comment(self, request: Request) -> Response:
        self.seen.append((request.method, self.state, request.headers.get("Authorization", "")))
        self.comments.append(request.json["body"])
        return Response("{}", 201)

    def _change(self, request: Request) -> Response:
        self.seen.append((request.method, self.state, request.headers.get("Authorization", "")))
        self.state = request.json["state"]
        return Response("{}", 200)


@pytest.fixture
def tickets(httpserver: HTTPServer) -> Tickets:
    return Tickets(httpserver)


@pytest.mark.parametrize("ticket", ["42", "#42", " 42 "])
def test_a_ticket_gets_its_comment_and_is_closed(tickets: Tickets, ticket: str) -> None:
    GithubTicketing(url=tickets.url, token=SecretStr(TOKEN)).close(ticket, "v1.1.0 is deployed")

    assert tickets.comments == ["v1.1.0 is deployed"]
    assert tickets.state == "closed"
    assert tickets.seen == [
        ("POST", "open", f"Bearer {TOKEN}"),
        ("PATCH", "open", f"Bearer {TOKEN}"),
    ]


def test_a_ticket_system_without_a_token_is_asked_without_one(tickets: Tickets) -> None:
    GithubTicketing(url=tickets.url).close("42", "done")

    assert {authorization for _, _, authorization in tickets.seen} == {""}


@pytest.mark.parametrize("url", ["127.0.0.1:9", "http://[::1"])  # no scheme, no address
def test_what_is_no_address_makes_no_block(url: str) -> None:
    """Neither in the configuration nor in the UI: the run would learn of it at its end."""
    with pytest.raises(ValidationError) as refused:
        GithubTicketing(url=url, token=SecretStr(TOKEN))

    assert TOKEN not in str(refused.value)
