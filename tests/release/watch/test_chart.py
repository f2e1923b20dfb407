"""What the plots of a watch show, before anybody draws them."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from release.configuration.rules import WatchRules
from release.measure.sample import Sample
from release.measure.traffic import PROBES, ROUTER, Times, Traffic
from release.model import Baseline, Release
from release.watch.chart import BEFORE, NEW, OLD, Chart, Limit, Mark, Moment, Panel, chart_of_watch
from release.watch.watched import Watch
from tests.fakes.samples import PROMETHEUS

START = datetime(2026, 1, 8, 2, 14, 7, tzinfo=UTC)
MS = timedelta(milliseconds=1)
RULES = WatchRules()
BASELINE = Baseline(
    "production", Release("v1.0.0", "a" * 40), (), "", 0.01, 40 * MS, START,
    (Traffic(ROUTER, "", 500, 5),),
)  # fmt: skip


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def chart(
    samples: list[Sample], moments: Sequence[Moment] = (), cutover: datetime | None = None
) -> Chart:
    return chart_of_watch(Watch("v1.1.0", BASELINE, RULES, START, cutover), samples, moments)


def panels(samples: list[Sample]) -> tuple[Panel, Panel, Panel]:
    errors, times, traffic = chart(samples).panels
    return errors, times, traffic


def sample(second: float, requests: int = 150, errors: int = 3) -> Sample:
    return Sample(at(second), health=True, traffic=(Traffic(ROUTER, "", requests, errors),))


def test_the_error_rate_has_its_limit_and_the_level_of_before() -> None:
    errors, _, _ = panels([sample(0), sample(15, errors=15)])
    now, before = errors.lines
    assert (now.label, now.role, now.points) == ("all (router)", NEW, ((0, 2.0), (15, 10.0)))
    assert (before.label, before.role) == ("v1.0.0 before (router)", BEFORE)
    assert before.points == ((0, 1.0), (15, 1.0))
    assert errors.limits == (Limit("limit: 5.0% for 5 min", 5.0),)


def test_each_source_and_release_has_lines_of_its_own() -> None:
    traffic = (
        Traffic(ROUTER, "", 90, 0),
        Traffic(PROMETHEUS, "v1.1.0", 60, 0),
        Traffic(PROMETHEUS, "v1.0.0", 30, 0),
    )
    _, _, panel = panels([Sample(at(0), traffic=traffic), Sample(at(15), traffic=traffic)])
    assert {(line.label, line.role) for line in panel.lines} == {
        ("all (router)", NEW),
        ("v1.1.0 (prometheus)", NEW),
        ("v1.0.0 (prometheus)", OLD),
    }
    assert [line.points for line in panel.lines if line.role == OLD] == [((0, 2.0), (15, 2.0))]


def test_answer_times_are_in_milliseconds_with_all_percentiles_that_are_known() -> None:
    times = (Times(PROBES, "", 10 * MS, 30 * MS, None),)
    _, panel, _ = panels([Sample(at(n), times=times) for n in (0, 15)])
    assert [line.label for line in panel.lines] == [
        "p95 all (probes)",
        "p50 all (probes)",
        "p95 of v1.0.0 before",
    ]
    assert panel.lines[0].points == ((0, 30.0), (15, 30.0))
    assert panel.limits == (Limit("ask a person: p95 over 500 ms", 500.0),)


def test_a_line_breaks_where_nothing_was_seen() -> None:
    errors, _, _ = panels([sample(0), sample(30), sample(120)])
    assert errors.lines[0].points == ((0, 2.0), (30, 2.0), (30, None), (120, 2.0))


def test_a_sample_without_a_request_has_no_rate() -> None:
    errors, _, traffic = panels([sample(0), sample(15, 0, 0)])
    assert errors.lines[0].points == ((0, 2.0), (15, None))
    assert traffic.lines[0].points == ((0, 10.0), (15, 0.0))


def test_of_many_samples_neighbours_are_drawn_as_one() -> None:
    many = [sample(n / 2, 100, n % 2) for n in range(2000)]
    times = (Times(PROBES, "", 10 * MS, 30 * MS, 40 * MS),)
    many[777] = replace(many[777], times=(Times(PROBES, "", 10 * MS, 9000 * MS, 9000 * MS),))
    many = [one if one.times else replace(one, times=times) for one in many]
    errors, panel, traffic = panels(many)
    assert len(errors.lines[0].points) <= 160
    assert {rate for _, rate in errors.lines[0].points} <= {0.462, 0.538, 0.545}
    assert {round(rate or 0) for _, rate in traffic.lines[0].points} == {200}
    assert max(value or 0 for _, value in panel.lines[0].points) == 9000  # no peak is lost


@pytest.mark.parametrize(
    ("cutover", "since", "marks"),
    [
        pytest.param(None, 0, (), id="unknown"),
        pytest.param(at(-20), -20, (Mark(-20, "cutover"),), id="just before"),
        pytest.param(at(-3600), 0, (), id="too long ago to be shown"),
    ],
)
def test_the_cutover_is_marked(
    cutover: datetime | None, since: float, marks: tuple[Mark, ...]
) -> None:
    found = chart([sample(0), sample(60)], cutover=cutover)
    assert (found.since, found.until, found.marks) == (since, 60, marks)


def test_moments_and_failing_health_are_marked() -> None:
    samples = [replace(sample(n), health=n not in (15, 30)) for n in (0, 15, 30, 45, 60)]
    moments = [Moment(at(15), "1", "health check failed"), Moment(at(60), "2", "fired", True)]
    found = chart(samples, moments=moments)
    assert found.marks == (Mark(15, "1"), Mark(60, "2", True))
    assert found.unhealthy == ((15, 45),)


@pytest.mark.parametrize(
    ("length", "labels"),
    [
        (12, ["02:14:08", "02:14:10", "02:14:12", "02:14:14", "02:14:16", "02:14:18"]),
        (600, ["02:16", "02:18", "02:20", "02:22", "02:24"]),
        (1200, ["02:15", "02:20", "02:25", "02:30"]),
    ],
)
def test_the_axis_has_round_times_of_day(length: int, labels: list[str]) -> None:
    found = chart([sample(0), sample(length)])
    assert [label for _, label in found.ticks] == labels
    assert all(0 <= second <= length for second, _ in found.ticks)


def test_a_watch_without_a_sample_can_still_be_drawn() -> None:
    found = chart([])
    assert found.until > found.since
    assert all(not line.points for panel in found.panels for line in panel.lines)
