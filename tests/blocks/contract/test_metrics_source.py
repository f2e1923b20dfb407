"""What every source of counts does: routers, systems that keep what instances count, our probes."""

from collections.abc import Iterator
from typing import Any

import pytest
from pytest_httpserver import HTTPServer

from blocks.metrics_source import MetricsSource
from release.errors import DeployError
from release.measure.counters import Growth
from release.measure.tally import Tally, sum_of
from release.measure.traffic import ALL_RELEASES
from tests.fakes.project import FakeProject, RealProject
from tests.fakes.sources import (
    Counting,
    CountingProbes,
    CountingRouter,
    counting_prometheus,
)

# Every source, by the fixture that makes it count: a new adapter is one line here.
SOURCES = (
    pytest.param("router_in_memory", id="router in memory"),
    pytest.param("haproxy", id="HAProxy", marks=pytest.mark.engine),
    pytest.param("prometheus", id="Prometheus", marks=pytest.mark.real),
    pytest.param("probes", id="probes"),
)


@pytest.fixture
def router_in_memory(fake_project: FakeProject) -> Counting:
    return CountingRouter(fake_project)


@pytest.fixture
def haproxy(real_project: RealProject) -> Counting:
    return CountingRouter(real_project)


@pytest.fixture(scope="module")
def prometheus() -> Iterator[Counting]:
    with counting_prometheus() as counting:
        yield counting


@pytest.fixture
def probes(httpserver: HTTPServer) -> Counting:
    return CountingProbes(httpserver)


@pytest.fixture(params=SOURCES)
def counting(request: pytest.FixtureRequest) -> Counting:
    found: Counting = request.getfixturevalue(request.param)
    return found


def of(growth: Growth, release: str = ALL_RELEASES) -> Tally:
    """What was counted of a release; by default, of all together."""
    return sum_of(Tally(t.requests, t.errors) for t in growth.traffic if t.release == release)


def seen_or_why_not(source: MetricsSource[Any]) -> tuple[Any, str]:
    try:
        return source.look(), ""
    except DeployError as error:
        return None, error.what


def test_all_that_it_counts_goes_by_its_name(counting: Counting) -> None:
    before = counting.look()
    counting.answer()

    grown = counting.source.growth(before, counting.look(), counting.versions)

    assert {one.source for one in (*grown.traffic, *grown.times)} == {counting.source.name}
    assert counting.source.name == counting.source.name.lower() != ""


def test_it_counts_what_is_answered_between_two_looks(counting: Counting) -> None:
    counting.answer()  # this was before
    before = counting.look()
    answered = counting.answer()

    grown = counting.source.growth(before, counting.look(), counting.versions)

    assert of(grown) == answered
    assert answered.errors, "bad answers are among them"
    assert grown.unknown == ""


def test_it_counts_nothing_where_nothing_was_answered(counting: Counting) -> None:
    counting.answer()

    grown = counting.source.growth(counting.look(), counting.look(), counting.versions)

    assert of(grown) == Tally()
    assert grown.unknown == ""


def test_however_often_one_looks_nothing_is_counted_twice_or_lost(counting: Counting) -> None:
    grow, versions = counting.source.growth, counting.versions
    first = counting.look()
    counting.answer()
    second = counting.look()
    counting.answer()
    third = counting.look()

    assert of(grow(first, second, versions)) + of(grow(second, third, versions)) == of(
        grow(first, third, versions)
    )
    assert of(grow(counting.source.remember(first, second), third, versions)) == of(
        grow(second, third, versions)
    )


def test_what_is_of_one_release_is_part_of_the_whole(counting: Counting) -> None:
    before = counting.look()
    counting.answer()

    grown = counting.source.growth(before, counting.look(), counting.versions)

    releases = {traffic.release for traffic in grown.traffic} - {ALL_RELEASES}
    assert releases in (set(), {"v1.0.0", "v1.2.0-errors"})
    parts = sum_of(of(grown, release) for release in releases)
    assert parts in (Tally(), of(grown))


def test_counters_that_begin_again_are_never_negative(counting: Counting) -> None:
    counting.answer()
    before = counting.look()
    counting.begin_again()

    grown = counting.source.growth(before, counting.look(), counting.versions)

    assert all(Tally(t.requests, t.errors).possible for t in grown.traffic)
    assert of(grown).requests == 0 or grown.unknown == ""
    now = counting.look()
    answered = counting.answer()
    again = counting.source.growth(now, counting.look(), counting.versions)
    assert of(again) == answered, "and it goes on counting"


def test_one_that_is_away_says_so_in_a_sentence_that_may_be_shown(counting: Counting) -> None:
    """Our own probes have their count at hand: it is nothing then."""
    found, why = seen_or_why_not(counting.away())

    assert found is None or found == type(found)()
    assert bool(why) is (found is None)
    assert "\n" not in why


def test_what_was_counted_is_read_off_two_looks_and_nobody_is_asked(counting: Counting) -> None:
    before = counting.look()
    answered = counting.answer()
    now = counting.look()

    assert of(counting.away().growth(before, now, counting.versions)) == answered
