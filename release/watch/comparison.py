"""Rules relative to the baseline: what served before, against what serves now.

They ask a person and never roll back. Time itself moves both figures, and the runbook names no
trigger for them; but a release with twenty times the errors of the one before, all below the
runbook's 5%, is worth a look before the next one hides it.

Source: the runbook's checklist items "Monitor error rates (10 min)" and "Check response times".
"""

from collections.abc import Sequence
from datetime import datetime, timedelta

from release.configuration.rules import WatchRules
from release.duration import say_duration
from release.measure.sample import (
    Sample,
    Stream,
    TimedStream,
    percentile,
    streams_of,
    timed_streams_of,
)
from release.measure.tally import Tally
from release.measure.traffic import ALL_RELEASES, PROBES
from release.model import Baseline
from release.watch.sequential import fisher_p
from release.watch.sustained import Reading, Words, judge_sustained, worst_of
from release.watch.verdict import Outcome, Span, Trigger, Verdict, clock


def judge_error_change(
    samples: Sequence[Sample], rules: WatchRules, baseline: Baseline, version: str, span: Span
) -> Verdict:
    """An error rate of ``error_rate_factor`` times the baseline's that is not chance asks a person.

    At each sample, the answers of the last ``sustained_for`` (at least ``fewest_requests``) are
    compared with those that the same source counted of the baseline: by Fisher's exact test,
    one-sided, at ``error_rate_alpha``. Not by a binomial test against the baseline's rate, because
    that rate is itself an estimate, often from a hundred answers: no error among 100 is up to 3%.
    ``samples`` are in order.
    """
    limit = f"{rules.error_rate_factor:g} × the baseline's"
    streams = streams_of(samples, version)
    judged = [
        _judge_change_of(stream, before, rules, span, limit)
        for stream in streams
        if (before := _errors_before(baseline, stream.source, stream.release)) is not None
    ]
    if judged:
        return worst_of(judged)
    why = "the baseline's was not counted" if streams else "no sample holds traffic counts"
    sentence = f"error rate not compared: {why}"
    return Verdict(
        Trigger.ERROR_CHANGE, Outcome.INCONCLUSIVE, sentence, limit=limit, window=str(span)
    )


def _judge_change_of(
    stream: Stream, before: Tally, rules: WatchRules, span: Span, limit: str
) -> Verdict:
    def verdict(outcome: Outcome, sentence: str, now: Tally) -> Verdict:
        value = f"{now.rate:.2%} (before: {before.rate:.2%})" if now.requests else "–"
        sentence = f"{sentence} ({stream.name})"
        return Verdict(
            Trigger.ERROR_CHANGE, outcome, sentence, value, limit, str(span), source=stream.source
        )

    compared, now = False, Tally()
    for at, now in _windows(stream, rules):
        if now.requests < rules.fewest_requests:
            continue
        compared = True
        more = now.errors > 0 and now.rate >= rules.error_rate_factor * before.rate
        if more and fisher_p(now, before) <= rules.error_rate_alpha:
            sentence = (
                f"error rate {_of(now)} at {clock(at)}, {_of(stream.total)} in all, "
                f"before it was {_of(before)}: "
                f"at least {rules.error_rate_factor:g} times as high, which is not chance"
            )
            return verdict(Outcome.UNHEALTHY, sentence, stream.total)
    if not compared:
        few = f"{stream.total.requests:,} requests counted, {rules.fewest_requests:,} are needed"
        return verdict(Outcome.INCONCLUSIVE, f"error rate not compared: {few}", now)
    sentence = f"error rate {_of(stream.total)}, before it was {_of(before)}"
    return verdict(Outcome.HEALTHY, sentence, stream.total)


def _windows(stream: Stream, rules: WatchRules) -> list[tuple[datetime, Tally]]:
    """What was counted in the ``sustained_for`` before each sample."""
    length = min(rules.sustained_for, rules.length)
    found, first, tally = [], 0, Tally()
    for counted in stream.counted:
        tally += counted.tally
        while stream.counted[first].at <= counted.at - length:
            tally -= stream.counted[first].tally
            first += 1
        found.append((counted.at, tally))
    return found


def _errors_before(baseline: Baseline, source: str, release: str) -> Tally | None:
    """What ``source`` counted of the baseline; of it alone, if that is how it counts now."""
    labels = (baseline.version, ALL_RELEASES) if release else (ALL_RELEASES, baseline.version)
    for label in labels:
        for traffic in baseline.traffic:
            if (traffic.source, traffic.release) == (source, label) and traffic.requests > 0:
                return Tally(traffic.requests, min(traffic.errors, traffic.requests))
    return None


def _of(tally: Tally) -> str:
    return f"{tally.rate:.2%} ({tally.errors:,} of {tally.requests:,})"


def judge_response_times(
    samples: Sequence[Sample], rules: WatchRules, baseline: Baseline, version: str, span: Span
) -> Verdict:
    """A 95th percentile above the baseline's, times ``p95_factor``, for ``sustained_for``.

    Each source is compared with what it measured of the baseline itself. Below ``p95_floor`` it
    is never a breach. ``samples`` are in order.
    """
    timed = [one for one in timed_streams_of(samples, version) if one.percentiles("p95")]
    judged = [
        _judge_times_of(stream, before, rules, span)
        for stream in timed
        if (before := p95_before(baseline, stream.source, stream.release)) is not None
    ]
    if judged:
        return worst_of(judged)
    why = "the baseline's were not measured" if timed else "no sample holds any"
    sentence = f"response times not judged: {why}"
    return Verdict(Trigger.RESPONSE_TIMES, Outcome.INCONCLUSIVE, sentence, window=str(span))


def _judge_times_of(
    stream: TimedStream, before: timedelta, rules: WatchRules, span: Span
) -> Verdict:
    ceiling, timed = p95_ceiling(before, rules), stream.percentiles("p95")
    readings = [
        Reading(
            at=at,
            known_since=at,
            breach=p95 > ceiling,
            adds=p95 > ceiling,
            text=f"95% of answers within {say_duration(p95)} > {say_duration(ceiling)}",
        )
        for at, p95 in timed
    ]
    middle = say_duration(percentile([p95 for _, p95 in timed], 0.5))
    return judge_sustained(
        readings,
        rules,
        span,
        Words(
            trigger=Trigger.RESPONSE_TIMES,
            subject="response times",
            good=f"95% of answers within {middle} (baseline {say_duration(before)})",
            value=middle,
            limit=f"{say_duration(ceiling)} for {say_duration(rules.sustained_for)}",
            nothing="no sample holds any",
            source=stream.source,
            release=stream.release,
        ),
    )


def p95_ceiling(before: timedelta, rules: WatchRules) -> timedelta:
    """The limit up to which a 95th percentile counts as before: a ratio, but never below the
    floor."""
    return max(before * rules.p95_factor, rules.p95_floor)


def p95_before(baseline: Baseline, source: str, release: str) -> timedelta | None:
    """The baseline's 95th percentile as ``source`` measured it; None if it measured none."""
    labels = (baseline.version, ALL_RELEASES) if release else (ALL_RELEASES, baseline.version)
    for label in labels:
        for times in baseline.times:
            if (times.source, times.release) == (source, label) and times.p95 is not None:
                return times.p95
    return baseline.p95 if source == PROBES else None
