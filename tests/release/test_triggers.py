"""The rollback triggers at their boundaries: the specification of when a release has to go."""

import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from release.comparison import judge_response_times
from release.model import Baseline, Release
from release.rules import WatchRules
from release.sample import Restarts
from release.traffic import ALL_RELEASES, PROBES, PROMETHEUS, ROUTER, Times, Traffic
from release.triggers import (
    AUTH_NOT_CONFIGURED,
    Action,
    Decision,
    Sample,
    judge_auth,
    judge_error_rate,
    judge_health,
    judge_p0,
    judge_watch,
    percentile,
    probes_needed,
)
from release.verdict import Outcome, Span, Trigger

START = datetime(2026, 1, 8, 2, 14, tzinfo=UTC)
RULES = WatchRules()
SANDBOX = WatchRules(
    length=timedelta(seconds=12),
    every=timedelta(milliseconds=500),
    sustained_for=timedelta(seconds=3),
    longest_gap=timedelta(seconds=2),
    extend_up_to=timedelta(seconds=6),
)
HEALTHY, UNHEALTHY, INCONCLUSIVE = Outcome.HEALTHY, Outcome.UNHEALTHY, Outcome.INCONCLUSIVE
MS = timedelta(milliseconds=1)
V = "v1.1.0"
SPAN = Span(START, START + timedelta(minutes=10))
BASELINE = Baseline(
    "production",
    Release("v1.0.0", "a" * 40),
    (),
    "",
    0.0,
    20 * MS,
    START - timedelta(minutes=5),
    (Traffic(ROUTER, ALL_RELEASES, 500, 0),),
)


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def health(*marks: tuple[float, bool | None]) -> list[Sample]:
    return [Sample(at(seconds), health=good, health_detail="HTTP 503") for seconds, good in marks]


def failing(since: float, until: float, every: float = 30) -> list[Sample]:
    count = round((until - since) / every)
    return health(*((since + every * number, False) for number in range(count + 1)))


def counted(requests: int | None, errors: int | None, source: str = ROUTER) -> tuple[Traffic, ...]:
    if requests is None or errors is None:
        return ()
    return (Traffic(source, ALL_RELEASES, requests, errors),)


def took(p95: timedelta | None) -> tuple[Times, ...]:
    return (Times(PROBES, ALL_RELEASES, p95, p95, p95),)


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

    def test_a_source_that_is_silent_takes_nothing_from_one_that_is_not(self) -> None:
        silent = [Sample(at(t), traffic=counted(0, 0, PROMETHEUS)) for t in range(0, 331, 30)]
        good, bad = steady(15, 345, 100, 0), steady(15, 345, 100, 9)
        assert judge_error_rate([*silent, *bad], RULES, V).fires
        assert judge_error_rate([*silent, *good], RULES, V).outcome is HEALTHY
        assert "prometheus" in judge_error_rate([*silent, *good], RULES, V).sentence

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


def watched(
    until: float,
    rules: WatchRules = RULES,
    good_health: bool | None = True,
    requests: int | None = 100,
    errors: int | None = 0,
    auth: bool | None = True,
    auth_detail: str = "",
    p0: str | None = "",
    restarts: tuple[Restarts, ...] | None = (),
    since: float = 0,
) -> list[Sample]:
    """Samples of a watch, all alike."""
    every = rules.every.total_seconds()
    count = round((until - since) / every)
    return [
        Sample(
            at(since + every * number),
            health=good_health,
            traffic=counted(requests, errors),
            times=took(20 * MS),
            auth=auth,
            auth_detail=auth_detail,
            p0=p0,
            restarts=restarts,
        )
        for number in range(count + 1)
    ]


def up_and_down(until: float, minutes: float = 2) -> list[Sample]:
    """A service that is well and ill by turns; nothing counts its requests."""
    well, ill = (
        watched(until, good_health=good, requests=None, errors=None) for good in (True, False)
    )
    return [
        (bad if (bad.at - START).total_seconds() // (60 * minutes) % 2 else good)
        for good, bad in zip(well, ill, strict=True)
    ]


def two_bursts(until: float) -> list[Sample]:
    """Two bursts of errors, a minute each, with three between: no window is ill for 5 min."""
    return [
        *watched(105),
        *watched(165, since=120, errors=99),
        *watched(345, since=180),
        *watched(405, since=360, errors=99),
        *watched(until, since=420),
    ]


def decide(samples: list[Sample], rules: WatchRules = RULES) -> Decision:
    return judge_watch(samples, rules, START, BASELINE, V)


class TestWatch:
    @pytest.mark.parametrize(
        ("samples", "action"),
        [
            pytest.param([], Action.CONTINUE, id="no sample yet"),
            pytest.param(watched(585), Action.CONTINUE, id="9 min 45 s"),
            pytest.param(watched(600), Action.PASS, id="10 min"),
            pytest.param(
                watched(600, requests=None, errors=None), Action.PASS, id="the metrics are down"
            ),
            pytest.param(watched(600, p0=None), Action.PASS, id="the ledger is down"),
            pytest.param(
                watched(600, auth=None, auth_detail=AUTH_NOT_CONFIGURED),
                Action.PASS,
                id="no account for the auth flow",
            ),
            pytest.param(watched(600, auth=None), Action.CONTINUE, id="the auth flow is unproven"),
            pytest.param(watched(1200, auth=None), Action.FAIL, id="and stays unproven"),
            pytest.param(watched(600, good_health=None), Action.CONTINUE, id="health is unproven"),
            pytest.param(watched(1020, good_health=None), Action.CONTINUE, id="17 min: 3 are left"),
            pytest.param(watched(1035, good_health=None), Action.FAIL, id="too few to prove it in"),
            pytest.param(watched(315, good_health=False), Action.FAIL, id="health fails"),
            pytest.param(watched(315, errors=6), Action.FAIL, id="the error rate is too high"),
            pytest.param(watched(0, p0="data loss"), Action.FAIL, id="P0 at the first sample"),
            pytest.param(watched(15, auth=False), Action.FAIL, id="the auth flow is broken"),
            pytest.param(
                [*watched(405), *watched(600, since=420, good_health=False)],
                Action.CONTINUE,
                id="a breach under way at the end extends the watch",
            ),
            pytest.param(
                [*watched(405), *watched(735, since=420, good_health=False)],
                Action.FAIL,
                id="until it has lasted too long",
            ),
            pytest.param(
                [
                    *watched(405),
                    *watched(600, since=420, good_health=False),
                    *watched(615, since=615),
                ],
                Action.CONTINUE,
                id="one good look at its end is not enough",
            ),
            pytest.param(
                [
                    *watched(405),
                    *watched(600, since=420, good_health=False),
                    *watched(900, since=615),
                ],
                Action.PASS,
                id="but 5 min are",
            ),
            pytest.param(
                up_and_down(825),
                Action.CONTINUE,
                id="up and down by turns, two minutes each, is not well",
            ),
            pytest.param(
                up_and_down(840), Action.FAIL, id="and does not stay where that does not end"
            ),
            pytest.param(
                two_bursts(765), Action.CONTINUE, id="5 min are not enough after two bursts"
            ),
            pytest.param(two_bursts(780), Action.PASS, id="but when one of them is 10 min ago"),
            pytest.param(
                [*two_bursts(705), *watched(720, since=720, errors=99)],
                Action.FAIL,
                id="and a third, while it is watched on, is one too many",
            ),
            pytest.param(
                [
                    *watched(105),
                    *watched(315, since=120, errors=99),
                    *watched(630, since=330),
                ],
                Action.PASS,
                id="one burst, no longer than allowed, is forgiven after 5 min",
            ),
            pytest.param(
                [
                    *watched(285),
                    *watched(299, since=299, requests=600, errors=300),
                    *watched(600, since=345),
                ],
                Action.CONTINUE,
                id="a burst counted by a slow sample, that was begun before the last 5 min",
            ),
            pytest.param(
                [*watched(585), *watched(600, since=600, errors=99)],
                Action.CONTINUE,
                id="one burst at the end, which may be a breach",
            ),
            pytest.param(
                [
                    *watched(570),
                    *watched(585, since=585, good_health=False),
                    *watched(600, since=600),
                ],
                Action.PASS,
                id="one failed health check in twenty is well",
            ),
            pytest.param(
                [*watched(60), *watched(600, since=150)],
                Action.PASS,
                id="an early gap was made up for by 5 min without one",
            ),
            pytest.param(
                [*watched(405), *watched(600, since=495)],
                Action.CONTINUE,
                id="a late gap extends the watch",
            ),
            pytest.param(
                [*watched(405), *watched(795, since=495)],
                Action.PASS,
                id="until 5 min without one have passed",
            ),
        ],
    )
    def test_decides(self, samples: list[Sample], action: Action) -> None:
        assert decide(samples).action is action

    def test_what_could_not_be_judged_is_said(self) -> None:
        decision = decide(watched(600, requests=None, errors=None, p0=None, restarts=None))
        assert decision.sentence == "no trigger in 10 min"
        assert decision.notes == (
            "P0 reports not judged: the ledger could not be asked",
            "restarts not judged: the engine could not be asked",
            "error rate not judged: no sample holds traffic counts",
            "error rate not compared: no sample holds traffic counts",
        )

    def test_slow_answers_let_the_release_stay_and_are_said(self) -> None:
        samples = [replace(s, times=took(2000 * MS)) for s in watched(600)]
        decision = decide(samples)
        assert decision.action is Action.PASS
        assert decision.notes == (
            "95% of answers within 2 s > 500 ms for 5 min 15 s (02:14–02:19 UTC, probes)",
        )

    def test_an_extended_watch_says_why_and_until_when(self) -> None:
        decision = decide([*watched(405), *watched(600, since=420, good_health=False)])
        assert decision.until == at(1200)
        assert decision.sentence == (
            "watched on, until 02:34:00 UTC at most: health check failed since 02:21:00 UTC"
        )

    def test_a_release_that_stays_unproven_fails_with_the_reason(self) -> None:
        decision = decide(watched(1200, auth=None))
        assert decision.sentence == (
            "not proven healthy in 20 min: auth flow not judged: no check was made"
        )

    def test_a_watch_that_cannot_end_well_any_more_ends_at_once(self) -> None:
        decision = decide(watched(1035, good_health=None))
        assert decision.sentence == (
            "not to be proven healthy any more until 02:34:00 UTC: "
            "health not judged: no sample holds a health check"
        )

    def test_an_auth_flow_that_does_not_answer_any_more_is_not_proven(self) -> None:
        """A check that hangs has not failed, and proves nothing. At most samples none is due."""
        early, later = watched(210), watched(600, since=225, auth=None)
        hangs = replace(later[3], unknown=("auth flow: no answer within 31 s",))
        assert decide([*early, *later]).action is Action.PASS
        decision = decide([*early, *later, hangs])
        assert decision.action is Action.CONTINUE
        assert decision.sentence.endswith("auth flow without an answer since 02:18:30 UTC")
        late = [*early, *later, hangs, *watched(615, since=615)]
        assert decide(late).action is Action.PASS

    def test_twice_the_errors_let_the_release_stay_and_are_said(self) -> None:
        """4% is no trigger of the runbook; after a baseline without errors it is worth a look."""
        decision = decide(watched(600, errors=4))
        assert decision.action is Action.PASS
        (note,) = decision.notes
        assert note == (
            "error rate 4.00% (4 of 100) at 02:14:00 UTC, 4.00% (164 of 4,100) in all, "
            "before it was 0.00% (0 of 500): at least 2 times as high, and no chance (router)"
        )

    def test_all_triggers_that_fire_are_named(self) -> None:
        decision = decide(watched(315, good_health=False, errors=50))
        assert "health check failed for 5 min 15 s" in decision.sentence
        assert "error rate 50.0% > 5.0% for 5 min 15 s" in decision.sentence

    @pytest.mark.parametrize(
        ("samples", "action"),
        [
            pytest.param(watched(12, SANDBOX), Action.PASS, id="12 s without trouble"),
            pytest.param(watched(3, SANDBOX, errors=20), Action.CONTINUE, id="20% for exactly 3 s"),
            pytest.param(watched(3.5, SANDBOX, errors=20), Action.FAIL, id="20% for 3.5 s"),
            pytest.param(
                [*watched(10, SANDBOX), *watched(12, SANDBOX, good_health=False, since=10.5)],
                Action.CONTINUE,
                id="a breach at the end",
            ),
            pytest.param(
                watched(18, SANDBOX, good_health=None), Action.FAIL, id="never seen healthy"
            ),
        ],
    )
    def test_a_watch_of_seconds_is_a_matter_of_settings(
        self, samples: list[Sample], action: Action
    ) -> None:
        assert decide(samples, SANDBOX).action is action


MAYBE = st.none() | st.booleans()


@st.composite
def any_samples(draw: st.DrawFn, until: int = 900) -> list[Sample]:
    """Samples at different moments, with anything missing."""
    moments = draw(st.lists(st.integers(0, until), max_size=40, unique=True))
    bad_share = draw(st.sampled_from([0.0, 0.05, 0.06, 0.5]))
    samples = []
    for moment in moments:
        requests = draw(st.none() | st.integers(0, 300))
        errors = None if requests is None else round(requests * bad_share)
        samples.append(
            Sample(
                at(moment),
                health=draw(MAYBE),
                traffic=counted(requests, errors),
                times=took(draw(st.none() | st.integers(1, 2000).map(lambda ms: ms * MS))),
                auth=draw(MAYBE),
                p0=draw(st.sampled_from([None, "", "", ""])),
            )
        )
    return samples


FIRING = [
    watched(315, good_health=False),
    watched(315, errors=50),
    watched(15, auth=False),
    watched(0, p0="data loss"),
    [replace(s, restarts=(Restarts("api-2", V, n),)) for n, s in enumerate(watched(30))],
]


def fired(samples: list[Sample]) -> dict[Trigger, str]:
    """The triggers that roll back, with their sentences."""
    return {v.trigger: v.sentence for v in decide(samples).verdicts if v.fires}


def later_by(samples: list[Sample], seconds: float) -> list[Sample]:
    return [replace(s, at=s.at + timedelta(seconds=seconds)) for s in samples]


class TestWhateverIsSampled:
    @settings(max_examples=50, deadline=None)
    @given(samples=any_samples(), seed=st.integers(0, 1000))
    def test_order_and_repetition_change_nothing(self, samples: list[Sample], seed: int) -> None:
        shuffled = [*samples, *samples[::2]]
        random.Random(seed).shuffle(shuffled)
        assert decide(shuffled) == decide(samples)

    @settings(max_examples=50, deadline=None)
    @given(samples=st.sampled_from(FIRING) | any_samples(), later=any_samples())
    def test_a_trigger_that_fired_stays_fired(
        self, samples: list[Sample], later: list[Sample]
    ) -> None:
        after = max((sample.at for sample in samples), default=START) - START
        appended = later_by(later, after.total_seconds() + 1)
        assert fired(samples).items() <= fired([*samples, *appended]).items()

    @settings(max_examples=50, deadline=None)
    @given(samples=st.sampled_from(FIRING), good=any_samples(until=330), seed=st.integers(0, 1000))
    def test_a_clock_that_is_set_back_onto_samples_takes_no_breach_away(
        self, samples: list[Sample], good: list[Sample], seed: int
    ) -> None:
        """Samples of a good time land on moments that were bad already: the worse one counts."""
        taken = [sample.at for sample in samples]
        landed = [
            replace(
                sample,
                at=random.Random(seed + number).choice(taken),
                p0="",
                auth=True,
                health=True,
                traffic=counted(200, 0),
            )
            for number, sample in enumerate(good)
        ]
        mixed = [*samples, *landed]
        random.Random(seed).shuffle(mixed)
        assert fired(samples).keys() <= fired(mixed).keys()

    @settings(max_examples=50, deadline=None)
    @given(
        samples=st.sampled_from(FIRING) | any_samples(),
        cut=st.integers(0, 900),
        pause=st.integers(61, 3600),
    )
    def test_no_breach_appears_because_the_clock_was_set_on_or_nobody_looked(
        self, samples: list[Sample], cut: int, pause: int
    ) -> None:
        """A pause in the samples is no time in which anything was seen to fail."""
        early = [sample for sample in samples if sample.at < at(cut)]
        late = [sample for sample in samples if sample.at >= at(cut)]
        assert fired([*early, *later_by(late, pause)]).keys() <= fired(samples).keys()
        assert fired(early).keys() <= fired([*early, *later_by(late, pause)]).keys()

    @settings(max_examples=50, deadline=None)
    @given(samples=st.sampled_from(FIRING) | any_samples(), hours=st.integers(-12, 12))
    def test_the_time_of_day_does_not_matter(self, samples: list[Sample], hours: int) -> None:
        moved = timedelta(hours=hours)
        there = judge_watch(
            [replace(s, at=s.at + moved) for s in samples], RULES, START + moved, BASELINE, V
        )
        assert there.action is decide(samples).action
        assert [v.outcome for v in there.verdicts] == [v.outcome for v in decide(samples).verdicts]

    @settings(max_examples=50, deadline=None)
    @given(samples=any_samples(), blind=st.integers(0, 900), length=st.integers(1, 900))
    def test_a_sample_that_does_not_know_is_as_if_never_taken(
        self, samples: list[Sample], blind: int, length: int
    ) -> None:
        seen = [s for s in samples if not at(blind) <= s.at < at(blind + length)]
        unseen = [Sample(s.at) for s in samples if at(blind) <= s.at < at(blind + length)]
        assert fired([*seen, *unseen]) == fired(seen)

    @settings(max_examples=50, deadline=None)
    @given(samples=any_samples(until=300))
    def test_nothing_sustained_fires_within_five_minutes(self, samples: list[Sample]) -> None:
        assert fired(samples).keys() <= {Trigger.AUTH, Trigger.P0}

    @settings(max_examples=50, deadline=None)
    @given(samples=any_samples(until=1300))
    def test_a_release_stays_only_if_it_was_seen_healthy_at_the_end(
        self, samples: list[Sample]
    ) -> None:
        decision = decide(samples)
        if decision.action is Action.PASS:
            known = [s for s in sorted(samples, key=lambda s: s.at) if s.health is not None]
            assert known[-1].health
            assert decision.until - known[-1].at <= RULES.longest_gap

    @settings(max_examples=100, deadline=None)
    @given(
        bad=st.integers(0, 72),
        silent=st.sampled_from([watched(1080, good_health=None), watched(1080)]),
        resumed=st.integers(0, 18),
    )
    def test_a_watch_that_ended_early_could_not_have_passed(
        self, bad: int, silent: list[Sample], resumed: int
    ) -> None:
        """Whatever comes after a failure, and however good: no later decision is a pass."""
        samples = silent[: bad + 1]
        if decide(samples).action is not Action.FAIL:
            return
        now = (samples[-1].at - START).total_seconds()
        for end in range(int(now) + 15, 1275, 15):
            good = watched(end, since=now + 15 * resumed)
            assert decide([*samples, *good]).action is not Action.PASS


@pytest.mark.parametrize(
    ("rules", "probes"),
    [
        pytest.param(RULES, 6, id="15 s apart, 5 min: 19 ticks, one may be late"),
        pytest.param(SANDBOX, 20, id="500 ms apart, 3 s: 5 ticks"),
        pytest.param(
            WatchRules(length=timedelta(minutes=2)), 15, id="the watch is shorter: 7 ticks"
        ),
        pytest.param(
            WatchRules(every=timedelta(minutes=10), longest_gap=timedelta(minutes=20)),
            100,
            id="one tick",
        ),
    ],
)
def test_probes_alone_fill_every_window(rules: WatchRules, probes: int) -> None:
    assert probes_needed(rules) == probes


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
