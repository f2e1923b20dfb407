"""When the nightly deployment has nothing to do."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from release.errors import SourceRefused
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


@pytest.mark.parametrize(
    ("ending", "how"),
    [
        (Ending.ROLLED_BACK, "which was rolled back on 2026-11-02"),
        (Ending.ROLLBACK_FAILED, "whose rollback failed on 2026-11-02"),
    ],
)
def test_a_commit_that_was_left_is_not_tried_again_and_is_no_success_until_main_moves(
    ending: Ending, how: str
) -> None:
    """What served before it serves on, every night."""
    with pytest.raises(SourceRefused) as refused:
        skip("main", HEAD, SERVING, [replace(TRIED, ending=ending.value)])

    assert refused.value.what == f"main has not moved since 222222222222, {how}"
    assert refused.value.hint == "push to main a commit that fixes or reverts 222222222222"


DEPLOYED = replace(TRIED, ending=Ending.DEPLOYED.value)
OTHER = replace(DEPLOYED, revision="3" * 40)
BACK = replace(TRIED, ending=Ending.ROLLBACK_DONE.value, revision=SERVING)


def test_a_commit_that_a_person_rolled_back_later_is_not_deployed_again_by_night() -> None:
    """It had passed its watch; then somebody declared a P0."""
    with pytest.raises(SourceRefused, match="which was rolled back on 2026-11-02"):
        skip("main", HEAD, SERVING, [BACK, DEPLOYED])


def test_a_second_rollback_leaves_what_the_first_one_brought() -> None:
    to_head = replace(BACK, revision=HEAD)
    with pytest.raises(SourceRefused):
        skip("main", HEAD, SERVING, [BACK, to_head, OTHER, DEPLOYED])


def test_a_rollback_of_another_release_says_nothing_of_the_commit() -> None:
    assert skip("main", HEAD, SERVING, [BACK, OTHER, DEPLOYED]) == ""


def test_a_commit_that_was_deployed_since_it_was_left_may_be_deployed_again() -> None:
    assert skip("main", HEAD, SERVING, [OTHER, DEPLOYED, TRIED]) == ""


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
