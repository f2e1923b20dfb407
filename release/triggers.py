"""The runbook's rollback triggers, as rules over timed samples.

A rule says healthy, unhealthy or inconclusive, each with its sentence. Three things hold for all:

- a breach is latched: nothing that comes later takes it back;
- order and repetition of samples do not matter;
- no data is neither health nor illness: a sample that does not know is as if it was never taken.

Source: the runbook, "Rollback Trigger Conditions" and "Post-Deployment".
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from release.duration import say_duration
from release.model import Baseline
from release.rules import WatchRules
from release.sustained import Reading, Words, judge_sustained, worst_of
from release.traffic import PROBES, Times, Traffic
from release.verdict import ASKS_A_PERSON, Outcome, Span, Trigger, Verdict, clock

AUTH_NOT_CONFIGURED = "no account is configured for it"


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
    unknown: tuple[str, ...] = ()  # one sentence for each source that did not answer

    def __post_init__(self) -> None:
        if self.at.tzinfo is None:
            raise ValueError(f"a sample at {self.at}, without a time zone, cannot be placed")


class Action(StrEnum):
    """What the watch does next."""

    CONTINUE = "continue"
    PASS = "pass"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Decision:
    """What the samples so far mean for the release."""

    action: Action
    sentence: str
    until: datetime  # when the watch ends, as things stand
    verdicts: tuple[Verdict, ...]
    notes: tuple[str, ...] = ()  # what could not be judged, and what a person should look at


def judge_watch(
    samples: Iterable[Sample],
    rules: WatchRules,
    started_at: datetime,
    baseline: Baseline,
    version: str,
) -> Decision:
    """Decide whether the release stays, goes, or is watched further.

    ``version`` is the watched one: only its traffic, and traffic that no source tells apart by
    release, is judged.

    The time is that of the newest sample. A trigger that fires fails the watch at once. At its
    end (``rules.length``) the watch passes if

    - no breach is under way: a failing health check, an error rate above the ceiling, an auth
      check that has just failed; and
    - health is proven: seen without a gap over the last ``sustained_for``, good at the end; and
    - auth is proven: its last check succeeded, or there is no account to check it with.

    Otherwise it goes on for up to ``extend_up_to``, and fails if that did not settle it. Traffic
    counts, response times and P0 reports that could not be had do not fail it: the metrics being
    down is not the release being bad. They are said in ``notes``.
    """
    ordered = in_order(samples)
    now = max(ordered[-1].at, started_at) if ordered else started_at
    span = Span(started_at, now)
    verdicts = (
        judge_p0(ordered, rules, span),
        judge_auth(ordered, rules, span),
        judge_health(ordered, rules, span),
        judge_error_rate(ordered, rules, version, span),
        judge_response_times(ordered, rules, baseline.p95, version, span),
    )
    notes = tuple(v.sentence for v in verdicts if v.outcome is not Outcome.HEALTHY and not v.fires)
    fired = [verdict.sentence for verdict in verdicts if verdict.fires]
    end = started_at + rules.length
    if fired:
        return Decision(Action.FAIL, "; ".join(fired), now, verdicts, notes)
    if now < end:
        return Decision(Action.CONTINUE, f"watched until {clock(end)}", end, verdicts, notes)
    unsettled = _unsettled(ordered, rules, verdicts, now)
    watched = say_duration(span.length)
    if not unsettled:
        return Decision(Action.PASS, f"no trigger in {watched}", now, verdicts, notes)
    last_end = end + rules.extend_up_to
    why = "; ".join(unsettled)
    if now < last_end:
        sentence = f"watched on, until {clock(last_end)} at most: {why}"
        return Decision(Action.CONTINUE, sentence, last_end, verdicts, notes)
    return Decision(Action.FAIL, f"not proven healthy in {watched}: {why}", now, verdicts, notes)


def _unsettled(
    samples: Sequence[Sample], rules: WatchRules, verdicts: Sequence[Verdict], now: datetime
) -> list[str]:
    """Say what forbids the watch to end well now."""
    reasons = [v.sentence for v in verdicts if v.under_way and v.trigger not in ASKS_A_PERSON]
    proof = Span(now - min(rules.sustained_for, rules.length), now)
    recent = judge_health([s for s in samples if s.at >= proof.since], rules, proof)
    if recent.outcome is Outcome.INCONCLUSIVE and not recent.under_way:
        reasons.append(recent.sentence)
    auth = next(verdict for verdict in verdicts if verdict.trigger is Trigger.AUTH)
    unchecked = auth.outcome is Outcome.INCONCLUSIVE and not auth.under_way
    if unchecked and not any(sample.auth_detail == AUTH_NOT_CONFIGURED for sample in samples):
        reasons.append(auth.sentence)
    return reasons


def judge_p0(samples: Iterable[Sample], rules: WatchRules, span: Span | None = None) -> Verdict:
    """A P0 bug that a person has declared fires at once.

    Source: the runbook's rollback trigger "P0 bug discovered".
    """
    ordered = in_order(samples)
    span = span or _span_of(ordered)
    declared = next((sample for sample in ordered if sample.p0), None)
    if declared:
        sentence = f"P0 declared, seen at {clock(declared.at)}: {declared.p0}"
        return Verdict(Trigger.P0, Outcome.UNHEALTHY, sentence, "declared", "none", str(span))
    if not any(sample.p0 is not None for sample in ordered):
        sentence = "P0 reports not judged: the ledger could not be asked"
        return Verdict(Trigger.P0, Outcome.INCONCLUSIVE, sentence, limit="none", window=str(span))
    return Verdict(Trigger.P0, Outcome.HEALTHY, "no P0 declared", "none", "none", str(span))


def judge_auth(samples: Iterable[Sample], rules: WatchRules, span: Span | None = None) -> Verdict:
    """The auth flow is broken when ``rules.auth_failures`` checks in a row have failed.

    A failure while the health check fails too is not counted: a service that is down has its own
    rule, with its own patience.

    Source: the runbook's rollback trigger "Auth flow broken".
    """
    ordered = in_order(samples)
    window = str(span or _span_of(ordered))
    limit = f"{rules.auth_failures} failures in a row"
    checks = [s for s in ordered if s.auth is True or (s.auth is False and s.health is not False)]
    if not checks:
        why = next((s.auth_detail for s in reversed(ordered) if s.auth_detail), "no check was made")
        sentence = f"auth flow not judged: {why}"
        return Verdict(Trigger.AUTH, Outcome.INCONCLUSIVE, sentence, limit=limit, window=window)
    failed = 0
    for check in checks:
        failed = 0 if check.auth else failed + 1
        if failed == rules.auth_failures:
            sentence = f"auth flow broken, {_times(failed)} in a row at {clock(check.at)}"
            sentence += f": {check.auth_detail}" if check.auth_detail else ""
            value = f"{failed} failures in a row"
            return Verdict(Trigger.AUTH, Outcome.UNHEALTHY, sentence, value, limit, window)
    good = sum(1 for check in checks if check.auth)
    value = f"{good} of {len(checks)} checks good"
    if failed:
        sentence = f"auth flow failed {_times(failed)} ({rules.auth_failures} in a row count)"
        sentence += f": {checks[-1].auth_detail}" if checks[-1].auth_detail else ""
        return Verdict(
            Trigger.AUTH, Outcome.INCONCLUSIVE, sentence, value, limit, window, under_way=True
        )
    sentence = f"auth flow good in {good} of {len(checks)} checks"
    return Verdict(Trigger.AUTH, Outcome.HEALTHY, sentence, value, limit, window)


def judge_health(samples: Iterable[Sample], rules: WatchRules, span: Span | None = None) -> Verdict:
    """A health check that fails for longer than ``rules.sustained_for`` fires.

    Longer, not as long: exactly five minutes does not fire. One good check starts the count
    again, and so does a gap over ``rules.longest_gap``, through which nothing is known. ``span``
    is what the samples have to cover; by default, from the first to the last.

    Source: the runbook's rollback trigger "Health check fails for > 5 minutes".
    """
    ordered = in_order(samples)
    known = [sample for sample in ordered if sample.health is not None]
    readings = [
        Reading(
            at=sample.at,
            known_since=sample.at,
            breach=not sample.health,
            adds=not sample.health,
            text="health check failed"
            + (f" ({sample.health_detail})" if sample.health_detail else ""),
        )
        for sample in known
    ]
    good = sum(1 for sample in known if sample.health)
    return judge_sustained(
        readings,
        rules,
        span or _span_of(ordered),
        Words(
            trigger=Trigger.HEALTH,
            subject="health",
            good=f"health check good in {good} of {len(known)} samples",
            value=f"{good} of {len(known)} good",
            limit=f"failing for {say_duration(rules.sustained_for)}",
            nothing="no sample holds a health check",
        ),
    )


def judge_error_rate(
    samples: Iterable[Sample], rules: WatchRules, version: str, span: Span | None = None
) -> Verdict:
    """An error rate above the ceiling for longer than ``rules.sustained_for`` fires.

    A rate is 5xx answers / all answers, a fraction. At a sample it is taken over the shortest
    trailing window with ``rules.fewest_requests`` in it, of at most ``sustained_for``; a window
    with fewer says nothing. One rate at or below the ceiling starts the count again, and so does
    a gap over ``rules.longest_gap``. A breach lasts from the first rate above the ceiling to the
    last sample that added an error, not until its window forgot them: however thin the traffic,
    four bad minutes are never five.

    Each source is judged by itself, and the breach of one is enough: a source that sees little or
    nothing takes no breach back. Traffic of other releases than ``version`` is left out.

    Source: the runbook's rollback trigger "Error rate > 5% for > 5 minutes".
    """
    ordered = in_order(samples)
    window = span or _span_of(ordered)
    limit = f"{rules.error_rate_ceiling:.1%} for {say_duration(rules.sustained_for)}"
    counted: dict[tuple[str, str], list[_Counted]] = {}
    for sample in ordered:
        for traffic in sample.traffic:
            if traffic.concerns(version):
                stream = counted.setdefault((traffic.source, traffic.release), [])
                stream.append(_Counted(sample.at, traffic.requests, traffic.errors))
    if not counted:
        sentence = "error rate not judged: no sample holds traffic counts"
        return Verdict(
            Trigger.ERROR_RATE, Outcome.INCONCLUSIVE, sentence, limit=limit, window=str(window)
        )
    return worst_of(
        [
            _judge_error_rate_of(_source_name(source, label), counts, rules, window, limit)
            for (source, label), counts in counted.items()
        ]
    )


def _judge_error_rate_of(
    source: str, counted: Sequence["_Counted"], rules: WatchRules, window: Span, limit: str
) -> Verdict:
    requests = sum(count.requests for count in counted)
    errors = sum(count.errors for count in counted)
    overall = f"{_percent(errors / requests, rules.error_rate_ceiling)}" if requests else "–"
    return judge_sustained(
        _rates(counted, rules),
        rules,
        window,
        Words(
            trigger=Trigger.ERROR_RATE,
            subject="error rate",
            good=f"error rate {overall} over {requests:,} requests",
            value=f"{overall} of {requests:,} requests" if requests else "–",
            limit=limit,
            nothing=f"{requests:,} requests counted, a window needs {rules.fewest_requests:,}",
            source=source,
        ),
    )


def judge_response_times(
    samples: Iterable[Sample],
    rules: WatchRules,
    baseline_p95: timedelta | None,
    version: str,
    span: Span | None = None,
) -> Verdict:
    """A 95th percentile above the baseline's, times ``p95_factor``, for ``sustained_for``.

    It asks a person and never rolls back: time itself moves response times, and the runbook names
    no trigger for them. Below ``p95_floor`` it is never a breach.

    Source: the runbook's checklist item "Check response times".
    """
    ordered = in_order(samples)
    window = span or _span_of(ordered)
    if baseline_p95 is None:
        sentence = "response times not judged: the baseline's were not measured"
        return Verdict(Trigger.RESPONSE_TIMES, Outcome.INCONCLUSIVE, sentence, window=str(window))
    ceiling = max(baseline_p95 * rules.p95_factor, rules.p95_floor)
    timed = [
        (sample.at, times.p95)
        for sample in ordered
        for times in sample.times
        # Of probes only: that is what the baseline was measured with.
        if times.source == PROBES and times.concerns(version) and times.p95 is not None
    ]
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
    middle = say_duration(percentile([p95 for _, p95 in timed], 0.5)) if timed else "–"
    return judge_sustained(
        readings,
        rules,
        window,
        Words(
            trigger=Trigger.RESPONSE_TIMES,
            subject="response times",
            good=f"95% of answers within {middle} (baseline {say_duration(baseline_p95)})",
            value=middle,
            limit=f"{say_duration(ceiling)} for {say_duration(rules.sustained_for)}",
            nothing="no sample holds any",
        ),
    )


def probes_needed(rules: WatchRules) -> int:
    """How many probes a tick sends, so that they alone make every window big enough to judge.

    A window spans ``sustained_for``, or the watch where that is shorter; one tick in it may come
    late.
    """
    window = min(rules.sustained_for, rules.length)
    ticks = max(1, window // rules.every - 1)
    return -(-rules.fewest_requests // ticks)


def percentile(values: Sequence[timedelta], fraction: float) -> timedelta:
    """The value that ``fraction`` of ``values`` do not exceed (nearest rank). Needs a value."""
    ranked = sorted(values)
    return ranked[max(0, -int(-len(ranked) * fraction // 1) - 1)]


def in_order(samples: Iterable[Sample]) -> tuple[Sample, ...]:
    """Sort by time, and keep one sample of each moment; any fixed choice among two will do."""
    found: dict[datetime, Sample] = {}
    for sample in samples:
        other = found.get(sample.at)
        found[sample.at] = sample if other is None else min(other, sample, key=repr)
    return tuple(found[at] for at in sorted(found))


@dataclass(frozen=True, slots=True)
class _Counted:
    """What one source counted at one sample."""

    at: datetime
    requests: int
    errors: int


def _rates(counted: Sequence[_Counted], rules: WatchRules) -> list[Reading]:
    """The error rate at each sample whose trailing window holds enough requests."""
    readings = []
    for newest, sample in enumerate(counted):
        first = _window_start(counted, newest, rules)
        if first is None:
            continue
        window = counted[first : newest + 1]
        requests = sum(s.requests for s in window)
        rate = sum(s.errors for s in window) / requests
        ceiling = rules.error_rate_ceiling
        before = counted[first - 1] if first else None
        follows = before and window[0].at - before.at <= rules.longest_gap
        readings.append(
            Reading(
                at=sample.at,
                known_since=before.at if before and follows else window[0].at,
                breach=rate > ceiling,
                adds=bool(sample.errors),
                text=f"error rate {_percent(rate, ceiling)} > {ceiling:.1%}",
            )
        )
    return readings


def _window_start(counted: Sequence[_Counted], newest: int, rules: WatchRules) -> int | None:
    """Where the shortest window that ends at ``newest`` and holds enough requests begins."""
    requests = 0
    oldest_allowed = counted[newest].at - min(rules.sustained_for, rules.length)
    for index in range(newest, -1, -1):
        sample = counted[index]
        gap = index < newest and counted[index + 1].at - sample.at > rules.longest_gap
        if gap or sample.at <= oldest_allowed:
            return None
        requests += sample.requests
        if requests >= rules.fewest_requests:
            return index
    return None


def _source_name(source: str, release: str) -> str:
    return f"{source}, {release} alone" if release else source


def _span_of(ordered: Sequence[Sample]) -> Span:
    if not ordered:
        return Span(datetime.min.replace(tzinfo=UTC), datetime.min.replace(tzinfo=UTC))
    return Span(ordered[0].at, ordered[-1].at)


def _percent(rate: float, ceiling: float) -> str:
    """Write a rate with as many digits as tell it from the ceiling: 5.04%, not 5.0% > 5.0%."""
    for digits in (1, 2, 3):
        text = f"{rate:.{digits}%}"
        if rate == ceiling or text != f"{ceiling:.{digits}%}":
            return text
    return text


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"
