"""What the report of a watch draws: lines, limits and moments, as values.

Three panels over one axis of time: error rate, answer times, traffic. Every source and release has
lines of its own, because they are judged one by one. How it looks is `blocks/plots.py`'s.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from release.duration import say_duration
from release.measure.sample import (
    Counted,
    Sample,
    Stream,
    TimedStream,
    streams_of,
    timed_streams_of,
)
from release.measure.tally import Tally, sum_of
from release.measure.traffic import ALL_RELEASES, PROBES
from release.watch.comparison import p95_before, p95_ceiling
from release.watch.watched import Watch

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
    watch: Watch, samples: Sequence[Sample], moments: Iterable[Moment] = ()
) -> Chart:
    """Lay out a watch; ``samples`` are in order.

    The cutover is left out where it is further back than the watch is long: it would squeeze
    everything else.
    """
    second, cutover = watch.second, watch.cutover
    until = max((second(sample.at) for sample in samples), default=0.0) or 1.0
    marks = [Mark(second(moment.at), moment.label, moment.fired) for moment in moments]
    since = 0.0
    if cutover is not None and -until <= second(cutover) <= until:
        since = min(0.0, second(cutover))
        marks.insert(0, Mark(second(cutover), "cutover"))
    return Chart(
        title=f"{watch.version} on {watch.baseline.environment}, watched from "
        f"{watch.started_at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC",
        since=since,
        until=until,
        ticks=_ticks(watch.started_at, since, until),
        panels=(_errors(watch, samples), _times(watch, samples), _traffic(watch, samples)),
        marks=tuple(marks),
        unhealthy=_unhealthy(watch, samples),
    )


def _errors(watch: Watch, samples: Sequence[Sample]) -> Panel:
    rules, baseline = watch.rules, watch.baseline
    lines = [
        _line(stream.source, stream.release, watch.version, _rates(watch, stream))
        for stream in streams_of(samples)
    ]
    lines += [
        _level(watch, f"{baseline.version} before ({t.source})", 100 * t.rate, samples)
        for t in baseline.traffic
        if t.rate is not None and t.release == ALL_RELEASES  # its own share is the same line
    ]
    ceiling = rules.error_rate_ceiling
    label = f"limit: {ceiling:.1%} for {say_duration(rules.sustained_for)}"
    return Panel("Error rate", "%", _ranked(lines), (Limit(label, 100 * ceiling),))


def _times(watch: Watch, samples: Sequence[Sample]) -> Panel:
    lines = []
    for stream in timed_streams_of(samples):
        for name in ("p95", "p50", "p99"):
            points = _milliseconds(watch, stream, name)
            if points:
                lines.append(
                    _line(stream.source, stream.release, watch.version, points, f"{name} ")
                )
    before = p95_before(watch.baseline, PROBES, ALL_RELEASES)
    levels, limits = [], []
    if before is not None:
        ms = before / timedelta(milliseconds=1)
        levels = [_level(watch, f"p95 of {watch.baseline.version} before", ms, samples)]
        ceiling = p95_ceiling(before, watch.rules)
        limits = [Limit(f"ask a person: p95 over {say_duration(ceiling)}", 1000 * _s(ceiling))]
    return Panel("Answer times", "ms", _ranked([*lines, *levels]), tuple(limits))


def _traffic(watch: Watch, samples: Sequence[Sample]) -> Panel:
    lines = [
        _line(stream.source, stream.release, watch.version, _per_second(watch, stream))
        for stream in streams_of(samples)
    ]
    return Panel("Traffic", "/s", _ranked(lines))


def _line(source: str, release: str, version: str, points: Points, what: str = "") -> Line:
    """After the cutover, traffic that is not told apart by release is the new one's."""
    role = NEW if release in (ALL_RELEASES, version) else OLD
    return Line(f"{what}{release or 'all'} ({source})", role, points)


def _level(watch: Watch, label: str, value: float, samples: Sequence[Sample]) -> Line:
    ends = [watch.second(samples[0].at), watch.second(samples[-1].at)] if samples else []
    return Line(label, BEFORE, tuple((at, value) for at in ends))


def _ranked(lines: Sequence[Line]) -> tuple[Line, ...]:
    """Number the lines of each role, in order."""
    counts: dict[str, int] = {}
    ranked = []
    for line in lines:
        ranked.append(Line(line.label, line.role, line.points, counts.get(line.role, 0)))
        counts[line.role] = counts.get(line.role, 0) + 1
    return tuple(ranked)


def _rates(watch: Watch, stream: Stream) -> Points:
    rates = [(b[-1].at, 100 * t.rate if t.requests else None) for b, t in _bins(stream.counted)]
    return _with_gaps(watch, rates, watch.rules.longest_gap)


def _per_second(watch: Watch, stream: Stream) -> Points:
    """Over the time since the sample before, or as long as between two where there is a gap."""
    rules = watch.rules
    found: list[tuple[datetime, float | None]] = []
    first = stream.counted[:2]
    apart = first[-1].at - first[0].at if len(first) == 2 else rules.every
    before = first[0].at - apart
    for counted, tally in _bins(stream.counted):
        since = before if counted[0].at - before <= rules.longest_gap else counted[0].at - apart
        length = _s(counted[-1].at - since)
        found.append((counted[-1].at, tally.requests / length if length > 0 else None))
        before = counted[-1].at
    return _with_gaps(watch, found, rules.longest_gap)


def _bins(counted: Sequence[Counted]) -> list[tuple[Sequence[Counted], Tally]]:
    """Neighbours together, as few as make no more than the points of a line."""
    size = -(-len(counted) // _MOST_POINTS) or 1
    parts = [counted[start : start + size] for start in range(0, len(counted), size)]
    return [(part, sum_of(one.tally for one in part)) for part in parts]


def _milliseconds(watch: Watch, stream: TimedStream, name: str) -> Points:
    """Of neighbours that are drawn as one, the slowest."""
    values = stream.percentiles(name)
    size = -(-len(values) // _MOST_POINTS) or 1
    parts = [values[start : start + size] for start in range(0, len(values), size)]
    slowest = [(part[-1][0], 1000 * _s(max(value for _, value in part))) for part in parts]
    return _with_gaps(watch, slowest, watch.rules.longest_gap * size)


def _with_gaps(
    watch: Watch, found: Sequence[tuple[datetime, float | None]], longest: timedelta
) -> Points:
    points: list[tuple[float, float | None]] = []
    before: datetime | None = None
    for at, value in found:
        if before is not None and at - before > longest:
            points.append((watch.second(before), None))
        points.append((watch.second(at), None if value is None else round(value, 3)))
        before = at
    return tuple(points)


def _unhealthy(watch: Watch, samples: Sequence[Sample]) -> tuple[tuple[float, float], ...]:
    """From each first failed health check to the next good one."""
    spans: list[tuple[float, float]] = []
    since: float | None = None
    for sample in samples:
        if sample.health is False and since is None:
            since = watch.second(sample.at)
        elif sample.health and since is not None:
            spans.append((since, watch.second(sample.at)))
            since = None
    if since is not None:
        spans.append((since, watch.second(samples[-1].at)))
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
