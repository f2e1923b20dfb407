"""`ignition status`: what serves, since when, by whom, the way back; with Prefect or without."""

import socket
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings
from pydantic import SecretStr

import cli.examine
from blocks.ledger.ledger import Ledger
from cli.runs import RunView, unavailable
from release.configuration.layout import ServiceLayout
from release.errors import BadRequest, DeployError, Unreachable
from release.ledger import EventKind
from release.model import Probe, Step
from tests.fakes.environment import HOUR, Environment

AWAY = Unreachable("the Prefect server at http://prefect/api does not answer", "make it answer")
NO_LEDGER = "postgresql://ledger:secret@127.0.0.1:9/ledger"


@pytest.fixture
def production(dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Environment:
    """v1.1.0 serves since an hour ago; v1.0.0 served before."""
    ledger = Ledger(dsn=SecretStr(dsn), spool=tmp_path / "spool")
    ledger.install()
    made = Environment(ledger)
    made.replace_baseline(ago=HOUR)
    made.database = SimpleNamespace(schema_version=lambda: "0002", applied=lambda: ())
    monkeypatch.setattr(cli.examine, "build_target", lambda settings, name: made)
    return made


Status = Callable[..., Any]


@pytest.fixture
def status(production: Environment, monkeypatch: pytest.MonkeyPatch) -> Status:
    """What the command shows, where Prefect answers that ``ended`` runs are over, or is away."""

    def look(
        away: DeployError | None = AWAY,
        ended: tuple[str, ...] = (),
        waiting: tuple[RunView, ...] = (),
    ) -> Any:
        def ask() -> list[RunView]:
            assert away is None, "Prefect was asked although it does not answer"
            return list(waiting)

        monkeypatch.setattr(cli.examine, "unavailable", lambda: away)
        monkeypatch.setattr(cli.examine, "has_ended", lambda run_id: run_id in ended)
        monkeypatch.setattr(cli.examine, "waiting", ask)
        monkeypatch.setattr(cli.examine, "schedule_lines", lambda name: ask() and [])
        settings: Any = SimpleNamespace(
            environments={"production": None},
            environment=lambda name: None,
            service=ServiceLayout(name="ignition-api"),
        )
        return cli.examine.look(settings, "production")

    return look


def held(production: Environment, *steps: Step, reason: str = "") -> str:
    run_id = str(uuid4())
    production.ledger.acquire("production", run_id, "Grace", reason)
    for step in steps:
        production.ledger.record("production", run_id, EventKind.STEP_BEGUN, step=step)
    return run_id


def waits(production: Environment) -> str:
    """A run at a gate, of which one item is signed."""
    run_id = held(production, Step.PLAN, Step.CHECKLIST, reason="deploy v1.2.0")
    production.ledger.record(
        "production",
        run_id,
        EventKind.GATE_OPENED,
        step=Step.CHECKLIST,
        payload={
            "items": ["tests", "pager"],
            "more": {"tests": 1, "pager": 1},
            "until": "2099-11-03T22:02:00+00:00",
        },
    )
    signed = {"item": "tests", "approver": "Ada"}
    kind = EventKind.ITEM_SIGNED
    production.ledger.record("production", run_id, kind, step=Step.CHECKLIST, payload=signed)
    return run_id


def since(production: Environment) -> str:
    row = production.ledger.served("production")[0]
    return f"since {row.date:%Y-%m-%d %H:%M} UTC, by Ada (d-{row.run_id[:6]})"


@pytest.mark.parametrize("away", [None, AWAY])
def test_what_serves_since_when_by_whom_and_the_way_back_need_no_prefect(
    production: Environment, status: Status, away: DeployError | None
) -> None:
    image = production.images["v1.1.0"]
    names = list(production.containers())

    view = status(away)

    assert view.lines()[:4] == [
        f"production serves v1.1.0, {since(production)}",
        f"  http://production.example.com  1 instance  {image}  schema 0002",
        "  a rollback goes back to v1.0.0: ignition rollback production --reason …",
        "  free",
    ]
    (found,) = view.as_json()["environments"]
    assert (found["serves"], found["by"], found["back_to"]) == ("v1.1.0", "Ada", "v1.0.0")
    assert found["instances"] == tuple(names)
    assert found["since_at"].startswith("20")


def test_an_address_with_a_login_is_shown_without_it(
    production: Environment, status: Status, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where it names no version, which the report and every message repeat."""
    production.url = "http://ada:s3cret@production.example.com"
    nothing = (None, Probe(datetime.now(UTC), 503, timedelta()))
    monkeypatch.setattr(production.service, "version", lambda: nothing, raising=False)

    view = status()

    assert view.lines()[0].startswith(
        "production serves no version (HTTP 503 at http://production.example.com)"
    )
    assert "s3cret" not in f"{view.lines()} {view.as_json()}"


def test_without_prefect_one_line_says_so_and_what_to_type(status: Status) -> None:
    view = status()

    assert view.lines()[4:] == [
        "the Prefect server at http://prefect/api does not answer; which runs wait is read from "
        "the ledger, nothing can be signed, and when schedules come next is not known",
        "hint: make it answer",
    ]
    assert view.as_json()["prefect"] == {
        "ok": False,
        "problem": "the Prefect server at http://prefect/api does not answer",
        "hint": "make it answer",
    }


def test_with_prefect_it_is_prefect_that_says_which_runs_wait(status: Status) -> None:
    run = RunView("1874ab", "d-1874ab", "deploy v1.2.0", "Suspended", "PAUSED", "", "", "", "noon")

    assert status(None, waiting=(run,)).lines()[4:] == [
        "waiting: d-1874ab deploy v1.2.0 until noon: ignition approve d-1874ab --as NAME"
    ]
    assert status(None).lines()[4:] == ["no run waits for a signature"]
    assert status(None).as_json()["prefect"]["ok"]


def test_without_prefect_the_ledger_says_which_run_waits_and_for_what(
    production: Environment, status: Status
) -> None:
    run = waits(production)

    view = status()

    holder, hint, waiting = view.lines()[3:6]
    assert holder.startswith(f"  held by Grace, run d-{run[:6]}, since ")
    assert holder.endswith(
        " (deploy v1.2.0): it waits for signatures until 2099-11-03 22:02 UTC; not signed: pager"
    )
    assert hint.startswith(f"  hint: ignition approve d-{run[:6]} --as NAME")
    assert waiting.startswith(f"waiting: d-{run[:6]} Grace's run to production, since ")
    assert waiting.endswith("until 2099-11-03 22:02 UTC; open: pager")
    (found,) = view.as_json()["environments"]
    assert found["gate"]["items"] == ("pager",)
    assert found["gate"]["signed"] == ("tests by Ada",)
    assert found["serves"] == "v1.1.0"


def test_a_holder_that_is_over_by_prefect_is_not_said_to_wait(
    production: Environment, status: Status
) -> None:
    """It was cancelled at its gate, and no worker runs that would give the environment back."""
    run = waits(production)

    holder, hint = status(None, ended=(run,)).lines()[3:5]

    assert holder.endswith("it is over, but has not given production back")
    assert "ignition unlock production --as NAME --reason …" in hint


def test_an_environment_that_a_failed_rollback_left_locked_says_what_to_type(
    production: Environment, status: Status
) -> None:
    run = held(production, Step.PLAN, Step.DEPLOY)
    ending = {"ending": "RollbackFailed", "version": "v1.2.0"}
    production.ledger.record("production", run, EventKind.DEPLOYMENT_ENDED, payload=ending)

    lines = status().lines()

    assert "it ended as RollbackFailed at " in lines[3]
    assert "ignition unlock production" in lines[4]
    assert "ignition rollback production --to VERSION" in lines[4]
    assert "; then v1.2.0: RollbackFailed at " in lines[0]


def test_a_deployment_that_users_meet_goes_back_to_what_it_replaced(
    production: Environment, status: Status
) -> None:
    run = held(production, Step.PLAN, Step.DEPLOY)
    plan = {"baseline": str(production.images["v1.0.0"]), "to": "v1.0.0"}
    production.ledger.record("production", run, EventKind.PLAN_MADE, payload=plan)

    lines = status().lines()

    assert lines[2] == "  a rollback goes back to v1.0.0: ignition p0 production --reason …"
    assert lines[3].endswith(": it is in '4. Deploy to Production'")


def test_without_the_ledger_too_it_is_said_what_the_environment_itself_shows(
    production: Environment, status: Status, tmp_path: Path
) -> None:
    production.ledger = Ledger(dsn=SecretStr(NO_LEDGER), spool=tmp_path / "other")
    production.orchestrator.pull(production.images["v1.0.0"])

    view = status()

    assert view.lines()[0] == "production serves v1.1.0"
    assert view.lines()[1].endswith(f"1 instance  {production.images['v1.1.0']}  schema 0002")
    assert view.lines()[2] == (
        "  which release served before is not known; the host has v1.0.0: "
        "ignition p0 production --to v1.0.0 --reason …"
    )
    assert view.lines()[3] == "  who holds it is not known"
    assert "127.0.0.1:9" in view.lines()[4]
    assert "secret" not in str(view.as_json())


def test_a_release_without_a_version_is_typed_as_its_whole_digest(
    production: Environment, status: Status, tmp_path: Path
) -> None:
    """`ignition p0 --to` takes no half of one."""
    production.ledger = Ledger(dsn=SecretStr(NO_LEDGER), spool=tmp_path / "other")
    image = production.images["v1.0.0"]
    _, behaviour = production.orchestrator.host.registry[image]
    production.orchestrator.host.registry[image] = ("", behaviour)
    production.orchestrator.pull(image)

    assert status().lines()[2] == (
        f"  which release served before is not known; the host has {image.short}: "
        f"ignition p0 production --to {image} --reason …"
    )


def test_an_engine_that_is_away_hides_neither_the_address_nor_the_holder(
    production: Environment, status: Status
) -> None:
    production.orchestrator.host.answers = False
    answer = ("v1.1.0", Probe(datetime.now(UTC), 200, timedelta()))
    production.service = SimpleNamespace(version=lambda: answer)  # type: ignore[assignment]
    run = held(production, Step.PLAN)

    lines = status().lines()

    assert lines[0] == f"production serves v1.1.0, {since(production)}"
    assert any(f"held by Grace, run d-{run[:6]}" in line for line in lines)
    assert "the container engine does not answer" in lines[-3]


# ---- unlock


def unlock(production: Environment) -> str:
    settings: Any = SimpleNamespace(environments={"production": None}, environment=lambda n: None)
    return cli.examine.unlock(settings, "production", "Ada", "it serves v1.1.0")


def test_a_lock_that_a_failed_rollback_left_is_broken_without_prefect(
    production: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = held(production, Step.PLAN)
    ending = {"ending": "RollbackFailed"}
    production.ledger.record("production", run, EventKind.DEPLOYMENT_ENDED, payload=ending)
    monkeypatch.setattr(cli.examine, "read", lambda run_id: pytest.fail("Prefect was asked"))

    said = unlock(production)

    assert said == f"production is free; it was held by d-{run[:6]} (RollbackFailed)"
    assert production.held_by() == ""
    assert production.serves == "v1.1.0"


def test_a_lock_of_a_run_that_has_not_ended_stays(
    production: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = held(production, Step.PLAN)
    goes_on = RunView(run, f"d-{run[:6]}", "deploy", "Running", "RUNNING", "", "", "")
    monkeypatch.setattr(cli.examine, "read", lambda run_id: goes_on)

    with pytest.raises(BadRequest, match=f"d-{run[:6]} holds production and is Running"):
        unlock(production)

    assert production.held_by() == run


# ---- whether Prefect answers


def test_a_server_that_hangs_is_not_tried_again_for_minutes() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # it takes connections, and says nothing
        address = f"http://127.0.0.1:{silent.getsockname()[1]}/api"
        with temporary_settings({PREFECT_API_URL: address}):
            away = unavailable(within=timedelta(milliseconds=500))

    assert away is not None
    assert away.what == f"the Prefect server at {address} has not answered within 500 ms"


def test_a_server_that_is_down_is_named() -> None:
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}):
        away = unavailable()

    assert away is not None
    assert away.what.startswith("the Prefect server at http://127.0.0.1:9/api does not answer")


def test_a_server_that_answers_is_there(prefect_server: None) -> None:
    assert unavailable() is None
