"""What a run shows once it has ended, and that it stays ended when somebody retries it."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import LogFilter, LogFilterFlowRunId
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.client.schemas.sorting import LogSort
from prefect.flow_engine import run_flow
from prefect.logging.handlers import APILogHandler

import flows.deploy
import flows.run
from flows import outcome
from release.ledger import EventKind
from release.model import Release
from release.outcome import Conclusion, Ending
from release.request import DeployRequest
from tests.fakes.environment import Environment, run_on

REQUEST = {"version": "v1.1.0", "started_by": "Ada"}
Retry = Callable[[str], FlowRun]


@pytest.fixture
def begun(production: Environment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The runs of ``deploy`` that got beyond their beginning; each is Deployed at once."""
    usual = run_on(production, "")
    settings = SimpleNamespace(
        **vars(usual.settings),
        environments={"production": usual.rules},
        environment=lambda name: usual.rules,
        located=lambda path: tmp_path / path,
        approvers_file=tmp_path / "approvers.json",
        approvers=SimpleNamespace(enrolled={}),
    )
    monkeypatch.setattr(flows.run, "load_settings", lambda: settings)
    monkeypatch.setattr(flows.run, "load_target", lambda environment: production)
    monkeypatch.setattr(flows.run, "_read_runbook", lambda settings: SimpleNamespace())
    seen: list[str] = []

    def carry_out(run: Any, request: DeployRequest) -> State[Any]:
        seen.append(run.id)
        production.ledger.acquire("production", run.id, "Ada", "v1.1.0")
        release = Release("v1.1.0", revision="a" * 40)
        found = Conclusion(Ending.DEPLOYED, "v1.1.0 replaced v1.0.0", release)
        return outcome.close(run, found, deployer="Ada")

    monkeypatch.setattr(flows.deploy, "carry_out", carry_out)
    return seen


def new_run(**request: Any) -> str:
    """A run of ``deploy`` that waits to be begun."""
    parameters = {"request": REQUEST | request, "environment": "production"}
    with get_client(sync_client=True) as client:
        return str(client.create_flow_run(flows.deploy.deploy, parameters=parameters).id)


def carry_on(run: str) -> None:
    """Do what the worker does with a run that is due."""
    with get_client(sync_client=True) as client:
        found = client.read_flow_run(UUID(run))
    run_flow(flows.deploy.deploy, found, found.parameters, return_type="state")


def read(run: str) -> FlowRun:
    with get_client(sync_client=True) as client:
        return client.read_flow_run(UUID(run))


def log_of(run: str) -> list[str]:
    """A run's log, as its page shows it."""
    APILogHandler().flush()
    with get_client(sync_client=True) as client:
        lines = client.read_logs(
            LogFilter(flow_run_id=LogFilterFlowRunId(any_=[UUID(run)])), sort=LogSort.TIMESTAMP_ASC
        )
    return [line.message for line in lines]


@pytest.fixture
def retry() -> Retry:
    """Does what the UI's Retry does, and lets the run begin again."""

    def again(run: str) -> FlowRun:
        with get_client(sync_client=True) as client:
            due: State[Any] = State(type=StateType.SCHEDULED, name="AwaitingRetry")
            client.set_flow_run_state(UUID(run), due, force=True)
        carry_on(run)
        return read(run)

    return again


def said(run: FlowRun) -> tuple[str, str, str]:
    assert run.state
    return run.state.type.value, run.state.name or "", run.state.message or ""


def test_a_run_that_ended_is_found_by_prefects_names_and_read_in_ours(
    begun: list[str], production: Environment
) -> None:
    run = new_run()
    carry_on(run)

    ended = read(run)
    assert ended.name == "v1.1.0 → production · Deployed"
    assert set(ended.tags) >= {"env:production", "version:v1.1.0", "ending:Deployed"}
    message = "Deployed: v1.1.0 replaced v1.0.0; production serves v1.0.0"
    assert said(ended)[:2] == ("COMPLETED", "Completed")
    assert said(ended)[2].startswith(message)


def test_the_last_line_of_a_runs_log_is_ours(begun: list[str]) -> None:
    """Prefect's own comes after it, and says the same: it is left out."""
    run = new_run()
    carry_on(run)

    assert log_of(run)[-1].startswith(f"[d-{run[:6]}] Deployed  production serves v1.0.0 at ")


def test_the_last_line_of_a_refusal_is_ours(begun: list[str]) -> None:
    """Nothing was changed, and the line says so."""
    run = new_run(version="1.1")
    carry_on(run)

    assert begun == []
    assert log_of(run)[-1].startswith("Refused  nothing was changed; ")
    assert read(run).name == "1.1 → production · Refused"


def test_a_dry_run_is_named_as_one_and_keeps_the_report_of_the_deployment(
    begun: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def plan(run: Any, request: DeployRequest) -> State[Any]:
        found = Conclusion(Ending.PLANNED, "planned", Release("v1.1.0", ""))
        return flows.deploy.end(run, request, found)

    monkeypatch.setattr(flows.deploy, "carry_out", plan)
    run = new_run(dry_run=True)
    carry_on(run)

    assert read(run).name == "dry run of v1.1.0 → production · Planned"
    with get_client(sync_client=True) as client:
        keys = {artifact.key for artifact in client.read_artifacts()
                if str(artifact.flow_run_id) == run}  # fmt: skip
    assert "dry-run-production" in keys
    assert "report-production" not in keys


def test_a_run_that_ended_and_is_retried_stays_what_it_was(
    begun: list[str], production: Environment, retry: Retry
) -> None:
    """It takes no lock and does nothing: what serves, serves on, and the environment is free."""
    run = new_run()
    carry_on(run)
    before = read(run)
    endings = len(production.ledger.events(run_id=run))

    again = retry(run)
    twice = retry(run)

    assert begun == [run], "it was carried out once"
    assert len(production.ledger.events(run_id=run)) == endings
    assert production.held_by() == ""
    assert production.serves == "v1.0.0"
    for seen in (again, twice):
        assert (seen.name, set(seen.tags)) == (before.name, set(before.tags))
        assert said(seen)[:2] == said(before)[:2]
        first, _, last = said(seen)[2].rpartition("\n")
        assert first == said(before)[2]
        assert last.startswith("this run ended as Deployed at 20")
        assert last.endswith("start a new one: ignition deploy v1.1.0 --to production")
    assert log_of(run)[-1].startswith(f"[d-{run[:6]}] this run ended as Deployed at ")


def test_a_cancelled_run_that_a_recovery_settled_stays_cancelled_when_it_is_retried(
    begun: list[str], production: Environment, retry: Retry
) -> None:
    """Its ending is in the ledger alone: Prefect has its own word, that somebody cancelled it."""
    run = new_run()
    with get_client(sync_client=True) as client:
        for state in (StateType.RUNNING, StateType.CANCELLED):
            client.set_flow_run_state(UUID(run), State(type=state), force=True)
    payload = {"ending": "Failed", "sentence": "the run was cancelled", "serves": "v1.0.0"}
    production.ledger.record("production", run, EventKind.DEPLOYMENT_ENDED, payload=payload)

    again = retry(run)

    assert begun == []
    assert said(again)[:2] == ("CANCELLED", "Cancelled")
    assert "this run ended as Failed at " in said(again)[2]
    assert again.name == "v1.1.0 → production · Failed"
    assert production.held_by() == ""


def test_a_run_that_crashed_and_is_resumed_by_a_recovery_goes_on(
    begun: list[str], retry: Retry
) -> None:
    """It had not ended: it deploys."""
    run = new_run()
    with get_client(sync_client=True) as client:
        for state in (StateType.RUNNING, StateType.CRASHED):
            client.set_flow_run_state(UUID(run), State(type=state), force=True)

    again = retry(run)

    assert begun == [run]
    assert said(again)[:2] == ("COMPLETED", "Completed")
    assert again.name == "v1.1.0 → production · Deployed"


def test_a_run_whose_name_cannot_be_changed_ends_as_it_does(
    begun: list[str], production: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server is away for a moment: v1.1.0 is deployed, and its environment is free."""
    run = new_run()
    monkeypatch.setattr("tasks.page.get_client", lambda *_, **__: get_client_of_nobody())
    carry_on(run)

    assert said(read(run))[2].startswith("Deployed: ")
    assert production.held_by() == ""


def get_client_of_nobody() -> Any:
    """A client of a server that is not there."""
    from prefect.client.orchestration import SyncPrefectClient

    return SyncPrefectClient("http://127.0.0.1:9/api", httpx_settings={"timeout": 1})


def test_an_ending_is_read_only_where_the_state_has_its_colour() -> None:
    """What a person wrote, or an exception, is no ending of ours."""
    good = outcome.state(Ending.ROLLBACK_DONE, "rolled back to v1.0.0")
    forced: State[Any] = State(type=StateType.COMPLETED, message="Failed: tests")
    raised: State[Any] = State(type=StateType.FAILED, message="Flow run encountered: Rejected")

    assert outcome.ending_of(good) is Ending.ROLLBACK_DONE
    assert outcome.ending_of(forced) is None
    assert outcome.ending_of(raised) is None
    assert outcome.ending_of(outcome.state(Ending.REFUSED, "no")) is Ending.REFUSED
