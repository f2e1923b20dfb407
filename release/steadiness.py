"""Whether a span of time was well in all, however short each illness in it was.

A service that is up and down by turns breaks no limit for as long as a breach has to last.
"""

from collections.abc import Iterable, Sequence
from itertools import groupby

from release.rules import WatchRules
from release.sample import Sample, streams_of
from release.verdict import Span, percent


def ill_in_all(
    samples: Sequence[Sample], rules: WatchRules, span: Span, again: bool = False
) -> str:
    """Whether too many health checks failed, however short each failure was; "" if not.

    ``again``: only where it failed more than once.
    """
    known = [sample for sample in _in(span, samples) if sample.health is not None]
    failed = sum(1 for sample in known if not sample.health)
    if failed <= rules.error_rate_ceiling * len(known):
        return ""
    if again and not _more_than_once(not sample.health for sample in known):
        return ""
    return f"health check failed in {failed} of {len(known)} samples ({span})"


def errors_in_all(
    samples: Sequence[Sample], rules: WatchRules, version: str, span: Span, again: bool = False
) -> str:
    """Whether too many requests failed, however short each burst was; "" if not.

    ``again``: only where there was more than one burst.
    """
    ceiling = rules.error_rate_ceiling
    judged = [
        (stream.total.rate, stream.name)
        for stream in streams_of(_in(span, samples), version)
        if stream.total.requests >= rules.fewest_requests
        and (not again or _more_than_once(one.tally.rate > ceiling for one in stream.counted))
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


def _more_than_once(ill: Iterable[bool]) -> bool:
    """Whether it was ill again after it had been well."""
    return sum(1 for bad, _ in groupby(ill) if bad) > 1
