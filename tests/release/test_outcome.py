"""How a run ends, in words."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from release.errors import (
    BuildFailed,
    Rejected,
    RolloutFailed,
    TriggerFired,
    Unreachable,
    VerificationFailed,
)
from release.model import Probe, Step
from release.outcome import (
    ENDED_NAMES,
    Ending,
    Report,
    StepLine,
    Undo,
    ended_before,
    ended_name,
    ended_tags,
    ending_in,
    ending_of_failure,
    explain,
    hint_after_rollback,
    hint_of,
    last_line,
    message_of,
    one_line,
    sentence_in,
    shown_version,
    what_is_gone,
    what_to_do,
)
from release.request import RollbackRequest, checked_rollback, name_of, start_again, tags_of

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
@given(sentence=st.text())
def test_an_ending_is_read_back_from_the_message_that_it_was_written_in(
    ending: Ending, sentence: str
) -> None:
    message = message_of(ending, sentence)

    assert ending_in(message) is ending
    assert sentence_in(message) == sentence


@pytest.mark.parametrize(
    "message",
    [
        None,
        "",
        "Deployed",
        "All states completed.",
        "The flow was paused and never resumed.",
        "Flow run encountered an exception: RuntimeError: Deployed: x",
        "deployed: x",
        "DeployedTwice: x",
        "Deployed : x",
    ],
)
def test_a_message_of_somebody_elses_has_no_ending(message: str | None) -> None:
    assert ending_in(message) is None
    assert sentence_in(message) == (message or "")


@pytest.mark.parametrize("ending", Ending)
@pytest.mark.parametrize("flow", ["deploy", "rollback", "nightly", "watch"])
def test_a_name_tells_a_run_that_has_ended_from_one_that_has_not(flow: str, ending: Ending) -> None:
    name = name_of(flow, "feat/x", "production")
    ended = ended_name(name, ending)

    assert not fnmatchcase(name, ENDED_NAMES)
    assert fnmatchcase(ended, ENDED_NAMES)
    assert ended_name(ended, Ending.FAILED) == f"{name} · Failed", "a name has one ending"


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        (name_of("deploy", "v1.2.3", "production"), "v1.2.3 → production"),
        (name_of("deploy", "v1.2.3", "staging", dry_run=True), "dry run of v1.2.3 → staging"),
        (name_of("nightly", "", "staging"), "nightly → staging"),
        (name_of("watch", "", "production"), "watch of production"),
        (name_of("rollback", "", "production"), "rollback of production"),
        (name_of("rollback", "v1.0.0", "production"), "rollback of production to v1.0.0"),
        (
            name_of("rollback", f"registry/api@sha256:{'9f3c' * 16}", "production"),
            "rollback of production to sha256:9f3c9f3…",
        ),
        (ended_name("v1.2.3 → production", Ending.ROLLED_BACK), "v1.2.3 → production · RolledBack"),
    ],
)
def test_a_run_is_called_by_what_goes_where_and_how_that_ended(name: str, shown: str) -> None:
    assert name == shown


def test_a_run_has_the_tag_of_one_ending() -> None:
    tags = {"ignition", "ending:Failed", *tags_of("production", "v1.2.3")}

    assert ended_tags(tags, Ending.ROLLED_BACK) == {
        *("ignition", "env:production", "version:v1.2.3", "ending:RolledBack")
    }
    assert tags_of("production", "") == {"env:production"}
    assert tags_of("production", f"api@sha256:{'0' * 64}") == {"env:production"}


@pytest.mark.parametrize(
    ("flow", "request_", "command"),
    [
        ("deploy", {"version": "v1.2.3", "kind": "tag"}, "ignition deploy v1.2.3 --to production"),
        ("deploy", {"ref": "x", "kind": "branch"}, "ignition deploy --branch x --to production"),
        # What it was is not made another, and a name that git takes is no command to a shell.
        (
            "deploy",
            {"version": "v1.2.3", "kind": "tag", "ref": "hotfix", "dry_run": True},
            "ignition deploy v1.2.3 --ref hotfix --dry-run --to production",
        ),
        (
            "deploy",
            {"ref": "a;$(b)", "kind": "branch"},
            "ignition deploy --branch 'a;$(b)' --to production",
        ),
        ("rollback", {"to": "v1.0.0"}, "ignition rollback production --to v1.0.0 --reason …"),
        ("rollback", {"to": ""}, "ignition rollback production --reason …"),
        ("watch", {}, "prefect deployment run watch/production"),
    ],
)
def test_a_run_that_is_taken_up_after_its_end_says_what_starts_another(
    flow: str, request_: dict[str, Any], command: str
) -> None:
    at = datetime(2026, 11, 3, 2, 23, 40, tzinfo=UTC)

    said = ended_before(Ending.EXPIRED, at, start_again(flow, request_, "production"))

    assert said == (
        "this run ended as Expired at 2026-11-03 02:23:40 UTC and is not taken up again; nothing "
        f"was changed; start a new one: {command}"
    )


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
        (Ending.EXPIRED, "when the approvers are available: docker info"),
        (
            Ending.ROLLED_BACK,
            "fix the release and deploy a new version; the environment needs no action"
            " · docker info",
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


KEPT = (
    "what is known of the failed instances, down to their last log lines: artifact "
    "rollout-production of this run"
)


@pytest.mark.parametrize(
    ("error", "hint"),
    [
        (RolloutFailed("app-api-2 is unhealthy", "docker logs app-api-2"), KEPT),
        (TriggerFired("error rate 7.2% > 5.0%", "ignition status production"), KEPT),
        (
            VerificationFailed("health: HTTP 503", "curl -i https://api.example.com/health"),
            f"what the checks said: artifact verification-production   ·   {KEPT}",
        ),
        (Unreachable("the engine does not answer", "docker info"), f"docker info   ·   {KEPT}"),
        (ValueError("no idea"), KEPT),
    ],
)
def test_no_hint_leads_to_what_is_gone_or_healthy_again(error: Exception, hint: str) -> None:
    """The baseline serves, and the failed instances are removed, when somebody reads it."""
    assert hint_after_rollback(error, "production") == hint


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
