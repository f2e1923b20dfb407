"""RUNBOOK.md is the pipeline's source: what is read from it, and what is refused."""

from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from release.configuration.rules import WatchRules
from release.errors import BadConfiguration
from release.gate.evidence import EvidenceSource
from release.model import Step
from release.runbook.conformance import conformance, conforming, problems_of
from release.runbook.document import (
    PostStep,
    TriggerId,
    parse,
    slug,
    thresholds,
)

RUNBOOK = (Path(__file__).parents[3] / "RUNBOOK.md").read_text()
MIGRATIONS = (
    "- [ ] Database migrations tested in staging "
    "<!-- gate: migrations-tested evidence=migrations-in-staging -->\n"
)
ON_CALL = "- [ ] On-call aware of deployment <!-- gate: on-call-aware evidence=on-call -->\n"


def edited(old: str, new: str) -> str:
    """The project's runbook with one place changed."""
    assert RUNBOOK.count(old) == 1
    return RUNBOOK.replace(old, new)


def gate_ids(text: str) -> list[str]:
    return [item.id for item in conforming(text).gates()]


def test_the_projects_runbook_and_the_pipeline_agree() -> None:
    assert conformance(parse(RUNBOOK)) == []


def test_the_checklist_of_the_projects_runbook_is_read_in_order() -> None:
    assert [(item.id, item.evidence) for item in parse(RUNBOOK).gates()] == [
        ("tests-passing", EvidenceSource.TESTS),
        ("staging-healthy", EvidenceSource.STAGING_HEALTH),
        ("migrations-tested", EvidenceSource.MIGRATIONS_IN_STAGING),
        ("rollback-plan-reviewed", EvidenceSource.ROLLBACK_PLAN),
        ("on-call-aware", EvidenceSource.ON_CALL),
    ]


def test_an_items_text_is_what_a_reader_of_the_page_sees() -> None:
    first = parse(RUNBOOK).items[0]
    assert first.text == "All tests passing on `main` / target branch"
    assert first.section == Step.CHECKLIST


def test_steps_and_triggers_are_read_with_their_lines() -> None:
    runbook = parse(RUNBOOK)
    assert [item.id for item in runbook.items if item.section == Step.POST] == list(PostStep)
    assert [trigger.id for trigger in runbook.triggers] == list(TriggerId)
    lines = RUNBOOK.splitlines()
    for id, line in [(e.id, e.line) for e in runbook.items] + [
        (e.id, e.line) for e in runbook.triggers
    ]:
        assert id in lines[line - 1]


def test_the_default_thresholds_are_the_runbooks() -> None:
    rules, named = WatchRules(), thresholds(parse(RUNBOOK))
    assert named.error_rate_ceiling == rules.error_rate_ceiling
    assert named.error_rate_sustained_for == rules.sustained_for
    assert named.health_sustained_for == rules.sustained_for
    assert named.watch == rules.length


def test_thresholds_follow_the_runbooks_text() -> None:
    text = edited("Error rate > 5% for > 5 minutes", "Error rate > 2.5 % for > 90 seconds")
    named = thresholds(parse(text.replace("(10 min)", "(1 hour)")))
    assert named.error_rate_ceiling == 0.025
    assert named.error_rate_sustained_for == timedelta(seconds=90)
    assert named.watch == timedelta(hours=1)


def test_a_trigger_without_a_number_has_no_threshold() -> None:
    text = edited("Health check fails for > 5 minutes", "Health check fails")
    assert thresholds(parse(text)).health_sustained_for is None


# --- whoever edits the Markdown edits the pipeline ---


def test_an_added_item_becomes_a_gate_that_asks_a_person() -> None:
    text = edited(ON_CALL, ON_CALL + "- [ ] Support team told (phone!)\n")
    added = conforming(text).gates()[-1]
    assert (added.id, added.text, added.evidence) == (
        "support-team-told-phone",
        "Support team told (phone!)",
        None,
    )


def test_a_reworded_item_stays_the_same_gate() -> None:
    text = edited("On-call aware of deployment", "On-call engineer has acknowledged")
    assert gate_ids(text) == gate_ids(RUNBOOK)
    assert conforming(text).gates()[-1].text == "On-call engineer has acknowledged"


def test_reordered_items_are_asked_in_the_new_order() -> None:
    text = edited(ON_CALL, "").replace(MIGRATIONS, ON_CALL + MIGRATIONS)
    assert gate_ids(text)[2:4] == ["on-call-aware", "migrations-tested"]


def test_a_deleted_item_is_not_asked_any_more() -> None:
    assert "migrations-tested" not in gate_ids(edited(MIGRATIONS, ""))


def test_an_item_may_be_wrapped_nested_and_marked_as_markdown_allows() -> None:
    text = edited(
        ON_CALL, "* [ ] On-call\n  aware <!-- gate: on-call-aware -->\n    1. [ ] and awake\n"
    )
    assert [item.text for item in conforming(text).gates()][-2:] == ["On-call aware", "and awake"]


def test_code_and_plain_bullets_are_no_items() -> None:
    text = edited(ON_CALL, ON_CALL + "- a remark\n\n```\n- [ ] not an item\n# no heading\n```\n")
    assert gate_ids(text) == gate_ids(RUNBOOK)


def test_a_heading_for_people_only_says_so() -> None:
    contacts = "\n## Contacts <!-- prose -->\n\n### Phones <!-- prose -->\n\n- The pager\n"
    assert conformance(parse(RUNBOOK + contacts)) == []


def test_an_item_added_to_post_deployment_asks_a_person_too() -> None:
    text = edited("- [ ] Close deployment", "- [ ] Tell marketing\n- [ ] Close deployment")
    assert [item.id for item in conforming(text).gates(Step.POST)] == ["tell-marketing"]
    assert conforming(RUNBOOK).gates(Step.POST) == ()


@given(st.permutations(range(5)), st.sets(st.integers(0, 4), max_size=4))
def test_the_gates_are_the_items_in_the_order_and_number_that_the_runbook_has(
    order: list[int], gone: set[int]
) -> None:
    """Reordering and deleting: no Python is edited."""
    lines = RUNBOOK.splitlines(keepends=True)
    gates = [line for line in lines if "<!-- gate:" in line]
    first = lines.index(gates[0])
    kept = [gates[n] for n in order if n not in gone]
    text = "".join([*lines[:first], *kept, *lines[first + len(gates) :]])

    assert gate_ids(text) == [line.split("gate: ")[1].split()[0] for line in kept]


@given(st.text("abcdefghij KLMNÄß.,()!?", min_size=1, max_size=60).filter(str.strip))
def test_an_item_that_is_reworded_stays_the_same_item(words: str) -> None:
    text = edited("On-call aware of deployment", words)
    (item,) = [item for item in conforming(text).gates() if item.id == "on-call-aware"]
    assert item.text == " ".join(words.split())
    assert item.evidence is EvidenceSource.ON_CALL


@pytest.mark.parametrize(
    ("options", "evidence", "role", "approvals"),
    [
        ("", None, "", 1),
        ("role=on-call", None, "on-call", 1),
        ("approvals=2", None, "", 2),
        ("approvals=3 role=dba evidence=tests", EvidenceSource.TESTS, "dba", 3),
    ],
)
def test_an_item_says_who_signs_it_and_how_many(
    options: str, evidence: EvidenceSource | None, role: str, approvals: int
) -> None:
    text = edited(ON_CALL, f"- [ ] Told <!-- gate: told {options} -->\n")
    item = conforming(text).gates()[-1]
    assert (item.id, item.evidence, item.role, item.approvals) == (
        "told",
        evidence,
        role,
        approvals,
    )


# --- what cannot be read ---


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("- [ ] A <!-- gate: tests-passing -->", "'tests-passing' is taken by line 9"),
        ("- [ ] A\n- [ ] a!", "the id 'a' is taken by line 13"),
        (
            "- [ ] A <!-- gate: a evidence=test -->",
            "evidence 'test' is unknown; did you mean tests?",
        ),
        ("- [ ] A <!-- gate: a evidense=tests -->", "key 'evidense' is unknown; did you mean evid"),
        ("- [ ] A <!-- gate: a evidence=tests evidence=on-call -->", "evidence is given twice"),
        ("- [ ] A <!-- gate: a tests -->", "'tests' is not expected here"),
        ("- [ ] A <!-- gate: a role=On_Call -->", "'On_Call' is not a valid role"),
        ("- [ ] A <!-- gate: a rolle=on-call -->", "key 'rolle' is unknown; did you mean role?"),
        ("- [ ] A <!-- gate: a approvals=0 -->", "approvals=0: expected a number of people, 1"),
        ("- [ ] A <!-- gate: a approvals=two -->", "approvals=two: expected a number of people"),
        ("- [ ] A <!-- gate: a role=x role=y -->", "role is given twice"),
        ("- [ ] A <!-- gat: a -->", "comment 'gat' is unknown; did you mean gate?"),
        ("- [ ] A <!-- step: a evidence=tests -->", "key 'evidence' is unknown; there is: none"),
        ("- [ ] A <!-- gate: A_b -->", "'A_b' is not an id"),
        ("- [ ] A <!-- gate: all open items -->", "'open' is not expected here"),
        ("- [ ] A <!-- later -->", "<!-- later --> binds nothing"),
        ("- [ ] A <!-- gate: a --> <!-- gate: b -->", "2 comments, one is allowed"),
        ("- [ ] A <!-- gate: a ->", "a comment has to end with -->"),
        ("- [ ] A <!-- trigger: p0 -->", "a trigger stands under"),
        ("- [x] Done", "never ticked in the runbook"),
        ("- [] A", "is not an open item"),
        ("- A <!-- gate: a -->", "is not a '- [ ]' item"),
        ("\nProse <!-- gate: a -->\n", "binds nothing"),
        ("\n<!-- gate: a -->\n", "binds nothing"),
        ("- [ ] 試験", "no id can be made of"),
    ],
)
def test_a_line_that_cannot_be_bound_is_refused_with_its_number(line: str, says: str) -> None:
    with pytest.raises(BadConfiguration) as refused:
        parse(edited(ON_CALL, line + "\n"))
    assert says in refused.value.what
    assert refused.value.what.startswith("runbook, line 1")


def test_a_checklist_item_among_the_triggers_is_refused() -> None:
    text = edited("<!-- trigger: p0 -->", "<!-- gate: p0 -->")
    with pytest.raises(BadConfiguration, match="expected <!-- trigger"):
        parse(text)


def test_all_that_is_wrong_is_said_at_once_with_its_line() -> None:
    text = edited("evidence=on-call", "evidence=pager").replace("trigger: p0", "triger: p0")
    found = problems_of(text)
    lines = text.splitlines()
    assert ["pager" in lines[one.line - 1] or "triger" in lines[one.line - 1] for one in found] == [
        True,
        True,
    ]
    assert str(found[0]).startswith("runbook, line 13: evidence 'pager' is unknown")


def test_what_is_missing_has_no_line() -> None:
    (problem,) = problems_of(edited("- P0 bug discovered <!-- trigger: p0 -->\n", ""))
    assert (problem.line, str(problem)) == (
        0,
        "no line of the runbook is bound to the pipeline's trigger 'p0'",
    )


# --- what the pipeline cannot carry out ---


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("### 1. Prepare Release", "### 1. Tag Release", "no step '1. Tag Release'"),
        ("### 1. Prepare Release", "### 1. Tag Release", "heading '1. Prepare Release' 0 times"),
        ("### 5. Verify Deployment", "### 5. Verify Deployment\n\n### 6. Party", "'6. Party'"),
        ("### 5. Verify Deployment", "### Party\n\n### 5. Verify Deployment", "'Party'"),
        ("## Deployment Log", "## Sign the Audit\n\n## Deployment Log", "heading 'Sign the Audit'"),
        ("## Deployment Log", "#### Ask Legal\n\n## Deployment Log", "heading 'Ask Legal'"),
        ("## Deployment Log", "# Rollback\n\n## Deployment Log", "heading 'Rollback'"),
        ("## Deployment Log", "## Log <!-- prose -->", "heading 'Deployment Log' 0 times"),
        ("## Deployment Steps", "## Steps", "heading 'Deployment Steps' 0 times"),
        (
            "- [ ] Close",
            "- [ ] A <!-- gate: a evidence=tests -->\n- [ ] Close",
            "evidence=tests is",
        ),
        ("## Post-Deployment\n", "## Afterwards\n", "heading 'Post-Deployment' 0 times"),
        ("<!-- trigger: p0 -->", "<!-- trigger: p1 -->", "no trigger 'p1'"),
        ("<!-- trigger: p0 -->", "<!-- trigger: p1 -->", "trigger 'p0'"),
        ("- P0 bug discovered <!-- trigger: p0 -->\n", "- Customers call\n", "'customers-call'"),
        ("<!-- step: close-ticket -->", "<!-- step: close-door -->", "no step 'close-door'"),
        ("- [ ] Close deployment ticket <!-- step: close-ticket -->\n", "", "step 'close-ticket'"),
        (" <!-- step: close-ticket -->", "", "the pipeline's step 'close-ticket'"),
        ("## Deployment Log", "## Deployment Log\n\n- [ ] Buy cake", "nobody is asked for 'Buy"),
        (ON_CALL, "- [ ] A <!-- step: close-it -->\n", "close-it is done under '## Post-Depl"),
    ],
)
def test_a_runbook_that_the_pipeline_cannot_carry_out_is_refused(
    old: str, new: str, says: str
) -> None:
    with pytest.raises(BadConfiguration) as refused:
        conforming(edited(old, new))
    assert says in refused.value.what


def test_steps_in_another_order_are_refused() -> None:
    text = edited("### 1. Prepare", "### X").replace("### 2. Build", "### 1. Prepare")
    text = text.replace("### X Release", "### 2. Build Docker Image")
    text = text.replace("### 1. Prepare Docker Image", "### 1. Prepare Release")
    assert any("another order" in problem.sentence for problem in conformance(parse(text)))


def test_a_runbook_that_asks_nobody_is_refused() -> None:
    lines = [line for line in RUNBOOK.splitlines() if "<!-- gate:" not in line]
    assert any("nobody would be asked" in p.sentence for p in conformance(parse("\n".join(lines))))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Pre-Deployment Checklist", "pre-deployment-checklist"),
        ("  Café — tests `main` ", "cafe-tests-main"),
        ("x" * 80, "x" * 48),
        ("試験", ""),
    ],
)
def test_a_slug_holds_lower_case_letters_digits_and_dashes(text: str, expected: str) -> None:
    assert slug(text) == expected
