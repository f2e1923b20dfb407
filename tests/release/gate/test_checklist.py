"""Who signed what, on which evidence, who is still missing, and what the approver is shown."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from release.errors import BadRequest, NothingChanged, Rejected
from release.gate.approvers import Approver, find
from release.gate.checklist import (
    ALL_OPEN,
    BY_EVIDENCE,
    Answer,
    Checklist,
    Decision,
    Item,
    Quorum,
    Signature,
    as_worded,
    checked_answer,
    checked_approver,
    checked_comment,
    covered,
    missing,
    refuse_rejected,
    rejected_by,
    say_reworded,
    signed_by_evidence,
    standing,
)
from release.gate.evidence import Evidence, EvidenceSource, EvidenceVerdict
from release.gate.text import gate_text, record

AT = datetime(2026, 11, 3, 14, 2, 11, tzinfo=UTC)
TESTS = Item("tests", "Tests pass on `main`", "Pre", EvidenceSource.TESTS)
MIGRATIONS = Item("migrations", "Migrations tested", "Pre", EvidenceSource.MIGRATIONS_IN_STAGING)
ON_CALL = Item("on-call", "On-call aware", "Pre")
ITEMS = (TESTS, MIGRATIONS, ON_CALL)
PAGER = replace(ON_CALL, role="on-call")
TWICE = replace(TESTS, approvals=2)

ANN = Approver("Ann", ("release-manager",))
BOB = Approver("Bob", ("on-call",))

PASSED = Evidence(
    "migrations", EvidenceVerdict.PASSED, "1 pending migration applied", "staging", AT
)
FAILED = replace(PASSED, verdict=EvidenceVerdict.FAILED, value="0016 is not applied in staging")
UNKNOWN = replace(PASSED, verdict=EvidenceVerdict.UNKNOWN, value="no answer within 10 s")
NOBODY = Evidence("tests", EvidenceVerdict.UNKNOWN, "no CI source configured", "", AT)


def approved(item: Item, rests_on: Evidence | None = None, by: str = "Ann") -> Signature:
    return Signature(item.id, by, Decision.APPROVE, at=AT, rests_on=rests_on)


def answer(decision: str = "approve", signs: str = ALL_OPEN, approver: str = "Ann") -> Answer:
    return Answer(decision, signs, approver)


def items_of(found: Sequence[Signature]) -> list[str]:
    return [signature.item for signature in found]


# --- which items an answer signs ---


def test_one_answer_can_sign_all_open_items() -> None:
    assert covered(answer(), ANN, ITEMS, ()) == ITEMS


def test_one_answer_can_sign_one_item_and_the_others_stay_open() -> None:
    assert covered(answer(signs="migrations"), ANN, ITEMS, ()) == (MIGRATIONS,)
    assert Checklist(ITEMS, signatures=(approved(MIGRATIONS),)).waiting == (TESTS, ON_CALL)


def test_all_that_i_may_sign_leaves_out_other_roles_and_what_i_signed_before() -> None:
    waiting = (TWICE, MIGRATIONS, PAGER)
    assert covered(answer(), ANN, waiting, [approved(TESTS)]) == (MIGRATIONS,)
    assert covered(answer(), BOB, waiting, [approved(TESTS)]) == waiting


@pytest.mark.parametrize(
    ("asked", "waiting", "signed", "says"),
    [
        ("coffee", ITEMS, [], "'coffee' is not an open item"),
        ("on-call", (PAGER,), [], "on-call is signed by the role on-call; Ann has: release-man"),
        (ALL_OPEN, (PAGER,), [], "on-call is signed by the role on-call; Ann has: release-man"),
        ("tests", (TWICE,), [approved(TESTS)], "Ann has signed tests already, and somebody else"),
        (ALL_OPEN, ITEMS, [approved(i) for i in ITEMS], "Ann has signed tests, migrations, on-ca"),
    ],
)
def test_an_answer_that_signs_nothing_is_told_why(
    asked: str, waiting: tuple[Item, ...], signed: list[Signature], says: str
) -> None:
    with pytest.raises(BadRequest) as refused:
        covered(answer(signs=asked), ANN, waiting, signed)
    assert refused.value.what.startswith(says)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (None, "without an answer"),
        (answer(decision="perhaps"), "neither approve nor reject"),
        (answer(decision="not required"), "neither approve nor reject"),
        (answer(approver="007"), "starts with a letter"),
        (Answer("approve", ALL_OPEN, "Ann", "", "x" * 501), "501 characters, 500 are allowed"),
    ],
)
def test_what_no_form_sends_is_refused(given: Answer | None, says: str) -> None:
    with pytest.raises(BadRequest) as refused:
        checked_answer(given)
    assert says in refused.value.what


def test_a_code_stands_in_no_representation() -> None:
    assert "123456" not in repr(Answer("approve", ALL_OPEN, "Ann", "123456"))


@pytest.mark.parametrize("typed", ["Ann", " ann ", "ANN"])
def test_a_name_is_found_as_people_type_it(typed: str) -> None:
    assert find([BOB, ANN], typed) == ANN


# --- how many people ---


@pytest.mark.parametrize(
    ("signed", "left"),
    [
        ([], 2),
        (["Ann"], 1),
        (["Ann", "ann"], 1),
        (["Ann", "Bob"], 0),
        (["Ann", "Bob", "Cleo"], 0),
        ([BY_EVIDENCE], 0),
    ],
)
def test_an_item_counts_different_people(signed: list[str], left: int) -> None:
    assert missing(TWICE, [approved(TESTS, by=name) for name in signed]) == left


@pytest.mark.parametrize(
    ("signers", "started_by", "signed", "lacks"),
    [
        (1, "", [], "1 person must sign, nobody has: 1 to go"),
        (1, "", ["Ann"], ""),
        (1, " ANN ", ["Ann"], "Ann started this run, so somebody else must sign as well"),
        (1, "Bob", ["Ann"], ""),
        (2, "", ["Ann"], "2 different people must sign, Ann has: 1 to go"),
        (2, "", ["Ann", "ann"], "2 different people must sign, ann has: 1 to go"),
        (2, "Ann", ["Ann", "Bob"], ""),
        (3, "", ["Bob", "Ann"], "3 different people must sign, Ann, Bob have: 1 to go"),
        (2, "", [BY_EVIDENCE], ""),
    ],
)
def test_enough_different_people_stand_behind_a_checklist(
    signers: int, started_by: str, signed: list[str], lacks: str
) -> None:
    assert Quorum(signers, started_by).lacks([approved(TESTS, by=n) for n in signed]) == lacks


def test_a_no_is_nobody_who_signed() -> None:
    no = replace(approved(TESTS), decision=Decision.REJECT)
    assert missing(TESTS, [no]) == 1
    assert Quorum(1).lacks([no])


def test_where_each_item_is_signed_and_a_person_is_missing_all_are_open_for_another() -> None:
    by_one = Checklist(ITEMS, Quorum(2), signatures=tuple(approved(item) for item in ITEMS))
    by_two = replace(by_one, signatures=(*by_one.signatures, approved(ON_CALL, by="Bob")))
    assert (by_one.waiting, by_two.waiting) == (ITEMS, ())


PEOPLE = st.sampled_from(["Ann", "ann", "Bob", "Cleo"])
SIGNED = st.lists(st.tuples(st.sampled_from(["tests", "on-call"]), PEOPLE), max_size=8)


@given(SIGNED, st.integers(1, 3), st.sampled_from(["", "Ann", "bob"]))
def test_a_checklist_is_done_exactly_when_enough_people_signed_enough(
    signed: list[tuple[str, str]], signers: int, started_by: str
) -> None:
    items = (TWICE, ON_CALL)
    signatures = tuple(Signature(item, name, Decision.APPROVE) for item, name in signed)
    people = {name.casefold() for _, name in signed}
    of_tests = {name.casefold() for item, name in signed if item == "tests"}
    done = (
        len(of_tests) >= 2
        and any(item == "on-call" for item, _ in signed)
        and len(people) >= signers
        and people != {started_by.casefold()}
    )
    assert (Checklist(items, Quorum(signers, started_by), (), signatures).waiting == ()) is done


# --- names, comments, a no ---


@pytest.mark.parametrize("name", ["A", " Ann ", "Łucja Nowak", "陳大文", "x" * 64, "O'Neil (SRE)"])
def test_a_name_of_any_alphabet_is_a_name(name: str) -> None:
    assert checked_approver(name) == name.strip()


@pytest.mark.parametrize("name", ["", "  ", "1st", "@ann", "-", "Ann\nBob", "x" * 65, "A\u202e"])
def test_what_cannot_stand_in_a_record_is_no_name(name: str) -> None:
    with pytest.raises(BadRequest, match="is not a name"):
        checked_approver(name)


def test_a_comment_is_kept_as_one_line() -> None:
    assert checked_comment(" p99\n is   up\x07 ") == "p99 is up"


def test_a_rejection_names_the_items_who_and_why() -> None:
    rejected = rejected_by(Answer("reject", "tests", "Ann", comment="p99 is up"), ITEMS)
    with pytest.raises(Rejected) as ended:
        refuse_rejected(rejected)
    assert ended.value.what == "rejected by Ann: p99 is up (tests)"
    assert isinstance(ended.value, NothingChanged)


def test_a_rejection_of_everything_without_a_comment_says_so() -> None:
    with pytest.raises(Rejected) as ended:
        refuse_rejected(rejected_by(answer("reject"), ITEMS))
    assert ended.value.what == "rejected by Ann: no reason given (tests, migrations, on-call)"


def test_a_rejection_of_what_is_not_open_is_a_no_all_the_same() -> None:
    assert items_of(rejected_by(answer("reject", "coffee"), ITEMS)) == [i.id for i in ITEMS]


def test_approvals_refuse_nothing() -> None:
    refuse_rejected([approved(item) for item in ITEMS])


# --- evidence that changes while the gate waits ---


@pytest.mark.parametrize(
    ("when_signed", "now", "stands"),
    [
        (PASSED, PASSED, True),
        (PASSED, UNKNOWN, True),
        (PASSED, FAILED, False),
        (UNKNOWN, FAILED, False),
        (None, FAILED, False),
        (FAILED, FAILED, True),
        (FAILED, PASSED, True),
    ],
)
def test_a_signature_falls_when_its_evidence_has_failed_since(
    when_signed: Evidence | None, now: Evidence, stands: bool
) -> None:
    kept, note = standing([approved(TESTS), approved(MIGRATIONS, when_signed)], [now])
    assert items_of(kept) == (["tests", "migrations"] if stands else ["tests"])
    assert note == (
        ""
        if stands
        else "migrations is open again: since Ann signed it, 0016 is not applied in staging"
    )


@pytest.mark.parametrize(
    ("when_signed", "expired_before", "now", "stands"),
    [
        (PASSED, timedelta(seconds=-1), UNKNOWN, True),
        (PASSED, timedelta(), UNKNOWN, False),
        (PASSED, timedelta(hours=3), UNKNOWN, False),
        (PASSED, timedelta(hours=3), PASSED, True),
        (UNKNOWN, timedelta(hours=3), UNKNOWN, True),
    ],
)
def test_a_signature_on_evidence_that_was_stale_needs_it_to_pass_now(
    when_signed: Evidence, expired_before: timedelta, now: Evidence, stands: bool
) -> None:
    """Silence does not confirm what nobody knew any more; who signed on unknown knew it."""
    stale = replace(when_signed, expires_at=AT - expired_before)
    kept, note = standing([approved(MIGRATIONS, stale)], [now])
    assert bool(kept) is stands
    assert note == (
        ""
        if stands
        else "migrations is open again: since Ann signed it, on evidence that was stale, "
        "no answer within 10 s"
    )


def test_who_signed_other_words_than_the_runbook_has_now_signed_another_item() -> None:
    signed = replace(approved(MIGRATIONS), text=MIGRATIONS.text)
    reworded = replace(MIGRATIONS, text="Nobody looked at the migrations")
    assert as_worded([signed], ITEMS) == ((signed,), ())
    assert as_worded([signed], [TESTS]) == ((signed,), ())  # it is asked of nobody any more
    assert as_worded([signed], [TESTS, reworded]) == ((), (signed,))
    assert say_reworded([signed], [TESTS]) == ""
    assert say_reworded([signed], [TESTS, reworded]) == (
        "migrations is open again: the runbook was edited since Ann signed it"
    )


def test_all_signatures_of_an_item_fall_together() -> None:
    both = [approved(MIGRATIONS, PASSED), approved(MIGRATIONS, PASSED, by="Bob")]
    kept, note = standing(both, [FAILED])
    assert kept == ()
    assert note.startswith("migrations is open again: since Ann, Bob signed it")


# --- a checklist without a person ---


def test_an_item_passes_on_its_own_evidence() -> None:
    (signature,) = signed_by_evidence([MIGRATIONS], [PASSED], "staging")
    assert (signature.approver, signature.decision) == (BY_EVIDENCE, Decision.APPROVE)
    refuse_rejected([signature])


@pytest.mark.parametrize("evidence", [FAILED, UNKNOWN])
def test_failed_and_unknown_evidence_stop_the_run_and_name_the_item(evidence: Evidence) -> None:
    with pytest.raises(Rejected) as ended:
        refuse_rejected(signed_by_evidence(ITEMS, [evidence], "staging"))
    assert ended.value.what == (
        f"rejected by evidence: migrations {evidence.verdict}: {evidence.value} (staging)"
    )


def test_an_item_with_nobody_to_ask_is_recorded_as_not_required() -> None:
    signatures = signed_by_evidence([TESTS, ON_CALL], [NOBODY], "staging")
    assert [(s.decision, s.comment) for s in signatures] == [
        (Decision.NOT_REQUIRED, "not required in staging: no CI source configured"),
        (Decision.NOT_REQUIRED, "not required in staging: no evidence"),
    ]
    refuse_rejected(signatures)


# --- what the approver reads ---


def test_the_gate_shows_plan_evidence_signatures_and_what_is_open() -> None:
    linked = replace(
        PASSED, link="https://staging.example.com/", expires_at=AT + timedelta(minutes=15)
    )
    text = gate_text(
        ["v1.0.0 → v1.1.0", "migrations: none"],
        Checklist(
            (TWICE, MIGRATIONS, PAGER),
            Quorum(2, "Ann"),
            (NOBODY, linked),
            (replace(approved(TESTS), comment="looked at CI"),),
        ),
        until=AT + timedelta(hours=8),
    )
    assert text.splitlines() == [
        "- v1.0.0 → v1.1.0",
        "- migrations: none",
        "",
        "**0 of 3 items signed. 2 different people must sign, Ann has: 1 to go.** If not "
        "everything is signed by **2026-11-03 22:02 UTC**, the run ends, and what serves now keeps "
        "serving.",
        "",
        "Evidence of 14:02:11 UTC, stale from 14:17:11 UTC:",
        "",
        "| Item | Evidence | Signed |",
        "|---|---|---|",
        "| Tests pass on `main` (`tests`) | **unknown**: no CI source configured "
        "| approved by Ann, 14:02:11 UTC: looked at CI<br>**open** |",
        "| Migrations tested (`migrations`) | **passed**: 1 pending migration applied "
        "([staging](https://staging.example.com/)) | **open** |",
        "| On-call aware (`on-call`) | none: your own judgement | **open** by on-call |",
    ]


def test_a_gate_that_opens_again_says_why_in_its_first_line() -> None:
    text = gate_text([], Checklist(ITEMS), note="'007' is not a name")
    assert text.splitlines()[0] == "> **'007' is not a name**"


@pytest.mark.parametrize(
    ("signatures", "state"),
    [
        ((), "0 of 3 items signed. 1 person must sign, nobody has: 1 to go."),
        ((approved(MIGRATIONS),), "1 of 3 items signed."),
        (tuple(approved(item) for item in ITEMS), "All 3 items are signed."),
        ((replace(approved(TESTS), decision=Decision.REJECT),), "1 rejected"),
    ],
)
def test_a_record_says_its_state_in_line_1(signatures: tuple[Signature, ...], state: str) -> None:
    lines = record("production", Checklist(ITEMS, signatures=signatures)).splitlines()
    assert lines[0] == f"**production**: {state}"


def test_a_record_says_how_old_the_evidence_was() -> None:
    late = replace(approved(MIGRATIONS, PASSED), at=AT + timedelta(hours=2))
    lines = record("production", Checklist(ITEMS, Quorum(), (PASSED,), (late,))).splitlines()
    assert "approved by Ann, 16:02:11 UTC, on evidence 2 h old" in lines[-2]


def test_words_from_outside_are_shown_as_they_are_and_never_as_markup() -> None:
    evil = replace(PASSED, value="a | b\n<img src=x> [click](http://x) **bold**")
    row = record("production", Checklist((MIGRATIONS,), evidence=(evil,))).splitlines()[-1]
    assert row.count("|") - row.count("\\|") == 4
    assert "\\<img src=x\\> \\[click\\](http://x) \\*\\*bold\\*\\*" in row


@pytest.mark.parametrize("link", ["javascript:alert(1)", "", "file:///etc/passwd"])
def test_only_addresses_of_the_web_become_links(link: str) -> None:
    row = record(
        "production", Checklist((MIGRATIONS,), evidence=(replace(PASSED, link=link),))
    ).splitlines()[-1]
    assert "](" not in row


def test_an_address_cannot_end_its_link() -> None:
    evil = replace(PASSED, link="https://x/) | <b>[y](z")
    row = record("production", Checklist((MIGRATIONS,), evidence=(evil,))).splitlines()[-1]
    assert "(https://x/%29%20%7C%20%3Cb%3E[y]%28z)" in row
