"""Production is held by another run: what `ignition status` says to type, and what that does."""

import pytest
from prefect.client.schemas.objects import StateType

from cli.runs import read
from release.ledger import EventKind
from release.model import Step
from settings import load_settings
from tests.fakes.ending import ending_of
from tests.fakes.shell import Shell, exported
from tests.hints.conftest import Crew


def status(shell: Shell) -> str:
    done = shell.ignition("status", "production")
    assert done.code == 0, done.text
    return done.said


def ended(crew: Crew, run: str, ending: str) -> None:
    """The run has written down its ending."""
    payload = {"ending": ending, "version": "v1.2.0"}
    crew.production.ledger.record("production", run, EventKind.DEPLOYMENT_ENDED, payload=payload)
    crew.ends(run, StateType.FAILED, f"{ending}: it did not work")


# ── It runs ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.hint("_doing: status")
def test_a_run_under_way_is_waited_for_and_status_says_when_it_is_over(
    shell: Shell, crew: Crew
) -> None:
    run = crew.begun(Step.PLAN, Step.BUILD)
    said = status(shell)

    assert "it is in '2. Build Docker Image'" in shell.type(said, "ignition status").said
    crew.ends(run, StateType.COMPLETED)
    crew.gives_back(run)

    assert "\n  free\n" in shell.type(said, "ignition status").said
    assert crew.left == ("v1.1.0", "")


def test_the_setting_with_which_a_deployment_waits_by_itself_is_one(
    shell: Shell, crew: Crew
) -> None:
    crew.begun(Step.PLAN)
    (setting,) = [word for word in status(shell).split() if word.endswith("wait_for_others")]
    variable = "IGNITION_" + setting.replace(".", "__").upper()

    with exported(**{variable: "10 min"}):
        assert load_settings().environment("production").wait_for_others.total_seconds() == 600


@pytest.mark.hint("way_back: p0")
def test_a_deployment_that_users_meet_is_told_of_a_p0(
    shell: Shell, crew: Crew, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It rolls back by itself: here its run ends so as soon as the ledger has the P0."""
    run = crew.begun(Step.PLAN, Step.DEPLOY)
    image = str(crew.production.images["v1.0.0"])
    plan = {"baseline": image, "to": "v1.0.0"}
    crew.production.ledger.record("production", run, EventKind.PLAN_MADE, payload=plan)
    record = crew.production.ledger.record

    def heard(*given: object, **more: object) -> bool:
        kept = record(*given, **more)  # type: ignore[arg-type]
        if EventKind.P0_DECLARED in given:
            ended(crew, run, "RolledBack")
            crew.gives_back(run)
        return kept

    said = status(shell)
    monkeypatch.setattr(type(crew.production.ledger), "record", lambda _, *a, **k: heard(*a, **k))

    done = shell.type(said, "ignition p0", answer="y\n", terminal=True)

    assert done.code == 0, done.text
    assert "RolledBack" in done.said
    assert crew.production.held_by() == ""
    assert crew.due("rollback") == [], "nobody else rolls back"


# ── It is no longer heard from ────────────────────────────────────────────────────────────────────


@pytest.mark.hint("_end_of: prefect flow-run")
def test_a_silent_run_is_cancelled_and_then_unlocked(shell: Shell, crew: Crew) -> None:
    run = crew.begun(Step.PLAN, Step.BUILD)
    crew.is_silent()
    said = status(shell)
    assert "it was last heard from at " in said

    first = shell.type(said, "ignition unlock")
    assert (first.code, crew.left) == (1, ("v1.1.0", run)), "it may go on"
    assert shell.type(first.hint, "prefect flow-run cancel").code == 0
    assert read(run).state == "Cancelling"
    crew.ends(run, StateType.CANCELLED)  # the worker, or the server for one that is gone
    again = shell.type(said, "ignition unlock")

    assert again.code == 0, again.text
    assert crew.left == ("v1.1.0", "")


# ── It is over ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.hint("_doing: unlock")
@pytest.mark.parametrize("writes", ["", "Failed"], ids=["said nothing", "wrote its ending"])
def test_the_lock_of_a_run_that_is_over_is_taken_away(
    shell: Shell, crew: Crew, writes: str
) -> None:
    run = crew.begun(Step.PLAN)
    if writes:
        ended(crew, run, writes)
    else:
        crew.ends(run, StateType.CRASHED)

    done = shell.type(status(shell), "ignition unlock")

    assert done.code == 0, done.text
    assert crew.left == ("v1.1.0", "")


@pytest.mark.hint("unlock: status")
def test_what_nobody_holds_is_free_by_status_too(shell: Shell, crew: Crew) -> None:
    refused = shell.ignition("unlock", "production", "--as", "Ada", "--reason", "it hangs")
    assert refused.code == 1

    assert "\n  free\n" in shell.type(refused.hint, "ignition status").said
    assert crew.left == ("v1.1.0", "")


# ── Its rollback failed ──────────────────────────────────────────────────────────────────────────


@pytest.fixture
def after_a_failed_rollback(crew: Crew) -> str:
    run = crew.begun(Step.PLAN, Step.DEPLOY)
    ended(crew, run, "RollbackFailed")
    return run


@pytest.mark.hint("_doing: status")
def test_status_says_what_serves_after_a_rollback_that_failed(
    shell: Shell, crew: Crew, after_a_failed_rollback: str
) -> None:
    done = shell.type(status(shell), "ignition status")

    assert done.said.startswith("production serves v1.1.0")
    assert crew.left == ("v1.1.0", after_a_failed_rollback)


def test_an_environment_that_is_as_it_should_be_is_given_back(
    shell: Shell, crew: Crew, after_a_failed_rollback: str
) -> None:
    done = shell.type(status(shell), "ignition unlock")

    assert done.code == 0, done.text
    assert crew.left == ("v1.1.0", "")


@pytest.mark.hint("_doing: rollback")
def test_a_rollback_after_one_that_failed_needs_no_unlock(
    shell: Shell, crew: Crew, after_a_failed_rollback: str
) -> None:
    done = shell.type(status(shell), "ignition rollback production --to", VERSION="v1.0.0")

    assert done.code == 0, done.text
    assert ending_of(crew.carries_out_the_rollback()) == "RollbackDone"
    assert crew.left == ("v1.0.0", "")
