"""Staging from main, with nobody watching."""

from pathlib import Path

import pytest

from tests.e2e.conftest import Deployed
from tests.e2e.driver import Operator, Outcome

pytestmark = pytest.mark.e2e


def nightly(operator: Operator) -> Outcome:
    return operator.end_of(operator.create_run("nightly/staging", {"environment": "staging"}))


def write_a_note(work: Path) -> None:
    with (work / "app/backend/items.py").open("a") as file:
        file.write("\n# Notes are plain text.\n")


def test_the_nightly_deploys_main_when_it_has_moved_and_only_then(
    operator: Operator, staged: Deployed
) -> None:
    """Other tests leave staging at the head of main."""
    before = operator.look("staging")

    skipped = nightly(operator)
    after_skipped = operator.look("staging")
    head = operator.push("main", write_a_note, "Say what notes are")
    deployed = nightly(operator)

    assert skipped.ending == "NothingToDo", skipped
    assert "main has not moved" in skipped.message
    assert after_skipped == before
    assert deployed.ending == "Deployed", deployed
    assert deployed.serves == f"main-{head[:12]}"
    assert operator.lock_holder("staging") == ""
