"""What a deployment says that it will do."""

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from release.migration.files import MigrationFile
from release.migration.header import Header, Phase
from release.migration.rehearsal.compatibility import RollbackVerdict
from release.migration.rehearsal.outcome import Rehearsal, SmokeOutcome, SmokeResult
from release.model import Baseline, ImageRef, Release, ReleaseKind
from release.plan import Change, Plan, planned_version, version_of_branch
from release.request import DeployRequest

OLD, NEW = "1" * 40, "2" * 40
IMAGE = ImageRef("localhost:5000/api", "sha256:" + "9f3c" * 16)
BASELINE = Baseline(
    environment="production",
    release=Release("v1.0.0", OLD, IMAGE),
    instances=("c1", "c2"),
    schema_version="0014",
    error_rate=0.0012,
    p95=timedelta(milliseconds=42),
    taken_at=datetime(2026, 11, 3, 14, 0, tzinfo=UTC),
)
FIRST = replace(BASELINE, release=None, instances=(), schema_version="", error_rate=None, p95=None)
EXPAND = MigrationFile("0015", "add_note", "ALTER TABLE …", "c0ffee")
CONTRACT = MigrationFile(
    "0016", "drop_memo", "ALTER TABLE …", "c0ffee", Header(phase=Phase.CONTRACT)
)
PLAN = Plan(
    environment="production",
    kind=ReleaseKind.TAG,
    version="v1.1.0",
    revision=NEW,
    ref="main",
    baseline=BASELINE,
    changes=(Change(NEW, "Add a note", "Ada"),),
    expand=(),
    contract=(),
    outage=timedelta(),
)


def test_a_plan_is_five_lines() -> None:
    assert PLAN.lines() == [
        "**production**: v1.0.0 → **v1.1.0** (`222222222222`, tag from `main`, 1 commit)",
        "image: built from a clean export",
        "migrations: none",
        "rollout: rolling, no request refused",
        "code-only rollback to v1.0.0: safe (no schema change before the watch has passed)",
    ]


def test_whoever_signs_reads_what_the_error_rate_will_be_of() -> None:
    sentence = "error rate measured on: our own probes of GET /health; not measured: …"

    plan = replace(PLAN, measured_on=sentence)

    assert plan.lines()[5:] == [sentence]
    assert sentence in plan.markdown()
    assert plan.fingerprint == PLAN.fingerprint


@pytest.mark.parametrize("ref", ["a`**b**`", "`", "x``<img src=y>```", "größe"])
def test_a_branch_is_shown_as_it_is_called(ref: str) -> None:
    """Whoever signs reads the branch's name, and nothing that the name makes of the page."""
    line = replace(PLAN, ref=ref, kind=ReleaseKind.BRANCH).lines()[0]
    shown = MarkdownIt().parseInline(line)[0].children or []

    assert [t.content for t in shown if t.type == "code_inline"] == [NEW[:12], ref]
    assert not any(t.type == "html_inline" for t in shown)
    assert line.isprintable()


def test_what_cannot_be_measured_is_signed_too() -> None:
    sentence = "prometheus: Prometheus at http://prometheus:9090 does not answer: timed out"

    lines = replace(PLAN, unmeasured=(sentence,)).lines()

    assert lines[5:] == [f"the watch may miss something: {sentence}"]
    assert sentence in replace(PLAN, unmeasured=(sentence,)).markdown()


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"baseline": FIRST}, "**production**: nothing → **v1.1.0**"),
        ({"image": IMAGE}, "image: used again from the registry"),
        ({"expand": (EXPAND,)}, "migrations: `0015_add_note`"),
        ({"contract": (CONTRACT,)}, "migrations: none; after the watch: `0016_drop_memo`"),
        (
            {"expand": (EXPAND,), "contract": (CONTRACT,)},
            "migrations: `0015_add_note`; after the watch: `0016_drop_memo`",
        ),
        (
            {"waiting": (CONTRACT,), "waits_for": "a rollback would go to v1.0.0"},
            "migrations: none; not yet: `0016_drop_memo` (a rollback would go to v1.0.0)",
        ),
        (
            {"outage": timedelta(seconds=6)},
            "rollout: plain restart, about 6 s without an answer",
        ),
        (
            {"expand": (EXPAND,)},
            "code-only rollback to v1.0.0: unknown (declared as expand, not rehearsed: "
            "0015_add_note)",
        ),
    ],
)
def test_a_plans_lines_say_what_is_special(change: dict[str, object], line: str) -> None:
    lines = replace(PLAN, **change).lines()  # type: ignore[arg-type]

    assert len(lines) == 5
    assert any(found.startswith(line) for found in lines), lines


def test_other_services_of_the_same_image_are_named_before_anybody_signs() -> None:
    """They run the old release on the new schema, until somebody replaces them."""
    (line,) = [line for line in replace(PLAN, left=("worker",)).lines() if "worker" in line]

    assert line == (
        "not replaced: worker, which runs the same image and keeps the release that it has until "
        "somebody types `docker compose up -d worker`"
    )
    assert not [line for line in PLAN.lines() if "not replaced" in line]


def test_what_a_rehearsal_found_is_the_verdict_on_the_rollback() -> None:
    found = Rehearsal(("0015_add_note.sql",), smoke=SmokeResult(SmokeOutcome.PASSED, ""))

    assert replace(PLAN, expand=(EXPAND,), rehearsal=found).rollback == found.verdict
    assert found.verdict[0] is RollbackVerdict.SAFE


def test_a_contract_migration_does_not_put_the_rollback_in_doubt() -> None:
    """It runs after the watch: until then the old release is one command away."""
    assert replace(PLAN, contract=(CONTRACT,)).rollback[0] is RollbackVerdict.SAFE


@pytest.mark.parametrize(
    ("change", "nothing"),
    [
        ({}, False),
        ({"revision": OLD, "version": "v1.0.0"}, True),
        ({"revision": OLD, "version": "v1.0.1"}, False),  # the same commit under a new name
        ({"revision": OLD, "version": "main-111111111111", "kind": ReleaseKind.BRANCH}, True),
        ({"revision": NEW, "version": "main-222222222222", "kind": ReleaseKind.BRANCH}, False),
        ({"revision": OLD, "version": "v1.0.0", "expand": (EXPAND,)}, False),
        ({"revision": OLD, "version": "v1.0.0", "contract": (CONTRACT,)}, False),
        ({"revision": OLD, "version": "v1.0.0", "waiting": (CONTRACT,)}, True),
        ({"revision": OLD, "version": "v1.0.0", "baseline": FIRST}, False),
    ],
)
def test_there_is_nothing_to_do_only_if_the_commit_serves_and_the_schema_is_there(
    change: dict[str, object], nothing: bool
) -> None:
    plan = replace(PLAN, **change)  # type: ignore[arg-type]

    assert bool(plan.nothing_to_do) is nothing


def test_nothing_to_do_says_what_serves() -> None:
    plan = replace(PLAN, revision=OLD, version="v1.0.0")

    assert plan.nothing_to_do == (
        "production serves v1.0.0 (111111111111) already and no migration is pending"
    )


def test_the_artifact_lists_what_the_lint_found() -> None:
    shown = replace(PLAN, warnings=("0015_add_note.sql:1: x | y",)).markdown()

    assert "## What the migrations may do to traffic" in shown
    assert "- 0015_add_note.sql:1: x \\| y" in shown
    assert "may do to traffic" not in PLAN.markdown()


def test_the_artifact_shows_the_baseline_as_measured() -> None:
    text = PLAN.markdown()

    assert text.startswith("# Plan: v1.1.0 to production\n")
    assert (
        "- baseline: v1.0.0 (sha256:9f3c9f3…), 2 instances, schema 0014, error rate 0.12%, "
        "p95 42 ms" in text
    )
    assert "| `222222222222` | Add a note | Ada |" in text


def test_the_artifact_of_a_first_deployment_says_unknown_not_zero() -> None:
    text = replace(PLAN, baseline=FIRST, changes=()).markdown()

    assert (
        "- baseline: nothing (no digest), 0 instances, schema empty, error rate unknown, "
        "p95 unknown" in text
    )
    assert text.endswith("No commits that the baseline does not have.\n")


def test_a_commits_subject_cannot_break_the_table() -> None:
    text = replace(PLAN, changes=(Change(NEW, "a | b\nc", "A|da"),)).markdown()

    assert r"| `222222222222` | a \| b c | A\|da |" in text


def test_a_plan_knows_its_release_with_the_image_that_was_built_before() -> None:
    assert replace(PLAN, image=IMAGE).release == Release("v1.1.0", NEW, IMAGE)
    assert PLAN.release == Release("v1.1.0", NEW)


@pytest.mark.parametrize(
    ("ref", "version"),
    [
        ("main", "main-222222222222"),
        ("feature/Log-In_2", "feature-log-in-2-222222222222"),
        ("__", "branch-222222222222"),
        ("hotfix+1", "hotfix-1-222222222222"),
        ("größe", "gr-e-222222222222"),
        ("issue=5", "issue-5-222222222222"),
        ("@types/x", "types-x-222222222222"),
        ("#123", "123-222222222222"),
        ("日本語", "branch-222222222222"),
        ("a" * 200, "a" * 100 + "-222222222222"),
    ],
)
def test_a_branch_deployment_is_named_after_branch_and_commit(ref: str, version: str) -> None:
    assert version_of_branch(ref, NEW) == version


@given(st.text(), st.text("0123456789abcdef", min_size=40, max_size=64))
def test_the_name_of_a_branch_deployment_is_always_an_image_tag(ref: str, revision: str) -> None:
    """Source: OCI distribution specification, "Pulling manifests"."""
    assert re.fullmatch(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}", version_of_branch(ref, revision))


def test_a_tag_deployment_is_known_by_its_version() -> None:
    tag = DeployRequest(version="v1.1.0")
    branch = DeployRequest(kind=ReleaseKind.BRANCH, ref="main")

    assert planned_version(tag, NEW) == "v1.1.0"
    assert planned_version(branch, NEW) == "main-222222222222"
