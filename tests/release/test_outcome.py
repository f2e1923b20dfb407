"""How a run ends, in words."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from release.errors import BuildFailed, Rejected, Unreachable
from release.model import Probe, Step
from release.outcome import (
    Ending,
    Report,
    StepLine,
    ending_of_failure,
    explain,
    hint_of,
    last_line,
    one_line,
    shown_version,
    what_is_gone,
    what_to_do,
)
from release.request import RollbackRequest, checked_rollback
from release.rollback import Undo

REPORT = Report(
    environment="production",
    run="d-1874ab",
    ending=Ending.ROLLED_BACK,
    sentence="error rate 7.2% > 5.0% for 6 min 30 s",
    serves="v1.0.0",
    to_do="",
    steps=(
        StepLine(Step.PLAN, "done", timedelta(seconds=2)),
        StepLine(Step.DEPLOY, "failed", None),
    ),
    approvals=(("tests", "Ada", "a | b\nc"),),
    ended_at=datetime(2026, 11, 3, 2, 23, 40, tzinfo=UTC),
)

GREEN = {
    Ending.DEPLOYED,
    Ending.PLANNED,
    Ending.NOTHING_TO_DO,
    Ending.ROLLBACK_DONE,
    Ending.HANDED_OVER,
    Ending.REMINDED,
    Ending.WATCHED,
    Ending.RESUMED,
    Ending.SETTLED,
}


@pytest.mark.parametrize("ending", Ending)
def test_a_run_is_green_only_if_it_did_what_was_asked_for(ending: Ending) -> None:
    assert ending.good is (ending in GREEN)


@pytest.mark.parametrize(
    ("error", "undo", "ending"),
    [
        (Rejected("no"), Undo.NOTHING, Ending.REJECTED),
        (Rejected("no"), Undo.LEAVE, Ending.REJECTED),
        (Unreachable("gone"), Undo.NOTHING, Ending.REFUSED),
        (BuildFailed("broken"), Undo.LEAVE, Ending.FAILED),
        (KeyError("x"), Undo.NOTHING, Ending.REFUSED),
        (KeyError("x"), Undo.RESTORE, Ending.FAILED),
    ],
)
def test_a_failure_before_the_rollout_ends_by_what_was_begun(
    error: Exception, undo: Undo, ending: Ending
) -> None:
    assert ending_of_failure(error, undo) is ending


def test_an_error_of_ours_is_its_sentence_and_another_is_named_by_its_type() -> None:
    assert explain(BuildFailed("no image", "mend it")) == "no image"
    assert hint_of(BuildFailed("no image", "mend it")) == "mend it"
    assert explain(ZeroDivisionError("division by zero")) == (
        "unexpected ZeroDivisionError: division by zero"
    )
    assert hint_of(ZeroDivisionError()) == ""


@pytest.mark.parametrize(
    ("ending", "to_do"),
    [
        (Ending.DEPLOYED, ""),
        (Ending.PLANNED, ""),
        (Ending.NOTHING_TO_DO, ""),
        (Ending.ROLLBACK_DONE, ""),
        (Ending.HANDED_OVER, ""),
        (Ending.REJECTED, "docker info"),
        (Ending.REFUSED, "docker info"),
        (Ending.FAILED, "docker info"),
        (
            Ending.ROLLED_BACK,
            "mend the release and deploy the next version; the environment needs nothing",
        ),
        (
            Ending.ROLLBACK_FAILED,
            "page on-call now, then: ignition status production; when it serves again: "
            "ignition unlock production --as NAME --reason … · docker info",
        ),
    ],
)
def test_what_is_left_to_do_follows_from_the_ending(ending: Ending, to_do: str) -> None:
    assert what_to_do(ending, "production", "docker info") == to_do


def test_a_failed_rollback_pages_someone_even_without_a_hint() -> None:
    assert what_to_do(Ending.ROLLBACK_FAILED, "production", "") == (
        "page on-call now, then: ignition status production; when it serves again: "
        "ignition unlock production --as NAME --reason …"
    )


@pytest.mark.parametrize(
    ("version", "status", "detail", "shown"),
    [
        ("v1.1.0", 200, "", "v1.1.0"),
        (None, 503, "", "no version (HTTP 503 at http://x)"),
        (None, 200, "has no field 'v'", "no version (http://x has no field 'v')"),
        (None, 0, "no DNS", "no version that can be seen from here (no DNS at http://x)"),
    ],
)
def test_where_nothing_answers_it_is_not_said_that_nothing_serves(
    version: str | None, status: int, detail: str, shown: str
) -> None:
    probe = Probe(datetime.now(UTC), status, timedelta(0), detail)
    assert shown_version(version, probe, "http://x") == shown


@pytest.mark.parametrize("serves", ["no version (connection refused at http://x)", "v1.0.0"])
def test_a_release_that_is_gone_right_after_its_watch_is_for_a_person(serves: str) -> None:
    assert what_is_gone(Ending.DEPLOYED, "production", "v1.1.0", serves) == (
        "v1.1.0 passed its watch and does not answer now: ignition p0 production --reason …; "
        "if it stays so, watch/production rolls it back when it next runs"
    )


@pytest.mark.parametrize(
    ("ending", "serves"), [(Ending.DEPLOYED, "v1.1.0"), (Ending.ROLLED_BACK, "v1.0.0")]
)
def test_what_serves_as_it_should_is_for_nobody(ending: Ending, serves: str) -> None:
    assert what_is_gone(ending, "production", "v1.1.0", serves) == ""


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("smoke failed", "smoke failed"),
        ("\n\nsmoke failed\nat line 3", "smoke failed"),
        ("\x1b[31m✗ login\x1b[0m\tfailed", "✗ login failed"),
        ("a\0b", "a b"),
        ("", "no reason was given"),
        (" \n\t\n", "no reason was given"),
        ("x" * 600, "x" * 500),
    ],
)
def test_the_first_line_that_says_something_is_the_reason(text: str, line: str) -> None:
    assert one_line(text) == line


@given(st.text(st.characters()))
def test_whatever_failed_its_text_never_stops_the_rollback(text: str) -> None:
    """The rollback refuses a reason that is empty, long or has control characters."""
    checked_rollback(RollbackRequest(reason=one_line(text)), "production")


def test_a_report_begins_with_what_serves_and_what_to_do() -> None:
    lines = REPORT.markdown().splitlines()

    assert lines[0] == "**production serves v1.0.0** at 02:23:40 UTC"
    assert lines[2] == "To do: nothing"
    assert lines[4] == "## RolledBack: error rate 7.2% > 5.0% for 6 min 30 s"
    assert "| Plan | done | 2 s |" in lines
    assert "| 4. Deploy to Production | failed |  |" in lines
    assert r"| tests | Ada | a \| b c |" in lines


def test_a_report_without_signatures_has_no_table_of_them() -> None:
    text = replace(REPORT, approvals=(), steps=()).markdown()

    assert "Signatures" not in text
    assert "| Step |" not in text


def test_the_last_log_line_is_one_line_that_says_what_serves() -> None:
    report = replace(REPORT, sentence="image was not built\nline 1\nline 2", to_do="mend it")

    assert last_line(report) == (
        "[d-1874ab] RolledBack  production serves v1.0.0 at 02:23:40 UTC; "
        "image was not built; to do: mend it"
    )
