"""A gate that waits too long, and one that is over: who is told of it, by a real server."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from prefect.blocks.notifications import CustomWebhookNotificationBlock
from pydantic import SecretStr
from pytest_httpserver import HTTPServer

import flows.deadline
from blocks.ledger.ledger import Ledger
from release.ledger import EventKind
from release.model import Probe, Step
from tests.fakes.ending import ending_of

pytestmark = [pytest.mark.usefixtures("prefect_server"), pytest.mark.gates]

ENVIRONMENT = "production"


@pytest.fixture
def ledger(dsn: str, tmp_path: Path) -> Ledger:
    made = Ledger(dsn=SecretStr(dsn), spool=tmp_path / "spool")
    made.install()
    return made


@pytest.fixture
def waiting(ledger: Ledger) -> str:
    """A run whose gate is open."""
    run_id = str(uuid4())
    ledger.acquire(ENVIRONMENT, run_id, "Ada", "")
    payload = {
        "items": ["tests", "pager"],
        "until": "2026-11-03T22:02:00+00:00",
        "about": "**production**: v1.0.0 → **v1.1.0**",
    }
    ledger.record(ENVIRONMENT, run_id, EventKind.GATE_OPENED, step=Step.CHECKLIST, payload=payload)
    return run_id


@pytest.fixture
def remind(
    ledger: Ledger, httpserver: HTTPServer, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str, str], Any]:
    """Runs the flow as an automation would; two people's hooks are configured."""
    for name in ("team", "pager"):
        httpserver.expect_request(f"/{name}").respond_with_data("")
        block: Any = CustomWebhookNotificationBlock(
            name=name,
            url=httpserver.url_for(f"/{name}"),
            json_data={"subject": "{{subject}}", "body": "{{body}}"},
        )
        block.save(name, overwrite=True)
    notify = SimpleNamespace(blocks=("custom-webhook/team",), escalation=("custom-webhook/pager",))
    run = SimpleNamespace(
        label="d-1874ab",
        target=SimpleNamespace(
            environment=ENVIRONMENT,
            ledger=ledger,
            url="http://production.example.com",
            service=SimpleNamespace(
                version=lambda: ("v1.0.0", Probe(datetime.now(UTC), 200, timedelta()))
            ),
        ),
        settings=SimpleNamespace(notify=notify),
    )
    monkeypatch.setattr(flows.deadline, "begin", lambda environment: run)

    def start(run_id: str, kind: Any) -> Any:
        return flows.deadline.deadline(run_id, kind, ENVIRONMENT, return_state=True)

    return start


def heard(httpserver: HTTPServer) -> dict[str, str]:
    """Who was told what."""
    return {request.path: (request.json or {})["subject"] for request, _ in httpserver.log}


def bodies(httpserver: HTTPServer) -> list[str]:
    return [(request.json or {})["body"] for request, _ in httpserver.log]


@pytest.mark.parametrize(
    ("kind", "passed", "told"),
    [("reminder", "half", ["/team"]), ("escalation", "three quarters", ["/pager", "/team"])],
)
def test_a_gate_that_still_waits_is_told_to_more_people_the_longer_it_does(
    remind: Any, httpserver: HTTPServer, waiting: str, kind: str, passed: str, told: list[str]
) -> None:
    ended = remind(f"ignition.gate.{waiting}", kind)

    assert ending_of(ended) == "Reminded"
    assert sorted(heard(httpserver)) == told
    assert set(heard(httpserver).values()) == {
        f"[d-{waiting[:6]}] production: v1.0.0 → v1.1.0 still waits for signatures: {passed} of "
        "the time has passed"
    }
    assert all("production serves v1.0.0" in body for body in bodies(httpserver))


@pytest.mark.parametrize("over", [EventKind.GATE_CLOSED, EventKind.DEPLOYMENT_ENDED])
def test_a_gate_that_is_over_reminds_nobody(
    remind: Any, httpserver: HTTPServer, ledger: Ledger, waiting: str, over: EventKind
) -> None:
    ledger.record(ENVIRONMENT, waiting, over, step=Step.CHECKLIST)

    assert ending_of(remind(waiting, "escalation")) == "NothingToDo"
    assert heard(httpserver) == {}


def test_an_automation_that_names_no_run_is_refused(remind: Any, httpserver: HTTPServer) -> None:
    assert ending_of(remind("{{ labels }}", "reminder")) == "Refused"
    assert heard(httpserver) == {}
