"""`ignition doctor` beside a real Prefect server: what it finds, and what it says to type."""

import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from prefect.blocks.notifications import CustomWebhookNotificationBlock
from prefect.blocks.system import Secret
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import BlockDocumentUpdate
from prefect.events.schemas.automations import AutomationCore
from prefect.settings import PREFECT_API_URL, get_current_settings, temporary_settings
from pydantic import SecretStr
from pytest_httpserver import HTTPServer

from blocks.target import Target
from cli import automations, doctor, install
from cli.doctor import Question, answered, examine
from cli.registered import ask_automations, ask_blocks, ask_deployments, declared, setting_of
from cli.runs import prefect
from cli.schedule import read_schedules, schedule_lines
from cli.target import build_target
from cli.workforce import WORK_POOL, Stalls, read_pool
from flows.run import load_target
from release.configuration.key import settings_of
from release.errors import BadConfiguration, Unreachable
from release.readiness.schedule import judge_schedule
from release.readiness.systems import Readiness
from release.readiness.workforce import judge_pool, judge_workers
from settings import Settings, load_settings

SECRET = "correct-horse-battery"
CONFIGURATION = """
[service]
name = "orders"
[repository]
url = "{origin}"
[registry]
address = "127.0.0.1:9"
username = "ada"
[environments.production]
url = "{url}"
staging = "staging"
[environments.production.orchestrator]
directory = "production"
[environments.production.router]
socket = "run/admin.sock"
backend_file = "run/be.cfg"
[environments.production.metrics]
url = "http://127.0.0.1:9"
[environments.staging]
url = "{url}"
[environments.staging.orchestrator]
directory = "staging"
[environments.staging.gate]
approval = "evidence"
"""

pytestmark = pytest.mark.usefixtures("prefect_server")


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, httpserver: HTTPServer) -> Settings:
    """Two environments: nothing of them is there but a repository, and an address."""
    for name in [name for name in os.environ if name.startswith("IGNITION_")]:
        monkeypatch.delenv(name)
    path = tmp_path / "ignition.toml"
    origin = make_origin(tmp_path / "origin")
    path.write_text(CONFIGURATION.format(origin=origin, url=httpserver.url_for("").rstrip("/")))
    monkeypatch.setenv("IGNITION_CONFIG", str(path))
    dsn = f"postgresql://ada:{SECRET}@127.0.0.1:9/orders?connect_timeout=2"
    for table in (
        "LEDGER",
        "ENVIRONMENTS__PRODUCTION__DATABASE",
        "ENVIRONMENTS__STAGING__DATABASE",
    ):
        monkeypatch.setenv(f"IGNITION_{table}__DSN", dsn)
    monkeypatch.setenv("IGNITION_REGISTRY__PASSWORD", SECRET)
    return load_settings()


@pytest.fixture
def client() -> Iterator[SyncPrefectClient]:
    with prefect() as found:
        yield found


@pytest.fixture
def installed(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """What `ignition setup` leaves with the server, but for the blocks."""
    monkeypatch.setenv("PREFECT_API_URL", str(get_current_settings().api.url))
    install._ensure_work_pool()
    with prefect() as client:
        if not ask_deployments(client).ok:  # it takes seconds
            install._apply_prefect_yaml()
        automations.apply(client, settings)
    return settings


@pytest.fixture
def saved(installed: Settings) -> Settings:
    """… with the blocks."""
    for name in installed.environments:
        install._save(build_target(installed, name))
    return installed


def make_origin(folder: Path) -> Path:
    """A repository whose main branch has a Dockerfile, and smoke tests."""
    files = {
        "app/backend/Dockerfile": "FROM scratch\n",
        "tests/package.json": '{"scripts": {"test:smoke": "true"}}',
    }
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    author = ("-c", "user.name=a", "-c", "user.email=a@example.com")
    for arguments in (
        ("init", "--quiet", "--initial-branch=main"),
        ("add", "."),
        (*author, "commit", "--quiet", "-m", "first"),
    ):
        subprocess.run(["git", *arguments], cwd=folder, check=True)
    return folder


def found(answers: list[tuple[str, Readiness]], system: str, environment: str = "all") -> Readiness:
    return next(
        answer for where, answer in answers if (where, answer.name) == (environment, system)
    )


# ── What setup has left ──────────────────────────────────────────────────────────────────────────


def test_what_setup_writes_is_what_doctor_expects(
    saved: Settings, client: SyncPrefectClient
) -> None:
    """Were the comparison of anything else, doctor would be red for ever, or always green."""
    assert ask_deployments(client) == Readiness(
        "deployments", found=f"{len(declared())} as this version writes them"
    )
    assert ask_automations(client, saved).ok
    for name in saved.environments:
        assert ask_blocks(build_target(saved, name)).ok


def test_a_deployment_that_somebody_changed_paused_or_removed_is_named(
    installed: Settings, client: SyncPrefectClient
) -> None:
    changed, paused, gone = (
        client.read_deployment_by_name(name).id
        for name in ("deploy/staging", "deploy/production", "watch/staging")
    )
    client.request("PATCH", f"/deployments/{changed}", json={"job_variables": {"command": "x"}})
    client.request("PATCH", f"/deployments/{paused}", json={"paused": True})
    client.delete_deployment(gone)

    answer = ask_deployments(client)

    assert answer.problem == (
        "watch/staging is missing; "
        "deploy/staging is not as this version writes it: job_variables.command, "
        "job_variables.stream_output; "
        "deploy/production is paused, so it starts no run"
    )
    assert answer.hint == "ignition setup"


def test_setup_mends_what_doctor_names(installed: Settings, client: SyncPrefectClient) -> None:
    """The hint is true: paused, changed and switched off are as they were afterwards."""
    nightly = client.read_deployment_by_name("nightly/staging")
    client.request("PATCH", f"/deployments/{nightly.id}", json={"paused": True, "tags": ["x"]})
    watch = client.read_deployment_by_name("watch/production")
    client.update_deployment_schedule(watch.id, watch.schedules[0].id, active=False)
    assert not any(judge_schedule(one, datetime.now(UTC)).ok for one in read_schedules(client))

    client.request("PATCH", f"/deployments/{nightly.id}", json={"tags": nightly.tags})
    install._apply_prefect_yaml()

    assert ask_deployments(client).ok
    assert all(one.is_active and not one.is_paused for one in read_schedules(client))


def test_an_automation_that_is_off_changed_or_left_over_is_named(
    installed: Settings, client: SyncPrefectClient
) -> None:
    there = {one.name: one for one in automations.registered(client)}
    client.pause_automation(there["ignition: recover production"].id)
    client.delete_automation(there["ignition: silence staging"].id)
    old = there["ignition: crash staging"].model_dump(exclude={"id", "name"})
    client.create_automation(AutomationCore(name="ignition: of before", **old))

    answer = ask_automations(client, installed)

    assert "ignition: silence staging is missing" in answer.problem
    assert "ignition: recover production is switched off" in answer.problem
    assert "nothing here uses ignition: of before" in answer.problem

    automations.apply(client, installed)
    assert ask_automations(client, installed).ok


def test_a_saved_block_that_differs_is_named_by_its_setting_and_never_shows_a_secret(
    saved: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run uses what is saved: a registry that is wrong in the file alone deploys all the same."""
    monkeypatch.setenv("IGNITION_REGISTRY__ADDRESS", "registry.example.com")
    monkeypatch.setenv("IGNITION_REGISTRY__PASSWORD", "another-secret")
    monkeypatch.setenv("IGNITION_SERVICE__PORT", "9000")
    monkeypatch.setenv("IGNITION_ENVIRONMENTS__PRODUCTION__ROUTER__SLOTS", "8")

    answer = ask_blocks(build_target(load_settings(), "production"))

    assert answer.problem == (
        "runs use values that differ from the configuration: "
        "environments.production.router.slots, registry.address, registry.password, service.port"
    )
    assert answer.hint == "ignition setup"
    assert SECRET not in repr(answer)
    assert "another-secret" not in repr(answer)


def test_a_block_that_was_never_saved_is_a_fault(settings: Settings) -> None:
    target = build_target(settings, "staging").model_copy(update={"environment": "never-set-up"})

    answer = ask_blocks(target)

    assert answer.problem == "there is no ignition-target/never-set-up: no run can begin"
    assert answer.hint == "ignition setup"


def test_a_block_that_another_version_saved_is_named_with_what_differs(
    saved: Settings, client: SyncPrefectClient
) -> None:
    """It would else be used in part: with `slot_count` left out, there would be six slots again."""
    router = client.read_block_document_by_name("production", "ignition-haproxy-router")
    data = {key: value for key, value in router.data.items() if key != "slots"} | {"slot_count": 8}
    client.update_block_document(
        router.id,
        BlockDocumentUpdate(
            block_schema_id=router.block_schema_id, data=data, merge_existing_data=False
        ),
    )

    answer = ask_blocks(build_target(saved, "production"))
    with pytest.raises(BadConfiguration) as refused:
        load_target("production")

    assert answer.problem == (
        "ignition-target/production was saved by another version, and this one cannot read it: "
        "router.slot_count"
    )
    assert answer.hint == refused.value.hint == "ignition setup"
    assert refused.value.what == f"the block {answer.problem}"

    for name, slug in (("production", "ignition-metrics"), ("default", "ignition-registry")):
        block = client.read_block_document_by_name(name, slug)
        client.update_block_document(  # what it refers to and its secret are kept
            block.id, BlockDocumentUpdate(block_schema_id=block.block_schema_id, data={"old": "/"})
        )
    install._save(build_target(saved, "production"))
    assert ask_blocks(build_target(saved, "production")).ok


def fields(part: type[Any], under: str = "") -> Iterator[str]:
    for name, field in settings_of(part).items():
        inner = (field.annotation, *getattr(field.annotation, "__args__", ()))
        block = next((i for i in inner if isinstance(i, type) and hasattr(i, "model_fields")), None)
        yield from fields(block, f"{under}{name}.") if block else [f"{under}{name}"]


# Not of the configuration: doctor never finds them different, or all of the block goes at once.
FIXED = {
    "environment",
    "ledger.spool",
    "metrics.auth_every",
    "metrics.concurrency",
    "metrics.fewest_probes",
    "metrics.server.environment",
}


@pytest.mark.parametrize("field", sorted({*fields(Target)} - FIXED))
def test_every_field_of_a_block_is_named_by_a_setting_that_there_is(field: str) -> None:
    model: Any = Settings
    for part in setting_of(field, "x").split("."):
        if part == "x":
            continue
        annotation = settings_of(model)[part].annotation
        choices = [annotation, *getattr(annotation, "__args__", ())]
        model = next((one for one in choices if hasattr(one, "model_fields")), None)
        if model is None:
            break


# ── Who works ────────────────────────────────────────────────────────────────────────────────────


def work(client: SyncPrefectClient, name: str = "crew-1") -> None:
    """What a worker does every few seconds."""
    client.send_worker_heartbeat(WORK_POOL, name, heartbeat_interval_seconds=30)
    client.get_scheduled_flow_runs_for_work_pool(WORK_POOL)


def test_a_worker_that_lives_is_found_and_missed_when_it_has_stopped(
    installed: Settings, client: SyncPrefectClient
) -> None:
    work(client)
    pool = read_pool(client, machines=True)
    assert pool is not None
    now = datetime.now(UTC)

    assert judge_pool(WORK_POOL, pool).ok
    assert judge_workers(pool, now).found.startswith("crew-1, heard ")
    gone = judge_workers(pool, now + timedelta(seconds=95))
    assert gone.problem.startswith("no worker has asked for 1 min 3")
    assert gone.hint == f"prefect worker start --pool {WORK_POOL} --type process"


def test_a_run_that_nobody_takes_says_why_once_for_each_cause(
    installed: Settings, client: SyncPrefectClient
) -> None:
    said: list[str] = []
    deployment = client.read_deployment_by_name("watch/staging")
    run = client.create_flow_run_from_deployment(deployment.id)
    stalls = Stalls(client, said.append)
    now = datetime.now(UTC)

    def look(seconds: float) -> None:
        stalls.look(client.read_flow_run(run.id), now + timedelta(seconds=seconds))

    for seconds in (0, 20, 39, 60, 80):  # nobody has worked for the last 30 s of any of these
        look(seconds)
    client.request("PATCH", f"/work_pools/{WORK_POOL}", json={"is_paused": True})
    try:
        look(100)
        look(120)
    finally:
        client.request("PATCH", f"/work_pools/{WORK_POOL}", json={"is_paused": False})
    look(140)

    assert [sentence.partition(";")[2] for sentence in said] == [
        f" start one: prefect worker start --pool {WORK_POOL} --type process",
        f" go on: prefect work-pool resume {WORK_POOL}",
        f" start one: prefect worker start --pool {WORK_POOL} --type process",
    ]
    client.delete_flow_run(run.id)


# ── Schedules ────────────────────────────────────────────────────────────────────────────────────


def test_a_server_whose_scheduler_does_nothing_is_found_out(
    installed: Settings, client: SyncPrefectClient
) -> None:
    """This one runs without: each schedule is active and stays without a run."""
    later = datetime.now(UTC) + timedelta(minutes=2)

    answers = [judge_schedule(schedule, later) for schedule in read_schedules(client)]

    assert [answer.name for answer in answers] == [
        "schedule nightly/staging",
        "schedule watch/production",
    ]
    for answer in answers:
        assert answer.problem.startswith("active, but no run is scheduled")


def test_each_schedule_says_when_it_comes_next(
    installed: Settings, client: SyncPrefectClient
) -> None:
    for name in ("nightly/staging", "watch/production"):
        deployment = client.read_deployment_by_name(name)
        client.request("POST", f"/deployments/{deployment.id}/schedule", json={})

    lines = schedule_lines()

    assert lines[0].startswith("schedule nightly/staging  next 20")
    assert " 02:00 UTC (in " in lines[0]
    assert lines[1].startswith("schedule watch/production  next 20")
    assert schedule_lines("staging") == lines[:1]


# ── Messages ─────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def hook(httpserver: HTTPServer) -> Callable[[str, int], str]:
    def make(name: str, status: int) -> str:
        httpserver.expect_request(f"/{name}").respond_with_data("", status=status)
        address = httpserver.url_for(f"/{name}?key={SECRET}")
        block: Any = CustomWebhookNotificationBlock(name=name, url=address)
        block.save(name, overwrite=True)
        return f"custom-webhook/{name}"

    return make


def test_a_notification_block_is_tried_only_where_that_is_asked(
    hook: Callable[[str, int], str], httpserver: HTTPServer
) -> None:
    block = hook("doctor-good", 200)

    assert doctor._ask_notification("n", block, deliver=False).ok
    assert httpserver.log == []
    assert doctor._ask_notification("n", block, deliver=True) == Readiness(
        "n", found="accepted a message"
    )
    assert len(httpserver.log) == 1


def test_a_message_that_does_not_arrive_is_a_fault_without_its_address(
    hook: Callable[[str, int], str],
) -> None:
    answer = doctor._ask_notification("n", hook("doctor-bad", 500), deliver=True)

    assert answer.problem.startswith("custom-webhook/doctor-bad was not told")
    assert SECRET not in repr(answer)


def test_a_block_that_is_not_there_or_sends_nothing_is_a_fault() -> None:
    secret: Any = Secret(value=SecretStr("x"))
    secret.save("doctor-no-message", overwrite=True)

    absent = doctor._ask_notification("n", "slack-webhook/nobody", deliver=False)
    silent = doctor._ask_notification("n", "secret/doctor-no-message", deliver=False)

    assert absent.problem == "there is no block slack-webhook/nobody, so it notifies nobody"
    assert silent.problem == "secret/doctor-no-message is not a block that sends messages"


# ── The main branch ──────────────────────────────────────────────────────────────────────────────


def test_the_main_branch_is_read_without_touching_the_worker_s_mirror(settings: Settings) -> None:
    target = build_target(settings, "staging")

    answers = doctor._ask_main(target, settings)

    assert [(answer.name, answer.ok) for answer in answers] == [
        ("main branch", True),
        ("Dockerfile", True),
    ]
    assert not target.repository.workspace.exists()


@pytest.mark.parametrize(
    ("variable", "value", "problem", "hint"),
    [
        (
            "DOCKERFILE",
            "Dockerfile.prod",
            "has no app/backend/Dockerfile.prod",
            "service.dockerfile",
        ),
        (
            "SMOKE",
            '["npm", "run", "smoke"]',
            "has no package.json, so npm finds no script",
            "smoke",
        ),
        (
            "SMOKE",
            '["npm", "run", "smoke", "--prefix", "tests"]',
            "has no script 'smoke'; did you mean test:smoke?",
            "service.smoke",
        ),
    ],
)
def test_what_main_does_not_have_is_named(
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    variable: str,
    value: str,
    problem: str,
    hint: str,
) -> None:
    monkeypatch.setenv(f"IGNITION_SERVICE__{variable}", value)
    changed = load_settings()

    [answer] = doctor._ask_main(build_target(changed, "staging"), changed)

    assert answer.problem.startswith("main: ")
    assert problem in answer.problem
    assert hint in answer.hint


# ── The whole ────────────────────────────────────────────────────────────────────────────────────


def test_everything_is_said_though_nothing_is_there(
    settings: Settings, httpserver: HTTPServer
) -> None:
    httpserver.expect_request("/health").respond_with_data("", status=503)

    answers = examine(settings)

    for system in ("registry", "ledger"):
        assert not found(answers, system).ok
    assert found(answers, "registry").hint.startswith("edit registry.address in ")
    assert found(answers, "public address", "staging").found.startswith("serves nothing yet")
    assert found(answers, "repository").ok
    assert [answer for _, answer in answers if not answer.ok and not answer.hint] == []
    assert [answer for _, answer in answers if "ignition doctor" in answer.hint] == []
    assert SECRET not in repr(answers)


def test_without_a_server_one_answer_says_so_and_nothing_else_is_asked_of_it(
    settings: Settings,
) -> None:
    """Prefect would start a server of its own where none is named."""
    with temporary_settings(restore_defaults={PREFECT_API_URL}):
        answers = examine(settings)

    server = found(answers, "prefect server")
    assert server.problem == "PREFECT_API_URL is not set, so there is no Prefect server to ask"
    assert server.hint == (
        "export PREFECT_API_URL=http://127.0.0.1:4200/api; "
        "if no server runs yet: prefect server start"
    )
    names = {answer.name for _, answer in answers}
    assert names & {"work pool", "worker", "deployments", "saved blocks", "schedules"} == set()
    assert {"repository", "registry", "runbook"} <= names


def test_an_environment_without_its_secret_hides_no_other(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("IGNITION_ENVIRONMENTS__STAGING__DATABASE__DSN")

    answers = examine(load_settings())

    refused = found(answers, "configuration", "staging")
    assert refused.hint == (
        "export IGNITION_ENVIRONMENTS__STAGING__DATABASE__DSN=… and run: ignition setup"
    )
    assert not found(answers, "database", "production").ok


def test_a_system_that_hangs_holds_nobody_up() -> None:
    def hang() -> Readiness:
        never.wait()
        return Readiness("slow")

    def break_down() -> Readiness:
        raise ZeroDivisionError(SECRET)

    def refuse() -> Readiness:
        raise Unreachable("it is away", "start it")

    never = threading.Event()
    began = time.monotonic()
    questions = [
        Question("all", "slow", hang),
        Question("all", "broken", break_down),
        Question("all", "away", refuse),
        Question("all", "several", lambda: [Readiness("a"), Readiness("b")]),
    ]

    answers = [answer for _, answer in answered(questions, timedelta(seconds=0.3))]
    never.set()

    assert time.monotonic() - began < 5
    assert answers == [
        Readiness("slow", "no answer within 300 ms", doctor._LATE),
        Readiness("broken", "the check broke: ZeroDivisionError", doctor._BROKEN),
        Readiness("away", "it is away", "start it"),
        Readiness("a"),
        Readiness("b"),
    ]
