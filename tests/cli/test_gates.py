"""The answers that the command line gives to a gate, and what it makes of a gate that waits."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from cli.gates import approval, gate_view, judged, refuse_unknown_item, rejection
from cli.runs import RunView
from flows.gate import ChecklistForm
from release.errors import BadRequest, Rejected
from release.gate.checklist import ALL_OPEN, Answer
from release.ledger import Event, EventKind

AT = datetime(2026, 11, 3, 14, 2, tzinfo=UTC)
RUN = RunView(
    id="1874ab00-0000-4000-8000-000000000000",
    label="d-1874ab",
    name="v1.2.3 → production",
    state="Suspended",
    state_type="PAUSED",
    message="",
    url="http://127.0.0.1:4200/v2/runs/flow-run/1874ab00",
    started_at="",
    waits_until="2026-11-03 22:02:00 UTC",
)


def event(seq: int, kind: EventKind, **payload: Any) -> Event:
    return Event(seq, AT + timedelta(minutes=seq), "production", RUN.id, kind, "Pre", payload)


class Ledger:
    """Has what a worker wrote between two looks, one look after the other."""

    def __init__(self, *looks: list[Event]) -> None:
        self.looks = list(looks)

    def events(self, **wanted: Any) -> list[Event]:
        now = self.looks.pop(0) if len(self.looks) > 1 else self.looks[0]
        return [one for one in now if one.kind in (wanted.get("kinds") or EventKind)]


@pytest.mark.parametrize(("item", "signs"), [("", ALL_OPEN), ("tests-pass", "tests-pass")])
def test_an_approval_signs_one_item_or_all_that_one_may(item: str, signs: str) -> None:
    assert approval("Ada", item, "green since noon", "123456") == {
        "decision": "approve",
        "signs": signs,
        "approver": "Ada",
        "code": "123456",
        "comment": "green since noon",
    }


@pytest.mark.parametrize("code", ["", "12345", "1234567", "abcdef", "12-34-56"])
def test_what_is_no_code_is_not_sent_because_the_worker_would_count_it(code: str) -> None:
    with pytest.raises(BadRequest, match="that is not a one-time code, so nothing was sent"):
        approval("Ada", "", "", code)


def test_an_item_that_the_gate_does_not_have_is_refused_before_a_code_is_asked_for() -> None:
    """What the server says to it is about the form's field, and comes after the code."""
    opened = [event(1, EventKind.GATE_OPENED, items=["tests-passing", "on-call-aware"])]

    with pytest.raises(BadRequest) as refused:
        refuse_unknown_item("test-passing", RUN, opened)

    assert refused.value.what == (
        "d-1874ab has no item 'test-passing' to sign; did you mean tests-passing? "
        "There is: on-call-aware, tests-passing; nothing was sent"
    )
    assert refused.value.hint == "ignition approve d-1874ab --as NAME --item tests-passing"
    for good in ("", "tests-passing"):
        refuse_unknown_item(good, RUN, opened)
    refuse_unknown_item("anything", RUN, [])  # what it waits for is not known: the server decides


def test_a_rejection_is_of_the_whole_run_and_needs_no_code() -> None:
    assert rejection("Ada", "freeze until Monday") == {
        "decision": "reject",
        "signs": ALL_OPEN,
        "approver": "Ada",
        "code": "",
        "comment": "freeze until Monday",
    }


@pytest.mark.parametrize("answer", [approval("Ada", "", "", "123 456"), rejection("Ada", "no")])
def test_an_answer_of_the_command_line_is_one_that_the_form_could_give(
    answer: dict[str, Any],
) -> None:
    assert set(answer) == set(ChecklistForm.model_fields)
    assert Answer(**answer).approver == "Ada"


def test_a_gate_says_what_is_open_who_signed_since_when_and_until_when() -> None:
    events = [
        event(1, EventKind.GATE_OPENED, items=["tests", "pager"]),
        event(2, EventKind.ITEM_SIGNED, item="tests", approver="Ada"),
        event(3, EventKind.ITEM_SIGNED, item="plan", approver="Ada"),  # it fell with its evidence
        event(
            4,
            EventKind.GATE_OPENED,
            items=["pager", "plan"],
            roles={"pager": "on-call"},
            lacks="2 different people must sign, Ada has: 1 to go",
            evidence="tests passed; pager unknown",
            signed=[{"item": "tests", "approver": "Ada"}],
        ),
    ]

    assert gate_view(RUN, events, AT + timedelta(hours=2, minutes=4)).lines() == [
        "[d-1874ab] v1.2.3 → production, waiting since 2026-11-03 14:03 UTC"
        " until 2026-11-03 22:02:00 UTC",
        "  open: pager (by on-call), plan",
        "  signed: tests by Ada",
        "  evidence, 2 h old: tests passed; pager unknown",
        "  2 different people must sign, Ada has: 1 to go",
        "  http://127.0.0.1:4200/v2/runs/flow-run/1874ab00",
        "  ignition approve d-1874ab --as NAME",
    ]


def test_items_that_are_signed_are_not_open_where_only_a_second_person_is_missing() -> None:
    signed = [{"item": item, "approver": "Ada"} for item in ("tests", "pager")]
    opened = event(
        1,
        EventKind.GATE_OPENED,
        items=["tests", "pager"],
        more={"tests": 0, "pager": 0},
        lacks="2 different people must sign, Ada has: 1 to go",
        signed=signed,
    )

    view = gate_view(RUN, [opened], AT + timedelta(hours=1))

    assert view.lines()[1:4] == [
        "  open: no item, but a signature by somebody else",
        "  signed: tests by Ada, pager by Ada",
        "  2 different people must sign, Ada has: 1 to go",
    ]
    assert view.as_json()["items"] == ()


def test_a_run_that_waits_for_something_else_is_shown_as_far_as_it_is_known() -> None:
    lines = gate_view(RUN, []).lines()

    assert lines[0].endswith("waiting since unknown until 2026-11-03 22:02:00 UTC")
    assert lines[1] == "  open: unknown"


SOON = timedelta(seconds=30)


def signed(seq: int, item: str, approver: str, gate: str = "pre-2") -> Event:
    payload = {"item": item, "approver": approver}
    return replace(event(seq, EventKind.ITEM_SIGNED, **payload), key=f"{gate}/{item}")


def refused(seq: int, approver: str, why: str, gate: str = "pre-2") -> Event:
    payload = {"approver": approver, "why": why}
    return replace(event(seq, EventKind.ANSWER_REFUSED, **payload), key=gate)


def test_an_answer_is_followed_until_the_worker_has_written_all_it_made_of_it() -> None:
    old = signed(1, "tests", "Grace", "pre-1")
    first, second = signed(2, "pager", "Ada"), signed(3, "plan", "Ada")
    ledger: Any = Ledger([old], [old, first], [old, first, second])

    said = judged(ledger, RUN, "pre-2", "Ada", SOON)

    assert said == ["pager signed by Ada", "plan signed by Ada"]


def test_of_answers_from_two_shells_each_signature_is_listed_once_and_by_its_own_shell() -> None:
    """Both were typed at the same moment; the second one was asked for again, in the next round."""
    events = [
        signed(2, "tests", "Ada"),
        signed(3, "pager", "Ada"),
        signed(4, "tests", "Grace", "pre-3"),
    ]
    ledger: Any = Ledger(events)

    assert judged(ledger, RUN, "pre-2", "ada", SOON) == [
        "tests signed by Ada",
        "pager signed by Ada",
    ]
    assert judged(ledger, RUN, "pre-3", "Grace", SOON) == ["tests signed by Grace"]


def test_one_signature_that_was_written_twice_is_one_signature() -> None:
    ledger: Any = Ledger([signed(2, "tests", "Ada"), signed(3, "tests", "Ada")])

    assert judged(ledger, RUN, "pre-2", "Ada", SOON) == ["tests signed by Ada"]


def test_a_refusal_of_another_shells_answer_is_not_taken_for_ones_own() -> None:
    events = [signed(2, "tests", "Ada"), refused(3, "Ada", "that code was used before", "pre-3")]
    ledger: Any = Ledger(events)

    assert judged(ledger, RUN, "pre-2", "Ada", SOON) == ["tests signed by Ada"]
    with pytest.raises(Rejected, match="nothing was signed: that code was used before"):
        judged(ledger, RUN, "pre-3", "Ada", SOON)


def test_a_rejection_is_one_line_with_its_reason_however_many_items_it_is_about() -> None:
    def rejected(seq: int, item: str, why: str) -> Event:
        payload = {"item": item, "approver": "Ada", "comment": why}
        return replace(event(seq, EventKind.REJECTED, **payload), key=f"pre-2/{item}")

    for why, said in (("freeze until Monday", "freeze until Monday"), ("", "no reason given")):
        ledger: Any = Ledger([rejected(2, "tests", why), rejected(3, "pager", why)])

        assert judged(ledger, RUN, "pre-2", "Ada", SOON) == [f"rejected by Ada: {said}"]


def test_an_answer_that_came_second_says_who_was_first() -> None:
    ledger: Any = Ledger([signed(2, "tests", "Grace")])

    with pytest.raises(Rejected) as lost:
        judged(ledger, RUN, "pre-2", "Ada", SOON)
    assert lost.value.what == "your answer signed nothing: Grace answered at the same moment"


def test_an_answer_that_signed_nothing_is_told_in_the_workers_words() -> None:
    ledger: Any = Ledger([refused(2, "Ada", "the code for Ada is wrong")])

    with pytest.raises(Rejected, match="nothing was signed: the code for Ada is wrong"):
        judged(ledger, RUN, "pre-2", "Ada", SOON)


def test_an_answer_that_no_worker_reads_is_not_taken_for_one_that_was() -> None:
    ledger: Any = Ledger([signed(1, "tests", "Ada", "pre-1")])

    with pytest.raises(BadRequest, match="no worker has read it"):
        judged(ledger, RUN, "pre-2", "Ada", timedelta(milliseconds=10))
