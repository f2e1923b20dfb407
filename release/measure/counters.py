"""Counters: how much they grew between two looks, release by release.

A counter only rises, until its process ends and the next one begins at zero. So growth is taken
series by series, before anything is summed: a sum over instances falls when one of them leaves,
which cannot be told from a restart.
"""

import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from release.measure.sample import percentile
from release.measure.slot import Slot
from release.measure.tally import Tally
from release.measure.traffic import ALL_RELEASES, PROBES, ROUTER, TOO_MANY, Times, Traffic

Labels = frozenset[tuple[str, str]]
Series = Mapping[Labels, float]

_PERCENTILES = (0.5, 0.95, 0.99)
_BEGAN_AGAIN = "its counters began again, so the traffic until now is unknown"
_SOME_TOO_MANY = f"some are answered HTTP {TOO_MANY}, and are not counted"
_NAME = "__name__"  # a metric's own name: what was computed from counters has lost it
_BOUND = "le"  # upper bound of a histogram's bucket, in seconds


@dataclass(frozen=True, slots=True)
class RouterLook:
    """What a router has counted since it started."""

    answered: Tally  # of all answers to users, also those that no instance gave
    slots: tuple[Slot, ...]


@dataclass(frozen=True, slots=True)
class ProbeLook:
    """What has come of our own requests since the first of them."""

    counted: Tally = field(default_factory=Tally)
    took: tuple[timedelta, ...] = ()  # of each that was answered, in order
    too_many: int = 0  # answers that say nothing of a release: there were too many requests


@dataclass(frozen=True, slots=True)
class Look:
    """What counters stand at, at one moment."""

    requests: Series
    errors: Series  # no series: nothing has failed yet, or nothing is counted
    buckets: Series = field(default_factory=dict)  # of a histogram of answer times; {}: not asked


Looks = Mapping[str, Any]
"""What each source stood at, by its name; one that could not be seen is not in it."""


@dataclass(frozen=True, slots=True)
class Growth:
    """What was counted between two looks."""

    traffic: tuple[Traffic, ...] = ()
    times: tuple[Times, ...] = ()
    unknown: str = ""  # what cannot be said, and why


def router_growth(before: RouterLook, now: RouterLook, versions: Mapping[str, str]) -> Growth:
    """What a router counted between two looks; nothing if its counting began again in between.

    Of all together, and of each release whose instances stood in the same slot at both looks.
    ``versions`` names the release of each instance.
    """
    old = {slot.name: slot for slot in before.slots}
    grown = {ALL_RELEASES: now.answered - before.answered}
    for slot in now.slots:
        was, version = old.get(slot.name), versions.get(slot.instance, "")
        if was is None or was.instance != slot.instance or not version:
            continue
        since = slot.tally - was.tally
        if not since.possible:
            return Growth(unknown=_BEGAN_AGAIN)
        grown[version] = grown.get(version, Tally()) + since
    if not grown[ALL_RELEASES].possible:
        return Growth(unknown=_BEGAN_AGAIN)
    return Growth(
        tuple(Traffic(ROUTER, of, grown[of].requests, grown[of].errors) for of in sorted(grown))
    )


def probe_growth(before: ProbeLook, now: ProbeLook) -> Growth:
    """What came of the probes between two looks. They belong to all releases, because it is not
    known which instance answers one."""
    since, took = now.counted - before.counted, now.took[len(before.took) :]
    if not since.possible:
        return Growth(unknown=_BEGAN_AGAIN)
    p50, p95, p99 = (percentile(took, fraction) if took else None for fraction in _PERCENTILES)
    return Growth(
        (Traffic(PROBES, ALL_RELEASES, since.requests, since.errors),) if since.requests else (),
        (Times(PROBES, ALL_RELEASES, p50, p95, p99),) if took else (),
        _SOME_TOO_MANY if now.too_many > before.too_many else "",
    )


def remember(before: Look | None, now: Look) -> Look:
    """What the next look is compared with: a series that is away for a moment is not forgotten."""
    if before is None:
        return now
    return Look(
        {**before.requests, **now.requests},
        {**before.errors, **now.errors},
        {**before.buckets, **now.buckets},
    )


def growth(source: str, before: Look, now: Look, release_label: str) -> Growth:
    """What ``source`` counted between two looks: of each release, and of all together.

    A release that is seen for the first time counts from this look on: how much of it is old is not
    known. In a release that was seen before, a series that is new was born since (the first error,
    another instance), and counts from zero.

    No errors are zero errors only where requests are counted. Nothing can be said where none are,
    where a sum has fallen, and where there are more errors than requests. A release of which
    nothing can be said is left out.
    """
    if not now.requests:
        return Growth(unknown="no data: its query for requests finds nothing")
    if any(_fallen(b, n) for b, n in _pairs(before, now)):
        return Growth(
            unknown="a sum of counters has fallen, the traffic until now is unknown; its queries "
            "have to ask for the counters themselves"
        )
    known = {_release(labels, release_label) for labels in before.requests}
    requests = _grown(before.requests, now.requests, known, release_label)
    errors = _grown(before.errors, now.errors, known, release_label)
    counts = [(ALL_RELEASES, round(sum(requests.values())), round(sum(errors.values())))]
    seen = {_release(labels, release_label) for labels in now.requests} & known
    # Errors that name no release may be of any, so none can be said to have had none.
    if not (errors.get(ALL_RELEASES) and seen != {ALL_RELEASES}):
        counts += [
            (release, round(requests[release]), round(errors.get(release, 0.0)))
            for release in sorted(seen - {ALL_RELEASES})
        ]
    for release, asked, failed in counts if seen else ():
        if failed > asked:
            whose = f" of {release}" if release else ""
            return Growth(
                unknown=f"{failed:,} errors of {asked:,} requests{whose}: its two queries do not "
                "count the same answers"
            )
    return Growth(
        tuple(Traffic(source, *count) for count in counts if seen),
        tuple(_times(source, before, now, known, release_label)),
    )


def quantile(buckets: Mapping[float, float], fraction: float) -> timedelta | None:
    """The answer time that ``fraction`` of the answers did not exceed; None without an answer.

    ``buckets`` holds the answers up to each bound, in seconds. Within a bucket answers are taken
    to be spread evenly; beyond the highest finite bound, that bound is all that can be said.
    Source: prometheus.io/docs, "histogram_quantile()".
    """
    bounds = sorted(buckets)
    total = max(buckets.values(), default=0.0)
    if total <= 0 or not bounds or not math.isinf(bounds[-1]):
        return None
    rank = fraction * total
    lower, below = 0.0, 0.0
    for bound in bounds:
        count = max(below, buckets[bound])
        if count >= rank and count > below:
            if math.isinf(bound):
                break
            return timedelta(seconds=lower + (bound - lower) * (rank - below) / (count - below))
        lower, below = (bound, count) if not math.isinf(bound) else (lower, count)
    return timedelta(seconds=lower) if len(bounds) > 1 else None


def _pairs(before: Look, now: Look) -> Iterator[tuple[Series, Series]]:
    yield before.requests, now.requests
    yield before.errors, now.errors
    yield before.buckets, now.buckets


def _fallen(before: Series, now: Series) -> bool:
    """Whether something that is not a counter fell: a counter's own fall is a restart."""
    return any(
        value < before.get(labels, 0.0) and not any(name == _NAME for name, _ in labels)
        for labels, value in now.items()
    )


def _grown(
    before: Series, now: Series, known: Collection[str], release_label: str
) -> dict[str, float]:
    """Growth by release."""
    found: dict[str, float] = {}
    for labels, value in now.items():
        release = _release(labels, release_label)
        old = before.get(labels, 0.0 if release in known else value)
        found[release] = found.get(release, 0.0) + _growth_of(old, value)
    return found


def _growth_of(old: float, value: float) -> float:
    """What a counter has grown by. One that fell began again, if it fell far.

    One that fell a little is that of another replica of the metrics system, scraped a moment
    earlier: its lifetime's count is not of this moment.
    """
    if value >= old:
        return value - old
    return value if value < old / 2 else 0.0


def _times(
    source: str, before: Look, now: Look, known: Collection[str], release_label: str
) -> Iterator[Times]:
    """Answer times of each release and of all, from a histogram's buckets."""
    grown: dict[str, dict[float, float]] = {}
    for bound in {bound for labels in now.buckets if (bound := bound_of(labels)) is not None}:
        of_bound = {labels: v for labels, v in now.buckets.items() if bound_of(labels) == bound}
        for release, count in _grown(before.buckets, of_bound, known, release_label).items():
            for whose in {release, ALL_RELEASES}:
                buckets = grown.setdefault(whose, {})
                buckets[bound] = buckets.get(bound, 0.0) + count
    for release in sorted(grown):
        p50, p95, p99 = (quantile(grown[release], fraction) for fraction in _PERCENTILES)
        if p50 is not None:
            yield Times(source, release, p50, p95, p99)


def bound_of(labels: Labels) -> float | None:
    """The upper bound of a histogram's bucket, in seconds; None for what is not a bucket."""
    text = dict(labels).get(_BOUND)
    try:
        bound = float(text) if text is not None else math.nan
    except ValueError:
        return None
    return None if math.isnan(bound) else bound


def _release(labels: Labels, release_label: str) -> str:
    return dict(labels).get(release_label, ALL_RELEASES)
