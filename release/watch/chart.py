"""What the report of a watch draws: lines, limits and moments, as values.

Three panels over one axis of time: error rate, answer times, traffic. Every source and release has
lines of its own, because they are judged one by one. How it looks is `blocks/plots.py`'s.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from release.configuration.rules import WatchRules
from release.duration import say_duration
from release.measure.sample import Counted, Sample, Stream, streams_of
from release.measure.tally import Tally, sum_of
from release.measure.traffic import ALL_RELEASES, PROBES, Times
from release.model import Baseline
from release.watch.comparison import p95_before, p95_ceiling

_MOST_POINTS = 160  # of a line: no more can be told apart, and each makes the picture bigger
_MOST_TICKS = 8
_STEPS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 43200)  # seconds

NEW, OLD, BEFORE = "new", "old", "before"  # roles of a line: the watched release, another, a level
Points = tuple[tuple[float, float | None], ...]  # seconds since the watch began; None: a gap


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a panel."""

    label: str
    role: str  # NEW, OLD or BEFORE
    points: Points
    rank: int = 0  # among lines of its role: 0 is drawn the boldest


@dataclass(frozen=True, slots=True)
class Limit:
    """What must not be exceeded."""

    label: str
    value: float


@dataclass(frozen=True, slots=True)
class Panel:
    """One quantity over time."""

    title: str
    unit: str  # "%", "ms" or "/s"
    lines: tuple[Line, ...]
    limits: tuple[Limit, ...] = ()


@dataclass(frozen=True, slots=True)
class Moment:
    """When a rule changed its mind, or what else happened."""

    at: datetime
    label: str  # as it stands in the picture
    sentence: str
    fired: bool = False


@dataclass(frozen=True, slots=True)
class Mark:
    """A moment, on the chart's axis."""

    at: float
    label: str
    fired: bool = False


@dataclass(frozen=True, slots=True)
class Chart:
    """All that is drawn."""

    title: str
    since: float
    until: float
    ticks: tuple[tuple[float, str], ...]
    panels: tuple[Panel, ...]
    marks: tuple[Mark, ...] = ()
    unhealthy: tuple[tuple[float, float], ...] = ()  # while the health check failed


def chart_of_watch(
    samples: Sequence[Sample],
    rules: WatchRules,
    baseline: Baseline,
    version: str,
    started_at: datetime,
    cutover: datetime | None = None,
    moments: Iterable[Moment] = (),
) -> Chart:
    """Lay out the watch of ``version``; ``samples`` are in order.

    ``cutover`` is left out where it is further back than the watch is long: it would squeeze
    everything else.
    """

    def second(at: datetime) -> float:
        return round((at - started_at).total_seconds(), 3)

    until = max((second(sample.at) for sample in samples), default=0.0) or 1.0
    marks = [Mark(second(moment.at), moment.label, moment.fired) for moment in moments]
    since = 0.0
    if cutover is not None and -until <= second(cutover) <= until:
        since = min(0.0, second(cutover))
        marks.insert(0, Mark(second(cutover), "cutover"))
    return Chart(
        title=f"{version} on {baseline.environment}, watched from "
        f"{started_at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC",
        since=since,
        until=until,
        ticks=_ticks(started_at, since, until),
        panels=(
            _errors(samples, rules, baseline, version, second),
            _times(samples, rules, baseline, version, second),
            _traffic(samples, rules, version, second),
        ),
        marks=tuple(marks),
        unhealthy=_unhealthy(samples, second),
    )


_Second = Callable[[datetime], float]


def _errors(
    samples: Sequence[Sample], rules: WatchRules, baseline: Baseline, version: str, second: _Second
) -> Panel:
    lines = [
        _line(stream.source, stream.release, version, _rates(stream, rules, second))
        for stream in streams_of(samples)
    ]
    lines += [
        _level(f"{baseline.version} before ({t.source})", 100 * t.rate, samples, second)
        for t in baseline.traffic
        if t.rate is not None and t.release == ALL_RELEASES  # its own share is the same line
    ]
    ceiling = rules.error_rate_ceiling
    label = f"limit: {ceiling:.1%} for {say_duration(rules.sustained_for)}"
    return Panel("Error rate", "%", _ranked(lines), (Limit(label, 100 * ceiling),))


def _times(
    samples: Sequence[Sample], rules: WatchRules, baseline: Baseline, version: str, second: _Second
) -> Panel:
    keys = sorted({(t.source, t.release) for sample in samples for t in sample.times})
    lines = []
    for source, release in keys:
        seen = [
            (sample.at, times)
            for sample in samples
            for times in sample.times
            if (times.source, times.release) == (source, release)
        ]
        for name in ("p95", "p50", "p99"):
            points = _milliseconds(seen, name, rules, second)
            if points:
                lines.append(_line(source, release, version, points, f"{name} "))
    before = p95_before(baseline, PROBES, ALL_RELEASES)
    levels, limits = [], []
    if before is not None:
        ms = before / timedelta(milliseconds=1)
        levels = [_level(f"p95 of {baseline.version} before", ms, samples, second)]
        ceiling = p95_ceiling(before, rules)
        limits = [Limit(f"ask a person: p95 over {say_duration(ceiling)}", 1000 * _s(ceiling))]
    return Panel("Answer times", "ms", _ranked([*lines, *levels]), tuple(limits))


def _traffic(samples: Sequence[Sample], rules: WatchRules, version: str, second: _Second) -> Panel:
    lines = [
        _line(stream.source, stream.release, version, _per_second(stream, rules, second))
        for stream in streams_of(samples)
    ]
    return Panel("Traffic", "/s", _ranked(lines))


def _line(source: str, release: str, version: str, points: Points, what: str = "") -> Line:
    """After the cutover, traffic that is not told apart by release is the new one's."""
    role = NEW if release in (ALL_RELEASES, version) else OLD
    return Line(f"{what}{release or 'all'} ({source})", role, points)


def _level(label: str, value: float, samples: Sequence[Sample], second: _Second) -> Line:
    ends = [second(samples[0].at), second(samples[-1].at)] if samples else []
    return Line(label, BEFORE, tuple((at, value) for at in ends))


def _ranked(lines: Sequence[Line]) -> tuple[Line, ...]:
    """Number the lines of each role, in order."""
    counts: dict[str, int] = {}
    ranked = []
    for line in lines:
        ranked.append(Line(line.label, line.role, line.points, counts.get(line.role, 0)))
        counts[line.role] = counts.get(line.role, 0) + 1
    return tuple(ranked)


def _rates(stream: Stream, rules: WatchRules, second: _Second) -> Points:
    return _with_gaps(
        [(b[-1].at, 100 * t.rate if t.requests else None) for b, t in _bins(stream.counted)],
        rules.longest_gap,
        second,
    )


def _per_second(stream: Stream, rules: WatchRules, second: _Second) -> Points:
    """Over the time since the sample before, or as long as between two where there is a gap."""
    found: list[tuple[datetime, float | None]] = []
    first = stream.counted[:2]
    apart = first[-1].at - first[0].at if len(first) == 2 else rules.every
    before = first[0].at - apart
    for counted, tally in _bins(stream.counted):
        since = before if counted[0].at - before <= rules.longest_gap else counted[0].at - apart
        length = _s(counted[-1].at - since)
        found.append((counted[-1].at, tally.requests / length if length > 0 else None))
        before = counted[-1].at
    return _with_gaps(found, rules.longest_gap, second)


def _bins(counted: Sequence[Counted]) -> list[tuple[Sequence[Counted], Tally]]:
    """Neighbours together, as few as make no more than the points of a line."""
    size = -(-len(counted) // _MOST_POINTS) or 1
    parts = [counted[start : start + size] for start in range(0, len(counted), size)]
    return [(part, sum_of(one.tally for one in part)) for part in parts]


def _milliseconds(
    seen: Sequence[tuple[datetime, Times]], name: str, rules: WatchRules, second: _Second
) -> Points:
    """Of neighbours that are drawn as one, the slowest."""
    values = [(at, value) for at, times in seen if (value := getattr(times, name)) is not None]
    size = -(-len(values) // _MOST_POINTS) or 1
    parts = [values[start : start + size] for start in range(0, len(values), size)]
    slowest = [(part[-1][0], 1000 * _s(max(value for _, value in part))) for part in parts]
    return _with_gaps(slowest, rules.longest_gap * size, second)


def _with_gaps(
    found: Sequence[tuple[datetime, float | None]], longest: timedelta, second: _Second
) -> Points:
    points: list[tuple[float, float | None]] = []
    before: datetime | None = None
    for at, value in found:
        if before is not None and at - before > longest:
            points.append((second(before), None))
        points.append((second(at), None if value is None else round(value, 3)))
        before = at
    return tuple(points)


def _unhealthy(samples: Sequence[Sample], second: _Second) -> tuple[tuple[float, float], ...]:
    """From each first failed health check to the next good one."""
    spans: list[tuple[float, float]] = []
    since: float | None = None
    for sample in samples:
        if sample.health is False and since is None:
            since = second(sample.at)
        elif sample.health and since is not None:
            spans.append((since, second(sample.at)))
            since = None
    if since is not None:
        spans.append((since, second(samples[-1].at)))
    return tuple(spans)


def _ticks(started_at: datetime, since: float, until: float) -> tuple[tuple[float, str], ...]:
    """Round times of day on the axis."""
    step = next((s for s in _STEPS if (until - since) / s <= _MOST_TICKS), _STEPS[-1])
    form = "%H:%M:%S" if step % 60 else "%H:%M"
    midnight = started_at.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    offset = (started_at - midnight).total_seconds()
    number = -(-(offset + since) // step)
    ticks = []
    while (at := number * step - offset) <= until:
        label = (midnight + timedelta(seconds=number * step)).strftime(form)
        ticks.append((round(at, 3), label))
        number += 1
    return tuple(ticks)


def _s(length: timedelta) -> float:
    return length.total_seconds()
