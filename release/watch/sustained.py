"""The part that all rules with "for longer than" share: how long a breach has lasted.

One good reading ends a breach, and so does a gap through which nothing is known, also one that has
not ended yet: a source that fell silent in a breach can never say that it is over.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from release.configuration.rules import WatchRules
from release.duration import say_duration
from release.measure.sample import name_of_source
from release.watch.verdict import Outcome, Span, Trigger, Verdict, clock


@dataclass(frozen=True, slots=True)
class Reading:
    """What one rule reads from one sample."""

    at: datetime
    known_since: datetime  # how far back it speaks for
    breach: bool
    adds: bool  # it lengthens a breach by itself, not by what its window remembers
    text: str  # the breach in words, with its numbers


@dataclass(frozen=True, slots=True)
class Words:
    """How a rule speaks."""

    trigger: Trigger
    subject: str
    good: str
    value: str
    limit: str
    nothing: str  # why there is no reading at all
    source: str = ""  # who says so, where several can
    release: str = ""  # the one that it tells apart; "" for all together

    @property
    def said_by(self) -> str:
        """The source as sentences name it; "" if there is none."""
        return name_of_source(self.source, self.release)


def judge_sustained(
    readings: Sequence[Reading], rules: WatchRules, span: Span, words: Words
) -> Verdict:
    """Judge what a rule has read: a breach that lasted for longer than ``sustained_for`` fires.

    ``span`` is what the readings have to cover. A breach at the last reading is under way, unless
    that is longer ago than ``longest_gap``. A gap over ``longest_gap`` is inconclusive.
    """

    def verdict(outcome: Outcome, sentence: str, under_way: bool = False) -> Verdict:
        return Verdict(
            words.trigger,
            outcome,
            sentence,
            words.value,
            words.limit,
            str(span),
            under_way,
            words.source,
        )

    said_by = f" ({words.said_by})" if words.said_by else ""
    runs = _breaches(readings, rules.longest_gap)
    sustained = _first_sustained(runs, rules.sustained_for)
    if sustained:
        stretch = Span(sustained[0].at, sustained[1].at)
        return verdict(
            Outcome.UNHEALTHY,
            f"{sustained[1].text} for {say_duration(stretch.length)}"
            f" ({', '.join(filter(None, [str(stretch), words.said_by]))})",
        )
    if not readings:
        return verdict(
            Outcome.INCONCLUSIVE, f"{words.subject} not judged: {words.nothing}{said_by}"
        )
    if readings[-1].breach and span.until - readings[-1].at <= rules.longest_gap:
        sentence = f"{readings[-1].text} since {clock(runs[-1][0].at)}{said_by}"
        return verdict(Outcome.INCONCLUSIVE, sentence, under_way=True)
    gaps = _gaps(readings, span, rules.longest_gap)
    if gaps:
        longest = max(gaps, key=lambda gap: gap.length)
        sentence = f"{words.subject} unknown for {say_duration(longest.length)} ({longest})"
        return verdict(Outcome.INCONCLUSIVE, f"{sentence}; {words.good} else{said_by}")
    return verdict(Outcome.HEALTHY, words.good + said_by)


def worst_of(verdicts: Sequence[Verdict]) -> Verdict:
    """Of one rule's verdicts by several sources, the one that decides, with what the others say.

    A breach of one decides, then one that is under way. Who else sees the same is named, without a
    sentence of their own: their numbers differ by a sample. A source that could not judge takes
    nothing from one that could; if all is well, it says why.
    """
    ranks = {Outcome.UNHEALTHY: 0, Outcome.HEALTHY: 2, Outcome.INCONCLUSIVE: 3}
    ranked = sorted(verdicts, key=lambda v: 1 if v.under_way else ranks[v.outcome])
    worst = ranked[0]
    alike = [v for v in ranked if (v.outcome, v.under_way) == (worst.outcome, worst.under_way)]
    if worst.outcome is Outcome.INCONCLUSIVE and not worst.under_way:
        return replace(worst, sentence="; ".join(verdict.sentence for verdict in ranked))
    sentences = [worst.sentence]
    others = dict.fromkeys(v.source for v in alike if v.source != worst.source)
    if others:
        sentences.append(f"seen by {' and '.join(others)} as well")
    if worst.outcome is Outcome.HEALTHY:
        sentences += [v.sentence for v in ranked if v not in alike]
    return replace(worst, sentence="; ".join(sentences))


def _breaches(readings: Sequence[Reading], longest_gap: timedelta) -> list[list[Reading]]:
    """Group breaching readings with neither a good one nor a gap between them."""
    runs: list[list[Reading]] = []
    before: Reading | None = None
    for reading in readings:
        goes_on = before and before.breach and reading.known_since - before.at <= longest_gap
        if reading.breach and goes_on:
            runs[-1].append(reading)
        elif reading.breach:
            runs.append([reading])
        before = reading
    return runs


def _first_sustained(
    runs: Sequence[Sequence[Reading]], sustained_for: timedelta
) -> tuple[Reading, Reading] | None:
    """The first and the deciding reading of the earliest breach that lasted too long."""
    for run in runs:
        for reading in run:
            if reading.adds and reading.at - run[0].at > sustained_for:
                return run[0], reading
    return None


def _gaps(readings: Sequence[Reading], span: Span, longest_gap: timedelta) -> list[Span]:
    """Stretches of ``span`` longer than ``longest_gap`` that no reading speaks for."""
    edges = [*((r.known_since, r.at) for r in readings), (span.until, span.until)]
    gaps = []
    known_until = span.since
    for known_since, at in edges:
        if known_since - known_until > longest_gap:
            gaps.append(Span(known_until, known_since))
        known_until = max(known_until, at)
    return gaps
