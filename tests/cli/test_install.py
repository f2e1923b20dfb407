"""`ignition setup`: settings become blocks, and secrets stay secret on the way."""

import os
from datetime import timedelta
from pathlib import Path

import pytest
from pydantic import SecretStr

from blocks.ledger.ledger import Ledger
from blocks.prometheus import Prometheus
from blocks.target import Target
from cli import install
from cli.target import build_target
from release.duration import parse_duration
from release.errors import BadConfiguration, BadRequest
from settings import Settings, load_settings

SECRET = "correct-horse-battery"
DSN = f"postgresql://ada:{SECRET}@db.example.com/orders"
CONFIGURATION = """
[service]
name = "orders"
port = 9000
health_path = "/ready"
[repository]
url = "/srv/orders.git"
[registry]
address = "registry.example.com"
username = "ada"
[environments.eu-west]
url = "https://api.example.com"
[environments.eu-west.orchestrator]
directory = "deploy/production"
[environments.eu-west.verify]
request_timeout = "4 s"
[environments.eu-west.auth]
username = "probe"
login_path = "/oauth/token"
login_format = "form"
login_fields = {grant_type = "password"}
token_field = "access_token"
[environments.eu-west.metrics]
url = "https://prometheus.example.com"
timeout = "3 s"
"""
ROUTER = """
[environments.eu-west.router]
socket = "run/admin.sock"
backend_file = "/etc/haproxy/be.cfg"
"""
DATABASE = "IGNITION_ENVIRONMENTS__EU_WEST__DATABASE__DSN"
LEDGER = "IGNITION_LEDGER__DSN"


@pytest.fixture(autouse=True)
def _variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """The two secrets that every environment needs, and two more."""
    for name in [name for name in os.environ if name.startswith("IGNITION_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv(DATABASE, DSN)
    monkeypatch.setenv(LEDGER, DSN)
    monkeypatch.setenv("IGNITION_REGISTRY__PASSWORD", SECRET)
    monkeypatch.setenv("IGNITION_TICKET__TOKEN", SECRET)
    monkeypatch.setenv("IGNITION_ENVIRONMENTS__EU_WEST__AUTH__PASSWORD", SECRET)
    monkeypatch.setenv("IGNITION_ENVIRONMENTS__EU_WEST__METRICS__TOKEN", SECRET)


def settings_from(text: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    path = folder / "ignition.toml"
    path.write_text(text)
    monkeypatch.setenv("IGNITION_CONFIG", str(path))
    return load_settings()


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    return settings_from(CONFIGURATION, tmp_path, monkeypatch)


@pytest.fixture
def target(settings: Settings) -> Target:
    return build_target(settings, "eu-west")


def test_an_environment_becomes_one_target(
    target: Target, settings: Settings, tmp_path: Path
) -> None:
    assert (target.environment, target.url) == ("eu-west", "https://api.example.com")
    assert target.registry.repository("orders") == "registry.example.com/orders"
    state = settings.state_folder
    assert target.repository.workspace == state / "repository.git"
    assert target.ledger.spool == state / "ledger-spool"
    assert target.orchestrator.directory == tmp_path / "deploy/production"
    assert target.orchestrator.port == 9000
    assert timedelta(seconds=target.service.request_timeout_s) == timedelta(seconds=4)
    assert target.router is None


def test_a_router_is_there_only_where_it_is_configured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = build_target(settings_from(CONFIGURATION + ROUTER, tmp_path, monkeypatch), "eu-west")

    assert target.router is not None
    assert target.router.socket == tmp_path / "run/admin.sock"
    assert target.router.backend_file == Path("/etc/haproxy/be.cfg")
    assert (target.router.port, target.router.health_path) == (9000, "/ready")
    assert target.orchestrator.network == ""


def test_the_routers_network_is_the_one_that_instances_are_looked_for_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    routed = CONFIGURATION + ROUTER + '\nnetwork = "web"\n'

    target = build_target(settings_from(routed, tmp_path, monkeypatch), "eu-west")

    assert target.orchestrator.network == "web"


def test_the_registrys_login_is_the_one_that_images_are_pulled_with(target: Target) -> None:
    assert target.orchestrator.registry_username == "ada"
    assert target.orchestrator.registry_password.get_secret_value() == SECRET


def test_the_engine_that_builds_is_the_one_that_pushes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = CONFIGURATION.replace("[registry]", '[registry]\nengine = "ssh://build@host"')

    target = build_target(settings_from(text, tmp_path, monkeypatch), "eu-west")

    assert target.builder.engine == target.registry.engine == "ssh://build@host"


@pytest.mark.parametrize("every", ["1.25 s", "1 h 30 min", "999 ms", "12.345 s"])
def test_a_duration_is_saved_as_it_was_written(every: str) -> None:
    """Rounded as log lines are, a saved block would differ from the configuration for ever."""
    prometheus = Prometheus.model_validate({"environment": "eu-west", "timeout": every})

    saved = prometheus.model_dump(mode="json")

    assert Prometheus.model_validate(saved).timeout == parse_duration(every)


def test_the_sources_of_the_watch_are_as_configured(target: Target) -> None:
    auth, prometheus = target.service.auth, target.metrics.server

    assert (auth.login_path, auth.login_format) == ("/oauth/token", "form")
    assert auth.login_fields == {"grant_type": "password"}
    assert auth.token_field == "access_token"
    assert prometheus is not None
    assert prometheus.environment == "eu-west"
    assert prometheus.timeout_s == 3


def test_secrets_reach_the_blocks_and_no_text_of_them(target: Target) -> None:
    assert target.database.dsn.get_secret_value() == DSN
    assert target.registry.password.get_secret_value() == SECRET
    assert target.ticketing.token.get_secret_value() == SECRET
    assert target.service.auth.password.get_secret_value() == SECRET
    assert target.metrics.server is not None
    assert target.metrics.server.token.get_secret_value() == SECRET

    for text in (repr(target), str(target), target.model_dump_json()):
        assert SECRET not in text


def test_a_part_of_a_part_is_a_block_of_its_own(target: Target, prefect_server: None) -> None:
    """An operator rotates Prometheus's token in one place of the UI, and the next run has it."""
    install._save(target)
    found = Target.load("eu-west")
    assert isinstance(found, Target)
    assert found.metrics.server is not None
    assert found.metrics.server.token.get_secret_value() == SECRET
    assert found.service.auth.password.get_secret_value() == SECRET

    prometheus = Prometheus.load("eu-west")
    assert isinstance(prometheus, Prometheus)
    prometheus.token = SecretStr("rotated")
    prometheus.save("eu-west", overwrite=True)

    again = Target.load("eu-west")
    assert isinstance(again, Target)
    assert again.metrics.server is not None
    assert again.metrics.server.token.get_secret_value() == "rotated"


@pytest.mark.parametrize("variable", [DATABASE, LEDGER])
@pytest.mark.parametrize("value", [None, ""])
def test_a_secret_that_is_missing_is_named_by_its_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str, value: str | None
) -> None:
    if value is None:
        monkeypatch.delenv(variable)
    else:
        monkeypatch.setenv(variable, value)
    settings = settings_from(CONFIGURATION, tmp_path, monkeypatch)

    with pytest.raises(BadConfiguration) as refused:
        build_target(settings, "eu-west")

    assert refused.value.what == (
        f"{tmp_path / 'ignition.toml'} needs a secret that is not set: {variable}"
    )
    assert refused.value.hint == f"export {variable}=… and run: ignition setup"
    assert SECRET not in str(refused.value)


def test_setup_names_every_secret_that_is_missing_before_it_writes_anything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With an account and no password the auth check would answer HTTP 401, and say no more."""
    password = "IGNITION_ENVIRONMENTS__EU_WEST__AUTH__PASSWORD"
    monkeypatch.delenv(password)
    monkeypatch.delenv("IGNITION_REGISTRY__PASSWORD")
    settings = settings_from(CONFIGURATION, tmp_path, monkeypatch)
    monkeypatch.setattr(install, "_refuse_unknown_environments", lambda settings: None)

    with pytest.raises(BadConfiguration) as refused:
        list(install.install(settings))

    assert refused.value.what == (
        f"{tmp_path / 'ignition.toml'} needs 2 more secrets: IGNITION_REGISTRY__PASSWORD is not "
        f"set (registry.username is set, and needs it); {password} is not set "
        "(environments.eu-west.auth.username is set, and needs it)"
    )
    assert refused.value.hint == "export IGNITION_REGISTRY__PASSWORD=… and run: ignition setup"


def test_the_variable_that_is_named_is_one_that_helps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(DATABASE)
    with pytest.raises(BadConfiguration) as refused:
        build_target(settings_from(CONFIGURATION, tmp_path, monkeypatch), "eu-west")

    monkeypatch.setenv(refused.value.what.rpartition(": ")[2], DSN)

    assert build_target(load_settings(), "eu-west").database.dsn.get_secret_value() == DSN


def test_an_unknown_environment_is_refused(settings: Settings) -> None:
    with pytest.raises(BadRequest, match="there is: eu-west"):
        build_target(settings, "production")


def test_prefect_yaml_stands_where_setup_applies_it() -> None:
    assert (install.HOME / "prefect.yaml").is_file()


LOG = """\
## Deployment Log

| Date | Version | Deployer | Notes |
|------|---------|----------|-------|
| 2026-02-03 | v1.4.0 | Grace | the new billing |
"""


@pytest.mark.parametrize(
    ("runbook", "log"),
    [(LOG, [("2026-02-03", "v1.4.0", "Grace", "eu-west")]), ("# Another runbook\n", [])],
)
def test_the_deployment_log_begins_with_the_rows_of_ones_own_runbook_and_no_other(
    settings: Settings,
    dsn: str,
    tmp_path: Path,
    runbook: str,
    log: list[tuple[str, ...]],
) -> None:
    """However often `ignition setup` is typed, each row is there once."""
    ledger = Ledger(dsn=SecretStr(dsn), spool=tmp_path / "spool")
    ledger.install()
    settings.located(settings.runbook).write_text(runbook)

    for _ in range(2):
        list(install._write_rows_of_runbook(settings, ledger))

    found = [(f"{r.date:%Y-%m-%d}", r.version, r.deployer, r.environment) for r in ledger.log()]
    assert found == log
    assert ledger.verify() == []
