"""Evidence is asked side by side, and silence is never green."""

import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
from prefect import flow
from pydantic import SecretStr
from pytest_httpserver import HTTPServer

from blocks.auth import AuthFlow
from blocks.github.forge import GithubForge
from blocks.metrics import Metrics
from blocks.on_call import OnCall
from blocks.pagerduty.on_call import PagerDuty
from release.configuration.rules import GateRules
from release.errors import Unreachable
from release.gate.checklist import Item
from release.gate.evidence import (
    CheckResult,
    EvidenceSource,
    EvidenceVerdict,
    Finding,
    Issue,
    no_answer,
)
from release.ledger import Event, EventKind, LogRow
from release.migration.files import AppliedMigration, MigrationFile
from release.migration.header import Header, Phase
from release.migration.rehearsal.compatibility import RollbackVerdict
from release.model import Baseline, ImageRef, Probe, Release
from release.watch.probing import Asked
from tasks.evidence import (
    SOURCES,
    ask_until_decided,
    collect_evidence,
    findings_of,
    questions_about,
)
from tasks.say import speaking

AT = datetime(2026, 11, 3, 14, 2, 11, tzinfo=UTC)
IMAGE = ImageRef("registry/api", "sha256:" + "9" * 64)
PASSED = Finding(EvidenceVerdict.PASSED, "fine", "a source")
ADD = MigrationFile("0016", "add", "select 1", "c16")
RUN = "d-1874ab"
DROP = MigrationFile("0017", "drop", "select 2", "c17", Header(phase=Phase.CONTRACT))


def plan(*files: MigrationFile) -> Any:
    baseline = Baseline("production", Release("v1.0.0", "a" * 40, IMAGE), (), "", None, None, AT)
    return SimpleNamespace(
        baseline=baseline,
        expand=tuple(file for file in files if file.phase is Phase.EXPAND),
        contract=tuple(file for file in files if file.phase is Phase.CONTRACT),
        revision="a" * 40,
        rehearsal=None,
        rollback=(RollbackVerdict.UNKNOWN, "not rehearsed"),
    )


class Ledger:
    """A rollback in staging that took 9 s."""

    def log(self, environment: str, limit: int) -> list[LogRow]:
        rolled = LogRow(AT, "v1.1.0", "Ada", "", "staging", "RolledBack", "run-1")
        good = LogRow(AT, "v1.0.0", "Ada", "", "staging", "Deployed", "run-0")
        return [rolled, good] if environment == "staging" else []

    def events(self, **wanted: Any) -> list[Event]:
        began = AT - timedelta(seconds=9)
        return [Event(1, began, "staging", "run-1", EventKind.ROLLBACK_STARTED)]


def production(*images: ImageRef, forge: Any = None, on_call: Any = None) -> Any:
    return SimpleNamespace(
        environment="production",
        orchestrator=SimpleNamespace(has_image=lambda image: image in images),
        registry=SimpleNamespace(holds=lambda image: True),
        ledger=Ledger(),
        forge=forge or GithubForge(),
        on_call=on_call or PagerDuty(),
    )


def staging(status: int = 200, *applied: AppliedMigration) -> Any:
    probe = Probe(AT, status, timedelta())
    return SimpleNamespace(
        environment="staging",
        url="staging.example.com",
        service=SimpleNamespace(
            health=lambda: probe,
            version=lambda: ("v1.1.0", probe),
            probe=lambda wanted, *_, **how: tuple(Asked(each, probe) for each in wanted),
            auth=AuthFlow(),
            health_path="/health",
            version_path="/api/",
            auth_flow=lambda: None,
            auth_requests=0,
            request_timeout_s=1.0,
        ),
        router=None,
        orchestrator=SimpleNamespace(instances=tuple),
        metrics=Metrics(),
        database=SimpleNamespace(applied=lambda: applied),
    )


def ask(source: EvidenceSource, *, staging: Any = None, plan: Any = None) -> Finding:
    return SOURCES[source](production(IMAGE), staging, plan)


def test_every_source_that_the_runbook_may_name_can_be_asked() -> None:
    assert set(SOURCES) == set(EvidenceSource)


@pytest.mark.parametrize(
    "source",
    [
        EvidenceSource.TESTS,
        EvidenceSource.ON_CALL,
        EvidenceSource.STAGING_HEALTH,
        EvidenceSource.MIGRATIONS_IN_STAGING,
    ],
)
def test_a_source_that_is_not_there_is_unknown_and_asks_nobody(source: EvidenceSource) -> None:
    finding = ask(source, staging=None)
    assert (finding.verdict, finding.source) == (EvidenceVerdict.UNKNOWN, "")
    assert "configured" in finding.value


NOW = timedelta()
SILENT = no_answer("no answer within 6 s", "no answer")
BAD = Finding(EvidenceVerdict.FAILED, "unit: failure", "checks")


def rounds(answers: dict[str, list[Finding]], patience: timedelta) -> list[list[str]]:
    """Who is asked in each round, where the sources give these answers one after the other."""
    asked: list[list[str]] = []

    def ask(questions: Mapping[str, Callable[[], Finding]]) -> dict[str, Finding]:
        asked.append(list(questions))
        return {name: question() for name, question in questions.items()}

    left = {name: iter(said) for name, said in answers.items()}
    questions = {name: partial(next, said) for name, said in left.items()}
    ask_until_decided(questions, ask, patience, NOW)
    return asked


def test_only_a_source_that_was_silent_is_asked_again_until_it_has_decided() -> None:
    answers = {"staging": [PASSED], "tests": [SILENT, SILENT, PASSED]}
    assert rounds(answers, timedelta(minutes=1)) == [["staging", "tests"], ["tests"], ["tests"]]


def test_where_a_person_decides_everything_is_asked_once() -> None:
    assert rounds({"tests": [SILENT, PASSED]}, NOW) == [["tests"]]


def test_what_has_failed_decides_however_silent_the_others_are() -> None:
    answers = {"staging": [SILENT, PASSED], "tests": [BAD]}
    assert rounds(answers, timedelta(minutes=1)) == [["staging", "tests"]]


def test_a_source_that_stays_silent_is_asked_until_the_patience_is_over() -> None:
    patience, pause = timedelta(seconds=0.2), timedelta(seconds=0.05)
    asked: list[list[str]] = []

    def ask(questions: Mapping[str, Callable[[], Finding]]) -> dict[str, Finding]:
        asked.append(list(questions))
        return {"tests": SILENT}

    ask_until_decided({"tests": lambda: SILENT}, ask, patience, pause)
    assert 1 < len(asked) <= 5


@pytest.mark.parametrize(("status", "verdict"), [(200, "unknown"), (503, "failed"), (0, "failed")])
def test_stagings_health_is_asked_at_its_public_address(status: int, verdict: str) -> None:
    finding = ask(EvidenceSource.STAGING_HEALTH, staging=staging(status))
    assert (finding.verdict, finding.source) == (verdict, "staging")
    assert finding.link == "staging.example.com"


@pytest.mark.parametrize(
    ("applied", "verdict"),
    [
        ([AppliedMigration("0016", checksum="c16")], "passed"),
        ([AppliedMigration("0016", checksum="c16", status="running")], "failed"),
        ([AppliedMigration("0016", checksum="other")], "failed"),
        ([], "failed"),
    ],
)
def test_a_pending_migration_has_to_be_applied_in_staging(
    applied: list[AppliedMigration], verdict: str
) -> None:
    finding = ask(
        EvidenceSource.MIGRATIONS_IN_STAGING, staging=staging(200, *applied), plan=plan(ADD)
    )
    assert finding.verdict == verdict


def test_the_way_back_needs_the_baselines_image_and_names_what_will_end_it() -> None:
    source = SOURCES[EvidenceSource.ROLLBACK_PLAN]
    assert source(production(IMAGE), None, plan(ADD)).verdict == "passed"
    assert source(production(), None, plan(ADD)).verdict == "failed"
    assert "0017_drop.sql" in source(production(IMAGE), None, plan(DROP)).value


def test_the_way_back_says_when_it_was_last_gone() -> None:
    found = SOURCES[EvidenceSource.ROLLBACK_PLAN](production(IMAGE), staging(), plan(ADD))
    assert "on staging in 9 s" in found.value
    assert found.link.endswith("/v2/runs/flow-run/run-1")


def test_the_forge_is_asked_about_the_commit_that_is_deployed() -> None:
    asked: list[str] = []

    def checks(revision: str) -> tuple[CheckResult, ...]:
        asked.append(revision)
        return (CheckResult("unit", "success"),)

    forge = SimpleNamespace(configured=True, tests_command=(), checks=checks)
    found = SOURCES[EvidenceSource.TESTS](production(forge=forge), None, plan())

    assert (found.verdict, asked) == ("passed", ["a" * 40])


def test_a_command_is_asked_instead_of_the_forge() -> None:
    command = ("sh", "-c", "echo $0; exit 3", "{revision}")
    forge = GithubForge(url="https://forge", tests_command=command)
    found = SOURCES[EvidenceSource.TESTS](production(forge=forge), None, plan())

    assert (found.verdict, found.value) == ("failed", f"exit code 3: {'a' * 40}")


def test_staging_passes_when_it_is_healthy_and_the_forge_has_no_critical_issue() -> None:
    forge = SimpleNamespace(configured=True, critical_issues=lambda: ())
    found = SOURCES[EvidenceSource.STAGING_HEALTH](production(forge=forge), staging(), plan())

    assert found.verdict == "passed"
    assert found.value == "healthy, serves v1.1.0, error rate 0.0%; no critical issue"


def test_a_critical_issue_fails_staging_however_healthy_it_is() -> None:
    forge = SimpleNamespace(configured=True, critical_issues=lambda: (Issue("7", "lost"),))
    found = SOURCES[EvidenceSource.STAGING_HEALTH](production(forge=forge), staging(), plan())

    assert (found.verdict, found.value) == ("failed", "1 critical issue open: #7 lost")


@pytest.fixture
def pager(httpserver: HTTPServer) -> Callable[..., OnCall]:
    """Makes a pager that has a message of this run, after one of another; who acknowledged it."""

    def make(schedule: str = "", *, by: str = "", **on_call: Any) -> OnCall:
        told = {"acknowledger": {"summary": by}, "at": "2026-11-03T14:02:00Z"}
        state = {"status": "acknowledged", "acknowledgements": [told]} if by else {}
        incidents = [
            {"title": "[d-000000] production waits", "status": "triggered"},
            {"title": f"[{RUN}] production waits", "status": "triggered", **state},
        ]
        httpserver.expect_request("/incidents").respond_with_json({"incidents": incidents})
        httpserver.expect_request("/oncalls").respond_with_json({"oncalls": [on_call]})
        return PagerDuty(url=httpserver.url_for("/"), schedule=schedule, token=SecretStr("t"))

    return make


@pytest.mark.parametrize(
    ("schedule", "by", "verdict", "value"),
    [
        (
            "",
            "",
            "unknown",
            "the message of this run was delivered, but nobody has acknowledged it",
        ),
        ("", "Grace", "passed", "Grace acknowledged the message of this run at 2026-11-03 14:02"),
        (
            "P1",
            "",
            "passed",
            "Ada is on call; the message of this run was delivered, but nobody has",
        ),
        ("P1", "Grace", "passed", "Grace acknowledged the message of this run"),
    ],
)
def test_on_call_is_aware_by_an_acknowledged_message_or_by_the_schedule(
    pager: Callable[..., OnCall], schedule: str, by: str, verdict: str, value: str
) -> None:
    on_call = pager(schedule, by=by, user={"name": "Ada"})
    with speaking(run=RUN):
        found = SOURCES[EvidenceSource.ON_CALL](production(on_call=on_call), None, plan())

    assert (found.verdict, found.value[: len(value)]) == (verdict, value)


def test_a_pager_without_incidents_leaves_the_schedule_to_speak(httpserver: HTTPServer) -> None:
    """A key that may read schedules alone."""
    httpserver.expect_request("/oncalls").respond_with_json({"oncalls": [{"user": {"name": "A"}}]})
    on_call = PagerDuty(url=httpserver.url_for("/"), schedule="P1", token=SecretStr("t"))
    with speaking(run=RUN):
        found = SOURCES[EvidenceSource.ON_CALL](production(on_call=on_call), None, plan())

    assert (found.verdict, found.source) == ("passed", "schedule P1")


def test_answers_keep_the_order_of_the_questions() -> None:
    def late() -> Finding:
        time.sleep(0.05)
        return PASSED

    assert list(findings_of({"a": late, "b": lambda: PASSED}, timedelta(seconds=5))) == [
        "a",
        "b",
    ]


def test_a_source_that_does_not_answer_in_time_is_unknown_and_delays_no_other() -> None:
    def hangs() -> Finding:
        time.sleep(5)
        return PASSED

    began = time.monotonic()
    found = findings_of({"a": hangs, "b": lambda: PASSED}, timedelta(milliseconds=200))

    assert time.monotonic() - began < 2
    assert found == {"a": no_answer("no answer within 200 ms", "no answer"), "b": PASSED}


def test_a_source_that_breaks_is_unknown_and_never_quotes_a_secret() -> None:
    def refuses() -> Finding:
        raise Unreachable("the database of staging refuses connections")

    def breaks() -> Finding:
        raise ValueError("postgresql://user:hunter2@db")

    found = findings_of({"a": refuses, "b": breaks}, timedelta(seconds=5))

    assert found["a"].value == "the database of staging refuses connections"
    assert found["b"].value == "the source broke: ValueError"
    assert {finding.verdict for finding in found.values()} == {EvidenceVerdict.UNKNOWN}


def test_each_item_with_a_source_is_asked_about_once_in_a_round(prefect_server: None) -> None:
    items = (
        Item("way-back", "There is a way back", "Pre", EvidenceSource.ROLLBACK_PLAN),
        Item("coffee", "Coffee is ready", "Pre"),
    )
    asked = questions_about(items, plan(), production(IMAGE), staging())
    rules = GateRules(evidence_valid_for=timedelta(minutes=3))

    @flow
    def two_looks_at_one_round() -> Any:
        return [collect_evidence(asked, rules, key="round-1") for _ in range(2)]

    (first,), (again,) = two_looks_at_one_round()

    assert (first.item, first.verdict) == ("way-back", EvidenceVerdict.PASSED)
    assert first.expires_at - first.at == timedelta(minutes=3)
    assert again == first


@pytest.mark.parametrize(
    ("approval", "patience"), [("human", timedelta()), ("evidence", timedelta(seconds=7))]
)
def test_a_silent_source_is_waited_for_only_where_no_person_decides(
    approval: Any, patience: timedelta
) -> None:
    rules = GateRules(approval=approval, evidence_patience=timedelta(seconds=7))
    assert rules.patience == patience
