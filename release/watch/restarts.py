"""Instances that end by themselves, are restarted by the engine, and end again.

Seconds later the health check is good again, so no breach lasts long enough for the other rules;
each time, the requests under way are lost.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from release.configuration.rules import WatchRules
from release.measure.sample import Sample, in_order
from release.watch.verdict import Outcome, Span, Trigger, Verdict, clock


@dataclass(frozen=True, slots=True)
class Ended:
    """An instance ended by itself, and was well before that since it last did so."""

    at: datetime  # of the sample that saw it
    instance: str


def judge_restarts(
    samples: Iterable[Sample], rules: WatchRules, version: str, span: Span
) -> Verdict:
    """An instance that ended by itself more often than ``rules.restarts`` times fires.

    What counts is how often the engine has started the same instance again since the first sample
    that knows of it. An instance that ends again and again without a good health check in between
    has ended once: it waits for something, and the health check's rule has the patience for that.
    Fewer are said, and a person is asked to look.

    Source: the runbook's rollback trigger "Health check fails", for what its checks are too far
    apart to see.
    """
    ordered = in_order(samples)
    limit = f"{rules.restarts} of an instance"
    window = str(span)
    if not any(sample.restarts is not None for sample in ordered):
        sentence = "restarts not judged: the engine could not be asked"
        return Verdict(Trigger.RESTARTS, Outcome.INCONCLUSIVE, sentence, limit=limit, window=window)
    found = ended(ordered, version)
    if not found:
        sentence = "no instance ended by itself"
        return Verdict(Trigger.RESTARTS, Outcome.HEALTHY, sentence, "none", limit, window)
    times: dict[str, list[datetime]] = {}
    for one in found:
        times.setdefault(one.instance, []).append(one.at)
        if len(times[one.instance]) > rules.restarts:
            break  # latched: what comes later changes nothing, the sentence neither
    instance = max(times, key=lambda name: len(times[name]))
    moments = times[instance]
    often = f"{len(moments)} times, last" if len(moments) > 1 else "once,"
    sentence = f"{instance} ended by itself {often} at {clock(moments[-1])}"
    value = f"{len(moments)} of {instance}"
    if len(moments) > rules.restarts:
        return Verdict(Trigger.RESTARTS, Outcome.UNHEALTHY, sentence, value, limit, window)
    sentence += ", and was started again"
    return Verdict(
        Trigger.RESTARTS, Outcome.INCONCLUSIVE, sentence, value, limit, window, under_way=True
    )


def ended(ordered: Sequence[Sample], version: str) -> tuple[Ended, ...]:
    """Each time that an instance of ``version`` ended by itself, in order, as its samples are."""
    found: list[Ended] = []
    counts: dict[str, int] = {}
    waiting: set[str] = set()  # that ended, and were not well since
    for sample in ordered:
        for one in sample.restarts or ():
            before = counts.get(one.instance, one.count)
            counts[one.instance] = max(before, one.count)
            if one.concerns(version) and one.count > before and one.instance not in waiting:
                waiting.add(one.instance)
                found.append(Ended(sample.at, one.instance))
        if sample.health:
            waiting.clear()
    return tuple(found)
