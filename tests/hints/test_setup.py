"""Something is not configured, not set up, or away: what is edited or exported, and that it helps.

`ignition setup` is the real one; the deployments, which take it seconds, are there already.
"""

import re
from datetime import timedelta
from pathlib import Path
from shutil import copy
from typing import Any

import pytest
import yaml

from blocks.compose.fitness import Wanted, problems_of
from blocks.target import Target
from cli import install
from flows.run import load_target
from settings import Settings, load_settings
from tests.fakes.commands import ROOT
from tests.fakes.shell import Shell, exported, exports, wrong
from tests.hints.conftest import DATABASES, edit, hint_of, set_up

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
    Path(refused.hint.removeprefix("fix ").partition(",")[0]).write_text(good)

    set_up(shell, refused.hint)
    assert wrong(shell, "deployments") == ""


@pytest.mark.hint("_apply_prefect_yaml: setup")
def test_setup_is_typed_again_where_prefect_took_too_long(
    shell: Shell, real_deployments: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(install, "_DEPLOY_TIMEOUT", timedelta(milliseconds=1))
        refused = shell.ignition("setup")
    assert "Prefect did not take prefect.yaml within 1 ms" in refused.complained

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
