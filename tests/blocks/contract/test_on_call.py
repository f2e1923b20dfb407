"""What every service does that knows who is on call, of each kind that is registered."""

import pytest
from pytest_httpserver import HTTPServer

from blocks.kinds import ON_CALL, Kind
from release.errors import Unreachable
from release.gate.evidence import Duty, Message
from tests.fakes.pagers import AT, PAGERS, TOKEN, Pager

KINDS = {kind.name: kind for kind in ON_CALL}
RUN = "[d-1874ab]"
LINK = "https://pager/7"


@pytest.fixture(params=KINDS)
def pager(request: pytest.FixtureRequest, httpserver: HTTPServer) -> Pager:
    """A kind without a server in tests/fakes/pagers.py fails here."""
    return PAGERS[request.param](httpserver)


def test_nobody_is_on_call_where_the_rota_names_nobody(pager: Pager) -> None:
    assert pager.block().now() is None


def test_the_rota_names_who_is_on_call_and_until_when(pager: Pager) -> None:
    pager.on_duty("Grace H.", AT)

    assert pager.block().rota
    assert pager.block().now() == Duty("Grace H.", AT, "https://pager/1")


def test_of_another_run_there_is_no_message(pager: Pager) -> None:
    pager.message("[d-000000] production waits", acknowledged_by="Ada")

    assert pager.block().message(RUN) is None


def test_a_message_that_nobody_has_acknowledged_is_one(pager: Pager) -> None:
    pager.message(f"{RUN} production waits")

    assert pager.block().message(RUN) == Message(link=LINK)


def test_a_later_message_takes_back_no_acknowledgement(pager: Pager) -> None:
    pager.message(f"{RUN} production waits", acknowledged_by="Grace H.")
    pager.message(f"{RUN} still waits: Ada has signed")
    pager.message("disk full")

    assert pager.block().message(RUN) == Message("Grace H.", AT, LINK)


@pytest.mark.parametrize("status", [301, 401, 403, 500, 503])
def test_a_refusal_is_unreachable_with_its_status(pager: Pager, status: int) -> None:
    pager.refuses_with = status

    for ask in (pager.block().now, lambda: pager.block().message(RUN)):
        with pytest.raises(Unreachable, match=f"answers {status}") as refused:
            ask()
        assert TOKEN not in str(refused.value)


@pytest.mark.parametrize("body", ["<html>", "{}", "3", "[3]"])
def test_an_answer_of_another_shape_is_none(pager: Pager, body: str) -> None:
    pager.answers_with = body

    for ask in (pager.block().now, lambda: pager.block().message(RUN)):
        with pytest.raises(Unreachable, match="another shape") as refused:
            ask()
        assert TOKEN not in str(refused.value)


def test_a_service_that_is_away_is_named_without_the_token(pager: Pager) -> None:
    away = pager.block(url="http://127.0.0.1:9")

    with pytest.raises(Unreachable, match="does not answer: ConnectError") as said:
        away.now()
    assert TOKEN not in str(said.value)
    assert TOKEN not in repr(away)


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_a_table_that_is_not_there_configures_nobody_to_ask(kind: Kind) -> None:
    assert not kind.block().configured
