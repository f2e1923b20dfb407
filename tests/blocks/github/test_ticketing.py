"""The ticket system, in the shape of GitHub's issue API."""

import pytest
from pydantic import SecretStr, ValidationError
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from blocks.github.ticketing import GithubTicketing
from release.errors import Unreachable

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


def test_closing_a_closed_ticket_does_nothing_more(tickets: Tickets) -> None:
    block = GithubTicketing(url=tickets.url)

    block.close("42", "once")
    block.close("42", "twice")

    assert tickets.state == "closed"


def test_a_ticket_system_without_a_token_is_asked_without_one(tickets: Tickets) -> None:
    GithubTicketing(url=tickets.url).close("42", "done")

    assert {authorization for _, _, authorization in tickets.seen} == {""}


def test_a_token_that_was_pasted_with_a_line_break_works(tickets: Tickets) -> None:
    GithubTicketing(url=tickets.url, token=SecretStr(f"{TOKEN}\n")).close("42", "done")

    assert tickets.state == "closed"


@pytest.mark.parametrize("status", [301, 401, 403, 404, 422, 500, 503])
def test_a_refusal_names_the_ticket_and_the_status_and_leaves_it_open(
    httpserver: HTTPServer, status: int
) -> None:
    httpserver.expect_request("/issues/42/comments").respond_with_data(f"no, {TOKEN}", status)

    with pytest.raises(Unreachable) as failed:
        GithubTicketing(url=httpserver.url_for(""), token=SecretStr(TOKEN)).close("42", "done")

    assert "/issues/42 was not closed: " in failed.value.what
    assert str(status) in failed.value.what
    assert failed.value.hint == "close it by hand"
    assert TOKEN not in str(failed.value)
    assert [request.method for request, _ in httpserver.log] == ["POST"]


@pytest.mark.parametrize(
    ("url", "token"),
    [
        ("http://127.0.0.1:9", TOKEN),  # nobody listens
        ("http://127.0.0.1:9", f"{TOKEN}\nX-Evil: 1"),  # no header can hold it
        ("http://127.0.0.1:9", f"{TOKEN}é"),
    ],
)
def test_a_system_that_cannot_be_asked_is_unreachable_and_keeps_its_token(
    url: str, token: str
) -> None:
    """The release serves and is verified by now: no other error may end the run."""
    with pytest.raises(Unreachable) as failed:
        GithubTicketing(url=url, token=SecretStr(token)).close("42", "done")

    assert TOKEN not in str(failed.value)
    assert failed.value.__cause__ is None


@pytest.mark.parametrize("url", ["127.0.0.1:9", "http://[::1"])  # no scheme, no address
def test_what_is_no_address_makes_no_block(url: str) -> None:
    """Neither in the configuration nor in the UI: the run would learn of it at its end."""
    with pytest.raises(ValidationError) as refused:
        GithubTicketing(url=url, token=SecretStr(TOKEN))

    assert TOKEN not in str(refused.value)


@pytest.mark.parametrize("ticket", ["../../../user", "42/comments", "..", "", "#", "42?x=1", "4 2"])
def test_what_is_no_ticket_number_is_asked_of_nobody(httpserver: HTTPServer, ticket: str) -> None:
    """A path in it would be another address of the API, called with our token."""
    with pytest.raises(Unreachable, match="is no ticket number"):
        GithubTicketing(url=httpserver.url_for("")).close(ticket, "done")

    assert httpserver.log == []


def test_without_a_url_there_is_no_ticket_system() -> None:
    assert not GithubTicketing().configured
    assert GithubTicketing(url="https://api.github.com/repos/o/n").configured


def test_the_token_is_in_no_text_of_the_block() -> None:
    assert TOKEN not in repr(GithubTicketing(url="http://x", token=SecretStr(TOKEN)))
