"""A system is away, or elsewhere: what is exported or edited, and that it is found then.

`ignition setup` is the real one; the deployments, which take it seconds, are there already.
"""

import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest
from pydantic import SecretStr
from pytest_httpserver import HTTPServer

from blocks.ledger.ledger import Ledger
from blocks.postgres.connection import connected
from blocks.registry import Registry
from cli import install
from cli.target import build_target
from release.configuration.rules import RolloutRules
from release.errors import Unreachable
from release.ledger import EventKind
from settings import Settings, load_settings
from tasks.deployment_log import catch_up
from tasks.systems import check_systems
from tests.fakes.shell import Shell, exported, exports, wrong
from tests.hints.conftest import edit, hint_of, set_up

LEDGER = "IGNITION_LEDGER__DSN"
NOWHERE = "postgresql://ledger@127.0.0.1:9/ledger?connect_timeout=2"


@pytest.fixture(autouse=True)
def _quick(server: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(install, "_apply_prefect_yaml", lambda: None)


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


@pytest.mark.hint("Repository._mirror: setup")
def test_a_mirror_that_cannot_be_made_is_put_elsewhere(
    shell: Shell, repository: None, tmp_path: Path
) -> None:
    def fetch() -> None:
        build_target(load_settings(), "production").repository.fetch()

    in_the_way = build_target(load_settings(), "production").repository.workspace
    in_the_way.parent.mkdir(parents=True, exist_ok=True)
    in_the_way.write_text("in the way")
    said = hint_of(fetch)
    (setting,) = re.findall(r"set (\w+) to a folder", said)

    with exported(**{f"IGNITION_{setting.upper()}": str(tmp_path / "state")}):
        set_up(shell, said)
        fetch()
