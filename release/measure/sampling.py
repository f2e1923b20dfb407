"""How samples are taken: whose count is the users', how many probes are sent, what leaves a gap."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

from release.configuration.rules import WatchRules
from release.measure.counters import Growth
from release.measure.traffic import ALL_RELEASES, Traffic

L = TypeVar("L")

FIRST_LOOK = "counters seen for the first time, the traffic until now is unknown"
_OF_A_GAP = 0.9  # fraction of what two samples may be apart, less the pause between them
_OF_A_SAMPLE = 2 / 3  # for all that is asked side by side; what counts is asked afterwards
_REQUESTS = 3  # in a row, at most, that one question takes


# ---- probes


def probes_needed(rules: WatchRules) -> int:
    """How many probes a tick sends, so that they alone make every window big enough to judge.

    A window spans ``sustained_for``, or the watch where that is shorter; one tick in it may come
    late.
    """
    window = min(rules.sustained_for, rules.length)
    ticks = max(1, window // rules.every - 1)
    return -(-rules.fewest_requests // ticks)


def probes_missing(rules: WatchRules, since_last: timedelta, real: int, fewest: int) -> int:
    """How many probes a sample sends: what ``real`` requests leave missing, and ``fewest`` always.

    So they dilute the error rate of real users least. ``real`` is how many users' requests were
    counted between the last two samples, ``since_last`` the time since the last one: where samples
    come later than planned, each sends more.
    """
    every = max(rules.every, since_last)
    return max(fewest, probes_needed(rules.model_copy(update={"every": every})) - real)


def real_requests(traffic: Iterable[Traffic], sources: Sequence[str], own: int) -> int:
    """How many requests were users': what was counted in all, without the ``own`` ones.

    Sources overlap, so one of them counts: the first of ``sources`` that has counted anything.
    """
    counted = list(traffic)
    for source in sources:
        by_it = [one for one in counted if one.source == source]
        if by_it:
            whole = sum(one.requests for one in by_it if one.release == ALL_RELEASES)
            return max(0, whole - own)
    return 0


# ---- time


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a sample waits for an answer."""

    together: timedelta  # for all that is asked side by side
    lost: timedelta  # for what nobody can tell afterwards
    kept: timedelta  # for what is as good at the next sample: no other source waits for it
    in_all: timedelta | None = None  # None: the sample is in no hurry


def patience_of(rules: WatchRules, request_timeout: timedelta, *, in_a_hurry: bool) -> Patience:
    """How long a sample waits.

    One among others is in a hurry: if it took longer than it may, it would leave a gap, which ends
    a breach, and a service that hangs would never be judged.
    """
    longest = _OF_A_GAP * (rules.longest_gap - rules.every)
    answer = _REQUESTS * request_timeout + timedelta(seconds=1)
    if not in_a_hurry:
        return Patience(together=answer, lost=answer, kept=rules.every / 2)
    together = min(answer, longest * _OF_A_SAMPLE)
    return Patience(together, lost=answer, kept=rules.every / 2, in_all=longest)


# ---- counters


def counted_since(before: L | None, now: L | None, grow: Callable[[L, L], Growth]) -> Growth:
    """What a source has counted between two looks, by its own ``grow``.

    A look that is None could not be taken. Without ``now`` no reason is added, because it was given
    then; without ``before`` there is nothing to compare with.
    """
    if now is None:
        return Growth()
    return Growth(unknown=FIRST_LOOK) if before is None else grow(before, now)


def compared_next(before: L | None, now: L | None, *, counts_on: bool) -> L | None:
    """What the next look is compared with.

    Of a source that ``counts_on`` while it does not answer nothing is lost: the look that it
    answers again counts all that came meanwhile. Of any other, that time stays unknown.
    """
    return before if now is None and counts_on else now
