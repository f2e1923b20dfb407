"""The tests that may be looked at at any time: what they promise, counted over simulated releases.

Every simulation has a fixed seed, so that its counts are the same on every machine.
"""

import random
from collections.abc import Iterator
from itertools import islice
from math import comb, exp, log

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from release.measure.tally import Tally
from release.watch.bake import Look, judge_bake
from release.watch.sequential import (
    evidence_above,
    evidence_below,
    fisher_p,
    highest_above,
    highest_worse,
)
from release.watch.verdict import Outcome

CEILING = 0.05
ALPHA = 0.001


def answers(draw: random.Random, rate: float, count: int) -> Tally:
    return Tally(count, sum(draw.random() < rate for _ in range(count)))


def side_by_side(
    draw: random.Random, new: float, old: float, share: int = 4, at_a_time: int = 5
) -> Iterator[Look]:
    """Looks at a new release that gets one answer for each ``share`` of the old one's."""
    while True:
        yield Look(answers(draw, new, at_a_time // 5), answers(draw, old, share * (at_a_time // 5)))


def requests_until_stopped(looks: Iterator[Look], most: int) -> int | None:
    """How many answers of the new release it took to stop it; None if it never was."""
    seen: list[Look] = []
    for look in islice(looks, most):
        seen.append(look)
        if judge_bake(seen, CEILING, ALPHA).outcome is Outcome.UNHEALTHY:
            return sum(look.new.requests for look in seen)
    return None


class TestAGoodRelease:
    def test_at_the_very_ceiling_is_stopped_no_more_often_than_promised(self) -> None:
        """1,000 bakes of 300 answers, looked at after every five, for a promise of 1 in 20."""
        draw, alpha = random.Random(20260108), 0.05
        stopped = 0
        for _ in range(1000):
            looks = [answers(draw, CEILING, 5) for _ in range(60)]
            stopped += highest_above(looks, CEILING) >= -log(alpha)
        assert stopped <= 1000 * alpha
        assert stopped == 14  # 1.4%

    def test_as_bad_as_the_one_beside_it_is_called_worse_no_more_often_than_promised(self) -> None:
        """Both fail alike, now at 2%, now at 60%: a database that both need comes and goes."""
        draw, alpha = random.Random(20260108), 0.05
        called = 0
        for _ in range(300):
            rates = [draw.choice([0.02, 0.6]) for _ in range(30)]
            looks = [(answers(draw, rate, 3), answers(draw, rate, 12)) for rate in rates]
            called += highest_worse(looks) >= -log(alpha)
        assert called <= 300 * alpha
        assert called == 5  # 1.7%

    @pytest.mark.parametrize(("new", "old"), [(0.01, 0.01), (0.04, 0.0), (0.3, 0.3)])
    def test_is_not_stopped_in_twenty_bakes(self, new: float, old: float) -> None:
        draw = random.Random(20260108)
        for _ in range(20):
            looks = side_by_side(draw, new, old, at_a_time=100)
            assert requests_until_stopped(looks, 15) is None


class TestABadRelease:
    def test_that_always_fails_is_stopped_within_ten_answers(self) -> None:
        looks = side_by_side(random.Random(1), 1.0, 0.0)
        assert requests_until_stopped(looks, 99) == 6

    def test_that_always_fails_is_stopped_sooner_with_nothing_beside_it(self) -> None:
        alone = iter([Look(Tally(1, 1), Tally())] * 99)
        assert requests_until_stopped(alone, 99) == 3

    @pytest.mark.parametrize(("rate", "median", "nine_in_ten"), [(0.5, 12, 20), (0.2, 64, 116)])
    def test_is_stopped_after_so_many_answers(
        self, rate: float, median: int, nine_in_ten: int
    ) -> None:
        draw = random.Random(20260108)
        took = [
            requests_until_stopped(side_by_side(draw, rate, 0.0, at_a_time=20), 100)
            for _ in range(40)
        ]
        ranked = sorted(count if count is not None else 9999 for count in took)
        assert (ranked[20], ranked[36]) == (median, nine_in_ten)


class TestEvidence:
    def test_without_answers_is_none(self) -> None:
        assert evidence_above(Tally(), CEILING) == pytest.approx(0)
        assert evidence_below(Tally(), CEILING) == pytest.approx(0)
        assert highest_worse([]) == 0
        assert highest_worse([(Tally(9, 9), Tally())]) == 0

    @settings(max_examples=100, deadline=None)
    @given(requests=st.integers(0, 40), ceiling=st.floats(0.001, 0.9), below=st.floats(0.0, 1.0))
    def test_against_a_ceiling_is_no_more_than_a_fair_bet(
        self, requests: int, ceiling: float, below: float
    ) -> None:
        """On average it does not grow, whatever rate up to the ceiling is true."""
        rate = ceiling * below
        mean = sum(
            comb(requests, errors)
            * rate**errors
            * (1 - rate) ** (requests - errors)
            * exp(evidence_above(Tally(requests, errors), ceiling))
            for errors in range(requests + 1)
        )
        assert mean <= 1 + 1e-6

    @settings(max_examples=100, deadline=None)
    @given(new=st.integers(0, 12), old=st.integers(0, 12), errors=st.integers(0, 24))
    def test_against_the_one_beside_it_is_a_fair_bet(self, new: int, old: int, errors: int) -> None:
        errors = min(errors, new + old)
        mean = 0.0
        for count in range(max(0, errors - old), min(errors, new) + 1):
            chance = comb(new, count) * comb(old, errors - count) / comb(new + old, errors)
            bet = highest_worse([(Tally(new, count), Tally(old, errors - count))])
            # The stake of 1 is kept where the bet would lose: only what it wins is looked at here.
            mean += chance * (exp(bet) if bet > 0 else 0)
        assert mean <= 1 + 1e-6

    @settings(max_examples=200, deadline=None)
    @given(data=st.data())
    def test_of_fisher_is_the_tail_of_the_hypergeometric_distribution(
        self, data: st.DataObject
    ) -> None:
        new, old = data.draw(st.integers(0, 60)), data.draw(st.integers(0, 60))
        bad_new, bad_old = data.draw(st.integers(0, new)), data.draw(st.integers(0, old))
        errors = bad_new + bad_old
        tail = sum(
            comb(new, count) * comb(old, errors - count)
            for count in range(bad_new, min(new, errors) + 1)
        )
        exact = tail / comb(new + old, errors)
        found = fisher_p(Tally(new, bad_new), Tally(old, bad_old))
        assert found == pytest.approx(exact, rel=1e-6)

    def test_of_fisher_stays_exact_for_a_million_answers(self) -> None:
        assert fisher_p(Tally(1_000_000, 1_000), Tally(1_000_000, 1_000)) == pytest.approx(
            0.509, abs=0.001
        )
        assert 0 < fisher_p(Tally(1_000_000, 1_200), Tally(1_000_000, 1_000)) < 1e-4
