"""A signature holds for one run, gate, item, plan and person; what does not hold stops a run."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from release.errors import BadConfiguration, SignaturesInvalid
from release.gate.approvers import Approver
from release.gate.checklist import Checklist, Decision, Item, Quorum, Signature
from release.gate.signatures import (
    WRONG_CODES_AN_HOUR,
    locked_until,
    sealed_text,
    unsignable,
    verify_signatures,
)
from release.ledger import Event, EventKind

AT = datetime(2026, 11, 3, 14, 0, tzinfo=UTC)
TESTS, PAGER = Item("tests", "Tests", "Pre"), Item("pager", "Pager", "Pre", role="on-call")
ITEMS = (TESTS, PAGER)
SUBJECT = "the plan's fingerprint, and who started the run"


def seal(name: str, text: str) -> str:
    """Made with a secret that only Ann and Bob have."""
    if name not in ("Ann", "Bob"):
        raise BadConfiguration(f"{name} is not enrolled")
    return f"sealed by {name}: {text}"


def signed(of: str = "tests", by: str = "Ann", /, **changed: Any) -> Event:
    """An event as the worker writes it, with some of its fields changed afterwards."""
    text = next(item.text for item in ITEMS if item.id == of)
    given = {"item": of, "text": text, "approver": by, "decision": "approve", "gate": "pre-1"}
    made = Signature(of, by, Decision.APPROVE, gate="pre-1", text=text)
    payload = {**given, "seal": seal(by, sealed_text("run", SUBJECT, made)), **changed}
    return Event(1, AT, "production", "run", EventKind.ITEM_SIGNED, "Pre", payload)


def verify(*events: Event, run: str = "run", subject: str = SUBJECT, signers: int = 2) -> list[str]:
    found = verify_signatures(run, subject, Checklist(ITEMS, Quorum(signers)), events, seal)
    return [one.approver for one in found]


def test_signatures_that_hold_are_those_of_the_ledger() -> None:
    assert verify(signed("tests", "Ann"), signed("pager", "Bob")) == ["Ann", "Bob"]


@pytest.mark.parametrize(
    "changed",
    [
        {"approver": "Bob"},
        {"item": "pager"},
        {"text": "Pager"},
        {"gate": "pre-2"},
        {"decision": "not required"},
        {"seal": ""},
        {"seal": "sealed by Ann: something else"},
        {"approver": "Mallory"},
    ],
)
def test_a_field_that_was_changed_afterwards_breaks_the_seal(changed: dict[str, str]) -> None:
    with pytest.raises(SignaturesInvalid, match="does not hold"):
        verify(signed("tests", **changed), signed("pager", "Bob"))


@pytest.mark.parametrize("other", [{"run": "another"}, {"subject": "another"}])
def test_a_signature_says_nothing_about_another_run_or_plan(other: dict[str, str]) -> None:
    with pytest.raises(SignaturesInvalid, match="given for another run or another plan"):
        verify(signed("tests"), signed("pager", "Bob"), **other)


@pytest.mark.parametrize(
    ("events", "says"),
    [
        ([], "tests, pager not signed"),
        ([signed("tests")], "pager not signed"),
        ([signed("tests"), signed("pager")], "2 different people must sign, Ann has: 1 to go"),
    ],
)
def test_a_signature_that_the_ledger_does_not_have_was_not_given(
    events: list[Event], says: str
) -> None:
    with pytest.raises(SignaturesInvalid) as stopped:
        verify(*events)
    assert stopped.value.what.endswith(says)


def test_who_signed_before_the_runbook_was_edited_has_signed_another_item() -> None:
    reworded = (replace(TESTS, text="Tests of all teams"), PAGER)
    with pytest.raises(SignaturesInvalid, match="tests not signed"):
        verify_signatures("run", SUBJECT, Checklist(reworded), [signed(), signed("pager")], seal)


def test_what_evidence_signed_proves_nothing_at_a_gate_of_people() -> None:
    with pytest.raises(SignaturesInvalid, match="of evidence on tests does not hold"):
        verify(signed("tests", approver="evidence", seal=""), signed("pager", "Bob"))


@pytest.mark.parametrize(
    ("approvers", "signers", "problem"),
    [
        ([], 1, "tests needs 1, enrolled: 0; pager needs 1 of the role on-call, enrolled: 0; "),
        ([Approver("Ann")], 1, "pager needs 1 of the role on-call, enrolled: 0"),
        ([Approver("Bob", ("on-call",))], 2, "2 different people must sign, enrolled: Bob"),
        ([Approver("Bob", ("on-call",))], 1, ""),
        ([Approver("Ann"), Approver("Bob", ("on-call",))], 2, ""),
    ],
)
def test_a_gate_that_nobody_can_pass_is_known_before_anybody_waits(
    approvers: list[Approver], signers: int, problem: str
) -> None:
    found = unsignable(ITEMS, approvers, Quorum(signers))
    assert found.startswith(problem)
    assert bool(found) is bool(problem)


@pytest.mark.parametrize(
    ("refused", "until"),
    [
        ([], None),
        ([AT] * (WRONG_CODES_AN_HOUR - 1), None),
        ([AT] * WRONG_CODES_AN_HOUR, AT + timedelta(hours=1)),
        ([AT - timedelta(hours=1)] * WRONG_CODES_AN_HOUR, None),
        (
            [AT - timedelta(minutes=n) for n in range(WRONG_CODES_AN_HOUR + 2)],
            AT - timedelta(minutes=WRONG_CODES_AN_HOUR - 1) + timedelta(hours=1),
        ),
    ],
)
def test_a_name_is_locked_until_an_hour_after_enough_of_its_wrong_codes(
    refused: list[datetime], until: datetime | None
) -> None:
    assert locked_until(refused, AT) == until
