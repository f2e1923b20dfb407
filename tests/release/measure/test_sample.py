"""Samples of one moment, and what each source has counted."""

import itertools
from datetime import UTC, datetime, timedelta

import pytest

from release.measure.sample import Sample, in_order, streams_of
from release.measure.tally import Tally
from release.measure.traffic import PROBES, ROUTER, Times, Traffic, busiest

AT = datetime(2026, 1, 8, 2, 14, tzinfo=UTC)
MS = timedelta(milliseconds=1)
GOOD = Sample(
    AT, health=True, auth=True, p0="", traffic=(Traffic(ROUTER, "", 100, 0),),
    times=(Times(PROBES, "", 1 * MS, 2 * MS, 3 * MS),),
)  # fmt: skip
BAD = Sample(
    AT, health=False, health_detail="HTTP 503", auth=False, auth_detail="login: HTTP 500",
    p0="data loss", traffic=(Traffic(ROUTER, "", 10, 5), Traffic(PROBES, "", 3, 0)),
    times=(Times(PROBES, "", 1 * MS, 9 * MS, 9 * MS),), unknown=("prometheus: no answer",),
)  # fmt: skip
BLIND = Sample(AT, auth_detail="not configured")


def test_of_one_moment_the_worse_counts_in_any_order_and_number() -> None:
    for samples in itertools.permutations([GOOD, BAD, BLIND, BAD, GOOD]):
        (merged,) = in_order(samples)
        assert (merged.health, merged.health_detail) == (False, "HTTP 503")
        assert (merged.auth, merged.auth_detail) == (False, "login: HTTP 500")
        assert merged.p0 == "data loss"
        assert merged.traffic == (Traffic(PROBES, "", 3, 0), Traffic(ROUTER, "", 10, 5))
        assert merged.times == BAD.times
        assert merged.unknown == BAD.unknown


def test_what_is_unknown_hides_nothing_that_was_seen() -> None:
    (merged,) = in_order([BLIND, GOOD])
    assert (merged.health, merged.auth, merged.p0) == (True, True, "")
    assert merged.traffic == GOOD.traffic


def test_a_source_that_reports_more_errors_than_answers_is_at_a_hundred_percent() -> None:
    odd = Sample(AT, traffic=(Traffic(ROUTER, "", 10, 11), Traffic(PROBES, "", -3, 2)))
    probes, router = streams_of([odd])
    assert (probes.total, router.total) == (Tally(0, 0), Tally(10, 10))
    assert odd.traffic[0].rate == 1.0


def test_streams_of_a_version_leave_other_releases_out() -> None:
    traffic = (
        Traffic(ROUTER, "", 9, 0), Traffic(ROUTER, "v1", 5, 1), Traffic(ROUTER, "v0", 4, 0),
    )  # fmt: skip
    samples = [Sample(AT + n * MS, traffic=traffic) for n in range(2)]
    assert [s.name for s in streams_of(samples, "v1")] == ["router", "router, v1 alone"]
    assert [s.total.requests for s in streams_of(samples)] == [18, 8, 10]


def test_the_busiest_source_of_a_version_is_named_without_adding_any_up() -> None:
    few, many, other = (
        Traffic(PROBES, "", 3, 0), Traffic(ROUTER, "", 90, 1), Traffic(ROUTER, "v0", 900, 1),
    )  # fmt: skip
    assert busiest((few, many, other), "v1") == many
    assert busiest((other,), "v1") is None


def test_a_sample_without_a_time_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="time zone"):
        Sample(datetime(2026, 1, 8))
