"""Samples of a release as tests of its watch need them."""

from datetime import UTC, datetime, timedelta

from release.configuration.rules import WatchRules
from release.measure.sample import Restarts
from release.measure.traffic import ALL_RELEASES, PROBES, ROUTER, Times, Traffic
from release.model import Baseline, Release
from release.watch.triggers import (
    Sample,
)
from release.watch.verdict import Outcome, Span

PROMETHEUS = "prometheus"
"""A source beside the router and the probes, as its adapter calls itself."""

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


def counted(requests: int | None, errors: int | None, source: str = ROUTER) -> tuple[Traffic, ...]:
    if requests is None or errors is None:
        return ()
    return (Traffic(source, ALL_RELEASES, requests, errors),)


def took(p95: timedelta | None) -> tuple[Times, ...]:
    return (Times(PROBES, ALL_RELEASES, p95, p95, p95),)


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
