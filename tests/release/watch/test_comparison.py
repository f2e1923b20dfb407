"""The rules relative to the baseline: what a person is asked to look at."""

import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from release.configuration.rules import WatchRules
from release.measure.sample import Sample
from release.measure.traffic import ALL_RELEASES, PROBES, ROUTER, Times, Traffic
from release.model import Baseline, Release
from release.watch.comparison import judge_error_change, judge_response_times
from release.watch.verdict import Outcome, Span, Verdict
from tests.fakes.samples import PROMETHEUS

START = datetime(2026, 1, 8, 2, 14, tzinfo=UTC)
SPAN = Span(START, START + timedelta(minutes=10))
RULES = WatchRules()
V = "v1.1.0"
MS = timedelta(milliseconds=1)
NOTHING_MEASURED = Baseline(
    "production", Release("v1.0.0", "a" * 40), (), "", None, None, START - timedelta(minutes=5)
)
HEALTHY, UNHEALTHY, INCONCLUSIVE = Outcome.HEALTHY, Outcome.UNHEALTHY, Outcome.INCONCLUSIVE


def counted(requests: int, errors: int, source: str = ROUTER, release: str = "") -> Traffic:
    return Traffic(source, release, requests, errors)


def before(*traffic: Traffic) -> Baseline:
    return replace(NOTHING_MEASURED, traffic=traffic)


def seen(*traffic: Traffic) -> list[Sample]:
    """One sample each, 15 s apart."""
    return [Sample(START + n * RULES.every, traffic=(one,)) for n, one in enumerate(traffic)]


def change(samples: list[Sample], baseline: Baseline) -> Verdict:
    return judge_error_change(samples, RULES, baseline, V, SPAN)


class TestErrors:
    @pytest.mark.parametrize(
        ("old", "new", "outcome"),
        [
            pytest.param((100, 0), (99, 99), INCONCLUSIVE, id="99 requests are too few"),
            pytest.param((100, 0), (100, 0), HEALTHY, id="none before, none now"),
            pytest.param((1000, 30), (1000, 30), HEALTHY, id="as before"),
            pytest.param((10_000, 100), (10_000, 199), HEALTHY, id="1.99 times as high"),
            pytest.param((10_000, 100), (10_000, 200), UNHEALTHY, id="exactly twice"),
            pytest.param((100, 1), (100, 4), HEALTHY, id="four times, but it may be chance"),
            pytest.param((100, 0), (1000, 20), HEALTHY, id="none of 100 is up to 3%"),
            pytest.param((1000, 0), (1000, 20), UNHEALTHY, id="none of 1,000 is not"),
            pytest.param((1000, 100), (1000, 10), HEALTHY, id="a tenth"),
        ],
    )
    def test_twice_as_many_that_are_no_chance_ask_a_person(
        self, old: tuple[int, int], new: tuple[int, int], outcome: Outcome
    ) -> None:
        verdict = change(seen(counted(*new)), before(counted(*old)))
        assert verdict.outcome is outcome
        assert not verdict.fires

    def test_are_compared_over_the_last_five_minutes_and_latched(self) -> None:
        """A release that goes bad after half an hour is not diluted by its good half hour."""
        good, bad = [counted(400, 1)] * 120, [counted(400, 12)] * 20
        baseline = before(counted(5000, 12))
        assert change(seen(*good), baseline).outcome is HEALTHY
        assert change(seen(*good, *bad), baseline).outcome is UNHEALTHY
        assert change(seen(*good, *bad, *good, *good), baseline).outcome is UNHEALTHY

    @pytest.mark.parametrize(
        ("now", "outcome"),
        [
            pytest.param(counted(1000, 50, PROMETHEUS), INCONCLUSIVE, id="another source"),
            pytest.param(counted(1000, 50, ROUTER, "v1.0.0"), INCONCLUSIVE, id="the old release"),
            pytest.param(counted(1000, 50, ROUTER, V), UNHEALTHY, id="the same source, by release"),
        ],
    )
    def test_are_compared_with_what_the_same_source_counted(
        self, now: Traffic, outcome: Outcome
    ) -> None:
        assert change(seen(now), before(counted(1000, 0))).outcome is outcome

    def test_by_release_are_compared_by_release_where_the_source_could(self) -> None:
        both = before(counted(1000, 0), counted(1000, 50, release="v1.0.0"))
        assert change(seen(counted(1000, 50, release=V)), both).outcome is HEALTHY
        assert change(seen(counted(1000, 50)), both).outcome is UNHEALTHY

    @pytest.mark.parametrize(
        ("samples", "sentence"),
        [
            (seen(counted(1000, 5)), "error rate not compared: the baseline's was not counted"),
            ([], "error rate not compared: no sample holds traffic counts"),
        ],
    )
    def test_without_anything_to_compare_say_so(self, samples: list[Sample], sentence: str) -> None:
        verdict = change(samples, NOTHING_MEASURED)
        assert (verdict.outcome, verdict.sentence) == (INCONCLUSIVE, sentence)

    def test_in_chance_traffic_seldom_ask_a_person(self) -> None:
        """1% before and now, looked at with every sample: none of 300 watches asks."""
        draw, asked = random.Random(20260108), 0

        def at_one_percent(requests: int) -> Traffic:
            return counted(requests, sum(draw.random() < 0.01 for _ in range(requests)))

        for _ in range(300):
            now = seen(*(at_one_percent(50) for _ in range(41)))
            asked += change(now, before(at_one_percent(500))).outcome is UNHEALTHY
        assert asked == 0


class TestResponseTimes:
    def slow(self, source: str, release: str = ALL_RELEASES) -> list[Sample]:
        times = (Times(source, release, 100 * MS, 900 * MS, 950 * MS),)
        return [Sample(START + n * RULES.every, times=times) for n in range(41)]

    @pytest.mark.parametrize(
        ("source", "release", "outcome"),
        [
            pytest.param(PROBES, "", UNHEALTHY, id="probes, by the baseline's p95"),
            pytest.param(PROMETHEUS, "", HEALTHY, id="a source that was as slow before"),
            pytest.param(ROUTER, "", INCONCLUSIVE, id="a source that did not measure before"),
            pytest.param(PROBES, "v1.0.0", INCONCLUSIVE, id="another release's"),
            pytest.param(PROBES, V, UNHEALTHY, id="its own alone"),
        ],
    )
    def test_are_compared_with_what_the_same_source_measured(
        self, source: str, release: str, outcome: Outcome
    ) -> None:
        baseline = replace(
            NOTHING_MEASURED, p95=20 * MS, times=(Times(PROMETHEUS, ALL_RELEASES, p95=800 * MS),)
        )
        samples = self.slow(source, release)
        assert judge_response_times(samples, RULES, baseline, V, SPAN).outcome is outcome
