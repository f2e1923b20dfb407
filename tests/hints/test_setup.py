"""Something is not configured, not set up, or away: what is edited or exported, and that it helps.

`ignition setup` is the real one; the deployments, which take it seconds, are there already.
"""

import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from shutil import copy
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest
import yaml
from psycopg.rows import dict_row
from pydantic import SecretStr
from pytest_httpserver import HTTPServer

from blocks.compose.fitness import Wanted, problems_of
from blocks.ledger.ledger import Ledger
from blocks.postgres.connection import connected
from blocks.postgres.database import Database
from blocks.postgres.table import prepare_table
from blocks.registry import Registry
from blocks.target import Target
from cli import install
from flows.run import load_target
from release.configuration.rules import RolloutRules
from release.errors import DeployError, Unreachable
from release.ledger import EventKind
from settings import Settings, load_settings
from tasks.deployment_log import catch_up
from tasks.systems import check_systems
from tests.fakes.commands import ROOT
from tests.fakes.shell import Shell, exported, exports, wrong
from tests.hints.conftest import DATABASES

LEDGER = "IGNITION_LEDGER__DSN"
NOWHERE = "postgresql://ledger@127.0.0.1:9/ledger?connect_timeout=2"


@pytest.fixture(autouse=True)
def _quick(
    request: pytest.FixtureRequest, server: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "real_deployments" not in request.fixturenames:
        monkeypatch.setattr(install, "_apply_prefect_yaml", lambda: None)


@pytest.fixture
def real_deployments() -> None:
    """The test is about the deployments themselves."""


def edit(path: Path, old: str, new: str) -> None:
    """Edit the file that a hint names."""
    text = path.read_text()
    assert text.count(old) == 1, text
    path.write_text(text.replace(old, new))


def hint_of(call: Callable[[], object]) -> str:
    with pytest.raises(DeployError) as refused:
        call()
    return str(refused.value)


def set_up(shell: Shell, said: str) -> None:
    done = shell.type(said, "ignition setup")
    assert done.code == 0, done.text


# ── Variables ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "command",
    [
        pytest.param("setup", marks=pytest.mark.hint("say_missing: setup")),
        pytest.param("status", marks=pytest.mark.hint("_secret: setup")),
    ],
)
def test_a_secret_that_is_missing_is_exported(shell: Shell, dsn: str, command: str) -> None:
    with exported(**{DATABASES[0]: None}):
        refused = shell.ignition(command)
        assert refused.code == 1
        with exported(**dict.fromkeys(exports(refused.hint), dsn)):
            set_up(shell, refused.hint)
            assert shell.ignition(command).code == 0


def test_a_variable_with_one_underscore_is_exported_with_two(shell: Shell, dsn: str) -> None:
    shell.ignition("setup")
    with exported(**{LEDGER: None, "IGNITION_LEDGER_DSN": dsn}):
        refused = shell.ignition("log")
        assert refused.code == 1
        (unset,) = re.findall(r"unset (\w+)", refused.hint)
        with exported(**{unset: None}, **dict.fromkeys(exports(refused.hint), dsn)):
            assert shell.ignition("log").code == 0


def test_a_variable_that_would_do_nothing_is_unset(shell: Shell) -> None:
    shell.ignition("setup")
    with exported(IGNITION_LEDGER__SPOOLS="x"):
        refused = shell.ignition("log")
        assert refused.code == 1
        (unset,) = re.findall(r"unset (\w+)", refused.hint)
        with exported(**{unset: None}):
            assert shell.ignition("log").code == 0


# ── The file ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("right", "wrong", "meant"),
    [
        ('name = "ignition-api"', 'nane = "ignition-api"', r"did you mean (\w+)\?"),
        (
            'address = "127.0.0.1:9"',
            'address = "https://127.0.0.1:9"',
            r"write '([^']+)'",
        ),
    ],
    ids=["a key that there is not", "a registry with a scheme"],
)
def test_a_setting_is_edited_to_what_was_meant_and_the_complaint_is_gone(
    shell: Shell, configuration: Path, right: str, wrong: str, meant: str
) -> None:
    edit(configuration, right, wrong)
    refused = shell.ignition("doctor")
    assert refused.code == 1
    assert refused.hint == f"edit {configuration}, then: ignition doctor"
    found = re.search(meant, refused.complained)
    assert found, refused.complained
    assert found[1] in right

    edit(configuration, wrong, right)

    assert "WRONG all          registry" in shell.type(refused.hint, "ignition doctor").said


def test_a_secret_in_the_file_is_a_variable_afterwards(
    shell: Shell, configuration: Path, dsn: str
) -> None:
    shell.ignition("setup")
    configuration.write_text(configuration.read_text() + f'[ledger]\ndsn = "{dsn}"\n')
    with exported(**{LEDGER: None}):
        refused = shell.ignition("log")
        assert refused.code == 1
        variable = refused.hint.rpartition("set ")[2]
        edit(configuration, f'[ledger]\ndsn = "{dsn}"\n', "")  # "remove the line"
        with exported(**{variable: dsn}):
            assert shell.ignition("log").code == 0


def test_without_a_configuration_the_example_is_copied(
    shell: Shell, configuration: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("IGNITION_CONFIG")
    monkeypatch.chdir(configuration.parent)
    configuration.unlink()
    refused = shell.ignition("approvers", "list")
    assert refused.code == 1
    command, source, target = refused.hint.partition(",")[0].split()
    assert command == "cp"

    copy(ROOT / source, target)
    copy(ROOT / "RUNBOOK.md", ".")

    assert shell.ignition("approvers", "add", "Ada", "--show-secret").code == 0
    assert shell.ignition("approvers", "list").code == 0


@pytest.mark.hint("_refuse_unknown_environments: setup")
def test_deployments_for_an_environment_that_there_is_not_are_taken_out(
    shell: Shell, configuration: Path, dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    copy(ROOT / "prefect.yaml", home)
    monkeypatch.setattr(install, "HOME", home)
    text = configuration.read_text().replace("environments.staging", "environments.test")
    configuration.write_text(text.replace('staging = "staging"', 'staging = "test"'))
    monkeypatch.delenv(DATABASES[1])
    monkeypatch.setenv(DATABASES[1].replace("STAGING", "TEST"), dsn)
    refused = shell.ignition("setup")
    assert refused.code == 1
    named = Path(refused.hint.removeprefix("edit ").partition(",")[0])

    written = yaml.safe_load(named.read_text())
    for one in [one for one in written["deployments"] if one["name"] == "staging"]:
        written["deployments"].remove(one)
    named.write_text(yaml.safe_dump(written))
    monkeypatch.setattr(install, "apply_automations", lambda client, settings: [])

    set_up(shell, refused.hint)


@pytest.mark.hint("_apply_prefect_yaml: setup")
def test_deployments_that_prefect_refuses_are_mended_in_their_file(
    shell: Shell, real_deployments: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    good = (ROOT / "prefect.yaml").read_text()
    (home / "prefect.yaml").write_text(good.replace("flows.window.watch", "flows.window.wacht"))
    monkeypatch.setattr(install, "HOME", home)
    refused = shell.ignition("setup")
    assert refused.code == 1
    assert "wacht" in refused.complained
    Path(refused.hint.removeprefix("mend ").partition(",")[0]).write_text(good)

    set_up(shell, refused.hint)
    assert wrong(shell, "deployments") == ""


@pytest.mark.hint("_name_one: setup")
def test_the_network_of_the_router_is_named(shell: Shell, configuration: Path) -> None:
    service = {"image": "api@sha256:" + 64 * "0", "networks": {"front": None, "back": None}}
    project = {"name": "shop", "services": {"api": service}}

    def problems() -> list[Any]:
        router = load_settings().environment("production").router
        assert router
        wanted = Wanted("api", "API_IMAGE", service["image"], 1, True, router.network)  # type: ignore[arg-type]
        return list(problems_of(project, wanted, "docker-compose.yml"))

    table = '[environments.production.router]\nsocket = "a.sock"\nbackend_file = "be.cfg"\n'
    configuration.write_text(f"{configuration.read_text()}{table}")
    (problem,) = problems()
    choice = re.findall(r'network = "\w+"', problem.hint)
    assert len(choice) == 2

    configuration.write_text(f"{configuration.read_text()}{choice[0]}\n")

    set_up(shell, problem.hint)
    assert problems() == []


# ── Systems ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.hint("Ledger.check: setup", "with_way_out: setup")
def test_a_ledger_is_named_by_its_variable_and_made_by_setup(shell: Shell, dsn: str) -> None:
    with exported(**{LEDGER: NOWHERE}):
        away = wrong(shell, "ledger")
    assert "Connection refused" in away
    (variable,) = re.findall(r"set (\w+),", away)
    with exported(**{variable: dsn}):
        empty = wrong(shell, "ledger")
        assert "lacks 0001" in empty
        assert shell.words(empty, "ignition setup")

        set_up(shell, away)

        assert wrong(shell, "ledger") == ""


@pytest.mark.hint("Ledger.check: setup")
def test_a_spool_that_cannot_be_written_is_put_elsewhere(shell: Shell, tmp_path: Path) -> None:
    spool = load_settings().spool
    spool.parent.mkdir(parents=True, exist_ok=True)
    spool.write_text("in the way")
    said = wrong(shell, "ledger")
    (setting,) = re.findall(r"set (\w+) to a folder", said)

    with exported(**{f"IGNITION_{setting.upper()}": str(tmp_path / "state")}):
        set_up(shell, said)
        assert wrong(shell, "ledger") == ""


def refused_by_the_server(ledger: Ledger) -> None:
    Ledger(dsn=SecretStr(NOWHERE), spool=ledger.spool / "other").holder("production")


def refused_by_the_registry(ledger: Ledger) -> None:
    Registry(address="127.0.0.1:9").check()


def not_caught_up(ledger: Ledger) -> None:
    away = Ledger(dsn=SecretStr(NOWHERE), spool=ledger.spool / "other")
    away.record("production", "run", EventKind.STEP_BEGUN)
    catch_up.fn(SimpleNamespace(environment="production", ledger=away))


def not_acquired(ledger: Ledger) -> None:
    away = Ledger(dsn=SecretStr(NOWHERE), spool=ledger.spool / "other")
    away.release("production", "run")
    away.acquire("production", "run", "Ada", "")


def nameless(ledger: Ledger) -> None:
    """The plan's own question, where a system says nothing of what to type."""

    def away() -> None:
        raise Unreachable("it does not answer")

    system, none = SimpleNamespace(check=away), SimpleNamespace(server=None)
    service = SimpleNamespace(auth=SimpleNamespace(configured=False))
    names = ("repository", "builder", "registry", "database", "ledger")
    target: Any = SimpleNamespace(**dict.fromkeys(names, system), metrics=none, service=service)
    target.router, target.orchestrator = None, SimpleNamespace(check=lambda *_: away())
    check_systems.fn(target, RolloutRules())


def broken_off(ledger: Ledger) -> None:
    dsn = ledger.dsn.get_secret_value()
    with connected(lambda: psycopg.connect(dsn)) as connection:  # type: ignore[arg-type]
        connection.execute("SELECT pg_terminate_backend(pg_backend_pid())")


@pytest.mark.parametrize(
    ("away", "system", "exports_"),
    [
        pytest.param(
            refused_by_the_server, "ledger", NOWHERE, marks=pytest.mark.hint("_refused: doctor")
        ),
        pytest.param(not_caught_up, "ledger", NOWHERE, marks=pytest.mark.hint("catch_up: doctor")),
        pytest.param(
            not_acquired, "ledger", NOWHERE, marks=pytest.mark.hint("Ledger.acquire: doctor")
        ),
        pytest.param(
            refused_by_the_registry,
            "registry",
            "",
            marks=pytest.mark.hint("Registry.check: doctor"),
        ),
        pytest.param(nameless, "registry", "", marks=pytest.mark.hint("_DOCTOR: doctor")),
        pytest.param(broken_off, "", "", marks=pytest.mark.hint("connected: doctor")),
    ],
)
def test_doctor_names_what_a_run_found_away(
    shell: Shell, ledger: Ledger, away: Callable[[Ledger], None], system: str, exports_: str
) -> None:
    """… and nothing of it where it was only a moment."""
    said = hint_of(lambda: away(ledger))

    with exported(**({LEDGER: exports_} if exports_ else {})):
        doctor = shell.type(said, "ignition doctor")

    assert doctor.code == 1
    if system:
        assert re.search(rf"^WRONG all +{system}$", doctor.said, re.MULTILINE), doctor.said
    else:
        assert re.search(r"^ok    all +ledger$", doctor.said, re.MULTILINE), doctor.said


@pytest.mark.hint("with_way_out: setup")
def test_a_registry_that_is_away_is_edited_in_the_file(
    shell: Shell, configuration: Path, httpserver: HTTPServer
) -> None:
    httpserver.expect_request("/v2/").respond_with_json({})
    said = wrong(shell, "registry")
    assert f"edit registry.address in {configuration}" in said

    address = f'address = "{httpserver.host}:{httpserver.port}"\ninsecure = true'
    edit(configuration, 'address = "127.0.0.1:9"', address)

    set_up(shell, said)
    assert wrong(shell, "registry") == ""


@pytest.fixture
def service(configuration: Path, httpserver: HTTPServer, ledger: Ledger) -> HTTPServer:
    """Production's address, at which v1.1.0 serves, by the ledger too."""
    httpserver.expect_request("/health").respond_with_data("")
    httpserver.expect_request("/meta").respond_with_json({"version": "v1.1.0"})
    text = configuration.read_text()
    url = httpserver.url_for("").rstrip("/")
    configuration.write_text(text.replace("http://127.0.0.1:9", url, 1))
    return httpserver


@pytest.mark.hint("with_way_out: setup")
def test_a_version_that_is_elsewhere_is_edited_in_the_file(
    shell: Shell, configuration: Path, service: HTTPServer
) -> None:
    said = wrong(shell, "version field")
    assert f"edit service.version_path or service.version_field in {configuration}" in said

    edit(configuration, 'name = "ignition-api"', 'name = "ignition-api"\nversion_path = "/meta"')

    set_up(shell, said)
    assert wrong(shell, "version field") == ""


AUTH = '[environments.production.auth]\nusername = "probe"\nlogin_path = "/{}"\n'


@pytest.mark.hint("_check_auth_flow: setup", "_check_auth_flow: setup")
def test_a_login_that_lacks_its_password_or_its_page_is_completed(
    shell: Shell, configuration: Path, service: HTTPServer
) -> None:
    service.expect_request("/login", json={"username": "probe", "password": "x"}).respond_with_json(
        {"token": "abc"}
    )
    me = {"Authorization": "Bearer abc"}
    service.expect_request("/api/me", headers=me).respond_with_json({"name": "probe"})
    service.expect_request("/api/me").respond_with_data("", status=401)
    configuration.write_text(configuration.read_text() + AUTH.format("logon"))
    without = wrong(shell, "auth flow")
    with exported(**dict.fromkeys(exports(without), "x")):
        set_up_says = shell.type(without, "ignition setup")
        assert set_up_says.code == 0, set_up_says.text
        elsewhere = wrong(shell, "auth flow")
        assert "environments.production.auth" in elsewhere

        edit(configuration, "/logon", "/login")

        set_up(shell, elsewhere)
        assert wrong(shell, "auth flow") == ""


@pytest.mark.hint("judge_address: status")
def test_an_address_that_does_not_answer_is_seen_in_status(shell: Shell, ledger: Ledger) -> None:
    payload = {"ending": "Deployed", "version": "v1.1.0", "image": "", "revision": "a" * 40}
    ledger.record("production", "run", EventKind.DEPLOYMENT_ENDED, payload=payload)
    said = wrong(shell, "public address")

    status = shell.type(said, "ignition status")

    assert "production serves no version" in status.said


@pytest.mark.hint("Prometheus._data: setup", "Prometheus._edit: setup")
def test_a_prometheus_that_wants_a_login_or_is_elsewhere_is_configured(
    shell: Shell, configuration: Path, httpserver: HTTPServer
) -> None:
    good = {"status": "success", "data": {"resultType": "vector", "result": []}}
    query = re.compile("/prometheus/api/v1/query.*")
    login = {"Authorization": "Bearer abc"}
    httpserver.expect_request(query, headers=login).respond_with_json(good)
    httpserver.expect_request(query).respond_with_data("", status=401)
    httpserver.expect_request(re.compile("/.*")).respond_with_data("", status=404)
    url = httpserver.url_for("/")
    table = f'[environments.production.metrics]\nurl = "{url}"\n'
    configuration.write_text(configuration.read_text() + table)
    elsewhere = wrong(shell, "metrics")
    assert "edit environments.production.metrics.url" in elsewhere
    edit(configuration, table, table.replace(url, f"{url}prometheus"))
    set_up(shell, elsewhere)
    refused = wrong(shell, "metrics")
    (variable,) = re.findall(r"set (\w+) or", refused)

    with exported(**{variable: "abc"}):
        set_up(shell, refused)
        assert wrong(shell, "metrics") == ""


# ── What runs use ────────────────────────────────────────────────────────────────────────────────


@pytest.mark.hint("load_target: setup", "_SETUP: setup")
def test_blocks_that_are_not_there_or_differ_are_as_configured_after_setup(
    shell: Shell,
) -> None:
    shell.ignition("setup")
    Target.delete("staging")
    absent = hint_of(lambda: load_target("staging"))
    assert "there is no ignition-target/staging" in wrong(shell, "saved blocks")
    set_up(shell, absent)
    assert load_target("staging").environment == "staging"
    assert wrong(shell, "saved blocks") == ""

    with exported(IGNITION_SERVICE__PORT="9000"):
        differ = wrong(shell, "saved blocks")
        assert "service.port" in differ
        set_up(shell, differ)
        assert wrong(shell, "saved blocks") == ""


# ── The runbook ──────────────────────────────────────────────────────────────────────────────────


@pytest.mark.hint("_ask_runbook: runbook", "check: runbook")
def test_a_runbook_is_checked_until_it_is_well(
    shell: Shell, configuration: Path, tmp_path: Path
) -> None:
    runbook = tmp_path / "RUNBOOK.md"
    good = (ROOT / "RUNBOOK.md").read_text()
    runbook.write_text(good.replace("evidence=tests", "evidence=test"))
    edit(configuration, str(ROOT / "RUNBOOK.md"), str(runbook))
    said = wrong(shell, "runbook")
    checked = shell.type(said, "ignition runbook check")
    assert (checked.code, f"{runbook}:" in checked.said) == (1, True)
    runbook.write_text(good)

    assert shell.type(said, "ignition runbook check").code == 0
    assert wrong(shell, "runbook") == ""
    refused = shell.ignition("runbook", "check", str(tmp_path / "none.md"))
    assert refused.code == 1
    assert shell.type(refused.hint, "ignition runbook check", FILE=str(runbook)).code == 0


# ── A schema of another tool ─────────────────────────────────────────────────────────────────────


@pytest.fixture
def repository(configuration: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three migrations, committed on main."""
    folder = tmp_path / "work" / "app" / "backend" / "migrations"
    folder.mkdir(parents=True)
    for number, name in enumerate(("users", "orders", "prices"), start=1):
        (folder / f"000{number}_{name}.sql").write_text(f"CREATE TABLE {name} (id int);\n")
    for arguments in (
        ("init", "--quiet", "--initial-branch=main"),
        ("add", "--all"),
        ("-c", "user.name=Ada", "-c", "user.email=ada@example.com", "commit", "-qm", "First"),
    ):
        subprocess.run(["git", *arguments], cwd=tmp_path / "work", check=True)
    edit(configuration, "/srv/orders.git", str(tmp_path / "work"))


def adopted(dsn: str) -> list[str]:
    return [row.version for row in Database(dsn=SecretStr(dsn)).applied()]


@pytest.mark.hint("adopt_command: adopt")
def test_a_schema_of_flyway_is_adopted_as_is_proposed(
    shell: Shell, repository: None, dsn: str
) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(
            "CREATE TABLE flyway_schema_history (installed_rank int PRIMARY KEY,"
            " version varchar(50), description varchar(200) NOT NULL, type varchar(20) NOT NULL,"
            " script varchar(1000) NOT NULL, checksum int, installed_by varchar(100) NOT NULL,"
            " installed_on timestamp NOT NULL DEFAULT now(), execution_time int NOT NULL,"
            " success bool NOT NULL)"
        )
        connection.execute(
            "INSERT INTO flyway_schema_history VALUES"
            " (1, '1', 'users', 'SQL', 'V1__users.sql', 1, 'ada', now(), 3, true),"
            " (2, '2', 'orders', 'SQL', 'V2__orders.sql', 2, 'ada', now(), 3, true)"
        )
    refused = shell.ignition("adopt", "production")
    assert (refused.code, adopted(dsn)) == (1, [])

    done = shell.type(refused.hint, "ignition adopt")

    assert done.code == 0, done.text
    assert adopted(dsn) == ["0001", "0002"]


@pytest.mark.hint("prepare_table: adopt")
def test_a_table_of_golang_migrate_is_adopted(shell: Shell, repository: None, dsn: str) -> None:
    with psycopg.connect(dsn, autocommit=True, row_factory=dict_row) as connection:
        connection.execute("CREATE TABLE schema_migrations (version bigint, dirty boolean)")
        connection.execute("INSERT INTO schema_migrations VALUES (2, false)")
        said = hint_of(lambda: prepare_table(connection))

    done = shell.type(said, "ignition adopt", ENVIRONMENT="production", NUMBER="0002")

    assert done.code == 0, done.text
    assert adopted(dsn) == ["0001", "0002"]
