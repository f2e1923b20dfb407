"""The watch of a restored release: its rules, and what its verdict means."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from release.configuration.rules import WatchRules
from release.duration import say_duration
from release.ledger import Event
from release.watch.report import WatchReport
from release.watch.triggers import Action
from release.watch.verdict import Outcome, Trigger

_SUSTAINED = 1 / 4  # of the watch: how long a breach has to last, and is watched on at its end
_EVERY = 1 / 20  # of the watch: the distance of two samples
_LEAST_SUSTAINED = timedelta(seconds=2)  # a shorter breach is a hiccup, however short the watch is
_LEAST_EVERY = timedelta(milliseconds=500)
_LEAST_GAP = timedelta(seconds=5)  # a sample has to end within it, also where a service hangs


@dataclass(frozen=True, slots=True)
class AfterRollback:
    """How a release did after it was brought back."""

    outcome: Outcome
    sentence: str

    @property
    def ill(self) -> bool:
        """Whether it must not be called restored: a person has to look."""
        return self.outcome is Outcome.UNHEALTHY


def rules_after_rollback(rules: WatchRules, length: timedelta) -> WatchRules:
    """The rules of a watch of ``length`` after a rollback.

    A breach of five minutes cannot be seen in one minute. What has to last, or may, is scaled down
    with the watch: a breach counts after a quarter of it (15 s of a minute), and one that is under
    way at the end is watched for another quarter. Samples are a twentieth of it apart. No time is
    longer than that of the watch of a new release; the other limits are the same.
    """
    sustained = min(rules.sustained_for, length, max(_SUSTAINED * length, _LEAST_SUSTAINED))
    every = min(rules.every, max(_EVERY * length, _LEAST_EVERY))
    return rules.model_copy(
        update={
            "length": length,
            "every": every,
            "sustained_for": sustained,
            "longest_gap": min(rules.longest_gap, max(sustained, _LEAST_GAP, 2 * every)),
            "extend_up_to": sustained,
        }
    )


def verdict_after_rollback(report: WatchReport) -> AfterRollback:
    """What a watch after a rollback means.

    Unhealthy: a trigger fired, or something was wrong at its end. Something that could not be seen
    does not count as unhealthy, and neither does a P0 of somebody who goes further back: both are
    reported, and leave the rollback as good as it is without a watch.
    """
    decision, lasted = report.decision, say_duration(report.lasted)
    counted = f"{report.errors:,} of {report.requests:,} requests failed"
    if decision.action is Action.PASS:
        return AfterRollback(Outcome.HEALTHY, f"{decision.sentence} since then, {counted}")
    fired = {verdict.trigger for verdict in report.verdicts if verdict.fires}
    if fired == {Trigger.P0}:
        sentence = f"its watch was ended after {lasted}: {decision.sentence}"
        return AfterRollback(Outcome.INCONCLUSIVE, sentence)
    if decision.ill:
        return AfterRollback(
            Outcome.UNHEALTHY, f"{decision.sentence}; {counted} in {lasted} after the rollback"
        )
    return AfterRollback(
        Outcome.INCONCLUSIVE, f"whether it is healthy is unknown: {decision.sentence}"
    )


def said_after_rollback(events: Sequence[Event]) -> str:
    """The newest verdict among a run's events, in a sentence; "" if nothing was watched."""
    found = [str(event.payload.get("sentence", "")) for event in events]
    return found[-1] if found else ""
