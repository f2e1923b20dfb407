"""Who signed what, on which evidence, and what the approver is shown."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from release.checklist import (
    ALL_OPEN,
    BY_EVIDENCE,
    Answer,
    Decision,
    Evidence,
    EvidenceSource,
    EvidenceVerdict,
    Finding,
    Item,
    Signature,
    checked_approver,
    checked_comment,
    gate_text,
    judge_migrations_in_staging,
    judge_rollback_plan,
    judge_staging_health,
    no_answer,
    nobody_to_ask,
    open_items,
    record,
    refuse_rejected,
    signed_by,
    signed_by_evidence,
    standing,
)
from release.errors import BadRequest, NothingChanged, Rejected
from release.model import Baseline, ImageRef, Probe, Release

AT = datetime(2026, 11, 3, 14, 2, 11, tzinfo=UTC)
TESTS = Item("tests", "Tests pass on `main`", "Pre", EvidenceSource.TESTS)
MIGRATIONS = Item("migrations", "Migrations tested", "Pre", EvidenceSource.MIGRATIONS_IN_STAGING)
ON_CALL = Item("on-call", "On-call aware", "Pre")
ITEMS = (TESTS, MIGRATIONS, ON_CALL)

PASSED = Evidence(
    "migrations", EvidenceVerdict.PASSED, "1 pending migration applied", "staging", AT
)
FAILED = replace(PASSED, verdict=EvidenceVerdict.FAILED, value="0016 is not applied in staging")
UNKNOWN = replace(PASSED, verdict=EvidenceVerdict.UNKNOWN, value="no answer within 10 s")
NOBODY = Evidence("tests", EvidenceVerdict.UNKNOWN, "no CI source configured", "", AT)


def approved(item: Item, rests_on: Evidence | None = None) -> Signature:
    return Signature(item.id, "Ann", Decision.APPROVE, at=AT, rests_on=rests_on)


def answer(decision: str = "approve", signs: str = ALL_OPEN, approver: str = "Ann") -> Answer:
    return Answer(decision, signs, approver)


def items_of(signatures: tuple[Signature, ...]) -> list[str]:
    return [signature.item for signature in signatures]


# --- signing ---


def test_one_answer_can_sign_all_open_items() -> None:
    assert items_of(signed_by(answer(), ITEMS)) == ["tests", "migrations", "on-call"]


def test_one_answer_can_sign_one_item_and_the_others_stay_open() -> None:
    signatures = signed_by(answer(signs="migrations"), ITEMS)
    assert items_of(signatures) == ["migrations"]
    assert open_items(ITEMS, signatures) == (TESTS, ON_CALL)


def test_all_open_items_means_those_that_are_still_open() -> None:
    waiting = open_items(ITEMS, [approved(TESTS)])
    assert items_of(signed_by(answer(), waiting)) == ["migrations", "on-call"]


def test_a_signature_keeps_the_evidence_that_its_approver_was_shown() -> None:
    by_item = {s.item: s for s in signed_by(answer(), ITEMS, [FAILED])}
    assert by_item["migrations"].rests_on == FAILED
    assert by_item["on-call"].rests_on is None


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (None, "without an answer"),
        (answer(decision="perhaps"), "neither approve nor reject"),
        (answer(decision="not required"), "neither approve nor reject"),
        (answer(signs="coffee"), "'coffee' is no open item"),
        (answer(approver="007"), "starts with a letter"),
        (Answer("approve", ALL_OPEN, "Ann", "x" * 501), "501 characters, 500 are allowed"),
    ],
)
def test_an_answer_that_cannot_count_signs_nothing_and_says_why(
    given: Answer | None, says: str
) -> None:
    with pytest.raises(BadRequest) as refused:
        signed_by(given, ITEMS)
    assert says in refused.value.what


@pytest.mark.parametrize("name", ["A", " Ann ", "Łucja Nowak", "陳大文", "x" * 64, "O'Neil (SRE)"])
def test_a_name_of_any_alphabet_is_a_name(name: str) -> None:
    assert checked_approver(name) == name.strip()


@pytest.mark.parametrize("name", ["", "  ", "1st", "@ann", "-", "Ann\nBob", "x" * 65, "A\u202e"])
def test_what_cannot_stand_in_a_record_is_no_name(name: str) -> None:
    with pytest.raises(BadRequest, match="is no name"):
        checked_approver(name)


def test_a_comment_is_kept_as_one_line() -> None:
    assert checked_comment(" p99\n is   up\x07 ") == "p99 is up"


def test_a_rejection_names_the_items_who_and_why() -> None:
    rejected = signed_by(Answer("reject", "tests", "Ann", "p99 is up"), ITEMS)
    with pytest.raises(Rejected) as ended:
        refuse_rejected(rejected)
    assert ended.value.what == "tests: rejected by Ann: p99 is up"
    assert isinstance(ended.value, NothingChanged)


def test_a_rejection_of_everything_without_a_comment_says_so() -> None:
    with pytest.raises(Rejected) as ended:
        refuse_rejected(signed_by(answer("reject"), ITEMS))
    assert ended.value.what == "tests, migrations, on-call: rejected by Ann: no reason given"


def test_approvals_refuse_nothing() -> None:
    refuse_rejected(signed_by(answer(), ITEMS))


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
        f"migrations: rejected by evidence: {evidence.verdict}: {evidence.value} (staging)"
    )


def test_an_item_with_nobody_to_ask_is_recorded_as_not_required() -> None:
    signatures = signed_by_evidence([TESTS, ON_CALL], [NOBODY], "staging")
    assert [(s.decision, s.comment) for s in signatures] == [
        (Decision.NOT_REQUIRED, "not required in staging: no CI source configured"),
        (Decision.NOT_REQUIRED, "not required in staging: no evidence"),
    ]
    refuse_rejected(signatures)


# --- what the sources' answers mean ---

IMAGE = ImageRef("registry/api", "sha256:" + "9" * 64)
BASELINE = Baseline("production", Release("v1.0.0", "a" * 40, IMAGE), (), "15", None, None, AT)


def probe(status: int, detail: str = "") -> Probe:
    return Probe(AT, status, timedelta(), detail)


@pytest.mark.parametrize(
    ("health", "version", "verdict", "value"),
    [
        (probe(200), "v1.1.0", EvidenceVerdict.PASSED, "healthy, serves v1.1.0"),
        (probe(200), "", EvidenceVerdict.FAILED, "healthy, but it names no version"),
        (probe(503), "v1.1.0", EvidenceVerdict.FAILED, "health check: 503"),
        (probe(0, "refused"), "", EvidenceVerdict.FAILED, "health check: no answer, refused"),
    ],
)
def test_staging_has_to_be_healthy_and_name_its_version(
    health: Probe, version: str, verdict: EvidenceVerdict, value: str
) -> None:
    assert judge_staging_health(health, version, "url") == Finding(verdict, value, "url")


@pytest.mark.parametrize(
    ("pending", "applied", "verdict", "value"),
    [
        ({}, {"15": "aa"}, EvidenceVerdict.PASSED, "no migration is pending"),
        ({"16": "bb"}, {"15": "aa", "16": "bb"}, EvidenceVerdict.PASSED, "1 pending migration ap"),
        ({"16": "b", "17": "c"}, {"16": "b", "17": "c"}, EvidenceVerdict.PASSED, "2 pending mig"),
        ({"16": "bb"}, {"15": "aa"}, EvidenceVerdict.FAILED, "16 is not applied in staging"),
        ({"16": "bb"}, {"16": "xx"}, EvidenceVerdict.FAILED, "16 ran in staging with another"),
        ({"16": "bb"}, {"16": ""}, EvidenceVerdict.FAILED, "16 was applied in staging by another"),
    ],
)
def test_migrations_are_tested_when_staging_ran_the_same_files(
    pending: dict[str, str], applied: dict[str, str], verdict: EvidenceVerdict, value: str
) -> None:
    finding = judge_migrations_in_staging(pending, applied, "schema_migrations")
    assert finding.verdict is verdict
    assert finding.value.startswith(value)


@pytest.mark.parametrize(
    ("baseline", "on_host", "contract", "verdict", "says"),
    [
        (BASELINE, True, [], EvidenceVerdict.PASSED, "is on the host"),
        (BASELINE, False, [], EvidenceVerdict.FAILED, "is not on the host"),
        (
            BASELINE,
            True,
            ["0016_drop.sql"],
            EvidenceVerdict.PASSED,
            "after the watch 0016_drop.sql",
        ),
        (
            replace(BASELINE, release=Release("v1.0.0", "a" * 40)),
            True,
            [],
            EvidenceVerdict.FAILED,
            "without a digest",
        ),
    ],
)
def test_a_rollback_plan_needs_a_baseline_that_can_come_back(
    baseline: Baseline, on_host: bool, contract: list[str], verdict: EvidenceVerdict, says: str
) -> None:
    finding = judge_rollback_plan(baseline, on_host, contract, "engine")
    assert finding.verdict is verdict
    assert says in finding.value


def test_a_first_deployment_has_nothing_to_return_to_and_nobody_to_ask() -> None:
    finding = judge_rollback_plan(replace(BASELINE, release=None), False, [], "engine")
    assert (finding.verdict, finding.source) == (EvidenceVerdict.UNKNOWN, "")


def test_no_source_and_no_answer_are_both_unknown_and_never_green() -> None:
    assert nobody_to_ask("none").verdict is EvidenceVerdict.UNKNOWN
    assert no_answer("late", "x").verdict is EvidenceVerdict.UNKNOWN


# --- what the approver reads ---


def test_the_gate_shows_plan_evidence_signatures_and_what_is_open() -> None:
    text = gate_text(
        ["v1.0.0 → v1.1.0", "migrations: none"],
        ITEMS,
        [NOBODY, PASSED],
        [replace(approved(TESTS), comment="looked at CI")],
        deadline=timedelta(hours=8),
    )
    assert text.splitlines() == [
        "- v1.0.0 → v1.1.0",
        "- migrations: none",
        "",
        "**2 of 3 items open.** Without an answer within 8 h the run ends; what serves, stays.",
        "",
        "| Item | Evidence | Signed |",
        "|---|---|---|",
        "| Tests pass on `main` (`tests`) | **unknown**: no CI source configured (14:02:11 UTC) "
        "| approved by Ann, 14:02:11 UTC: looked at CI |",
        "| Migrations tested (`migrations`) | **passed**: 1 pending migration applied "
        "(staging, 14:02:11 UTC) | **open** |",
        "| On-call aware (`on-call`) | none: your own judgement | **open** |",
    ]


def test_a_gate_that_opens_again_says_why_in_its_first_line() -> None:
    text = gate_text([], ITEMS, [], [], note="'007' is no name")
    assert text.splitlines()[0] == "> **'007' is no name**"


def test_a_record_says_its_state_in_line_1_and_how_old_the_evidence_was() -> None:
    late = replace(approved(MIGRATIONS, PASSED), at=AT + timedelta(hours=2))
    lines = record("production", ITEMS, [PASSED], [late]).splitlines()
    assert lines[0] == (
        "**production**: 1 of 3 items signed, 0 rejected; open: `tests`, `on-call`."
    )
    assert "approved by Ann, 16:02:11 UTC, on evidence 2 h old" in lines[5]


def test_words_from_outside_are_shown_as_they_are_and_never_as_markup() -> None:
    evil = replace(PASSED, value="a | b\n<img src=x> [click](http://x) **bold**")
    row = record("production", [MIGRATIONS], [evil], []).splitlines()[-1]
    assert row.count("|") - row.count("\\|") == 4
    assert "\\<img src=x\\> \\[click\\](http://x) \\*\\*bold\\*\\*" in row
