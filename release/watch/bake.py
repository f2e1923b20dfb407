"""The bake: whether a release that has just been admitted may take all traffic.

Both releases serve side by side, the new one a small share. It is judged by a test that may be
looked at at any time (`release/watch/sequential.py`), so that one that always fails is out after a
few requests, and a good one is not thrown out because it was looked at often.

Source: the runbook, step 4; its rollback trigger "Error rate > 5%".
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import pairwise
from math import log

from release.configuration.rules import RolloutRules
from release.measure.slot import Slot
from release.measure.tally import Tally, sum_of
from release.watch.sequential import evidence_below, highest_above, highest_worse
from release.watch.verdict import Outcome

ERROR_SHARE_CEILING = 0.05  # fraction, 5xx / all responses (runbook: "Error rate > 5%")
_PROVEN_GOOD = log(20)  # 95% sure; it decides what is said, never whether the rollout goes on


@dataclass(frozen=True, slots=True)
class Look:
    """What both releases answered since the look before."""

    new: Tally
    old: Tally


@dataclass(frozen=True, slots=True)
class BakeVerdict:
    """What the bake has shown so far."""

    outcome: Outcome
    sentence: str
    suspicious: bool = False  # errors speak against the release, but prove nothing yet


def judge_bake(
    looks: Sequence[Look], ceiling: float = ERROR_SHARE_CEILING, alpha: float = 0.001
) -> BakeVerdict:
    """Decide whether the new release may take everything; a breach is latched.

    Unhealthy: its error rate (5xx / all answers) is above ``ceiling``, and higher than that of the
    old release beside it. Each is shown to a probability of ``alpha``, over all looks together: a
    release at or below the ceiling is stopped with at most that probability, and so is one that
    fails only as the old one does. If the old one answers less than the new one, there is nothing
    to compare with, and the ceiling alone decides.

    Healthy: 95% sure to be below the ceiling. Anything else is inconclusive, and says so: the
    verification and the watch, which send requests of their own, have to tell.
    """
    new, old = sum_of(look.new for look in looks), sum_of(look.old for look in looks)
    sure = -log(alpha)
    sentence = _sentence(new, old, ceiling)
    above = highest_above((look.new for look in looks), ceiling)
    if above >= sure:
        beside = highest_worse((look.new, look.old) for look in looks)
        if old.requests < new.requests or beside >= sure:
            return BakeVerdict(Outcome.UNHEALTHY, sentence)
        same = f"{sentence}; not shown to be worse than what serves beside it"
        return BakeVerdict(Outcome.INCONCLUSIVE, same, suspicious=True)
    if evidence_below(new, ceiling) >= _PROVEN_GOOD:
        return BakeVerdict(Outcome.HEALTHY, sentence)
    if not new.requests:
        return BakeVerdict(Outcome.INCONCLUSIVE, "too few requests to judge: none")
    suspicious = new.rate > ceiling
    few = f"too few requests to judge: {new.requests:,}; {sentence}"
    return BakeVerdict(Outcome.INCONCLUSIVE, few, suspicious)


def bake_is_over(verdict: BakeVerdict, lasted: timedelta, rules: RolloutRules) -> bool:
    """Whether a bake that stopped nothing ends: never early, later while errors are unexplained."""
    if lasted < rules.bake:
        return False
    return not verdict.suspicious or lasted >= rules.bake_up_to


def _sentence(new: Tally, old: Tally, ceiling: float) -> str:
    compared = ">" if new.rate > ceiling else "≤"
    said = f"{new.errors:,} of {new.requests:,} answers of the new release were 5xx: "
    said += f"{new.rate:.1%} {compared} {ceiling:.1%}"
    beside = f"{old.errors:,} of {old.requests:,} beside it ({old.rate:.1%})"
    return f"{said}; {beside}" if old.requests else said


# ---- from the router's counters


def looks_of(seen: Sequence[Sequence[Slot]], new: Collection[str]) -> tuple[Look, ...]:
    """What was answered between each two looks at the router's slots.

    ``new`` holds the names of the new instances; every other instance that serves is old.
    """
    return tuple(_look(before, after, new) for before, after in pairwise(seen))


def out_of_service(admitted: Sequence[Slot], now: Sequence[Slot]) -> str:
    """Which of the admitted instances the router took out, in a sentence; "" for none."""
    there = {slot.name: slot for slot in now}
    for slot in admitted:
        found = there.get(slot.name)
        if found is None or found.instance != slot.instance or not found.serving:
            return f"{slot.instance} no longer serves in {slot.name}"
    return ""


def _look(before: Sequence[Slot], after: Sequence[Slot], new: Collection[str]) -> Look:
    now = {slot.name: slot for slot in after}
    grown = [
        (slot.instance in new, _since(slot, now[slot.name]))
        for slot in before
        if slot.instance and slot.name in now and now[slot.name].instance == slot.instance
    ]
    return Look(
        sum_of(tally for is_new, tally in grown if is_new),
        sum_of(tally for is_new, tally in grown if not is_new),
    )


def _since(before: Slot, after: Slot) -> Tally:
    """What a slot's counters grew by; a router that was restarted counts from 0 again."""
    again = after.answered < before.answered or after.answered_5xx < before.answered_5xx
    return after.tally if again else after.tally - before.tally
