"""The Prefect server and those who work for it: what is said where one is missing or off."""

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import prefect as prefect_here
import pytest
from prefect import flow
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import DeploymentScheduleCreate
from prefect.client.schemas.schedules import CronSchedule
from prefect.settings import PREFECT_API_URL, Settings, temporary_settings
from pytest_httpserver import HTTPServer

from cli import runs
from cli.runs import follow, prefect, read, unavailable
from cli.schedule import TAG, read_schedules, schedule_lines
from cli.workforce import WORK_POOL, read_pool
from release.errors import Unreachable
from release.readiness.prefect_address import EXAMPLE, how_to_start
from release.readiness.registered import judge_server
from release.readiness.schedule import Schedule, judge_schedule
from release.readiness.workforce import Worker, WorkPool, why_not_taken
from sandbox.commands import wait_until
from tests.fakes.shell import Shell, exports, surroundings, wrong
from tests.hints.conftest import Crew

GONE = "http://127.0.0.1:9/api"


# ── The server ───────────────────────────────────────────────────────────────────────────────────


@contextmanager
def running(words: list[str], home: Path, **variables: str) -> Iterator[None]:
    """A command of Prefect's that stays, until the end of the block."""
    own = {"PREFECT_HOME": str(home), **variables}
    process = subprocess.Popen(
        [sys.executable, "-m", *words],
        env={**surroundings(), **own},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(timeout=60)


@pytest.mark.hint(
    "how_to_start: prefect server",
    "judge_server: prefect server",
    "judge_server: prefect server",
    "judge_schedule: prefect server",
)
def test_a_server_that_is_away_is_started_and_one_that_lacks_a_service_is_started_with_it(
    shell: Shell, tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"http://127.0.0.1:{free.getsockname()[1]}/api"
    with temporary_settings({PREFECT_API_URL: address}):
        refused = shell.ignition("gates")
        assert refused.code == 1
        words = shell.words(refused.hint, "prefect server start")
        variable = "PREFECT_SERVER_SERVICES_SCHEDULER_ENABLED"
        with running(words, tmp_path, **{variable: "false"}):
            answers(shell)
            said = wrong(shell, "prefect server")
            every_minute()
            idle = judge_schedule(*schedule_in(minutes=2)).hint
        assert f"unset {variable} where the server is" in said
        shell.words(said, "prefect server start")  # as it was started: with its port
        shell.words(idle, "prefect server start")
        with running(words, tmp_path):
            answers(shell)
            assert wrong(shell, "prefect server") == ""
            wait_until(
                lambda: judge_schedule(*schedule_in(minutes=2)).ok or None,
                what="the run of a schedule",
                seconds=120,
                hint="read the server's log",
            )


def every_minute() -> None:
    """Register a deployment with a schedule, as `ignition setup` does."""

    @flow(name="watch")
    def watch() -> None: ...

    with prefect() as client:
        each = DeploymentScheduleCreate(schedule=CronSchedule(cron="* * * * *"), active=True)
        client.create_deployment(
            client.create_flow(watch), "production", tags=[TAG], schedules=[each]
        )


def schedule_in(minutes: int) -> tuple[Schedule, datetime]:
    """The one schedule, and the time in a while."""
    with prefect() as client:
        (found,) = read_schedules(client)
    return found, datetime.now(UTC) + timedelta(minutes=minutes)


def answers(shell: Shell) -> None:
    wait_until(
        lambda: unavailable(timedelta(seconds=2)) is None or None,
        what="the Prefect server",
        seconds=120,
        hint="start it by hand",
    )


def test_an_older_server_is_to_be_of_the_version_that_there_is_here() -> None:
    answer = judge_server("prefect server", EXAMPLE, "3.1.0", prefect_here.__version__, [])

    assert f"install prefect=={prefect_here.__version__} " in answer.hint
    assert judge_server("prefect server", EXAMPLE, prefect_here.__version__, "3.1.0", []).ok


@pytest.mark.hint("prefect: prefect server", "how_to_start: prefect server")
def test_without_an_address_the_one_is_named_at_which_a_new_server_listens(shell: Shell) -> None:
    with temporary_settings(restore_defaults={PREFECT_API_URL}):
        refused = shell.ignition("gates")
        assert refused.code == 1
    words = shell.words(refused.hint, "prefect server start")

    defaults = Settings().server.api
    named = exports(refused.hint)["PREFECT_API_URL"]
    assert named == f"http://{defaults.host}:{defaults.port}/api"
    assert how_to_start(named).split() == words


@pytest.mark.hint("how_to_start: prefect server")
def test_a_server_of_another_machine_is_started_there(shell: Shell) -> None:
    """Started here, nobody would ask it."""
    hint = how_to_start("http://prefect.example.com:4200/api")

    assert shell.words(hint, "prefect server start") == ["prefect", "server", "start"]
    assert hint.startswith("on prefect.example.com: ")


def test_an_address_that_is_nearly_one_is_completed(shell: Shell, crew: Crew) -> None:
    meant = os.environ["PREFECT_API_URL"]
    with temporary_settings({PREFECT_API_URL: meant.removesuffix("/api")}):
        refused = shell.ignition("status")
        assert f"did you mean {meant}" in refused.text
        refused = shell.ignition("gates")
    assert refused.code == 1

    with temporary_settings({PREFECT_API_URL: exports(refused.hint)["PREFECT_API_URL"]}):
        assert shell.ignition("gates").said == "no gate waits\n"


def test_a_password_of_the_server_is_exported(shell: Shell, httpserver: HTTPServer) -> None:
    """In a process of its own: Prefect reads the variable as it starts."""
    httpserver.expect_request("/api/health").respond_with_json(True)
    off = {"detail": "CSRF protection is disabled."}
    httpserver.expect_request("/api/csrf-token").respond_with_json(off, status=422)
    login = {"Authorization": "Basic YWRhOmxvdmVsYWNl"}
    anything = re.compile("/api/(?!health|csrf).*")
    httpserver.expect_request(anything, headers=login).respond_with_json([])
    httpserver.expect_request(anything).respond_with_json({}, status=401)
    address = {"PREFECT_API_URL": httpserver.url_for("/api")}

    def waiting(**variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", "from cli.runs import waiting; print(waiting())"],
            env={**surroundings(), **address, **variables},
            capture_output=True,
            text=True,
        )

    refused = waiting()
    assert refused.returncode == 1
    (variable,) = exports(refused.stderr.partition("hint: ")[2])

    answered = waiting(**{variable: "ada:lovelace"})
    assert answered.stdout == "[]\n", answered.stderr


@pytest.mark.hint("gates: status")
def test_without_a_server_the_gates_are_in_status(shell: Shell, crew: Crew) -> None:
    with temporary_settings({PREFECT_API_URL: GONE}):
        refused = shell.ignition("gates")
        seen = shell.type(refused.hint, "ignition status")

    assert (refused.code, seen.code) == (1, 0)
    assert seen.said.startswith("production serves v1.1.0")


# ── Who works ────────────────────────────────────────────────────────────────────────────────────


def change(path: str, **values: object) -> None:
    """Change something at the server, as the UI does."""
    with prefect() as client:
        client.request("PATCH", path, json=values)


@pytest.mark.hint("WorkPool.start_command: prefect worker")
def test_a_worker_that_is_missing_is_started(shell: Shell, crew: Crew, tmp_path: Path) -> None:
    words = shell.words(wrong(shell, "worker"), "prefect worker start")

    with running([*words, "--name", "crew"], tmp_path):
        wait_until(
            lambda: wrong(shell, "worker") == "" or None,
            what="the worker",
            seconds=120,
            hint="start it by hand",
        )
    with prefect() as client:
        client.request("DELETE", f"/work_pools/{WORK_POOL}/workers/crew")


@pytest.mark.hint("WorkPool.resume_command: prefect work-pool")
def test_a_work_pool_that_is_paused_is_resumed(shell: Shell, crew: Crew) -> None:
    change(f"/work_pools/{WORK_POOL}", is_paused=True)

    assert shell.type(wrong(shell, "work pool"), "prefect work-pool resume").code == 0
    assert wrong(shell, "work pool") == ""


@pytest.mark.hint("WorkPool.resume_queue_command: prefect work-queue")
def test_a_queue_that_is_paused_is_resumed(shell: Shell, crew: Crew) -> None:
    change(f"/work_pools/{WORK_POOL}/queues/default", is_paused=True)

    assert shell.type(wrong(shell, "work pool"), "prefect work-queue resume").code == 0
    assert wrong(shell, "work pool") == ""


@pytest.mark.hint("judge_pool: setup", "why_not_taken: setup")
def test_a_work_pool_that_is_not_there_is_made(shell: Shell, crew: Crew) -> None:
    with prefect() as client:
        client.delete_work_pool(WORK_POOL)
    said = wrong(shell, "work pool")
    stall = stalled("Scheduled")
    assert shell.words(stall, "ignition setup") == shell.words(said, "ignition setup")

    assert shell.type(said, "ignition setup").code == 0
    assert wrong(shell, "work pool") == ""
    assert shell.ignition("deploy", "v1.2.0").code == 0, "its deployments work for it again"


def stalled(state: str, **pool: Any) -> str:
    """What `--wait` says of a run that nobody takes."""
    now = datetime.now(UTC)
    with prefect() as client:
        found = read_pool(client)
    if found and pool:
        found = WorkPool(**{"name": found.name, "queues": found.queues, **pool})
    stall = why_not_taken(WORK_POOL, found, state, now - timedelta(minutes=1), now)
    assert stall is not None
    return stall.sentence


@pytest.mark.hint("why_not_taken: status")
def test_what_a_run_waits_for_is_seen_in_status(shell: Shell, crew: Crew) -> None:
    run = crew.begun()
    now = datetime.now(UTC)
    said = stalled("Scheduled", workers=[Worker("crew", now, now)], limit=1, busy=1)
    assert said.startswith("waits for its turn: ")

    assert runs.short_run(run) in shell.type(said, "ignition status").said


@pytest.mark.hint("follow: status")
def test_a_run_that_is_followed_no_more_is_seen_in_status(shell: Shell, crew: Crew) -> None:
    run = crew.begun()
    with pytest.raises(Unreachable, match="has not ended") as tired:
        follow(read(run), lambda seen: None, timedelta(milliseconds=1))

    assert runs.short_run(run) in shell.type(str(tired.value), "ignition status").said


# ── What setup has left ──────────────────────────────────────────────────────────────────────────


def deployment(client: SyncPrefectClient, name: str) -> Any:
    return client.read_deployment_by_name(name)


@pytest.mark.hint("judge_registered: setup", "start: setup", "judge_schedule: setup")
def test_what_is_not_registered_or_switched_off_is_as_it_was_after_setup(
    shell: Shell, crew: Crew
) -> None:
    """A deployment that is gone, one that is paused with its schedule, and an automation."""
    with prefect() as client:
        client.delete_deployment(deployment(client, "deploy/staging").id)
        paused = deployment(client, "nightly/staging").id
        client.request("PATCH", f"/deployments/{paused}", json={"paused": True})
        limited = deployment(client, "watch/production").id  # as an earlier version left it
        client.request("PATCH", f"/deployments/{limited}", json={"concurrency_limit": 1})
        for one in client.read_automations_by_name("ignition: recover production"):
            client.delete_automation(one.id)
    refused = shell.ignition("deploy", "v1.2.0", "--to", "staging")
    assert refused.code == 1
    said = {name: wrong(shell, name) for name in SYSTEMS}
    assert all(said.values()), said
    assert "watch/production" in said["deployments"]
    for text in said.values():
        shell.words(text, "ignition setup")

    assert shell.type(refused.hint, "ignition setup").code == 0

    assert [name for name in SYSTEMS if wrong(shell, name)] == []
    assert shell.ignition("deploy", "v1.2.0", "--to", "staging").code == 0


SYSTEMS = ("deployments", "automations", "schedule nightly/staging")


@pytest.mark.hint("schedule_line: doctor", "judge_schedule: prefect deployment")
def test_a_schedule_that_is_off_is_resumed(shell: Shell, crew: Crew) -> None:
    with prefect() as client:
        found = deployment(client, "nightly/staging")
        client.update_deployment_schedule(found.id, found.schedules[0].id, active=False)
    (line,) = schedule_lines("staging")
    doctor = shell.type(line, "ignition doctor")
    assert "nightly/staging is switched off" in doctor.said

    assert shell.type(doctor.said, "prefect deployment schedule resume").code == 0

    with prefect() as client:
        assert deployment(client, "nightly/staging").schedules[0].active
    assert "is switched off" not in shell.ignition("doctor").said


@pytest.mark.hint("judge_schedule: prefect flow-run")
def test_a_run_that_is_late_is_listed(shell: Shell, crew: Crew) -> None:
    with prefect() as client:
        (schedule,) = [s for s in read_schedules(client) if s.deployment == "nightly/staging"]
        run = client.create_flow_run_from_deployment(deployment(client, "nightly/staging").id)
        late = {"type": "SCHEDULED", "name": "Late"}
        client.request(
            "POST", f"/flow_runs/{run.id}/set_state", json={"state": late, "force": True}
        )
    now = datetime.now(UTC)
    due = {field: getattr(schedule, field) for field in ("deployment", "id", "is_active")}
    judged = type(schedule)(**due, is_paused=False, changed=now, due=now - timedelta(hours=1))

    listed = shell.type(judge_schedule(judged, now).hint, "prefect flow-run ls")

    assert listed.code == 0, listed.text
    assert str(run.id) in listed.said


@pytest.mark.hint("schedule_lines: setup")
def test_without_any_schedule_setup_brings_them(shell: Shell, crew: Crew) -> None:
    with prefect() as client:
        for name in ("nightly/staging", "watch/production"):
            client.delete_deployment(deployment(client, name).id)
    said = shell.ignition("status").said

    assert shell.type(said, "ignition setup").code == 0
    assert len(schedule_lines()) == 2
