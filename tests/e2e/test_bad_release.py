"""Releases that must not stay. Whatever is wrong with them, the old one serves afterwards."""

import re
from collections.abc import Callable

import pytest

from tests.e2e.conftest import Deployed
from tests.e2e.driver import Operator

pytestmark = [pytest.mark.e2e, pytest.mark.usefixtures("staged")]

BAD_FROM_THE_START = {
    "bad/never-healthy": "not yet healthy after 10 s",
    "bad/exits-at-start": "KeyError: 'TOKEN_ISSUER'",
    "bad/wrong-version": "answers v1.0.9, expected v1.",
    "bad/failing-smoke": "smoke tests",
}
GOES_BAD = {
    # It fails a fifth of all requests, those of the checks included: any of them may be the first.
    "bad/errors-under-traffic": r"error rate .* > 5\.0%|auth flow broken|smoke tests"
    r"|answers of the new release were 5xx",
    "bad/broken-login": r"auth flow broken.* login answers HTTP 500",
}


@pytest.mark.parametrize("branch", BAD_FROM_THE_START)
def test_a_release_that_is_bad_from_the_start_never_meets_a_user(
    operator: Operator, branch: str
) -> None:
    version, before = operator.next_version(), operator.look("staging")

    with (
        operator.configured("environments.staging.rollout", healthy_within="10 s"),
        operator.users("staging") as users,
    ):
        outcome = operator.deploy(version, branch)
    after = operator.look("staging")

    kept = str(operator.artifacts(outcome.run)["rollout-staging"])

    assert outcome.ending == "RolledBack", outcome
    assert BAD_FROM_THE_START[branch] in outcome.message
    # It is gone, and what answers now is the old release: the run has what is known of it.
    assert outcome.message.endswith("artifact rollout-staging of this run"), outcome
    assert "curl " not in outcome.message
    assert "docker logs" not in outcome.message
    assert f", {version}, " in kept
    assert "Last log lines of" in kept
    assert branch != "bad/exits-at-start" or BAD_FROM_THE_START[branch] in kept
    assert f"staging serves {before.serves}" in outcome.message
    assert set(users.seen) == {before.serves}
    assert users.report.outcomes.keys() <= {"200", "201"}
    assert (after.serves, after.containers) == (before.serves, before.containers)
    assert (after.pinned, after.schema, after.held_by) == (before.pinned, before.schema, "")


def test_a_migration_that_fails_stops_the_deployment_before_the_rollout(operator: Operator) -> None:
    version, before = operator.next_version(), operator.look("staging")

    with operator.users("staging") as users:
        outcome = operator.deploy(version, "bad/failing-migration")
    after = operator.look("staging")

    assert outcome.ending == "Failed", outcome
    assert "0003_add_item_owners" in outcome.message
    assert f"staging serves {before.serves}" in outcome.message
    assert set(users.seen) == {before.serves}
    assert users.report.outcomes.keys() <= {"200", "201"}
    assert (after.schema, after.tables) == (before.schema, before.tables)
    assert (after.serves, after.containers, after.pinned, after.held_by) == (
        before.serves,
        before.containers,
        before.pinned,
        "",
    )


@pytest.mark.parametrize("branch", GOES_BAD)
def test_a_release_that_goes_bad_after_cutover_is_replaced_by_the_old_one(
    operator: Operator, branch: str, record_property: Callable[[str, object], None]
) -> None:
    """Its login breaks 20 s after the first one, so the watch has to last longer than that."""
    version, before = operator.next_version(), operator.look("staging")

    with (
        operator.configured("environments.staging.watch", length="25 s"),
        operator.users("staging") as users,
    ):
        outcome = operator.deploy(version, branch)
    after = operator.look("staging")
    record_property("requests", users.report.requests)
    record_property("failed", users.report.failed)

    assert outcome.ending == "RolledBack", outcome
    assert re.search(GOES_BAD[branch], outcome.message), outcome
    assert f"staging serves {before.serves}" in outcome.message
    assert version in users.seen  # it was met: this is about getting rid of it
    assert users.seen[-1] == before.serves
    assert users.report.failed < users.report.requests * 0.2
    assert (after.serves, after.held_by) == (before.serves, "")
    assert (after.pinned, after.schema) == (before.pinned, before.schema)
    ((_, image, state),) = after.containers
    assert (image, state) == (before.pinned, "running")


def test_a_slow_release_stays_and_the_report_tells_people_to_look(
    operator: Operator, staged: Deployed
) -> None:
    """A rule relative to the baseline asks a human; afterwards a rollback gets rid of it.

    Answer times are those of the probes, so they have to ask for what became slow.
    """
    version, before = operator.next_version(), operator.look("staging")

    slow = {"length": "6 s", "extend_up_to": "2 s", "probes": '[{path = "/api/items"}]'}
    with operator.configured("environments.staging.watch", **slow):
        outcome = operator.deploy(version, "bad/slow")
    watch = operator.watch_report(outcome.run)
    restored = operator.roll_back("staging", "P1: lists take seconds")

    assert (outcome.ending, outcome.serves) == ("Deployed", version), outcome
    assert "To look at:" in watch
    assert "](data:image/svg+xml;base64," in watch
    assert (restored.ending, restored.serves) == ("RollbackDone", before.serves)
