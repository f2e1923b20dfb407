"""When the nightly deployment has nothing to do."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from release.ledger import LogRow
from release.nightly import skip
from release.outcome import Ending

SERVING, HEAD = "1" * 40, "2" * 40
TRIED = LogRow(
    date=datetime(2026, 11, 2, 2, 0, tzinfo=UTC),
    version="main-222222222222",
    deployer="nightly",
    notes="",
    environment="staging",
    ending=Ending.ROLLED_BACK.value,
    run_id="r1",
    revision=HEAD,
)


def test_a_branch_that_moved_is_deployed() -> None:
    assert skip("main", HEAD, SERVING, []) == ""


def test_a_branch_that_did_not_move_is_not() -> None:
    assert skip("main", SERVING, SERVING, []) == "main has not moved: 111111111111 serves already"


def test_a_commit_that_was_rolled_back_is_not_tried_every_night() -> None:
    assert skip("main", HEAD, SERVING, [TRIED]) == (
        "main has not moved since 222222222222, which was rolled back on 2026-11-02"
    )


@pytest.mark.parametrize(
    "ending", [Ending.FAILED, Ending.REFUSED, Ending.REJECTED, Ending.DEPLOYED]
)
def test_a_commit_that_ended_otherwise_is_tried_again(ending: Ending) -> None:
    """A registry that was down last night says nothing of the release."""
    assert skip("main", HEAD, SERVING, [replace(TRIED, ending=ending.value)]) == ""


def test_another_commit_that_was_rolled_back_stops_nothing() -> None:
    assert skip("main", HEAD, SERVING, [replace(TRIED, revision="3" * 40)]) == ""


def test_where_nothing_serves_the_first_commit_is_deployed() -> None:
    assert skip("main", HEAD, "", []) == ""
