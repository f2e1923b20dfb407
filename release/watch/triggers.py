"""The runbook's rollback triggers, as rules over timed samples.

A rule says healthy, unhealthy or inconclusive, each with its sentence. Three things hold for all:

- a breach is latched: nothing that comes later takes it back;
- order and repetition of samples do not matter;
- no data is neither health nor illness: a sample that does not know is as if it was never taken.

Source: the runbook, "Rollback Trigger Conditions" and "Post-Deployment".
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from itertools import accumulate

from release.configuration.rules import WatchRules
from release.duration import say_duration
from release.measure.sample import Counted, Stream, in_order, streams_of
from release.measure.sample import (
    Sample as Sample,  # what triggers are judged by goes by their name
)
from release.measure.sample import percentile as percentile
from release.measure.tally import Tally
from release.watch.comparison import judge_error_change, judge_response_times
from release.watch.restarts import ended, judge_restarts
from release.watch.steadiness import not_well_in_all
from release.watch.sustained import Reading, Words, judge_sustained, worst_of
from release.watch.verdict import ASKS_A_PERSON, Outcome, Span, Trigger, Verdict, clock, percent
from release.watch.watched import Watch

AUTH_FLOW = "auth flow"
"""The source's name in a sample's ``unknown``."""

AUTH_NOT_CONFIGURED = "no account is configured for it"


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
    ill: bool = False  # of a FAIL: what was seen is bad; False: too little was seen


@dataclass(frozen=True, slots=True)
class _Unsettled:
    """What keeps a watch from ending well, a sentence each."""

    ill: tuple[str, ...]  # something is wrong
    unknown: tuple[str, ...]  # something could not be seen

    def __bool__(self) -> bool:
        return bool(self.ill or self.unknown)

    def __str__(self) -> str:
        return "; ".join((*self.ill, *self.unknown))


def judge_watch(watch: Watch, samples: Iterable[Sample]) -> Decision:
    """Decide whether the release stays, goes, or is watched further.

    Only its own traffic, and traffic that no source tells apart by release, is judged.

    The time is that of the newest sample. A trigger that fires fails the watch at once. At its
    end (``rules.length``) the watch passes if

    - no breach is under way: a failing health check, an error rate above the ceiling, an auth
      check that has just failed; and
    - health is proven: seen without a gap over the last ``sustained_for``, good at the end; and
    - the last ``sustained_for`` was well in all, and so was, where it was ill more than once, the
      last ``length``: a service that is up and down by turns breaks no limit for long enough, and
      still fails more than ``error_rate_ceiling`` of its requests, or of its health checks; and
    - auth is proven: its last check was answered, and well, or there is no account for it.

    Where an instance ended by itself once, which is not too often, it goes on for another
    ``length`` from then, or ``extend_up_to``: a release that grows until it is killed is killed
    again.

    Otherwise it goes on for up to ``extend_up_to``, and fails if that did not settle it; or before
    that, as soon as it is ill again in that time, and was not well in all; or as soon as nothing
    but failing is possible, because health cannot be proven in the time that is left.

    Traffic counts, response times and P0 reports that could not be had do not fail it: the metrics
    being down is not the release being bad. They are said in ``notes``.
    """
    version, baseline, rules = watch.version, watch.baseline, watch.rules
    started_at, ordered = watch.started_at, in_order(samples)
    now = max(ordered[-1].at, started_at) if ordered else started_at
    span = Span(started_at, now)
    verdicts = (
        judge_p0(ordered, rules, span),
        judge_auth(ordered, rules, span),
        judge_health(ordered, rules, span),
        judge_restarts(ordered, rules, version, span),
        judge_error_rate(ordered, rules, version, span),
        judge_error_change(ordered, rules, baseline, version, span),
        judge_response_times(ordered, rules, baseline, version, span),
    )
    notes = tuple(v.sentence for v in verdicts if v.outcome is not Outcome.HEALTHY and not v.fires)
    fired = [verdict.sentence for verdict in verdicts if verdict.fires]
    end = started_at + rules.length
    last_end = end + rules.extend_up_to
    if fired:
        return Decision(Action.FAIL, "; ".join(fired), now, verdicts, notes, ill=True)
    unsettled = _unsettled(ordered, rules, verdicts, version, now)
    watched = say_duration(span.length)
    quiet_from = max((one.at for one in ended(ordered, version)), default=started_at)
    wanted_end = min(max(end, quiet_from + rules.length), last_end)
    if now >= wanted_end and not unsettled:
        return Decision(Action.PASS, f"no trigger in {watched}", now, verdicts, notes)
    why, ill = str(unsettled), bool(unsettled.ill)
    last_length = Span(now - rules.length, now)
    if again := not_well_in_all(ordered, rules, version, last_length, again=end):
        sentence = f"unhealthy again while the watch went on: {'; '.join(again)}"
        return Decision(Action.FAIL, sentence, now, verdicts, notes, ill=True)
    if now >= last_end:
        sentence = f"not proven healthy in {watched}: {why}"
        return Decision(Action.FAIL, sentence, now, verdicts, notes, ill)
    # The deciding sample comes by the longest gap after the end at most, or it proves nothing.
    if _health_proven_from(ordered, rules, now) > last_end + rules.longest_gap:
        hopeless = f"it can no longer be proven healthy by {clock(last_end)}: {why}"
        return Decision(Action.FAIL, hopeless, now, verdicts, notes, ill)
    if now < end or not unsettled:
        sentence = f"watched until {clock(wanted_end)}"
        if wanted_end > end:
            sentence += ": an instance ended by itself, which may come again"
        return Decision(Action.CONTINUE, sentence, wanted_end, verdicts, notes)
    sentence = f"watched on, until {clock(last_end)} at the latest: {why}"
    return Decision(Action.CONTINUE, sentence, last_end, verdicts, notes)


def _unsettled(
    samples: Sequence[Sample],
    rules: WatchRules,
    verdicts: Sequence[Verdict],
    version: str,
    now: datetime,
) -> _Unsettled:
    """Say what keeps the watch from ending well now."""
    may_stay = ASKS_A_PERSON | {Trigger.RESTARTS}
    ill = [v.sentence for v in verdicts if v.under_way and v.trigger not in may_stay]
    unknown: list[str] = []
    proof = Span(now - min(rules.sustained_for, rules.length), now)
    watch = Span(now - rules.length, now)
    under_way = {verdict.trigger for verdict in verdicts if verdict.under_way}
    if Trigger.HEALTH not in under_way:
        lately = [sample for sample in samples if sample.at >= proof.since]
        recent = judge_health(lately, rules, proof)
        if recent.outcome is Outcome.INCONCLUSIVE:
            # A breach that is under way lately, and was not seen in all, is no lack of samples.
            (ill if recent.under_way else unknown).append(recent.sentence)
    if not ill and not unknown:
        ill += not_well_in_all(samples, rules, version, proof)
    if not ill and not unknown:
        ill += not_well_in_all(samples, rules, version, watch, again=watch.since)
    auth = next(verdict for verdict in verdicts if verdict.trigger is Trigger.AUTH)
    silent_since = _auth_silent_since(samples)
    unchecked = auth.outcome is Outcome.INCONCLUSIVE and not auth.under_way
    if unchecked and not any(sample.auth_detail == AUTH_NOT_CONFIGURED for sample in samples):
        unknown.append(auth.sentence)
    elif silent_since:
        unknown.append(f"auth flow without an answer since {clock(silent_since)}")
    return _Unsettled(tuple(filter(None, ill)), tuple(filter(None, unknown)))


def _auth_silent_since(samples: Sequence[Sample]) -> datetime | None:
    """Since when its check was begun and not answered; None if the last one was."""
    silent = None
    for sample in samples:
        if sample.auth is not None:
            silent = None
        elif any(sentence.startswith(f"{AUTH_FLOW}: ") for sentence in sample.unknown):
            silent = silent or sample.at
    return silent


def _health_proven_from(samples: Sequence[Sample], rules: WatchRules, now: datetime) -> datetime:
    """The earliest time at which health can be proven, if nothing goes wrong from now on."""
    since = now
    for sample in reversed(samples):
        if sample.health is None:
            continue
        if since - sample.at > rules.longest_gap:
            break
        since = sample.at
    return since - rules.longest_gap + min(rules.sustained_for, rules.length)


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

    A rate is 5xx answers / all answers, a fraction, and is taken over two trailing windows. The
    short one is the shortest with ``rules.fewest_requests`` in it, of at most ``sustained_for``;
    with fewer it says nothing. A breach begins with the first short rate above the ceiling. It
    ends when the rate is at or below the ceiling in the short window and in the long one, of half
    of ``sustained_for``: a release at 6% has many a hundred answers with five errors. A gap over
    ``rules.longest_gap`` ends it as well, and so does as long a time without a window that holds
    enough: the probes are many while nobody else counts, and few again when the router does. It
    lasts until the last sample whose own rate was above the ceiling, not until its windows forgot
    that: four bad minutes are never five.

    Each source is judged by itself, and the breach of one is enough: a source that sees little or
    nothing takes no breach back. Traffic of other releases than ``version`` is left out.

    Source: the runbook's rollback trigger "Error rate > 5% for > 5 minutes".
    """
    ordered = in_order(samples)
    window = span or _span_of(ordered)
    limit = f"{rules.error_rate_ceiling:.1%} for {say_duration(rules.sustained_for)}"
    streams = streams_of(ordered, version)
    if streams:
        return worst_of([_judge_errors_of(stream, rules, window, limit) for stream in streams])
    sentence = "error rate not judged: no sample holds traffic counts"
    return Verdict(
        Trigger.ERROR_RATE, Outcome.INCONCLUSIVE, sentence, limit=limit, window=str(window)
    )


def _judge_errors_of(stream: Stream, rules: WatchRules, window: Span, limit: str) -> Verdict:
    total = stream.total
    overall = percent(total.rate, rules.error_rate_ceiling) if total.requests else "–"
    return judge_sustained(
        _rates(stream.counted, rules),
        rules,
        window,
        Words(
            trigger=Trigger.ERROR_RATE,
            subject="error rate",
            good=f"error rate {overall} over {total.requests:,} requests",
            value=f"{overall} of {total.requests:,} requests" if total.requests else "–",
            limit=limit,
            nothing=f"{total.requests:,} requests counted, a window needs "
            f"{rules.fewest_requests:,}",
            source=stream.source,
            release=stream.release,
        ),
    )


def _rates(counted: Sequence[Counted], rules: WatchRules) -> list[Reading]:
    """The error rate at each sample whose trailing window holds enough requests."""
    readings = []
    breach = False
    ceiling = rules.error_rate_ceiling
    before = list(accumulate((one.tally for one in counted), initial=Tally()))  # each sample
    short = long = connected = 0  # where the windows begin, and what no gap cuts off
    window = min(rules.sustained_for, rules.length)
    for newest, sample in enumerate(counted):
        if newest and sample.at - counted[newest - 1].at > rules.longest_gap:
            breach, connected = False, newest
        upto = before[newest + 1]
        short, long = max(short, connected), max(long, connected)
        while upto.requests - before[short + 1].requests >= rules.fewest_requests:
            short += 1
        while counted[long].at <= sample.at - window / 2:
            long += 1
        now, lately = upto - before[short], upto - before[long]
        if now.requests < rules.fewest_requests or counted[short].at <= sample.at - window:
            continue
        steady = lately.rate if lately.requests >= rules.fewest_requests else now.rate
        breach = now.rate > ceiling or (breach and steady > ceiling)
        shown = steady if steady > ceiling else now.rate
        follows = short > connected
        readings.append(
            Reading(
                at=sample.at,
                known_since=counted[short - 1].at if follows else counted[short].at,
                breach=breach,
                adds=sample.tally.rate > ceiling,
                text=f"error rate {percent(shown, ceiling)} > {ceiling:.1%}",
            )
        )
    return readings


def _span_of(ordered: Sequence[Sample]) -> Span:
    if not ordered:
        return Span(datetime.min.replace(tzinfo=UTC), datetime.min.replace(tzinfo=UTC))
    return Span(ordered[0].at, ordered[-1].at)


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"
