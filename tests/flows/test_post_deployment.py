"""After the watch: items that a team adds to its list, and a release that does not stay up."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Thread
from types import SimpleNamespace
from typing import Any, cast
from uuid import uuid4

import psycopg
import pytest
from prefect import flow
from prefect.blocks.notifications import CustomWebhookNotificationBlock
from psycopg.conninfo import conninfo_to_dict
from pydantic import SecretStr
from pytest_httpserver import HTTPServer

from blocks.approvers import Approvers
from blocks.ledger.ledger import Ledger
from flows.deploy import Live, finish
from release.configuration.rules import GateRules, RolloutRules
from release.errors import Unreachable
from release.ledger import EventKind
from release.model import Baseline, Probe, Release, ReleaseKind
from release.plan import Plan
from release.request import DeployRequest
from release.runbook.conformance import conforming
from sandbox.commands import wait_until
from tests.fakes.ending import ending_of
from tests.fakes.orchestrator import FakeOrchestrator

pytestmark = [pytest.mark.usefixtures("prefect_server"), pytest.mark.gates]

ROOT = Path(__file__).resolve().parents[2]
AT = datetime(2026, 11, 3, 14, 2, 11, tzinfo=UTC)
RELEASE = Release("v1.1.0", "1" * 40)
LIVE = Live(RELEASE, (), cast(Any, SimpleNamespace(gist=())))
PLAN = Plan(
    environment="production",
    kind=ReleaseKind.TAG,
    version=RELEASE.version,
    revision=RELEASE.revision,
    ref="main",
    baseline=Baseline("production", Release("v1.0.0", "0" * 40), (), "", 0.0, timedelta(), AT),
    changes=(),
    expand=(),
    contract=(),
    outage=timedelta(),
)


@pytest.fixture
def run(dsn: str, tmp_path: Path, httpserver: HTTPServer) -> Any:
    """A run whose release has passed its watch; its runbook asks one thing more of people."""
    for name in ("team", "pager"):
        httpserver.expect_request(f"/{name}").respond_with_data("")
        hook: Any = CustomWebhookNotificationBlock(
            name=name,
            url=httpserver.url_for(f"/{name}"),
            json_data={"subject": "{{subject}}", "body": "{{body}}"},
        )
        hook.save(name, overwrite=True)
    ledger = Ledger(dsn=SecretStr(dsn), spool=tmp_path / "spool")
    ledger.install()
    approvers = Approvers(tmp_path / "approvers.json")
    approvers.add("Grace", ())
    last = "- [ ] Close deployment ticket <!-- step: close-ticket -->\n"
    text = (ROOT / "RUNBOOK.md").read_text(encoding="utf-8")
    run_id = str(uuid4())
    return SimpleNamespace(
        id=run_id,
        label=f"d-{run_id[:6]}",
        environment="production",
        runbook=conforming(text.replace(last, f"{last}- [ ] The customers were told\n")),
        rules=SimpleNamespace(
            gate=GateRules(deadline=timedelta(seconds=6), signers=1), rollout=RolloutRules()
        ),
        settings=SimpleNamespace(
            notify=SimpleNamespace(
                blocks=("custom-webhook/team",), escalation=("custom-webhook/pager",)
            )
        ),
        approvers=approvers,
        confirm_hold=lambda: None,
        may_hold=lambda: True,
        target=SimpleNamespace(
            environment="production",
            url="http://api",
            ledger=ledger,
            orchestrator=FakeOrchestrator(),
            router=None,
            service=SimpleNamespace(version=lambda: (RELEASE.version, Probe(AT, 200, timedelta()))),
        ),
    )


def test_a_gate_after_the_watch_tells_people_and_its_release_stays(
    run: Any, httpserver: HTTPServer
) -> None:
    endings: list[Any] = []  # a pause that timed out overwrites the state of its run

    @flow(name="deploy")
    def after_the_watch() -> None:
        request = DeployRequest(version="v1.1.0")
        endings.append(finish(run, request, PLAN, LIVE))

    after_the_watch(return_state=True)

    (ending,) = endings
    opened, ended = [request.json or {} for request, _ in httpserver.log]
    assert opened["subject"] == (
        f"[{run.label}] production: v1.0.0 → v1.1.0 (111111111111, tag from main, 0 commits) "
        "waits for signatures"
    )
    assert "production serves v1.1.0" in opened["body"]
    assert "open: the-customers-were-told" in opened["body"]
    assert "Failed" in ended["subject"]
    assert "still open: the-customers-were-told" in ending.message
    assert "production serves v1.1.0" in ending.message
    told = run.target.ledger.events(run_id=run.id, kinds=[EventKind.NOTIFIED])
    assert [event.payload["failed"] for event in told] == [[], []]


def after_its_watch(run: Any) -> Any:
    """What the run ends as, where nothing more is asked of people."""
    run.runbook = conforming((ROOT / "RUNBOOK.md").read_text(encoding="utf-8"))
    endings: list[Any] = []

    @flow(name="deploy")
    def after_the_watch() -> None:
        endings.append(finish(run, DeployRequest(version="v1.1.0"), PLAN, LIVE))

    after_the_watch(return_state=True)
    return endings[0]


def test_a_release_that_dies_right_after_its_watch_pages_somebody_who_is_told_what_to_type(
    run: Any, httpserver: HTTPServer
) -> None:
    """The deployment's watch is over, the scheduled one has not begun."""
    refused = Probe(AT, 0, timedelta(), "connection refused")
    run.target.service = SimpleNamespace(version=lambda: ("", refused))

    ending = after_its_watch(run)

    assert ending_of(ending) == "Deployed"
    serves = "production serves no version that can be seen from here (connection refused"
    assert serves in ending.message
    assert "ignition p0 production" in ending.message
    told = {request.path: request.json or {} for request, _ in httpserver.log}
    assert told.keys() == {"/team", "/pager"}
    assert "ignition p0 production" in told["/pager"]["body"]


def test_an_engine_that_is_away_after_the_watch_is_waited_for_and_the_release_stays(
    run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """v1.1.0 serves afterwards, as a deployment that is done."""
    tries: list[object] = []

    def remove(self: FakeOrchestrator, ids: object) -> None:
        tries.append(ids)
        if len(tries) < 3:
            raise Unreachable("container engine does not answer", "docker info")

    monkeypatch.setattr(FakeOrchestrator, "remove", remove)

    assert ending_of(after_its_watch(run)) == "Deployed"
    assert len(tries) == 3


def test_an_ending_that_the_ledger_could_not_take_is_there_before_the_run_is_over(
    run: Any, dsn: str, postgres: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """v1.1.0 serves afterwards, which is the run's last line, and the environment is free."""
    ledger, name = run.target.ledger, conninfo_to_dict(dsn)["dbname"]
    ledger.acquire("production", run.id, "Ada", "")

    def come_back() -> None:
        wait_until(
            lambda: any(
                "lock_released" in kept.read_text()
                for kept in (tmp_path / "spool").rglob("*")
                if kept.is_file()
            ),
            what="the release of the lock in the spool",
            seconds=60,
            hint="",
        )
        with psycopg.connect(postgres, autocommit=True) as connection:
            connection.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true".encode())

    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false".encode())
    returning = Thread(target=come_back)
    returning.start()
    ending = after_its_watch(run)
    returning.join()

    assert ending_of(ending) == "Deployed"
    assert ledger.holder("production") is None
    (ended,) = ledger.events(run_id=run.id, kinds=[EventKind.DEPLOYMENT_ENDED])
    assert ended.payload["ending"] == "Deployed"
    said = [record.getMessage() for record in caplog.records if run.label in record.getMessage()]
    assert "production serves v1.1.0" in said[-1]
