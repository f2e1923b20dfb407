"""When a release that has just been admitted may take all traffic."""

from dataclasses import replace
from datetime import timedelta

import pytest

from release.configuration.rules import RolloutRules
from release.measure.slot import Admin, Slot
from release.measure.tally import Tally
from release.watch.bake import (
    BakeVerdict,
    Look,
    bake_is_over,
    judge_bake,
    looks_of,
    out_of_service,
)
from release.watch.verdict import Outcome

HEALTHY, UNHEALTHY, INCONCLUSIVE = Outcome.HEALTHY, Outcome.UNHEALTHY, Outcome.INCONCLUSIVE


def look(requests: int, errors: int, old_requests: int = 0, old_errors: int = 0) -> Look:
    return Look(Tally(requests, errors), Tally(old_requests, old_errors))


@pytest.mark.parametrize(
    ("looks", "outcome"),
    [
        pytest.param([], INCONCLUSIVE, id="nothing seen"),
        pytest.param([look(0, 0, 40, 0)], INCONCLUSIVE, id="no request reached it"),
        pytest.param([look(7, 0, 28, 0)], INCONCLUSIVE, id="seven good answers"),
        pytest.param([look(150, 0, 600, 0)], HEALTHY, id="150 good answers"),
        pytest.param([look(1, 1)], INCONCLUSIVE, id="one error is chance"),
        pytest.param([look(2, 2)], INCONCLUSIVE, id="and so are two of two"),
        pytest.param([look(3, 3)], UNHEALTHY, id="but not three of three"),
        pytest.param([look(10, 10, 40, 0)], UNHEALTHY, id="it fails, the old one does not"),
        pytest.param([look(10, 10, 40, 40)], INCONCLUSIVE, id="both fail"),
        pytest.param([look(100, 30, 400, 120)], INCONCLUSIVE, id="both fail alike"),
        pytest.param([look(100, 60, 400, 60)], UNHEALTHY, id="both fail, it fails more"),
        pytest.param([look(400, 20, 1600, 0)], INCONCLUSIVE, id="exactly at the ceiling"),
        pytest.param([look(10, 10, 9, 9)], UNHEALTHY, id="too little beside it to compare with"),
        pytest.param(
            [look(10, 10, 40, 0), *[look(100, 0, 400, 0)] * 20], UNHEALTHY, id="a breach is latched"
        ),
    ],
)
def test_is_judged_by_its_answers_and_those_beside_it(looks: list[Look], outcome: Outcome) -> None:
    assert judge_bake(looks).outcome is outcome


@pytest.mark.parametrize(
    ("looks", "sentence"),
    [
        (
            [look(10, 10, 40, 1)],
            "10 of 10 answers of the new release were 5xx: 100.0% > 5.0%; 1 of 40 beside it (2.5%)",
        ),
        (
            [look(7, 0)],
            "too few requests to judge: 7; 0 of 7 answers of the new release were 5xx: 0.0% ≤ 5.0%",
        ),
        ([look(0, 0, 40, 0)], "too few requests to judge: none"),
        (
            [look(10, 10, 40, 40)],
            "10 of 10 answers of the new release were 5xx: 100.0% > 5.0%; 40 of 40 beside it "
            "(100.0%); not shown to be worse than what serves beside it",
        ),
    ],
)
def test_the_sentence_has_the_numbers(looks: list[Look], sentence: str) -> None:
    assert judge_bake(looks).sentence == sentence


@pytest.mark.parametrize(
    ("suspicious", "seconds", "over"),
    [
        (False, 2.9, False),
        (False, 3.0, True),
        (True, 3.0, False),
        (True, 29.9, False),
        (True, 30.0, True),
    ],
)
def test_ends_never_early_and_later_while_errors_are_unexplained(
    suspicious: bool, seconds: float, over: bool
) -> None:
    verdict = BakeVerdict(INCONCLUSIVE, "", suspicious)
    assert bake_is_over(verdict, timedelta(seconds=seconds), RolloutRules()) is over


def test_is_suspicious_only_while_errors_speak_against_the_release() -> None:
    assert not judge_bake([look(7, 0)]).suspicious
    assert judge_bake([look(7, 1)]).suspicious
    assert not judge_bake([look(20, 1)]).suspicious


# ---- from the router's counters


def new(answered: int, errors: int) -> Slot:
    return Slot(
        "api2", "app-api-2", "172.30.0.2", Admin.READY, True,
        answered=answered, answered_5xx=errors,
    )  # fmt: skip


def old(answered: int, errors: int) -> Slot:
    return Slot("api1", "app-api-1", up=True, answered=answered, answered_5xx=errors)


NEW = {"app-api-2"}


@pytest.mark.parametrize(
    ("seen", "looks"),
    [
        pytest.param([(old(0, 0), new(0, 0))], (), id="one look only"),
        pytest.param(
            [(old(1000, 3), new(10, 0)), (old(1040, 4), new(20, 2)), (old(1050, 4), new(20, 2))],
            (look(10, 2, 40, 1), look(0, 0, 10, 0)),
            id="what each look adds",
        ),
        pytest.param(
            [(old(1000, 30), new(900, 3)), (old(20, 1), new(50, 0))],
            (look(50, 0, 20, 1),),
            id="the router was restarted",
        ),
        pytest.param(
            [(old(9, 0), new(9, 0)), (replace(old(99, 9), instance="other"), new(9, 0))],
            (look(0, 0),),
            id="a slot that changed hands",
        ),
        pytest.param(
            [(new(0, 0), old(0, 0)), (old(8, 0), new(2, 0), Slot("api3"))],
            (look(2, 0, 8, 0),),
            id="in any order, free slots beside them",
        ),
    ],
)
def test_answers_are_counted_between_two_looks(
    seen: list[tuple[Slot, ...]], looks: tuple[Look, ...]
) -> None:
    assert looks_of(seen, NEW) == looks


@pytest.mark.parametrize(
    "after",
    [
        replace(new(400, 0), up=False),
        replace(new(400, 0), admin=Admin.DRAIN),
        replace(new(400, 0), instance="app-api-9"),
        Slot("api9"),
    ],
)
def test_an_instance_that_leaves_service_is_named(after: Slot) -> None:
    assert out_of_service([new(0, 0)], [old(0, 0), after]) == ("app-api-2 no longer serves in api2")
    assert out_of_service([new(0, 0)], [new(400, 0), old(0, 0)]) == ""
