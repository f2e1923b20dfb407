"""What every ticket system does, of each kind that is registered, and of one that is not yet."""

import pytest
from pytest_httpserver import HTTPServer

from blocks.kinds import TICKETING
from release.errors import Unreachable
from tests.fakes import gitlab
from tests.fakes.ticket_systems import SYSTEMS, TOKEN, TicketSystem

KINDS = {kind.name: kind for kind in (*TICKETING, gitlab.KIND)}


@pytest.fixture(params=KINDS)
def tickets(request: pytest.FixtureRequest, httpserver: HTTPServer) -> TicketSystem:
    """A kind without a server in tests/fakes/ticket_systems.py fails here."""
    return SYSTEMS[request.param](httpserver)


@pytest.mark.parametrize("ticket", ["42", "#42", " 42 "])
def test_a_ticket_gets_its_comment_and_is_closed(tickets: TicketSystem, ticket: str) -> None:
    tickets.block().close(ticket, "v1.1.0 is deployed")

    assert tickets.comments == ["v1.1.0 is deployed"]
    assert not tickets.open


def test_closing_a_closed_ticket_leaves_it_closed(tickets: TicketSystem) -> None:
    tickets.block().close("42", "once")
    tickets.block().close("42", "twice")

    assert not tickets.open


def test_a_token_that_was_pasted_with_a_line_break_works(tickets: TicketSystem) -> None:
    tickets.block(token=f"{TOKEN}\n").close("42", "done")

    assert not tickets.open


@pytest.mark.parametrize("status", [301, 401, 403, 404, 422, 500, 503])
def test_a_refusal_names_the_ticket_and_the_status_and_leaves_it_open(
    tickets: TicketSystem, status: int
) -> None:
    tickets.refuses_with = status

    with pytest.raises(Unreachable) as failed:
        tickets.block().close("42", "done")

    assert "/issues/42 was not closed: " in failed.value.what
    assert str(status) in failed.value.what
    assert failed.value.hint == "close it by hand"
    assert TOKEN not in str(failed.value)
    assert tickets.open


@pytest.mark.parametrize("token", [TOKEN, f"{TOKEN}\nX-Evil: 1", f"{TOKEN}é"])
def test_a_system_that_cannot_be_asked_is_unreachable_and_keeps_its_token(
    tickets: TicketSystem, token: str
) -> None:
    """The release serves and is verified by now: no other error may end the run."""
    with pytest.raises(Unreachable) as failed:
        tickets.block(url="http://127.0.0.1:9", token=token).close("42", "done")

    assert TOKEN not in str(failed.value)
    assert failed.value.__cause__ is None


@pytest.mark.parametrize("ticket", ["../../../user", "42/comments", "..", "", "#", "42?x=1", "4 2"])
def test_what_is_no_ticket_number_is_asked_of_nobody(tickets: TicketSystem, ticket: str) -> None:
    """A path in it would be another address of the API, called with our token."""
    with pytest.raises(Unreachable, match="is not a ticket number"):
        tickets.block().close(ticket, "done")

    assert tickets.server.log == []


def test_the_token_is_in_no_text_of_the_block(tickets: TicketSystem) -> None:
    assert TOKEN not in repr(tickets.block())


def test_there_is_a_ticket_system_only_where_one_is_configured(tickets: TicketSystem) -> None:
    assert tickets.block().configured


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_a_table_that_is_not_there_configures_none(kind: gitlab.Kind) -> None:
    assert not kind.block().configured
