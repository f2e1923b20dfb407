"""A good release on its way through staging to production, signed by two people."""

from collections.abc import Callable

import pytest

from sandbox.parts.origin import revision
from tests.e2e.conftest import Deployed, Signed
from tests.e2e.driver import USERS_RATE, Operator

pytestmark = pytest.mark.e2e

ARTIFACTS = (
    "plan",
    "checklist",
    "image",
    "schema-migrations",
    "rollout",
    "verification",
    "watch",
    "report",
)


def test_staging_serves_the_release_and_no_request_failed(staged: Deployed) -> None:
    assert staged.outcome.ending == "Deployed", staged.outcome
    assert staged.outcome.serves == staged.version
    assert staged.users.report.requests > 1000
    assert staged.users.report.outcomes.keys() <= {"200", "201"}
    assert staged.users.seen[-1] == staged.version


def test_the_last_line_of_a_runs_log_says_how_it_ended(
    operator: Operator, staged: Deployed
) -> None:
    """On its page in Prefect, whose own lines stand before it."""
    run = staged.outcome.run

    operator.wait_for_line(run, "Deployed  staging serves v")
    assert operator.log(run)[-1].startswith(f"[d-{run[:6]}] Deployed  staging serves v")


def test_production_serves_the_release_and_no_request_failed(
    released: Signed, record_property: Callable[[str, object], None]
) -> None:
    record_property("requests", released.users.report.requests)
    assert released.outcome.ending == "Deployed", released.outcome
    assert released.outcome.serves == released.version
    sent = [sample.sent_at for sample in released.users.report.samples]
    assert len(sent) > 0.95 * USERS_RATE * (sent[-1] - sent[0]), "users came all the while"
    assert released.users.report.outcomes.keys() <= {"200", "201"}


def test_users_saw_the_old_release_and_then_the_new_one(released: Signed) -> None:
    """During the bake both answer; before it only the old one, after it only the new one."""
    assert released.users.seen[0] == released.before.serves
    assert released.users.seen[-1] == released.version
    assert set(released.users.seen) == {released.before.serves, released.version}


def test_a_waiting_run_holds_the_environment(released: Signed) -> None:
    assert released.held_by == released.outcome.run


def test_a_second_deployment_is_refused_with_the_holders_name(released: Signed) -> None:
    assert released.refused.ending == "Refused"
    assert "production is held by Ada, run d-" in released.refused.message
    assert released.refused.serves == released.before.serves


@pytest.mark.gates
def test_a_waiting_run_holds_no_process_and_no_connection(released: Signed) -> None:
    """That no process was left was waited for."""
    assert released.connections == []


@pytest.mark.gates
def test_a_waiting_run_survives_the_death_of_the_worker_and_of_the_server(
    released: Signed,
) -> None:
    """No process waits, so none can be lost: the run goes on when the gate is signed."""
    assert released.states == ("Suspended", "Suspended")
    assert released.outcome.ending == "Deployed"


def test_the_command_shows_the_evidence_and_says_what_the_worker_made_of_the_code(
    released: Signed,
) -> None:
    assert released.signed.code == 0, released.signed
    assert "Rollback plan reviewed" in released.signed.said
    assert "on-call-aware signed by Grace" in released.signed.said


def test_production_runs_the_very_image_that_staging_ran(
    staged: Deployed, released: Signed
) -> None:
    assert "@sha256:" in released.after.pinned
    assert released.after.pinned == staged.after.pinned


def test_what_runs_is_what_a_reboot_would_bring_back(released: Signed) -> None:
    """One container is left, and the digest that it runs stands in the host's `.env`."""
    ((_, image, state),) = released.after.containers
    assert (image, state) == (released.after.pinned, "running")


def test_the_commit_has_an_annotated_tag_in_the_origin(
    operator: Operator, staged: Deployed
) -> None:
    main = revision(operator.sandbox.origin, "main")
    assert operator.git_tags()[staged.version] == ("tag", main)


def test_the_schema_is_that_of_the_release(staged: Deployed, released: Signed) -> None:
    assert staged.after.schema == ("0001", "0002")
    assert released.after.schema == ("0001", "0002")


def test_both_environments_are_free_afterwards(staged: Deployed, released: Signed) -> None:
    assert (staged.after.held_by, released.after.held_by) == ("", "")


def test_the_deployment_log_has_both_deployments_and_the_runbooks_own_row(
    operator: Operator, staged: Deployed, released: Signed
) -> None:
    rows = operator.ignition("log", "--json", "--limit", "1000").json

    found = {row["run_id"]: row for row in rows}
    for run in (staged.outcome.run, released.outcome.run):
        assert found[run]["version"] == staged.version
        assert (found[run]["deployer"], found[run]["ending"]) == ("Ada", "Deployed")
        assert found[run]["notes"] == "a good release"
    oldest = rows[-1]
    assert (oldest["version"], oldest["date"][:10]) == ("v1.0.0", "2026-01-08")
    assert (oldest["deployer"], oldest["notes"]) == ("Initial", "Migration to Postgres")


def test_the_ledgers_chain_is_whole(operator: Operator, released: Signed) -> None:
    assert operator.ignition("verify").said.strip() == "the ledger's chain is whole"


@pytest.mark.parametrize("environment", ["staging", "production"])
def test_every_step_left_something_to_read(
    operator: Operator, staged: Deployed, released: Signed, environment: str
) -> None:
    run = {"staging": staged, "production": released}[environment].outcome.run

    artifacts = operator.artifacts(run)

    for name in ARTIFACTS:
        assert len(str(artifacts[f"{name}-{environment}"])) > 100, name
    assert staged.version in artifacts["deployment-log"]


def test_the_report_says_first_what_serves_and_who_signed(
    operator: Operator, released: Signed
) -> None:
    report = operator.artifacts(released.outcome.run)["report-production"]

    serves, to_do, *_ = filter(None, report.splitlines())
    assert serves.startswith(f"**production serves {released.version}**")
    assert to_do == "To do: nothing"
    assert report.count("| Ada |") == 1
    assert report.count("| Grace |") == 4


def test_the_same_version_again_is_nothing_to_do(operator: Operator, staged: Deployed) -> None:
    before = operator.look("staging")

    outcome = operator.deploy(staged.version, "main")

    assert outcome.ending == "NothingToDo"
    assert f"staging serves {staged.version}" in outcome.message
    assert operator.look("staging") == before
