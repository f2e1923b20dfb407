"""What counters say of the time between two looks."""

import math
from collections.abc import Mapping
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from release.measure.counters import (
    Growth,
    Labels,
    Look,
    ProbeLook,
    RouterLook,
    growth,
    probe_growth,
    quantile,
    remember,
    router_growth,
)
from release.measure.slot import Slot
from release.measure.tally import Tally
from release.measure.traffic import ALL_RELEASES, PROBES, ROUTER, Times, Traffic

SOURCE = "metrics"
Counts = Mapping[str, float]  # "v1.1.0 200 a": release, status code, instance


def series(counts: Counts, name: str = "http_requests_total") -> dict[Labels, float]:
    found = {}
    for text, value in counts.items():
        release, code, instance = text.split()
        labels = {"__name__": name, "version": release, "code": code, "instance": instance}
        found[frozenset((key, said) for key, said in labels.items() if said != "-")] = value
    return found


def look(counts: Counts) -> Look:
    """As the two default queries find it: errors are those requests whose code says so."""
    errors = {text: value for text, value in counts.items() if " 5" in text}
    return Look(series(counts), series(errors))


def counted(found: Growth) -> dict[str, tuple[int, int]]:
    assert all(traffic.source == SOURCE for traffic in found.traffic)
    return {traffic.release: (traffic.requests, traffic.errors) for traffic in found.traffic}


@pytest.mark.parametrize(
    ("before", "now", "expected"),
    [
        pytest.param(
            {"v1 200 a": 10, "v1 500 a": 1},
            {"v1 200 a": 40, "v1 500 a": 3},
            {"": (32, 2), "v1": (32, 2)},
            id="grown",
        ),
        pytest.param(
            {"v1 200 a": 10}, {"v1 200 a": 10}, {"": (0, 0), "v1": (0, 0)}, id="no traffic"
        ),
        pytest.param(
            {"v1 200 a": 10}, {"v1 200 a": 25}, {"": (15, 0), "v1": (15, 0)}, id="nothing failed"
        ),
        pytest.param(
            {"v1 200 a": 10},
            {"v1 200 a": 10, "v1 500 a": 7},
            {"": (7, 7), "v1": (7, 7)},
            id="the first errors are born with a count",
        ),
        pytest.param(
            {"v1 200 a": 10},
            {"v1 200 a": 15, "v1 200 b": 6, "v1 503 b": 2},
            {"": (13, 2), "v1": (13, 2)},
            id="another instance",
        ),
        pytest.param(
            {"v1 200 a": 1000, "v1 500 a": 500},
            {"v1 200 a": 30, "v1 500 a": 20},
            {"": (50, 20), "v1": (50, 20)},
            id="a process that began again counts from zero",
        ),
        pytest.param(
            {"v1 200 a": 100_000, "v1 500 a": 9_000},
            {"v1 200 a": 99_970, "v1 500 a": 9_001},
            {"": (1, 1), "v1": (1, 1)},
            id="another replica, scraped a moment earlier, did not begin again",
        ),
        pytest.param(
            {"v1 200 a": 10, "v2 200 b": 5},
            {"v1 200 a": 110, "v2 200 b": 55, "v2 500 b": 50},
            {"": (200, 50), "v1": (100, 0), "v2": (100, 50)},
            id="two releases side by side",
        ),
        pytest.param(
            {"v1 200 a": 10},
            {"v1 200 a": 20, "v2 200 b": 5000, "v2 500 b": 5000},
            {"": (10, 0), "v1": (10, 0)},
            id="a release that was never seen counts from now on",
        ),
        pytest.param(
            {"v1 200 a": 10, "v2 200 b": 10},
            {"v2 200 b": 12},
            {"": (2, 0), "v2": (2, 0)},
            id="a release without data is left out",
        ),
        pytest.param({}, {"v1 200 a": 10}, {}, id="nothing to compare with"),
        pytest.param(
            {"- 200 a": 10}, {"- 200 a": 20, "- 500 a": 1}, {"": (11, 1)}, id="no release is named"
        ),
    ],
)
def test_growth_is_taken_series_by_series(
    before: Counts, now: Counts, expected: Mapping[str, tuple[int, int]]
) -> None:
    found = growth(SOURCE, look(before), look(now), "version")

    assert counted(found) == expected
    assert found.unknown == ""


def test_no_requests_are_no_data_and_no_health() -> None:
    """The errors are zero only where there is something that could have failed."""
    found = growth(
        SOURCE, look({"v1 200 a": 10}), Look({}, series({"- - -": 0.0}, "vector")), "version"
    )

    assert found.traffic == ()
    assert found.unknown == "no data: its query for requests finds nothing"


def test_an_error_query_that_always_finds_a_zero_is_the_same_as_one_that_finds_nothing() -> None:
    """``… or vector(0)`` finds one series without labels."""
    zero: dict[Labels, float] = {frozenset(): 0.0}
    before = Look(series({"v1 200 a": 10}), zero)

    found = growth(SOURCE, before, Look(series({"v1 200 a": 30}), zero), "version")

    assert counted(found) == {"": (20, 0), "v1": (20, 0)}


def test_errors_that_name_no_release_are_held_against_no_release_and_clear_none() -> None:
    failed = frozenset({("__name__", "http_errors_total")})
    before = Look(series({"v1 200 a": 10, "v2 200 b": 10}), {failed: 1.0})
    now = Look(series({"v1 200 a": 60, "v2 200 b": 60}), {failed: 41.0})

    assert counted(growth(SOURCE, before, now, "version")) == {"": (100, 40)}


def test_a_sum_that_falls_is_not_taken_for_a_restart() -> None:
    """An instance that leaves makes a sum fall: its old requests would be counted again."""
    total = frozenset({("version", "v1")})  # sum by (version) (…): the metric has lost its name

    found = growth(SOURCE, Look({total: 5000.0}, {}), Look({total: 2600.0}, {}), "version")

    assert found.traffic == ()
    assert found.unknown.startswith("a sum of counters has fallen")


def test_more_errors_than_requests_are_no_count() -> None:
    before, now = look({"v1 200 a": 10}), look({"v1 200 a": 12})
    wrong = Look(now.requests, series({"v1 500 a": 9}, "http_errors_total"))

    found = growth(SOURCE, before, wrong, "version")

    assert found.traffic == ()
    assert found.unknown == (
        "9 errors of 2 requests: its two queries do not count the same answers"
    )


def test_a_series_that_was_away_is_not_new() -> None:
    """A scrape that failed hides a series; its count of a lifetime is not of this moment."""
    first = look({"v1 200 a": 1000, "v1 200 b": 1000})
    second = look({"v1 200 a": 1010})
    third = look({"v1 200 a": 1020, "v1 200 b": 1030})

    found = growth(SOURCE, remember(remember(None, first), second), third, "version")

    assert counted(found) == {"": (40, 0), "v1": (40, 0)}


@given(
    st.lists(
        st.tuples(st.sampled_from(["v1", "v2"]), st.booleans(), st.booleans(), st.booleans()),
        min_size=1,
        max_size=60,
    )
)
def test_however_often_one_looks_nothing_is_counted_twice_or_lost(
    events: list[tuple[str, bool, bool, bool]],
) -> None:
    """Whatever fails, restarts or is looked at, the counts add up to what happened since."""
    counts = dict.fromkeys(("v1 200 a", "v1 500 a", "v2 200 a", "v2 500 a"), 1000.0)
    before = look(counts)
    happened = {"v1": [0, 0], "v2": [0, 0]}
    sums = {"v1": [0, 0], "v2": [0, 0]}
    for release, failed, restarts, looked_at in [*events, ("v1", False, False, True)]:
        counts[f"{release} {500 if failed else 200} a"] += 1
        happened[release][0] += 1
        happened[release][1] += failed
        if looked_at:
            now = look(counts)
            for traffic in growth(SOURCE, before, now, "version").traffic:
                if traffic.release:
                    sums[traffic.release][0] += traffic.requests
                    sums[traffic.release][1] += traffic.errors
            before = remember(before, now)
            # Right after a look, or what came between would be lost with the process; and once,
            # because a count that has passed its old value again does not show a restart.
            if restarts and counts[f"{release} 200 a"] >= 1000:
                counts |= {f"{release} 200 a": 0, f"{release} 500 a": 0}
    assert sums == happened


@pytest.mark.parametrize(
    ("buckets", "p50", "p95"),
    [
        pytest.param({0.1: 100, 0.5: 100, math.inf: 100}, 0.05, 0.095, id="all in the first"),
        pytest.param({0.1: 90, 0.5: 100, math.inf: 100}, 0.1 * 50 / 90, 0.3, id="two buckets"),
        pytest.param({0.1: 0, 0.5: 0, math.inf: 10}, 0.5, 0.5, id="beyond the highest bound"),
        pytest.param({0.1: 0, 0.5: 100, 1.0: 90, math.inf: 100}, 0.3, 0.48, id="a dip is none"),
        pytest.param({0.1: 0, math.inf: 0}, None, None, id="no answers"),
        pytest.param({0.1: 5, 0.5: 9}, None, None, id="without the last bucket"),
        pytest.param({math.inf: 9}, None, None, id="with the last bucket alone"),
        pytest.param({}, None, None, id="nothing"),
    ],
)
def test_a_quantile_is_prometheus_own(
    buckets: Mapping[float, float], p50: float | None, p95: float | None
) -> None:
    for fraction, expected in ((0.5, p50), (0.95, p95)):
        found = quantile(buckets, fraction)
        assert found == (None if expected is None else timedelta(seconds=expected))


def test_answer_times_are_those_since_the_last_look_by_release() -> None:
    def buckets(v1: tuple[int, int], v2: tuple[int, int]) -> dict[Labels, float]:
        name = ("__name__", "http_request_duration_seconds_bucket")
        return {
            frozenset({name, ("version", release), ("le", bound)}): float(count)
            for release, counts in (("v1", v1), ("v2", v2))
            for bound, count in zip(("0.1", "1", "+Inf"), (*counts, counts[1]), strict=True)
        }

    requests = series({"v1 200 a": 100, "v2 200 b": 100})
    before = Look(requests, {}, buckets((1000, 1000), (0, 1000)))
    now = Look(requests, {}, buckets((1100, 1100), (0, 1100)))

    found = {times.release: times.p95 for times in growth(SOURCE, before, now, "version").times}

    assert found == {
        ALL_RELEASES: timedelta(seconds=0.91),
        "v1": timedelta(seconds=0.095),
        "v2": timedelta(seconds=0.955),
    }


SlotCounts = Mapping[str, tuple[str, int, int]]  # by slot: instance, answers, 5xx


def router_look(slots: SlotCounts, own_errors: int = 0) -> RouterLook:
    answered = sum(requests for _, requests, _ in slots.values()) + own_errors
    errors = sum(errors for _, _, errors in slots.values()) + own_errors
    return RouterLook(
        Tally(answered, errors),
        tuple(
            Slot(name, instance, answered=requests, answered_5xx=errors)
            for name, (instance, requests, errors) in slots.items()
        ),
    )


@pytest.mark.parametrize(
    ("before", "now", "own_errors", "expected"),
    [
        pytest.param(
            {"1": ("old", 10, 1)}, {"1": ("old", 15, 2)}, 0, {"": (5, 1), "v1": (5, 1)}, id="grown"
        ),
        pytest.param(
            {"1": ("old", 10, 1)}, {"1": ("old", 10, 1)}, 0, {"": (0, 0), "v1": (0, 0)}, id="still"
        ),
        pytest.param(
            {"1": ("old", 10, 1), "2": ("new", 0, 0)},
            {"1": ("old", 40, 1), "2": ("new", 10, 5)},
            0,
            {"": (40, 5), "v1": (30, 0), "v2": (10, 5)},
            id="two releases",
        ),
        pytest.param(
            {"1": ("new", 0, 0), "2": ("new too", 0, 0)},
            {"1": ("new", 4, 1), "2": ("new too", 6, 2)},
            0,
            {"": (10, 3), "v2": (10, 3)},
            id="two instances of one",
        ),
        pytest.param(
            {"1": ("old", 10, 1)},
            {"1": ("old", 15, 1)},
            7,
            {"": (12, 7), "v1": (5, 0)},
            id="what no instance answered is nobody's",
        ),
        pytest.param(
            {"1": ("old", 10, 1)},
            {"1": ("new", 15, 2)},
            0,
            {"": (5, 1)},
            id="a slot that changed hands is of no release",
        ),
        pytest.param(
            {"1": ("stranger", 10, 1)}, {"1": ("stranger", 15, 2)}, 0, {"": (5, 1)}, id="unknown"
        ),
        pytest.param({"1": ("old", 10, 1)}, {"1": ("old", 9, 1)}, 0, None, id="fewer requests"),
        pytest.param({"1": ("old", 10, 1)}, {"1": ("old", 20, 0)}, 0, None, id="fewer errors"),
        pytest.param({"1": ("old", 10, 1)}, {"1": ("old", 11, 3)}, 0, None, id="more errors"),
        pytest.param(
            {"1": ("old", 10, 1), "2": ("new", 5, 0)},
            {"1": ("old", 90, 1), "2": ("new", 0, 0)},
            0,
            None,
            id="one began again",
        ),
    ],
)
def test_a_router_counts_in_all_and_by_release(
    before: SlotCounts,
    now: SlotCounts,
    own_errors: int,
    expected: Mapping[str, tuple[int, int]] | None,
) -> None:
    versions = {"old": "v1", "new": "v2", "new too": "v2"}

    found = router_growth(router_look(before), router_look(now, own_errors), versions)

    if expected is None:
        assert found == Growth(
            unknown="its counters began again, so the traffic until now is unknown"
        )
    else:
        assert {t.release: (t.requests, t.errors) for t in found.traffic} == expected
        assert {t.source for t in found.traffic} == {ROUTER}


MS = timedelta(milliseconds=1)


@pytest.mark.parametrize(
    ("before", "now", "expected"),
    [
        pytest.param(ProbeLook(), ProbeLook(), Growth(), id="none was sent"),
        pytest.param(
            ProbeLook(Tally(10, 1), (9 * MS,) * 10),
            ProbeLook(Tally(12, 2), (9 * MS,) * 10 + (MS, 3 * MS)),
            Growth(
                (Traffic(PROBES, ALL_RELEASES, 2, 1),),
                (Times(PROBES, ALL_RELEASES, MS, 3 * MS, 3 * MS),),
            ),
            id="since the last look only",
        ),
        pytest.param(
            ProbeLook(),
            ProbeLook(Tally(3, 3)),
            Growth((Traffic(PROBES, ALL_RELEASES, 3, 3),)),
            id="none was answered",
        ),
        pytest.param(
            ProbeLook(),
            ProbeLook(Tally(0, 0), (MS,), too_many=1),
            Growth(
                (),
                (Times(PROBES, ALL_RELEASES, MS, MS, MS),),
                "some are answered HTTP 429, and are not counted",
            ),
            id="too many are no traffic",
        ),
        pytest.param(
            ProbeLook(Tally(5, 0), too_many=4),
            ProbeLook(Tally(6, 0), too_many=4),
            Growth((Traffic(PROBES, ALL_RELEASES, 1, 0),)),
            id="too many, but not this time",
        ),
    ],
)
def test_probes_count_what_came_of_them(
    before: ProbeLook, now: ProbeLook, expected: Growth
) -> None:
    assert probe_growth(before, now) == expected


def test_traffic_is_what_a_rule_can_judge() -> None:
    (whole, one) = growth(SOURCE, look({"v1 200 a": 0}), look({"v1 200 a": 200}), "version").traffic
    assert whole == Traffic(SOURCE, ALL_RELEASES, 200, 0)
    assert one == Traffic(SOURCE, "v1", 200, 0)
