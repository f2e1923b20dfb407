"""The rollback triggers at their boundaries: the specification of when a release has to go."""

from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from release.configuration.rules import WatchRules
from release.measure.sampling import probes_needed
from release.measure.traffic import PROBES, ROUTER, Traffic
from release.watch.comparison import judge_response_times
from release.watch.triggers import (
    Sample,
    judge_auth,
    judge_error_rate,
    judge_health,
    judge_p0,
    percentile,
)
from release.watch.verdict import Outcome, Span, Trigger
from tests.fakes.samples import (
    BASELINE,
    HEALTHY,
    INCONCLUSIVE,
    MS,
    PROMETHEUS,
    RULES,
    SANDBOX,
    SPAN,
    START,
    UNHEALTHY,
    V,
    at,
    counted,
    took,
    watched,
)


def health(*marks: tuple[float, bool | None]) -> list[Sample]:
    return [Sample(at(seconds), health=good, health_detail="HTTP 503") for seconds, good in marks]


def failing(since: float, until: float, every: float = 30) -> list[Sample]:
    count = round((until - since) / every)
    return health(*((since + every * number, False) for number in range(count + 1)))


def traffic(*marks: tuple[float, int | None, int | None]) -> list[Sample]:
    return [Sample(at(seconds), traffic=counted(sent, bad)) for seconds, sent, bad in marks]


def steady(
    since: float, until: float, requests: int, errors: int, every: float = 30
) -> list[Sample]:
    count = round((until - since) / every)
    return traffic(*((since + every * n, requests, errors) for n in range(count + 1)))


class TestHealth:
    @pytest.mark.parametrize(
        ("samples", "outcome"),
        [
            pytest.param(health((0, True), (30, True)), HEALTHY, id="all good"),
            pytest.param(failing(0, 270), INCONCLUSIVE, id="fails for 4 min 30 s, so far"),
            pytest.param(failing(0, 300), INCONCLUSIVE, id="fails for exactly 5 min, so far"),
            pytest.param(failing(0, 300.001, 300.001 / 6), UNHEALTHY, id="fails for a bit longer"),
            pytest.param(failing(0, 330), UNHEALTHY, id="fails for 5 min 30 s"),
            pytest.param(
                [*failing(0, 300), *health((330, True))], HEALTHY, id="exactly 5 min, then good"
            ),
            pytest.param(
                [*failing(0, 330), *health((360, True), (390, True))],
                UNHEALTHY,
                id="a breach is latched",
            ),
            pytest.param(
                [*failing(0, 180), *health((210, True)), *failing(240, 480)],
                INCONCLUSIVE,
                id="one good sample starts the count again",
            ),
            pytest.param(
                [*failing(0, 180), *failing(240, 330)], UNHEALTHY, id="a gap of exactly 60 s counts"
            ),
            pytest.param(
                [*failing(0, 180), *failing(270, 540)],
                INCONCLUSIVE,
                id="the clock does not run through a gap of 90 s",
            ),
            pytest.param(
                [*failing(0, 180), *failing(270, 600)], UNHEALTHY, id="long enough after a gap"
            ),
            pytest.param(
                [*failing(0, 150), *health((180, None)), *failing(210, 330)],
                UNHEALTHY,
                id="a sample that does not know interrupts nothing",
            ),
            pytest.param(
                health((0, True), (90, True)), INCONCLUSIVE, id="a gap of 90 s is not health"
            ),
            pytest.param(health((0, None), (30, None)), INCONCLUSIVE, id="nothing known"),
            pytest.param([], INCONCLUSIVE, id="no samples"),
        ],
    )
    def test_fails_for_longer_than_five_minutes(
        self, samples: list[Sample], outcome: Outcome
    ) -> None:
        assert judge_health(samples, RULES).outcome is outcome

    def test_the_sentence_says_what_how_long_and_when(self) -> None:
        verdict = judge_health(failing(0, 390), RULES)
        assert verdict.sentence == (
            "health check failed (HTTP 503) for 5 min 30 s (02:14–02:19 UTC)"
        )
        assert verdict.trigger is Trigger.HEALTH
        assert verdict.fires

    def test_a_breach_that_may_still_end_is_under_way(self) -> None:
        verdict = judge_health([*health((0, True)), *failing(30, 120)], RULES)
        assert verdict.under_way
        assert not verdict.fires
        assert verdict.sentence == "health check failed (HTTP 503) since 02:14:30 UTC"

    def test_samples_that_do_not_cover_the_span_are_inconclusive(self) -> None:
        samples = health((0, True), (30, True))
        span = Span(START, at(120))
        verdict = judge_health(samples, RULES, span)
        assert verdict.outcome is INCONCLUSIVE
        assert verdict.sentence == (
            "health unknown for 1 min 30 s (02:14:30–02:16:00 UTC); "
            "health check good in 2 of 2 samples else"
        )

    def test_seconds_work_as_minutes_do(self) -> None:
        assert not judge_health(failing(0, 3, 0.5), SANDBOX).fires
        assert judge_health(failing(0, 3.5, 0.5), SANDBOX).fires
        assert judge_health(failing(0, 3.5, 0.5), SANDBOX).sentence == (
            "health check failed (HTTP 503) for 3.5 s (02:14:00–02:14:03 UTC)"
        )


class TestErrorRate:
    @pytest.mark.parametrize(
        ("samples", "outcome"),
        [
            pytest.param(steady(0, 600, 100, 5), HEALTHY, id="exactly 5.0%"),
            pytest.param(steady(0, 300, 1000, 51), INCONCLUSIVE, id="5.1% for exactly 5 min"),
            pytest.param(steady(0, 330, 1000, 51), UNHEALTHY, id="5.1% for 5 min 30 s"),
            pytest.param(
                [*steady(0, 180, 200, 20), *steady(210, 330, 200, 4), *steady(360, 600, 200, 20)],
                INCONCLUSIVE,
                id="a rate below the ceiling, then and on average, starts the count again",
            ),
            pytest.param(
                [*steady(0, 180, 200, 20), *traffic((210, 200, 10)), *steady(240, 480, 200, 20)],
                UNHEALTHY,
                id="one sample at the ceiling in the midst of a breach is chance",
            ),
            pytest.param(
                [*steady(0, 240, 200, 20), *steady(270, 600, 200, 10)],
                HEALTHY,
                id="four bad minutes, then exactly 5.0%",
            ),
            pytest.param(
                [*steady(0, 330, 200, 20), *steady(360, 600, 200, 0)],
                UNHEALTHY,
                id="a breach is latched",
            ),
            pytest.param(traffic((0, 99, 99)), INCONCLUSIVE, id="99 requests are too few"),
            pytest.param(traffic((0, 100, 5)), HEALTHY, id="100 requests are enough"),
            pytest.param(
                traffic((0, 50, 0), (30, 50, 0)), HEALTHY, id="100 requests in two samples"
            ),
            pytest.param(
                steady(0, 600, 9, 9), INCONCLUSIVE, id="99 requests in every window of 5 min"
            ),
            pytest.param(
                [*steady(0, 180, 200, 20), *steady(270, 540, 200, 20)],
                INCONCLUSIVE,
                id="the clock does not run through a gap of 90 s",
            ),
            pytest.param(
                [*steady(0, 150, 200, 20), *traffic((180, None, None)), *steady(210, 330, 200, 20)],
                UNHEALTHY,
                id="a sample without counts interrupts nothing",
            ),
            pytest.param(
                traffic((0, 200, 0), (90, 200, 0)), INCONCLUSIVE, id="a gap of 90 s is not health"
            ),
            pytest.param(traffic((0, None, None)), INCONCLUSIVE, id="the metrics are down"),
            pytest.param(steady(0, 600, 0, 0), INCONCLUSIVE, id="no traffic at all"),
            pytest.param(
                [*steady(0, 240, 10, 10), *steady(270, 900, 10, 0)],
                HEALTHY,
                id="four bad minutes in thin traffic are not five",
            ),
            pytest.param(
                [*steady(0, 330, 10, 10), *steady(360, 420, 10, 0)],
                INCONCLUSIVE,
                id="thin traffic is known only once its window is full",
            ),
            pytest.param(steady(0, 600, 10, 10), UNHEALTHY, id="but ten bad minutes are enough"),
        ],
    )
    def test_above_five_percent_for_longer_than_five_minutes(
        self, samples: list[Sample], outcome: Outcome
    ) -> None:
        assert judge_error_rate(samples, RULES, V).outcome is outcome

    def test_the_sentence_says_the_rate_against_the_ceiling(self) -> None:
        verdict = judge_error_rate(steady(0, 390, 1000, 72), RULES, V)
        assert verdict.sentence == "error rate 7.2% > 5.0% for 5 min 30 s (02:14–02:19 UTC, router)"
        assert verdict.value == "7.2% of 14,000 requests"
        assert verdict.limit == "5.0% for 5 min"

    def test_a_rate_close_to_the_ceiling_is_told_from_it(self) -> None:
        verdict = judge_error_rate(steady(0, 330, 10_000, 504), RULES, V)
        assert verdict.sentence.startswith("error rate 5.04% > 5.0% for")

    def test_too_few_requests_are_said(self) -> None:
        verdict = judge_error_rate(traffic((0, 40, 0), (30, 2, 0)), RULES, V)
        assert verdict.sentence == (
            "error rate not judged: 42 requests counted, a window needs 100 (router)"
        )

    def test_each_source_is_judged_by_itself_and_the_breach_of_one_is_enough(self) -> None:
        samples = [
            Sample(at(t), traffic=(*counted(1000, 0, PROBES), *counted(100, 9, ROUTER)))
            for t in range(0, 331, 30)
        ]
        verdict = judge_error_rate(samples, RULES, V)
        assert verdict.fires
        assert verdict.sentence == "error rate 9.0% > 5.0% for 5 min 30 s (02:14–02:19 UTC, router)"

    def test_who_else_sees_a_breach_is_named_once_and_without_a_sentence_of_their_own(self) -> None:
        bad = (
            *counted(100, 9, ROUTER),
            *(Traffic(source, V, 100, 8) for source in (PROMETHEUS, ROUTER)),
            *counted(100, 0, PROBES),
        )
        under_way, fired = (
            judge_error_rate([Sample(at(t), traffic=bad) for t in range(0, until, 30)], RULES, V)
            for until in (121, 331)
        )
        assert under_way.sentence == (
            f"error rate 8.0% > 5.0% since 02:14:00 UTC (prometheus, {V} alone);"
            " seen by router as well"
        )
        assert fired.sentence == (
            f"error rate 8.0% > 5.0% for 5 min 30 s (02:14–02:19 UTC, prometheus, {V} alone);"
            " seen by router as well"
        )

    def test_where_all_is_well_the_others_are_named_and_who_cannot_tell_says_why(self) -> None:
        good = (
            *counted(100, 0, ROUTER),
            *(Traffic(source, V, 100, 0) for source in (PROMETHEUS, ROUTER)),
            *counted(1, 0, PROBES),
        )
        verdict = judge_error_rate(
            [Sample(at(t), traffic=good) for t in range(0, 331, 30)], RULES, V
        )
        assert verdict.outcome is HEALTHY
        assert verdict.sentence == (
            f"error rate 0.0% over 1,200 requests (prometheus, {V} alone); seen by router as well;"
            " error rate not judged: 12 requests counted, a window needs 100 (probes)"
        )

    def test_a_source_that_is_silent_takes_nothing_from_one_that_is_not(self) -> None:
        silent = [Sample(at(t), traffic=counted(0, 0, PROMETHEUS)) for t in range(0, 331, 30)]
        good, bad = steady(15, 345, 100, 0), steady(15, 345, 100, 9)
        assert judge_error_rate([*silent, *bad], RULES, V).fires
        assert judge_error_rate([*silent, *good], RULES, V).outcome is HEALTHY
        assert "prometheus" in judge_error_rate([*silent, *good], RULES, V).sentence

    @pytest.mark.parametrize(
        ("until", "under_way"),
        [
            pytest.param(300, True, id="the last window that holds 100 of its answers"),
            pytest.param(360, True, id="60 s later"),
            pytest.param(390, False, id="90 s later"),
            pytest.param(600, False, id="at the end of the watch"),
        ],
    )
    def test_a_source_that_fell_silent_holds_its_breach_no_longer_than_a_gap(
        self, until: float, under_way: bool
    ) -> None:
        """A router was restarted. The probes are many until it counts again, and few from then on:
        they can never say that what they saw is over."""
        samples = [
            *(Sample(at(t), traffic=counted(100, 40, PROBES)) for t in (0, 30)),
            *(
                Sample(at(t), traffic=(*counted(1, 0, PROBES), *counted(1000, 0, ROUTER)))
                for t in range(60, round(until) + 1, 30)
            ),
        ]
        verdict = judge_error_rate(samples, RULES, V)
        assert verdict.under_way is under_way
        assert verdict.outcome is (INCONCLUSIVE if under_way else HEALTHY), "the router decides"
        assert ("error rate unknown for" in verdict.sentence) is not under_way

    @pytest.mark.parametrize(
        ("release", "outcome"), [(V, UNHEALTHY), ("", UNHEALTHY), ("v1.0.0", INCONCLUSIVE)]
    )
    def test_the_traffic_of_another_release_is_not_judged(
        self, release: str, outcome: Outcome
    ) -> None:
        samples = [
            Sample(at(t), traffic=(Traffic(PROMETHEUS, release, 100, 9),))
            for t in range(0, 331, 30)
        ]
        assert judge_error_rate(samples, RULES, V).outcome is outcome

    @settings(max_examples=50, deadline=None)
    @given(
        bad=st.integers(0, 39),
        burst=st.integers(1, 10_000),
        requests=st.integers(0, 300),
        every=st.sampled_from([1, 15, 59]),
    )
    def test_one_bad_sample_never_fires(
        self, bad: int, burst: int, requests: int, every: int
    ) -> None:
        """However thin the traffic that keeps it in the window."""
        samples = steady(0, 39 * every, requests, 0, every)
        samples[bad] = Sample(samples[bad].at, traffic=counted(burst, burst))
        assert judge_error_rate(samples, RULES, V).outcome is not UNHEALTHY


class TestAuth:
    @pytest.mark.parametrize(
        ("checks", "outcome"),
        [
            pytest.param([True, True], HEALTHY, id="all good"),
            pytest.param([True, False], INCONCLUSIVE, id="failed once"),
            pytest.param([False, False], UNHEALTHY, id="failed twice in a row"),
            pytest.param([False, None, None, False], UNHEALTHY, id="in a row, unchecked between"),
            pytest.param([False, True, False, True], HEALTHY, id="twice, not in a row"),
            pytest.param([False, False, True, True], UNHEALTHY, id="latched"),
            pytest.param([None, None], INCONCLUSIVE, id="never checked"),
        ],
    )
    def test_broken_when_two_checks_in_a_row_fail(
        self, checks: list[bool | None], outcome: Outcome
    ) -> None:
        samples = [
            Sample(at(15 * n), health=True, auth=good, auth_detail="login: HTTP 500")
            for n, good in enumerate(checks)
        ]
        assert judge_auth(samples, RULES).outcome is outcome

    def test_a_service_that_is_down_is_left_to_the_health_rule(self) -> None:
        samples = [Sample(at(15 * n), health=False, auth=False) for n in range(10)]
        assert judge_auth(samples, RULES).outcome is INCONCLUSIVE

    def test_the_sentence_says_what_failed(self) -> None:
        samples = [
            Sample(at(15 * n), health=True, auth=False, auth_detail="login: HTTP 500")
            for n in range(2)
        ]
        assert judge_auth(samples, RULES).sentence == (
            "auth flow broken, 2 times in a row at 02:14:15 UTC: login: HTTP 500"
        )


class TestP0:
    def test_fires_at_once_and_says_the_reason(self) -> None:
        samples = [Sample(at(0), p0=""), Sample(at(15), p0="orders are charged twice")]
        verdict = judge_p0(samples, RULES)
        assert verdict.fires
        assert verdict.sentence == ("P0 declared, seen at 02:14:15 UTC: orders are charged twice")

    def test_a_ledger_that_does_not_answer_is_inconclusive(self) -> None:
        assert judge_p0([Sample(at(0)), Sample(at(15))], RULES).outcome is INCONCLUSIVE
        assert judge_p0([Sample(at(0)), Sample(at(15), p0="")], RULES).outcome is HEALTHY


class TestResponseTimes:
    @pytest.mark.parametrize(
        ("p95", "baseline", "until", "outcome"),
        [
            pytest.param(600 * MS, 200 * MS, 600, HEALTHY, id="exactly three times"),
            pytest.param(601 * MS, 200 * MS, 300, INCONCLUSIVE, id="more, for exactly 5 min"),
            pytest.param(601 * MS, 200 * MS, 330, UNHEALTHY, id="more, for 5 min 30 s"),
            pytest.param(499 * MS, 20 * MS, 600, HEALTHY, id="below the floor"),
            pytest.param(501 * MS, 20 * MS, 600, UNHEALTHY, id="above the floor"),
            pytest.param(900 * MS, None, 600, INCONCLUSIVE, id="no baseline"),
            pytest.param(None, 20 * MS, 600, INCONCLUSIVE, id="no answers"),
        ],
    )
    def test_are_measured_against_the_baseline(
        self, p95: timedelta | None, baseline: timedelta | None, until: int, outcome: Outcome
    ) -> None:
        samples = [Sample(at(t), times=took(p95)) for t in range(0, until + 1, 30)]
        assert (
            judge_response_times(samples, RULES, replace(BASELINE, p95=baseline), V, SPAN).outcome
            is outcome
        )

    def test_ask_a_person_and_never_roll_back(self) -> None:
        samples = [Sample(at(t), times=took(900 * MS)) for t in range(0, 331, 30)]
        verdict = judge_response_times(samples, RULES, BASELINE, V, SPAN)
        assert verdict.outcome is UNHEALTHY
        assert not verdict.fires
        assert verdict.sentence == (
            "95% of answers within 900 ms > 500 ms for 5 min 30 s (02:14–02:19 UTC, probes)"
        )


@pytest.mark.parametrize("rules", [RULES, SANDBOX])
def test_probes_alone_let_the_error_rate_be_judged(rules: WatchRules) -> None:
    sent = probes_needed(rules)
    samples = watched(rules.length.total_seconds(), rules, requests=sent)
    assert judge_error_rate(samples, rules, V).outcome is HEALTHY


def test_a_percentile_is_one_of_the_values() -> None:
    values = [number * MS for number in range(1, 101)]
    assert percentile(values, 0.95) == 95 * MS
    assert percentile(values, 0.5) == 50 * MS
    assert percentile([7 * MS], 0.95) == 7 * MS
    assert percentile([1 * MS, 2 * MS, 3 * MS], 0.95) == 3 * MS


def test_a_sample_without_a_time_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="time zone"):
        Sample(datetime(2026, 1, 8))
