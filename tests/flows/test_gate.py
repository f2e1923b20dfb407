"""A gate: suspended, answered, run again; who may sign what, and what a form shows."""

import pytest

from release.errors import BadConfiguration, Rejected
from release.gate.checklist import ALL_OPEN, Decision, Item
from release.gate.evidence import EvidenceVerdict
from release.ledger import EventKind
from tasks.checklist import WAITING_TAG
from tests.fakes.gate import ITEMS, SECTION, Gate, MakeGate, enrolled, new_ledger

pytestmark = [pytest.mark.usefixtures("prefect_server"), pytest.mark.gates]


def test_one_answer_signs_the_whole_checklist_and_the_run_goes_on(new_gate: MakeGate) -> None:
    gate = new_gate()

    assert gate.start().name == "Suspended"
    assert gate.tags == [WAITING_TAG]
    ending = gate.answer(comment="go")

    assert ending.is_completed()
    assert gate.tags == []
    assert [(s.item, s.approver, s.comment) for s in gate.signatures] == [
        (item.id, "Ann", "go") for item in ITEMS
    ]
    (opened,) = gate.events(EventKind.GATE_OPENED)
    assert opened.payload["items"] == [item.id for item in ITEMS]
    assert 500 < opened.payload["deadline_s"] <= 600
    assert gate.signed() == {item.id: ["Ann"] for item in ITEMS}
    assert "All 3 items are signed." in gate.artifact


def test_two_people_sign_one_by_one_and_nothing_is_done_twice(new_gate: MakeGate) -> None:
    gate = new_gate(evidence={"tests-passing": EvidenceVerdict.UNKNOWN})
    gate.start()

    assert gate.answer("migrations-tested").name == "Suspended"
    assert gate.form()["properties"]["signs"]["enum"] == [
        ALL_OPEN,
        "tests-passing",
        "on-call-aware",
    ]
    assert gate.answer("on-call-aware", by="Bob").name == "Suspended"
    assert "2 of 3 items signed" in gate.artifact
    assert gate.answer("tests-passing", by="Bob").is_completed()

    assert {s.item: s.approver for s in gate.signatures} == {
        "migrations-tested": "Ann",
        "on-call-aware": "Bob",
        "tests-passing": "Bob",
    }
    assert gate.bodies == 4
    assert gate.collections == [1, 2, 3, 4]
    opened = gate.events(EventKind.GATE_OPENED)
    assert [event.payload["signed"] for event in opened] == [
        [],
        [{"item": "migrations-tested", "approver": "Ann"}],
        [
            {"item": "migrations-tested", "approver": "Ann"},
            {"item": "on-call-aware", "approver": "Bob"},
        ],
    ]
    assert len(gate.events(EventKind.ITEM_SIGNED)) == 3


def test_a_checklist_that_prefect_cannot_keep_as_a_page_keeps_nobody_from_signing(
    new_gate: MakeGate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its database may be away just then: the form shows the same, and the ledger has it."""

    def refuse(**given: object) -> None:
        raise RuntimeError("500 Internal Server Error")

    monkeypatch.setattr("tasks.checklist.create_markdown_artifact", refuse)
    gate = new_gate()

    assert gate.start().name == "Suspended"
    assert gate.answer(comment="go").is_completed()
    assert gate.signed() == {item.id: ["Ann"] for item in ITEMS}


def test_a_rejection_ends_the_run_with_its_item_and_its_reason_and_needs_no_code(
    new_gate: MakeGate,
) -> None:
    gate = new_gate()
    gate.start()

    ending = gate.answer("on-call-aware", "reject", comment="nobody picks up")

    with pytest.raises(Rejected, match=r"^rejected by Ann: nobody picks up \(on-call-aware\)"):
        ending.result()
    assert gate.tags == []
    assert [e.payload["item"] for e in gate.events(EventKind.REJECTED)] == ["on-call-aware"]
    assert gate.signed() == {}


@pytest.mark.parametrize(
    "wrong",
    [
        {"decision": "perhaps"},
        {"signs": "coffee"},
        {"approver": ""},
        {"approver": " "},
        {"approver": "Ann\nBob"},
        {"approver": "x" * 65},
        {"comment": "x" * 501},
        {"code": "12345"},
        {"code": "abcdef"},
        {"password": "hunter2"},
    ],
)
def test_the_server_refuses_a_wrong_form_and_the_run_stays_suspended(
    waiting: Gate, wrong: dict[str, str]
) -> None:
    answer = {"decision": "approve", "approver": "Ann", "code": "123456"} | wrong

    assert waiting.send(**answer) == "REJECT"
    assert waiting.tags == [WAITING_TAG]


@pytest.fixture(scope="module")
def waiting(prefect_server: None, postgres: str, tmp_path_factory: pytest.TempPathFactory) -> Gate:
    """A suspended run that no test carries on."""
    folder = tmp_path_factory.mktemp("gate")
    gate = Gate(new_ledger(postgres, folder / "spool"), enrolled(folder))
    gate.start()
    return gate


def test_the_form_asks_five_things_below_plan_and_evidence(new_gate: MakeGate) -> None:
    gate = new_gate(evidence={"migrations-tested": EvidenceVerdict.FAILED})
    gate.start()
    form = gate.form()

    assert {name: one["title"] for name, one in form["properties"].items()} == {
        "decision": "Decision",
        "signs": "What you sign",
        "approver": "Your name",
        "code": "One-time code",
        "comment": "Comment",
    }
    assert [one["position"] for one in form["properties"].values()] == [0, 1, 2, 3, 4]
    assert form["required"] == ["decision", "approver"]
    assert form["properties"]["signs"]["default"] == ALL_OPEN
    assert all(one["description"] for one in form["properties"].values())
    assert form["description"].startswith("- v1.0.0 → v1.1.0\n")
    assert "**failed**: it failed (the source)" in form["description"]


def test_an_item_opens_again_when_its_evidence_fails_while_others_are_waited_for(
    new_gate: MakeGate,
) -> None:
    gate = new_gate(evidence={"migrations-tested": EvidenceVerdict.PASSED})
    gate.start()
    gate.answer("migrations-tested")
    gate.evidence["migrations-tested"] = EvidenceVerdict.FAILED

    assert gate.answer(by="Bob").name == "Suspended"
    assert "migrations-tested is open again" in gate.note
    assert gate.answer(by="Bob", comment="known, harmless").is_completed()
    assert {s.item: s.approver for s in gate.signatures}["migrations-tested"] == "Bob"


def test_a_checklist_that_evidence_signs_waits_for_nobody(new_gate: MakeGate) -> None:
    gate = new_gate(approval="evidence", evidence={"migrations-tested": EvidenceVerdict.PASSED})

    assert gate.start().is_completed()

    assert [(s.item, s.decision) for s in gate.signatures] == [
        ("tests-passing", Decision.NOT_REQUIRED),
        ("migrations-tested", Decision.APPROVE),
        ("on-call-aware", Decision.NOT_REQUIRED),
    ]
    assert f"not required in {gate.environment}" in gate.artifact
    assert len(gate.events(EventKind.ITEM_SIGNED)) == 3


def test_unknown_evidence_stops_a_run_that_nobody_attends(new_gate: MakeGate) -> None:
    gate = new_gate(approval="evidence", evidence={"migrations-tested": EvidenceVerdict.UNKNOWN})

    with pytest.raises(Rejected, match="rejected by evidence: migrations-tested unknown"):
        gate.start().result()
    assert len(gate.events(EventKind.REJECTED)) == 1
    assert "1 rejected" in gate.artifact


# --- who is told what ---

KEY = "pre-deployment-checklist"


def test_people_are_told_that_one_has_signed_and_who_is_still_missing(
    new_gate: MakeGate, caplog: pytest.LogCaptureFixture
) -> None:
    gate = new_gate(signers=2)
    gate.start()
    gate.answer("migrations-tested")
    part = "Ann has signed migrations-tested; still missing: tests-passing, on-call-aware"
    assert logged(gate, caplog)[-1] == f"[{gate.label}] Checklist   {part}"
    gate.answer()
    rest = (
        "Ann has signed tests-passing, on-call-aware; still missing: 2 different people must "
        "sign, Ann has: 1 to go"
    )
    assert logged(gate, caplog)[-1] == f"[{gate.label}] Checklist   {rest}"
    assert gate.answer(by="Cleo").is_completed()

    assert gate.bodies == 4
    assert gate.told == [(f"{KEY}-1", ""), (f"{KEY}-2", part), (f"{KEY}-3", rest)]


def test_people_are_told_that_an_answer_was_refused_and_that_nothing_was_signed(
    new_gate: MakeGate, caplog: pytest.LogCaptureFixture
) -> None:
    gate = new_gate()
    gate.start()
    gate.answer(code="000000")

    said = gate.told[-1][1]
    assert said == (
        "an answer was refused, nothing was signed: the code for Ann is wrong or too old: send "
        "the one that is shown now"
    )
    assert logged(gate, caplog)[-1] == f"[{gate.label}] Checklist   {said}"
    assert gate.answer().is_completed()
    assert [key for key, _ in gate.told] == [f"{KEY}-1", f"{KEY}-2"]


def test_answers_that_sign_nothing_do_not_flood_people(new_gate: MakeGate) -> None:
    """They need no code to be refused, so that anybody could send them all night long."""
    gate = new_gate(signers=3, wrong_codes=2)
    gate.start()
    gate.answer()
    for _ in range(5):  # Ann has signed already
        assert gate.send(decision="approve", approver="Ann", code="000000") == "ACCEPT"
        gate.run()

    refusals = [said for _, said in gate.told if "was refused" in said]
    assert len(refusals) == 2
    assert "Ann has signed" in gate.note
    assert len(gate.events(EventKind.ANSWER_REFUSED)) == 5
    gate.answer(by="Cleo")
    assert gate.told[-1][1].startswith("Cleo has signed tests-passing, ")  # that is told again
    assert gate.answer(by="Bob").is_completed()


def logged(gate: Gate, caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if gate.label in r.getMessage()]


# --- four eyes, roles, N of M ---


def test_one_person_cannot_get_past_a_gate_that_needs_two(new_gate: MakeGate) -> None:
    gate = new_gate(signers=2)
    gate.start()

    assert gate.answer().name == "Suspended"
    assert "2 different people must sign, Ann has: 1 to go." in gate.form()["description"]
    assert gate.answer().name == "Suspended"
    assert "Ann has signed" in gate.note
    assert gate.answer(by="Cleo").is_completed()
    assert {s.approver for s in gate.signatures} == {"Ann", "Cleo"}


def test_who_started_the_run_is_never_the_only_one_who_signs(new_gate: MakeGate) -> None:
    gate = new_gate(started_by=" ann")
    gate.start()

    assert gate.answer(by="Ann").name == "Suspended"
    assert "Ann started this run, so somebody else must sign as well." in gate.form()["description"]
    assert gate.answer(by="Bob").is_completed()


def test_an_item_is_signed_by_its_role_and_by_as_many_as_it_needs(new_gate: MakeGate) -> None:
    pager = Item("on-call-aware", "On-call aware", SECTION, role="on-call")
    twice = Item("rollback-plan", "Rollback plan reviewed", SECTION, approvals=2)
    gate = new_gate(items=(pager, twice))
    gate.start()

    assert gate.answer("on-call-aware", by="Ann").name == "Suspended"
    assert gate.note == (
        "> **on-call-aware is signed by the role on-call; Ann has: release-manager**"
    )
    assert gate.answer(by="Ann").name == "Suspended"
    assert gate.signed() == {"rollback-plan": ["Ann"]}
    assert gate.answer(by="Bob").is_completed()
    assert gate.signed() == {"rollback-plan": ["Ann", "Bob"], "on-call-aware": ["Bob"]}


def test_a_checklist_that_nobody_could_sign_never_waits(new_gate: MakeGate) -> None:
    gate = new_gate(items=(Item("audit", "Audited", SECTION, role="auditor", approvals=2),))

    with pytest.raises(BadConfiguration) as refused:
        gate.start().result()
    assert "audit needs 2 of the role auditor, enrolled: 0" in refused.value.what
    assert gate.events(EventKind.GATE_OPENED) == []
