"""The answers to a gate's form."""

from typing import Any

import pytest

from cli.gates import approval, rejection
from flows.gate import ChecklistForm
from release.checklist import ALL_OPEN, Answer


@pytest.mark.parametrize(("item", "signs"), [("", ALL_OPEN), ("tests-pass", "tests-pass")])
def test_an_approval_signs_one_item_or_all_that_are_open(item: str, signs: str) -> None:
    assert approval("Ada", item, "green since noon") == {
        "decision": "approve",
        "signs": signs,
        "approver": "Ada",
        "comment": "green since noon",
    }


def test_a_rejection_is_of_the_whole_run_and_carries_its_reason() -> None:
    assert rejection("Ada", "freeze until Monday") == {
        "decision": "reject",
        "signs": ALL_OPEN,
        "approver": "Ada",
        "comment": "freeze until Monday",
    }


@pytest.mark.parametrize("answer", [approval("Ada", "", ""), rejection("Ada", "no")])
def test_an_answer_of_the_command_line_is_one_that_the_form_could_give(
    answer: dict[str, Any],
) -> None:
    assert set(answer) <= set(ChecklistForm.model_fields) | {"signs"}
    assert Answer(**answer).approver == "Ada"
