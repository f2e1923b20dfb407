"""What the sources' answers mean: silence and doubt are never green."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from release.gate.evidence import (
    CheckResult,
    CommandResult,
    Duty,
    EvidenceVerdict,
    Finding,
    Issue,
    Message,
    Staging,
    WayBack,
    judge_checks,
    judge_duty,
    judge_message,
    judge_migrations_in_staging,
    judge_on_call,
    judge_rollback_plan,
    judge_staging,
    judge_tests_command,
    no_answer,
    nobody_to_ask,
    say_rehearsal,
    undecided,
)
from release.migration.rehearsal.compatibility import RollbackVerdict
from release.migration.rehearsal.outcome import Rehearsal
from release.migration.rehearsal.trace import Failure
from release.model import Baseline, ImageRef, Probe, Release

AT = datetime(2026, 11, 3, 14, 2, 11, tzinfo=UTC)
IMAGE = ImageRef("registry/api", "sha256:" + "9" * 64)
BASELINE = Baseline("production", Release("v1.0.0", "a" * 40, IMAGE), (), "15", None, None, AT)


def probe(status: int, detail: str = "") -> Probe:
    return Probe(AT, status, timedelta(), detail)


@pytest.mark.parametrize(
    ("health", "version", "rate", "issues", "verdict", "value"),
    [
        (
            probe(200),
            "v1.1.0",
            0.0,
            [],
            EvidenceVerdict.PASSED,
            "healthy, serves v1.1.0, error rate 0.0%; no critical issue",
        ),
        (
            probe(200),
            "v1.1.0",
            None,
            [],
            EvidenceVerdict.UNKNOWN,
            "healthy, serves v1.1.0, error rate not measured; no critical issue",
        ),
        (
            probe(200),
            "v1.1.0",
            0.0,
            None,
            EvidenceVerdict.UNKNOWN,
            "healthy, serves v1.1.0, error rate 0.0%; issues not asked: no forge",
        ),
        (probe(200), "v1.1.0", 0.05, [], EvidenceVerdict.PASSED, "healthy, serves v1.1.0, error"),
        (
            probe(200),
            "v1.1.0",
            0.051,
            [],
            EvidenceVerdict.FAILED,
            "error rate 5.1% > 5.0%, serves v1.1.0",
        ),
        (probe(200), "", 0.0, [], EvidenceVerdict.FAILED, "healthy, but it names no version"),
        (probe(503), "v1.1.0", None, [], EvidenceVerdict.FAILED, "health check: 503"),
        (
            probe(0, "refused"),
            "",
            None,
            [],
            EvidenceVerdict.FAILED,
            "health check: no answer, refused",
        ),
        (
            probe(200),
            "v1.1.0",
            0.0,
            [Issue("7", "orders are lost"), Issue("9", "no login")],
            EvidenceVerdict.FAILED,
            "2 critical issues open: #7 orders are lost, #9 no login",
        ),
    ],
)
def test_staging_has_no_critical_issue_when_none_is_reported_and_it_serves_well(
    health: Probe,
    version: str,
    rate: float | None,
    issues: list[Issue] | None,
    verdict: EvidenceVerdict,
    value: str,
) -> None:
    shows = Staging(health, version, rate, issues)
    found = judge_staging(shows, 0.05, "staging", "https://staging/")
    assert (found.verdict, found.source, found.link) == (verdict, "staging", "https://staging/")
    assert found.value.startswith(value)


@pytest.mark.parametrize(
    ("states", "verdict", "value"),
    [
        (["success", "success"], EvidenceVerdict.PASSED, "2 checks passed"),
        (["success", "neutral", "skipped"], EvidenceVerdict.PASSED, "1 check passed"),
        (["success", "failure"], EvidenceVerdict.FAILED, "c1: failure"),
        (["pending", "timed_out"], EvidenceVerdict.FAILED, "c1: timed_out"),
        (["error"] * 5, EvidenceVerdict.FAILED, "c0: error, c1: error, c2: error and 2 more"),
        (["success", "pending"], EvidenceVerdict.UNKNOWN, "1 of 2 checks undecided: c1: pending"),
        (["success", "a new word"], EvidenceVerdict.UNKNOWN, "1 of 2 checks undecided: c1: a new"),
        ([], EvidenceVerdict.UNKNOWN, "no check ran on this commit"),
        (["skipped", "neutral"], EvidenceVerdict.UNKNOWN, "no check ran on this commit"),
    ],
)
def test_tests_pass_when_all_that_ran_ended_well_and_something_did(
    states: list[str], verdict: EvidenceVerdict, value: str
) -> None:
    checks = [CheckResult(f"c{n}", state, f"https://ci/{n}") for n, state in enumerate(states)]
    found = judge_checks(checks, "checks of 0123")
    assert (found.verdict, found.source) == (verdict, "checks of 0123")
    assert found.value.startswith(value)
    assert found.link.startswith("https://ci/") is bool(states and states[0] != "skipped")


@pytest.mark.parametrize(
    ("result", "verdict", "value"),
    [
        (CommandResult("make", 0, "ok"), EvidenceVerdict.PASSED, "exit code 0: ok"),
        (CommandResult("make", 2, ""), EvidenceVerdict.FAILED, "exit code 2"),
    ],
)
def test_a_command_says_by_its_exit_code_whether_tests_pass(
    result: CommandResult, verdict: EvidenceVerdict, value: str
) -> None:
    assert judge_tests_command(result) == Finding(verdict, value, "make")


@pytest.mark.parametrize(
    ("duty", "verdict", "value"),
    [
        (None, EvidenceVerdict.FAILED, "nobody is on call now"),
        (Duty("Grace"), EvidenceVerdict.PASSED, "Grace is on call"),
        (
            Duty("Grace", AT, "https://pager/users/1"),
            EvidenceVerdict.PASSED,
            "Grace is on call until 2026-11-03 14:02 UTC",
        ),
    ],
)
def test_somebody_has_to_be_on_call(
    duty: Duty | None, verdict: EvidenceVerdict, value: str
) -> None:
    link = duty.link if duty else ""
    assert judge_duty(duty, "schedule P1") == Finding(verdict, value, "schedule P1", link)


@pytest.mark.parametrize(
    ("message", "verdict", "value"),
    [
        (None, EvidenceVerdict.UNKNOWN, "the pager has no message from this run"),
        (
            Message(link="https://pager/1"),
            EvidenceVerdict.UNKNOWN,
            "the message of this run was delivered, but nobody has acknowledged it",
        ),
        (
            Message("Grace", AT, "https://pager/1"),
            EvidenceVerdict.PASSED,
            "Grace acknowledged the message of this run at 2026-11-03 14:02 UTC",
        ),
    ],
)
def test_on_call_is_aware_of_a_message_that_somebody_acknowledged(
    message: Message | None, verdict: EvidenceVerdict, value: str
) -> None:
    link = message.link if message else ""
    assert judge_message(message, "pager") == Finding(verdict, value, "pager", link)


DELIVERED = judge_message(Message(), "pager")
ACKNOWLEDGED = judge_message(Message("Grace"), "pager")


@pytest.mark.parametrize(
    ("message", "duty", "verdict", "value"),
    [
        (ACKNOWLEDGED, None, "passed", "Grace acknowledged the message of this run"),
        (ACKNOWLEDGED, judge_duty(None, "P1"), "passed", "Grace acknowledged the message of this"),
        (DELIVERED, judge_duty(Duty("Ada"), "P1"), "passed", "Ada is on call; the message of this"),
        (DELIVERED, judge_duty(None, "P1"), "failed", "nobody is on call now; the message of"),
        (DELIVERED, None, "unknown", "the message of this run was delivered, but nobody has ack"),
        (no_answer("away", "pager"), judge_duty(Duty("Ada"), "P1"), "passed", "Ada is on call; aw"),
        (no_answer("away", "pager"), None, "unknown", "away"),
    ],
)
def test_an_acknowledged_message_or_the_schedule_says_that_on_call_is_aware(
    message: Finding, duty: Finding | None, verdict: str, value: str
) -> None:
    found = judge_on_call(message, duty)
    assert (found.verdict, found.value.startswith(value)) == (verdict, True)


@pytest.mark.parametrize(
    ("pending", "applied", "verdict", "value"),
    [
        ({}, {"15": "aa"}, EvidenceVerdict.PASSED, "no migration is pending"),
        ({"16": "bb"}, {"15": "aa", "16": "bb"}, EvidenceVerdict.PASSED, "1 pending migration ap"),
        ({"16": "b", "17": "c"}, {"16": "b", "17": "c"}, EvidenceVerdict.PASSED, "2 pending mig"),
        ({"16": "bb"}, {"15": "aa"}, EvidenceVerdict.FAILED, "16 is not applied in staging"),
        ({"16": "bb"}, {"16": "xx"}, EvidenceVerdict.FAILED, "16 ran in staging with different"),
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
    ("baseline", "on_host", "in_registry", "contract", "verdict", "says"),
    [
        (
            BASELINE,
            True,
            True,
            [],
            EvidenceVerdict.PASSED,
            "is on the host and in the registry; no contract migration is in the way",
        ),
        (BASELINE, False, True, [], EvidenceVerdict.FAILED, "is not in the host's engine"),
        (BASELINE, True, False, [], EvidenceVerdict.FAILED, "is not in the registry"),
        (BASELINE, False, False, [], EvidenceVerdict.FAILED, "engine and not in the registry"),
        (
            BASELINE,
            True,
            True,
            ["0016_drop.sql"],
            EvidenceVerdict.PASSED,
            "0016_drop.sql runs after the watch, and v1.0.0 does without",
        ),
        (
            replace(BASELINE, release=Release("v1.0.0", "a" * 40)),
            True,
            True,
            [],
            EvidenceVerdict.FAILED,
            "without a digest",
        ),
    ],
)
def test_a_rollback_plan_needs_a_baseline_that_can_come_back(
    baseline: Baseline,
    on_host: bool,
    in_registry: bool,
    contract: list[str],
    verdict: EvidenceVerdict,
    says: str,
) -> None:
    finding = judge_rollback_plan(WayBack(baseline, on_host, in_registry, contract), "engine")
    assert finding.verdict is verdict
    assert says in finding.value


@pytest.mark.parametrize(
    ("took", "age", "says"),
    [
        (timedelta(seconds=9), timedelta(days=3, hours=2), "3 d ago on staging in 9 s"),
        (None, timedelta(minutes=90, seconds=20), "1 h 30 min ago on staging"),
        (None, timedelta(seconds=41.7), "41 s ago on staging"),
        (None, timedelta(seconds=0.2), "1 s ago on staging"),
    ],
)
def test_a_rehearsal_says_when_it_was_and_how_long_it_took(
    took: timedelta | None, age: timedelta, says: str
) -> None:
    said = say_rehearsal("staging", took, age)
    assert said == f"last rolled back {says}"
    way = WayBack(BASELINE, on_host=True, in_registry=True, rehearsal=said)
    assert said in judge_rollback_plan(way, "engine").value


def test_a_baseline_that_does_not_run_on_the_new_schema_is_no_way_back() -> None:
    schema = (RollbackVerdict.UNSAFE, "2 of 9 statements do not prepare any more")
    way = WayBack(BASELINE, on_host=True, in_registry=True, schema=schema)
    finding = judge_rollback_plan(way, "engine")
    assert finding.verdict is EvidenceVerdict.FAILED
    assert finding.value == (
        "v1.0.0 (sha256:9999999…) does not run on the new schema: 2 of 9 statements do not "
        "prepare any more"
    )


def test_migrations_that_failed_in_the_rehearsal_are_not_tested() -> None:
    """They ran in staging, whose rows or schema may differ."""
    failed = Rehearsal(("0016_a.sql",), failure=Failure("0016_a.sql", 3, "42703", "no column x"))
    finding = judge_migrations_in_staging({"0016": "c"}, {"0016": "c"}, "s", rehearsal=failed)
    assert finding.verdict is EvidenceVerdict.FAILED
    assert "the rehearsal failed: 0016_a.sql:3: " in finding.value


def test_a_rehearsal_speaks_for_the_migrations_too() -> None:
    rehearsed = Rehearsal(("0016_a.sql",), took=timedelta(seconds=4))
    finding = judge_migrations_in_staging({"0016": "c"}, {"0016": "c"}, "s", rehearsal=rehearsed)
    assert finding.verdict is EvidenceVerdict.PASSED
    assert finding.value.endswith("rehearsed 1 file in 4 s on a copy of the schema without rows")


def test_a_first_deployment_has_nothing_to_return_to_and_nobody_to_ask() -> None:
    first = replace(BASELINE, release=None)
    finding = judge_rollback_plan(WayBack(first, on_host=False, in_registry=False), "engine")
    assert (finding.verdict, finding.source) == (EvidenceVerdict.UNKNOWN, "")


def test_no_source_and_no_answer_are_both_unknown_and_never_green() -> None:
    assert nobody_to_ask("none").verdict is EvidenceVerdict.UNKNOWN
    assert no_answer("late", "x").verdict is EvidenceVerdict.UNKNOWN


def test_who_was_silent_is_asked_again_and_who_does_not_exist_is_not() -> None:
    passed, failed = (Finding(EvidenceVerdict(said), said, "x") for said in ("passed", "failed"))
    found = {"a": passed, "b": no_answer("late", "x"), "c": nobody_to_ask("none")}
    assert undecided(found) == ("b",)
    assert undecided({**found, "d": failed}) == ()
