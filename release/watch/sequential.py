"""Tests of error rates that may be read at any time, as often as one likes.

A test of fixed size that is looked at again and again is wrong more often than it says. These hold
an e-value instead: what a bet against the hypothesis has grown to, from a stake of 1. As long as
the hypothesis is true the bet does not grow on average, so it ever reaches 1/α with a probability
of at most α, over all looks together (Ville's inequality). Each is an average of bets on several
sizes of effect, because the size is not known beforehand.

They take answers as independent of each other, given the rates. Values are natural logarithms.

Source: Johari et al., "Always Valid Inference" (mixture likelihood ratios); Grünwald, de Heide and
Koolen, "Safe Testing" (e-values); Fisher's conditional test of two rates.
"""

from collections.abc import Iterable, Sequence
from itertools import accumulate
from math import exp, inf, lgamma, log

from release.measure.tally import Tally

_KEPT = (0.98, 0.95, 0.9, 0.8, 0.6, 0.3, 0.05, 0.01)  # of the good answers at the ceiling
_BELOW = (0.5, 0.2, 0.0)  # of the ceiling
_ODDS_RATIOS = (1.5, 2.5, 5.0, 15.0, 100.0)  # of an error, the new release against the old one


def evidence_above(tally: Tally, ceiling: float) -> float:
    """The e-value against "the error rate is at most ``ceiling``" (a fraction in 0…1, open)."""
    rates = [1 - kept * (1 - ceiling) for kept in _KEPT]
    return _average([_likelihood_ratio(tally, rate, ceiling) for rate in rates])


def highest_above(looks: Iterable[Tally], ceiling: float) -> float:
    """The highest that `evidence_above` ever was; a look holds what came since the one before."""
    so_far = accumulate(looks, initial=Tally())
    return max(evidence_above(tally, ceiling) for tally in so_far)


def evidence_below(tally: Tally, ceiling: float) -> float:
    """The e-value against "the error rate is at least ``ceiling``"."""
    rates = [share * ceiling for share in _BELOW]
    return _average([_likelihood_ratio(tally, rate, ceiling) for rate in rates])


def highest_worse(looks: Iterable[tuple[Tally, Tally]]) -> float:
    """The highest e-value ever against "the new release fails no more often than the old one".

    ``looks`` holds what the new and the old one answered side by side, since the look before.
    Of each look only how its errors are split between the two counts, not how many they are: a
    database that fails both for a while says nothing against either.
    """
    highest, bets = 0.0, [0.0] * len(_ODDS_RATIOS)
    for new, old in looks:
        ratios = (_split_ratio(new, old, odds) for odds in _ODDS_RATIOS)
        bets = [bet + ratio for bet, ratio in zip(bets, ratios, strict=True)]
        highest = max(highest, _average(bets))
    return highest


def fisher_p(new: Tally, old: Tally) -> float:
    """The one-sided p-value of Fisher's exact test that ``new`` has the higher error rate.

    The probability to find at least so many of all errors among the new answers, if both have the
    same rate, whatever that rate is. Exact for any size, and honest about a small baseline: no
    error among 100 answers is a rate of up to 3%, not of 0. For one look: it is not always valid.
    """
    errors = new.errors + old.errors
    term = _log_hypergeometric(new.errors, new.requests, old.requests, errors)
    expected = errors * new.requests / max(1, new.requests + old.requests)
    total, added = 0.0, 1.0
    for count in range(new.errors, min(errors, new.requests) + 1):
        total += added
        rest = old.requests - errors + count + 1
        added *= (new.requests - count) * (errors - count) / ((count + 1) * rest)
        if added < 1e-12 * total and count > expected:
            break
    return min(1.0, exp(term + log(total)))


def _likelihood_ratio(tally: Tally, rate: float, ceiling: float) -> float:
    if rate == 0 and tally.errors:
        return -inf
    errors = tally.errors * log(rate / ceiling) if tally.errors else 0.0
    return errors + (tally.requests - tally.errors) * log((1 - rate) / (1 - ceiling))


def _split_ratio(new: Tally, old: Tally, odds: float) -> float:
    """How much likelier the split of a look's errors is at ``odds`` than at even odds."""
    errors = new.errors + old.errors
    if not errors or not new.requests or not old.requests:
        return 0.0
    counts = range(max(0, errors - old.requests), min(errors, new.requests) + 1)
    weighted = [
        _log_hypergeometric(count, new.requests, old.requests, errors) + count * log(odds)
        for count in counts
    ]
    return new.errors * log(odds) - _log_sum(weighted)


def _log_hypergeometric(count: int, new: int, old: int, errors: int) -> float:
    """That ``count`` of ``errors`` errors are among the ``new`` answers, all being alike."""
    return (
        _log_choose(new, count) + _log_choose(old, errors - count) - _log_choose(new + old, errors)
    )


def _log_choose(total: int, chosen: int) -> float:
    return lgamma(total + 1) - lgamma(chosen + 1) - lgamma(total - chosen + 1)


def _average(values: Sequence[float]) -> float:
    return _log_sum(values) - log(len(values))


def _log_sum(values: Sequence[float]) -> float:
    largest = max(values)
    return largest + log(sum(exp(value - largest) for value in values))
