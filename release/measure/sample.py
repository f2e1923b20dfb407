"""Samples: what was seen of a release at one moment, and what each source has counted over time."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from release.measure.tally import Tally
from release.measure.traffic import Times, Traffic


@dataclass(frozen=True, slots=True)
class Restarts:
    """How often the engine has started an instance again since it was made."""

    instance: str  # its name
    release: str  # its version
    count: int

    def concerns(self, version: str) -> bool:
        """Whether it may be held against ``version``."""
        return self.release == version


@dataclass(frozen=True, slots=True)
class Sample:
    """What was seen at one moment. None: it could not be seen, or was not looked at."""

    at: datetime  # aware
    health: bool | None = None
    health_detail: str = ""  # of a failure: "HTTP 503", "connection refused"
    traffic: tuple[Traffic, ...] = ()  # since the sample before; a source that is down is absent
    times: tuple[Times, ...] = ()
    auth: bool | None = None  # None: not checked at this sample
    auth_detail: str = ""
    p0: str | None = None  # "": none declared; else the reason
    restarts: tuple[Restarts, ...] | None = None
    unknown: tuple[str, ...] = ()  # one sentence for each source that did not answer

    def __post_init__(self) -> None:
        if self.at.tzinfo is None:
            raise ValueError(f"a sample at {self.at}, without a time zone, cannot be placed")


@dataclass(frozen=True, slots=True)
class Counted:
    """What one source counted at one sample."""

    at: datetime
    tally: Tally


@dataclass(frozen=True, slots=True)
class Stream:
    """All that one source has counted of one release, or of all together."""

    source: str
    release: str  # as in Traffic
    counted: tuple[Counted, ...]  # in order

    @property
    def name(self) -> str:
        """The source as sentences name it."""
        return name_of_source(self.source, self.release)

    @property
    def total(self) -> Tally:
        """All of it together."""
        return sum((counted.tally for counted in self.counted), Tally())


def name_of_source(source: str, release: str) -> str:
    """A source as sentences name it: `router`, or `router, v1.4.0 alone`."""
    return f"{source}, {release} alone" if release else source


def streams_of(samples: Sequence[Sample], version: str | None = None) -> tuple[Stream, ...]:
    """What each source has counted, by name of source and release; ``samples`` are in order.

    With a ``version``, only what may be held against it.
    """
    found: dict[tuple[str, str], list[Counted]] = {}
    for sample in samples:
        for traffic in sample.traffic:
            if version is None or traffic.concerns(version):
                stream = found.setdefault((traffic.source, traffic.release), [])
                stream.append(Counted(sample.at, _tally(traffic)))
    return tuple(Stream(*key, tuple(found[key])) for key in sorted(found))


@dataclass(frozen=True, slots=True)
class TimedStream:
    """The answer times that one source has seen of one release, or of all together."""

    source: str
    release: str  # as in Times
    seen: tuple[tuple[datetime, Times], ...]  # in order

    def percentiles(self, name: str) -> list[tuple[datetime, timedelta]]:
        """Its p50, p95 or p99 at each sample that has it."""
        return [(at, value) for at, one in self.seen if (value := getattr(one, name)) is not None]


def timed_streams_of(
    samples: Sequence[Sample], version: str | None = None
) -> tuple[TimedStream, ...]:
    """What each source has seen of answer times; otherwise as :func:`streams_of`."""
    found: dict[tuple[str, str], list[tuple[datetime, Times]]] = {}
    for sample in samples:
        for times in sample.times:
            if version is None or times.concerns(version):
                found.setdefault((times.source, times.release), []).append((sample.at, times))
    return tuple(TimedStream(*key, tuple(found[key])) for key in sorted(found))


def _tally(traffic: Traffic) -> Tally:
    """A source that rounds may report more errors than answers; no rate is above 100%."""
    requests = max(0, traffic.requests)
    return Tally(requests, min(max(0, traffic.errors), requests))


def in_order(samples: Iterable[Sample]) -> tuple[Sample, ...]:
    """Sort by time; of two samples of one moment, the worse of each thing that was seen counts.

    So neither a repeated sample nor one that a set clock put on another's moment hides anything.
    """
    found: dict[datetime, Sample] = {}
    for sample in samples:
        other = found.get(sample.at)
        found[sample.at] = sample if other is None or other == sample else _worse(other, sample)
    return tuple(found[at] for at in sorted(found))


def _worse(one: Sample, other: Sample) -> Sample:
    health, health_detail = _worse_check(
        (one.health, one.health_detail), (other.health, other.health_detail)
    )
    auth, auth_detail = _worse_check((one.auth, one.auth_detail), (other.auth, other.auth_detail))
    reasons = [sample.p0 for sample in (one, other) if sample.p0 is not None]
    return Sample(
        at=one.at,
        health=health,
        health_detail=health_detail,
        traffic=_worst_traffic((*one.traffic, *other.traffic)),
        times=_worst_times((*one.times, *other.times)),
        auth=auth,
        auth_detail=auth_detail,
        p0=max(reasons, default=None),
        restarts=_most_restarts(one.restarts, other.restarts),
        unknown=tuple(sorted({*one.unknown, *other.unknown})),
    )


def _worse_check(*checks: tuple[bool | None, str]) -> tuple[bool | None, str]:
    """A failure, else a success, else what is unknown, with its detail."""
    rank = {False: 2, True: 1, None: 0}
    return max(checks, key=lambda check: (rank[check[0]], check[1]))


def _most_restarts(*seen: tuple[Restarts, ...] | None) -> tuple[Restarts, ...] | None:
    known = [restarts for restarts in seen if restarts is not None]
    found: dict[tuple[str, str], Restarts] = {}
    for one in (one for restarts in known for one in restarts):
        key = (one.instance, one.release)
        found[key] = max(found.get(key, one), one, key=lambda restarts: restarts.count)
    return tuple(found[key] for key in sorted(found)) if known else None


def _worst_traffic(traffic: Iterable[Traffic]) -> tuple[Traffic, ...]:
    def badness(of: Traffic) -> tuple[float, int]:
        return (of.rate or 0.0, of.requests)

    found: dict[tuple[str, str], Traffic] = {}
    for one in traffic:
        key = (one.source, one.release)
        found[key] = max(found.get(key, one), one, key=badness)
    return tuple(found[key] for key in sorted(found))


def _worst_times(times: Iterable[Times]) -> tuple[Times, ...]:
    def badness(of: Times) -> tuple[timedelta, timedelta, timedelta]:
        p50, p95, p99 = (value or timedelta() for value in (of.p50, of.p95, of.p99))
        return (p95, p99, p50)

    found: dict[tuple[str, str], Times] = {}
    for one in times:
        key = (one.source, one.release)
        found[key] = max(found.get(key, one), one, key=badness)
    return tuple(found[key] for key in sorted(found))


def percentile(values: Sequence[timedelta], fraction: float) -> timedelta:
    """The value that ``fraction`` of ``values`` do not exceed (nearest rank). Needs a value."""
    ranked = sorted(values)
    return ranked[max(0, -int(-len(ranked) * fraction // 1) - 1)]
