"""How far back a failed run goes, step by step."""

import pytest

from release.model import Step
from release.outcome import Undo, after_failure

ORDER = [
    Step.PLAN,
    Step.CHECKLIST,
    Step.PREPARE,
    Step.BUILD,
    Step.MIGRATE,
    Step.DEPLOY,
    Step.VERIFY,
    Step.POST,
]


@pytest.mark.parametrize(
    ("last", "undo"),
    [
        (Step.PLAN, Undo.NOTHING),
        (Step.CHECKLIST, Undo.NOTHING),
        (Step.PREPARE, Undo.LEAVE),
        (Step.BUILD, Undo.LEAVE),
        (Step.MIGRATE, Undo.LEAVE),
        (Step.DEPLOY, Undo.RESTORE),
        (Step.VERIFY, Undo.RESTORE),
        (Step.POST, Undo.RESTORE),
    ],
)
def test_a_run_goes_back_as_far_as_it_began(last: Step, undo: Undo) -> None:
    assert after_failure(ORDER[: ORDER.index(last) + 1]) is undo


def test_a_run_that_began_nothing_undoes_nothing() -> None:
    assert after_failure([]) is Undo.NOTHING


def test_an_interrupted_rollback_is_taken_up_again() -> None:
    assert after_failure([Step.ROLLBACK]) is Undo.RESTORE


def test_the_order_in_which_steps_are_named_does_not_matter() -> None:
    assert after_failure({Step.DEPLOY, Step.PLAN}) is Undo.RESTORE


@pytest.mark.parametrize("undo", list(Undo))
def test_each_answer_says_what_it_means(undo: Undo) -> None:
    assert undo.sentence
