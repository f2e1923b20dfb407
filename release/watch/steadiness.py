"""Whether a span of time was healthy overall, however short each failure in it was.

A service that is up and down by turns breaks no limit for as long as a breach has to last.
"""

from collections.abc import Sequence
from datetime import datetime

from release.configuration.rules import WatchRules
from release.measure.sample import Sample, streams_of
from release.watch.verdict import Span, percent


def not_well_in_all(
    samples: Sequence[Sample],
    rules: WatchRules,
    version: str,
    span: Span,
    again: datetime | None = None,
) -> tuple[str, ...]:
    """What failed more often than ``error_rate_ceiling`` in a span of time: health, requests.

    Each in a sentence. With ``again``, only what was well in between and then failed again after
    that moment.
    """
    seen = _in(span, samples)
    health = _ill_in_all(seen, rules, span, again)
    errors = _errors_in_all(seen, rules, version, span, again)
    return tuple(filter(None, (health, errors)))


def _ill_in_all(
    samples: Sequence[Sample], rules: WatchRules, span: Span, again: datetime | None = None
) -> str:
    """Whether too many health checks failed, however short each failure was; "" if not."""
    known = [(sample.at, not sample.health) for sample in samples if sample.health is not None]
    failed = sum(1 for _, ill in known if ill)
    if failed <= rules.error_rate_ceiling * len(known) or not _came_back(known, again):
        return ""
    return f"health check failed in {failed} of {len(known)} samples ({span})"


def _errors_in_all(
    samples: Sequence[Sample],
    rules: WatchRules,
    version: str,
    span: Span,
    again: datetime | None = None,
) -> str:
    """Whether too many requests failed, however short each burst was; "" if not."""
    ceiling = rules.error_rate_ceiling
    judged = [
        (stream.total.rate, stream.name)
        for stream in streams_of(samples, version)
        if stream.total.requests >= rules.fewest_requests
        and _came_back([(one.at, one.tally.rate > ceiling) for one in stream.counted], again)
    ]
    rate, name = max(judged, default=(0.0, ""))
    if rate <= ceiling:
        return ""
    return f"error rate {percent(rate, ceiling)} > {ceiling:.1%} in all ({span}, {name})"


def _in(span: Span, samples: Sequence[Sample]) -> Sequence[Sample]:
    """What was seen in a span of time, the sample included that may have been under way at its
    beginning: what a slow one has counted came after it was begun."""
    earlier = sum(1 for sample in samples if sample.at <= span.since)
    return samples[max(0, earlier - 1) :]


def _came_back(seen: Sequence[tuple[datetime, bool]], after: datetime | None) -> bool:
    """Whether it was ill, well, and then ill again from a moment after ``after``; true if
    ``after`` is None, which asks nothing."""
    if after is None:
        return True
    before = [False, *(ill for _, ill in seen)]
    begun = [at for (at, ill), was in zip(seen, before, strict=False) if ill and not was]
    return len(begun) > 1 and begun[-1] > after
