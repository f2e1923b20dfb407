"""How samples are taken: whose count is the users', how many probes are sent, what leaves a gap."""

from datetime import timedelta

import pytest

from release.configuration.rules import WatchRules
from release.measure.counters import Growth
from release.measure.sampling import (
    FIRST_LOOK,
    Patience,
    compared_next,
    counted_since,
    patience_of,
    probes_missing,
    probes_needed,
    real_requests,
)
from release.measure.traffic import ALL_RELEASES, PROBES, ROUTER, Traffic
from tests.fakes.samples import RULES, SANDBOX

SECOND = timedelta(seconds=1)
OTHER = "metrics"


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


@pytest.mark.parametrize(
    ("since_last", "real", "fewest", "probes"),
    [
        pytest.param(0, 0, 3, 6, id="the first sample fills its part of a window"),
        pytest.param(15, 0, 3, 6, id="in time"),
        pytest.param(15, 4, 4, 4, id="users are a part of it"),
        pytest.param(15, 2, 3, 4, id="probes add what users leave missing"),
        pytest.param(15, 1000, 3, 3, id="a busy service is probed all the same"),
        pytest.param(60, 0, 3, 25, id="a late one sends more, as fewer of them fill a window"),
        pytest.param(60, 20, 3, 5, id="late, with users"),
        pytest.param(5, 0, 3, 6, id="an early one sends no fewer than planned"),
    ],
)
def test_probes_add_what_real_traffic_leaves_missing(
    since_last: float, real: int, fewest: int, probes: int
) -> None:
    assert probes_missing(RULES, since_last * SECOND, real, fewest) == probes


@pytest.mark.parametrize(
    ("traffic", "own", "real"),
    [
        pytest.param([], 10, 0, id="nothing counts"),
        pytest.param([Traffic(ROUTER, ALL_RELEASES, 110, 0)], 10, 100, id="without our own"),
        pytest.param([Traffic(ROUTER, ALL_RELEASES, 7, 0)], 10, 0, id="never below zero"),
        pytest.param(
            [
                Traffic(ROUTER, ALL_RELEASES, 110, 0),
                Traffic(ROUTER, "v1.0.0", 80, 0),
                Traffic(ROUTER, "v1.1.0", 30, 0),
            ],
            10,
            100,
            id="a release's part is in the whole",
        ),
        pytest.param(
            [Traffic(OTHER, ALL_RELEASES, 900, 0), Traffic(ROUTER, ALL_RELEASES, 110, 0)],
            10,
            100,
            id="of two that count the same, the first counts",
        ),
        pytest.param(
            [Traffic(OTHER, ALL_RELEASES, 60, 0)], 10, 50, id="the second where the first is away"
        ),
        pytest.param(
            [Traffic(ROUTER, ALL_RELEASES, 0, 0), Traffic(OTHER, ALL_RELEASES, 60, 0)],
            0,
            0,
            id="a first that counted nobody is believed",
        ),
        pytest.param([Traffic(PROBES, ALL_RELEASES, 34, 0)], 0, 0, id="probes are no users"),
    ],
)
def test_whose_count_is_the_users(traffic: list[Traffic], own: int, real: int) -> None:
    assert real_requests(traffic, (ROUTER, OTHER), own) == real


@pytest.mark.parametrize(
    ("rules", "timeout", "hurried", "expected"),
    [
        pytest.param(
            WatchRules(every=15 * SECOND, longest_gap=60 * SECOND),
            10,
            False,
            Patience(31 * SECOND, 31 * SECOND, 7.5 * SECOND, None),
            id="by itself it waits for all that an answer may take",
        ),
        pytest.param(
            WatchRules(every=15 * SECOND, longest_gap=60 * SECOND),
            10,
            True,
            Patience(27 * SECOND, 31 * SECOND, 7.5 * SECOND, 40.5 * SECOND),
            id="among others it is over before the next one would be too late",
        ),
        pytest.param(
            WatchRules(every=15 * SECOND, longest_gap=60 * SECOND),
            1,
            True,
            Patience(4 * SECOND, 4 * SECOND, 7.5 * SECOND, 40.5 * SECOND),
            id="nobody waits longer than an answer may take",
        ),
    ],
)
def test_a_sample_is_never_so_long_that_it_leaves_a_gap(
    rules: WatchRules, timeout: float, hurried: bool, expected: Patience
) -> None:
    found = patience_of(rules, timeout * SECOND, in_a_hurry=hurried)

    assert found == expected
    assert found.in_all is None or rules.every + found.in_all < rules.longest_gap


@pytest.mark.parametrize(
    ("before", "now", "expected"),
    [
        pytest.param(10, 17, Growth((Traffic(OTHER, ALL_RELEASES, 7, 0),)), id="grown"),
        pytest.param(None, 17, Growth(unknown=FIRST_LOOK), id="seen for the first time"),
        pytest.param(10, None, Growth(), id="not seen: why was said when it was asked"),
        pytest.param(None, None, Growth(), id="never seen"),
        pytest.param(0, 0, Growth((Traffic(OTHER, ALL_RELEASES, 0, 0),)), id="a zero is a look"),
    ],
)
def test_what_is_known_of_the_time_between_two_looks(
    before: int | None, now: int | None, expected: Growth
) -> None:
    def grow(before: int, now: int) -> Growth:
        return Growth((Traffic(OTHER, ALL_RELEASES, now - before, 0),))

    assert counted_since(before, now, grow) == expected


@pytest.mark.parametrize(
    ("looks", "counts_on", "gaps"),
    [
        pytest.param([10, 20, 30], False, [10, 10], id="always there"),
        pytest.param([10, None, 30], True, [None, 20], id="what came meanwhile is counted later"),
        pytest.param([10, None, 30, 40], False, [None, None, 10], id="what came meanwhile is lost"),
        pytest.param([None, 20, 30], True, [None, 10], id="away at first"),
    ],
)
def test_what_a_source_did_not_say_is_lost_unless_it_counts_on(
    looks: list[int | None], counts_on: bool, gaps: list[int | None]
) -> None:
    before, found = looks[0], []
    for now in looks[1:]:
        found.append(None if before is None or now is None else now - before)
        before = compared_next(before, now, counts_on=counts_on)

    assert found == gaps
