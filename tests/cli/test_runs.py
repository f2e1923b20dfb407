"""The Prefect server, as the command finds it; a run, as `--wait` follows it."""

import re
from datetime import timedelta

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.exceptions import ObjectNotFound
from prefect.settings import PREFECT_API_URL, get_current_settings, temporary_settings
from pytest_httpserver import HTTPServer

from cli import runs
from cli.runs import RunView, find_waiting, follow, prefect, read, start, view, waiting
from cli.workforce import WORK_POOL
from release.errors import BadRequest, Unreachable
from release.ledger import short_run
from release.readiness import workforce

# ── Where the server is ──────────────────────────────────────────────────────────────────────────


@pytest.fixture(autouse=True)
def _unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    """No address has been asked yet."""
    monkeypatch.setattr(runs, "_KNOWN", set())


def api() -> str:
    return str(get_current_settings().api.url)


@pytest.mark.parametrize("ask", [waiting, lambda: start("deploy/staging", {}, "n", [])])
def test_an_address_without_api_is_asked_whether_it_was_meant(
    prefect_server: None, ask: object
) -> None:
    """The server's own answer was "Not Found", from which a deployment was said not to be there."""
    meant = api()
    assert callable(ask)
    with (
        temporary_settings({PREFECT_API_URL: meant.removesuffix("/api")}),
        pytest.raises(BadRequest) as refused,
    ):
        ask()

    assert refused.value.what == (
        f"PREFECT_API_URL is {meant.removesuffix('/api')}, "
        "and what answers there is not Prefect's API"
    )
    assert refused.value.hint == f"did you mean {meant}? export PREFECT_API_URL={meant}"


@pytest.mark.parametrize("answer", ["<html>welcome</html>", '{"status": "ok"}', '"👋"'])
def test_another_service_at_the_address_is_not_taken_for_prefect(
    httpserver: HTTPServer, answer: str
) -> None:
    httpserver.expect_request("/api/health").respond_with_data(answer)
    with (
        temporary_settings({PREFECT_API_URL: httpserver.url_for("/api")}),
        pytest.raises(BadRequest, match="what answers there is not Prefect's API"),
    ):
        waiting()


def test_an_address_without_a_scheme_is_completed() -> None:
    with (
        temporary_settings({PREFECT_API_URL: "127.0.0.1:9/api"}),
        pytest.raises(BadRequest) as refused,
    ):
        waiting()

    assert refused.value.what == (
        "PREFECT_API_URL is 127.0.0.1:9/api, which has no scheme: an address begins with http:// "
        "or https://"
    )
    assert refused.value.hint == (
        "did you mean http://127.0.0.1:9/api? export PREFECT_API_URL=http://127.0.0.1:9/api"
    )


def test_a_password_of_the_address_is_not_shown() -> None:
    with (
        temporary_settings({PREFECT_API_URL: "http://ada:hunter2@127.0.0.1:9/api"}),
        pytest.raises(Unreachable) as refused,
    ):
        waiting()

    assert "hunter2" not in str(refused.value)


def test_a_server_that_asks_for_a_password_says_which_variable(httpserver: HTTPServer) -> None:
    httpserver.expect_request("/api/health").respond_with_json(True)
    httpserver.expect_request(re.compile("/api/(?!health).*")).respond_with_json(
        {"exception_message": "Unauthorized"}, status=401
    )
    with (
        temporary_settings({PREFECT_API_URL: httpserver.url_for("/api")}),
        pytest.raises(BadRequest) as refused,
    ):
        waiting()

    assert refused.value.hint.startswith("export PREFECT_API_AUTH_STRING=")


def test_the_real_api_is_taken_and_a_deployment_that_is_not_there_is_named(
    prefect_server: None,
) -> None:
    with pytest.raises(BadRequest) as refused:
        start("deploy/nowhere", {}, "n", [])

    assert refused.value.what == "Prefect has no deployment 'deploy/nowhere'"
    assert refused.value.hint == "ignition setup"


# ── A run that nobody takes ──────────────────────────────────────────────────────────────────────


def test_a_scheduled_run_is_found_by_its_label_and_by_its_id(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its label is the end of its id, the start of which others have as well."""
    ids = [f"01a22e08-843d-7b34-a81d-98f0675bd65{number}" for number in (4, 5)]
    there = [RunView(id, short_run(id), "a run", "Suspended", "PAUSED", "", "", "") for id in ids]
    monkeypatch.setattr(runs, "waiting", lambda: there)

    assert find_waiting("d-5bd654") == find_waiting(ids[0]) == there[0]
    with pytest.raises(BadRequest, match="2 waiting runs match 'd-01a22e'"):
        find_waiting("d-01a22e")


@flow
def idle() -> None:
    """Never begun."""


@pytest.fixture
def run(prefect_server: None) -> RunView:
    """A run of a deployment whose work pool is paused."""
    with get_client(sync_client=True) as client:
        try:
            client.read_work_pool(WORK_POOL)
        except ObjectNotFound:
            body = {"name": WORK_POOL, "type": "process"}
            client.request("POST", "/work_pools/", json=body)
        flow_id = client.create_flow(idle)
        deployment = client.create_deployment(flow_id, "idle", work_pool_name=WORK_POOL)
        return view(client.create_flow_run_from_deployment(deployment))


def test_waiting_says_why_nobody_takes_the_run_and_goes_on_waiting(
    run: RunView, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workforce, "PATIENCE", timedelta())
    seen: list[str] = []
    said: list[str] = []
    with prefect() as client:
        client.request("PATCH", f"/work_pools/{WORK_POOL}", json={"is_paused": True})
        try:
            with pytest.raises(Unreachable, match="has not ended, it is Scheduled"):
                follow(run, lambda one: seen.append(one.state), timedelta(seconds=3), said.append)
        finally:
            client.request("PATCH", f"/work_pools/{WORK_POOL}", json={"is_paused": False})

    assert seen == ["Scheduled"]
    assert len(said) == 1  # once, however long it waits
    assert said[0].endswith(
        f"work pool {WORK_POOL} is paused; go on: prefect work-pool resume {WORK_POOL}"
    )
    assert read(run.id).state == "Scheduled"


def test_a_run_that_has_begun_is_not_complained_of(
    run: RunView, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workforce, "PATIENCE", timedelta())
    said: list[str] = []
    with prefect() as client:
        client.request(
            "POST",
            f"/flow_runs/{run.id}/set_state",
            json={"state": {"type": "RUNNING", "name": "Running"}, "force": True},
        )
    with pytest.raises(Unreachable, match="it is Running"):
        follow(run, lambda one: None, timedelta(seconds=2), said.append)

    assert said == []
