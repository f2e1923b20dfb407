"""A release must not stay: what every text says to type about going back, and what serves then."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings
from pydantic import SecretStr

import cli.by_hand
import cli.main
from blocks.ledger.ledger import Ledger
from release.configuration.rules import RolloutRules
from release.errors import BadConfiguration, RolloutFailed
from release.ledger import EventKind
from release.migration.files import AppliedMigration
from release.migration.header import Phase
from release.model import Step
from release.outcome import Ending, what_to_do
from release.rollback.baseline import serving_release
from tasks.deployment_log import catch_up
from tasks.environment import hold_environment
from tasks.hand_over import look_for_holder
from tasks.rollout import _stop
from tests.fakes.shell import Shell
from tests.hints.conftest import Crew, done, said_by

GONE = "http://127.0.0.1:9/api"  # nothing listens there
ROLLBACK = ("rollback", "production", "--reason", "orders are charged twice")
P0 = ("p0", "production", "--reason", "orders are charged twice")
YES: dict[str, Any] = {"answer": "y\n", "terminal": True}


def status(shell: Shell) -> str:
    return shell.ignition("status", "production").said


# ── Once, and once more ──────────────────────────────────────────────────────────────────────────


@pytest.mark.hint("way_back: rollback", "_started: status")
def test_status_names_the_way_back(shell: Shell, crew: Crew) -> None:
    typed = shell.type(status(shell), "ignition rollback")
    followed = shell.type(typed.said, "ignition status")

    assert followed.said.startswith("production serves v1.1.0")
    assert done(crew, typed) == "RollbackDone"
    assert crew.left == ("v1.0.0", "")


@pytest.mark.hint("checked_rollback: rollback")
def test_a_rollback_without_a_reason_says_where_one_goes(shell: Shell, crew: Crew) -> None:
    refused = shell.ignition("rollback", "production")
    assert (refused.code, crew.left) == (1, ("v1.1.0", ""))

    assert done(crew, shell.type(refused.hint, "ignition rollback")) == "RollbackDone"
    assert crew.left == ("v1.0.0", "")


@pytest.mark.hint("previous_release: rollback")
def test_a_second_rollback_finds_nothing_before_and_names_how_to_go_on(
    shell: Shell, crew: Crew
) -> None:
    done(crew, shell.ignition(*ROLLBACK))
    refused = said_by(crew, shell.ignition(*ROLLBACK))
    assert refused.startswith("Refused: ")
    assert crew.left == ("v1.0.0", "")

    typed = shell.type(refused, "ignition rollback", VERSION="v1.1.0")

    assert done(crew, typed) == "RollbackDone"
    assert crew.left == ("v1.1.0", "")


@pytest.mark.hint("_by_version: log")
def test_a_version_that_the_registry_does_not_have_is_looked_up_in_the_log(
    shell: Shell, crew: Crew
) -> None:
    refused = said_by(crew, shell.ignition(*ROLLBACK, "--to", "v9.9.9"))
    log = shell.type(refused, "ignition log")

    assert log.code == 0, log.text
    assert [line.split()[1] for line in log.said.splitlines()] == ["v1.1.0", "v1.0.0"]
    assert done(crew, shell.ignition(*ROLLBACK, "--to", "v1.0.0")) == "RollbackDone"
    assert crew.left == ("v1.0.0", "")


@pytest.mark.hint("refuse_contracted: rollback")
def test_a_release_that_the_schema_does_not_fit_is_refused_and_a_newer_one_is_named(
    shell: Shell, crew: Crew
) -> None:
    crew.production.put_in_service("v1.2.0-errors")
    dropped = AppliedMigration("0003", "0003_drop.sql", phase=Phase.CONTRACT, min_app="v1.1.0")
    crew.production.applied = (dropped,)
    refused = said_by(crew, shell.ignition(*ROLLBACK, "--to", "v1.0.0"))
    assert refused.startswith("Refused: v1.0.0 < v1.1.0")

    assert done(crew, shell.type(refused, "ignition rollback")) == "RollbackDone"
    assert crew.left == ("v1.1.0", "")


@pytest.mark.hint("serving_release: rollback")
def test_of_two_releases_that_serve_one_is_named_and_serves_alone(shell: Shell, crew: Crew) -> None:
    crew.production.put_in_service("v1.0.0")
    assert crew.production.serves == "v1.0.0, v1.1.0"
    with pytest.raises(BadConfiguration) as refused:
        serving_release("production", crew.production.orchestrator.instances())

    typed = shell.type(str(refused.value), "ignition rollback", VERSION="v1.1.0")

    assert done(crew, typed) == "RollbackDone"
    assert crew.left == ("v1.1.0", "")


# ── It does not work ─────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def failed(shell: Shell, crew: Crew) -> str:
    """What a rollback said whose release does not come up; its cause is mended since."""
    image = crew.production.images["v1.0.0"]
    registry = crew.production.orchestrator.host.registry
    registry[image] = ("v1.0.0", "never-healthy")
    said = said_by(crew, shell.ignition(*ROLLBACK))
    registry[image] = ("v1.0.0", "good")
    assert said.startswith("RollbackFailed: ")
    assert crew.production.held_by() != ""
    return said


@pytest.mark.hint("_WayBack._not_restored: rollback")
def test_a_rollback_that_failed_is_typed_again_once_its_cause_is_mended(
    shell: Shell, crew: Crew, failed: str
) -> None:
    assert done(crew, shell.type(failed, "ignition rollback")) == "RollbackDone"
    assert crew.left == ("v1.0.0", "")


@pytest.mark.hint("what_to_do: status", "what_to_do: unlock")
def test_the_report_of_a_rollback_that_failed_leads_to_a_free_environment(
    shell: Shell, crew: Crew, failed: str
) -> None:
    to_do = what_to_do(Ending.ROLLBACK_FAILED, "production", "")

    assert shell.type(to_do, "ignition status").said.startswith("production serves v1.1.0")
    assert shell.type(to_do, "ignition unlock").code == 0
    assert crew.left == ("v1.1.0", "")


@pytest.mark.hint("_try: rollback")
def test_a_release_that_is_not_well_once_it_is_back_is_left_for_another(
    shell: Shell, crew: Crew
) -> None:
    crew.production.metrics.meanwhile = lambda: crew.production.ill.add("v1.0.0")
    said = said_by(crew, shell.ignition(*ROLLBACK))
    assert said.startswith("RollbackFailed: ")
    assert crew.production.serves == "v1.0.0"

    typed = shell.type(said, "ignition rollback", VERSION="v1.1.0")

    assert done(crew, typed) == "RollbackDone"
    assert crew.left == ("v1.1.0", "")


@pytest.mark.hint("_stop: status")
def test_what_serves_again_behind_a_runs_back_is_seen_in_status(shell: Shell, crew: Crew) -> None:
    with pytest.raises(RolloutFailed) as refused:
        _stop(crew.production, crew.production.orchestrator.instances(), RolloutRules())

    seen = shell.type(str(refused.value), "ignition status")
    assert seen.said.startswith("production serves v1.1.0")


# ── Without the ledger, or without Prefect ───────────────────────────────────────────────────────


@pytest.fixture
def without_ledger(crew: Crew, monkeypatch: pytest.MonkeyPatch) -> Ledger:
    """The ledger does not answer; returns it as it is when it is back."""
    there = crew.production.ledger
    lose(crew, monkeypatch)
    return there


def lose(crew: Crew, monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on the ledger does not answer."""
    for patient in (look_for_holder, hold_environment, catch_up):
        monkeypatch.setattr(patient, "retry_delay_seconds", 0)
    nowhere = SecretStr("postgresql://ledger@127.0.0.1:9/ledger?connect_timeout=2")
    crew.production.ledger = Ledger(dsn=nowhere, spool=crew.production.ledger.spool / "other")


@pytest.mark.hint("p0_of: rollback")
def test_without_the_ledger_a_p0_names_the_rollback_that_goes_on_without_it(
    shell: Shell, crew: Crew, without_ledger: Ledger
) -> None:
    refused = shell.ignition(*P0, **YES)
    assert refused.code == 1

    typed = shell.type(refused.hint, "ignition rollback", VERSION="v1.0.0")

    assert done(crew, typed) == "RollbackDone"
    assert crew.production.serves == "v1.0.0"
    assert without_ledger.holder("production") is None


@pytest.mark.hint("_declare: rollback")
def test_a_p0_that_the_ledger_does_not_take_any_more_names_the_rollback(
    shell: Shell, crew: Crew, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It went away while a person was asked, so the deployment under way hears of nothing."""
    run = crew.begun(Step.PLAN, Step.DEPLOY)
    plan = {"baseline": str(crew.production.images["v1.0.0"]), "to": "v1.0.0"}
    crew.production.ledger.record("production", run, EventKind.PLAN_MADE, payload=plan)

    def asked() -> bool:
        lose(crew, monkeypatch)
        return True

    monkeypatch.setattr(cli.main, "may_roll_back", asked)
    refused = shell.ignition(*P0)
    assert refused.code == 1

    assert done(crew, shell.type(refused.hint, "ignition rollback")) == "RollbackDone"
    assert crew.production.serves == "v1.0.0"


@pytest.mark.hint("_kept: rollback")
def test_without_the_ledger_status_names_what_the_host_could_go_back_to(
    shell: Shell, crew: Crew, without_ledger: Ledger
) -> None:
    assert done(crew, shell.type(status(shell), "ignition rollback")) == "RollbackDone"
    assert crew.production.serves == "v1.0.0"


@pytest.fixture
def without_prefect(crew: Crew, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Any]:
    """Surroundings in which the Prefect server does not answer."""
    monkeypatch.setattr(cli.by_hand, "_HEARD_WITHIN", timedelta(milliseconds=100))
    return lambda: temporary_settings({PREFECT_API_URL: GONE})


ON_THE_HOST = "on the host of production, to go back to v1.0.0:"


@pytest.mark.hint("rollback: p0", "Heard._hands: rollback")
def test_without_prefect_a_rollback_names_the_p0_that_names_the_commands_of_the_host(
    shell: Shell, crew: Crew, without_prefect: Callable[[], Any]
) -> None:
    """… and what is typed when Prefect answers again."""
    with without_prefect():
        refused = shell.ignition(*ROLLBACK)
        by_hand = shell.type(refused.hint, "ignition p0", **YES)
    assert ON_THE_HOST in by_hand.said
    declared = crew.production.ledger.events(kinds=[EventKind.P0_DECLARED])
    assert [event.payload["reason"] for event in declared] == ["it is tried"]
    assert crew.left == ("v1.1.0", "")

    assert done(crew, shell.type(by_hand.said, "ignition rollback")) == "RollbackDone"
    assert crew.left == ("v1.0.0", "")


@pytest.mark.hint("_kept: p0")
def test_without_both_status_names_the_p0(
    shell: Shell, crew: Crew, without_ledger: Ledger, without_prefect: Callable[[], Any]
) -> None:
    with without_prefect():
        by_hand = shell.type(status(shell), "ignition p0", **YES)

    assert ON_THE_HOST in by_hand.said
    assert crew.production.serves == "v1.1.0"


@pytest.mark.hint("Heard._kept: p0")
def test_without_both_a_p0_asks_for_one_of_what_the_host_has(
    shell: Shell, crew: Crew, without_ledger: Ledger, without_prefect: Callable[[], Any]
) -> None:
    with without_prefect():
        asked = shell.ignition(*P0, **YES)
        assert "  the host has v1.0.0 " in asked.said
        by_hand = shell.type(asked.said, "ignition p0", VERSION="v1.0.0", **YES)

    assert ON_THE_HOST in by_hand.said
    assert crew.production.serves == "v1.1.0"


def test_a_p0_that_cannot_be_confirmed_here_says_how_it_can(shell: Shell, crew: Crew) -> None:
    """The hint is no command, but an option of the one that was typed."""
    refused = shell.ignition(*P0)
    assert (refused.code, crew.due("rollback")) == (1, [])
    assert refused.hint == "add --yes"
