"""What probes ask for, in which order, and what an error rate based on them leaves out."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from release.configuration.rules import WatchProbe
from release.measure.counters import ProbeLook
from release.measure.tally import Tally
from release.measure.traffic import PROBES, ROUTER, TOO_MANY
from release.model import Probe


@dataclass(frozen=True, slots=True)
class Asked:
    """One probe, and what came of it."""

    wanted: WatchProbe
    answer: Probe

    @property
    def counts(self) -> bool:
        """Whether it says anything about the release."""
        return self.answer.status != TOO_MANY or TOO_MANY in self.wanted.expect

    @property
    def failed(self) -> bool:
        """Whether it was not answered as expected."""
        return self.wanted.failed(self.answer.status)


def mix_of(
    listed: Sequence[WatchProbe], health_path: str, version_path: str, protected_path: str
) -> tuple[WatchProbe, ...]:
    """What is asked: what is listed, or else what is known of every service.

    ``protected_path`` is what the auth flow asks for with a session; "" if there is no account to
    log in with. Half of the probes ask for it: it is the one page that does what a user's does. The
    health path has a rule of its own, and the fewest, because each answer that is always good makes
    an error rate smaller than it is where users are.
    """
    if listed:
        return tuple(listed)
    known = [WatchProbe(path=health_path, weight=1), WatchProbe(path=version_path, weight=4)]
    if protected_path:
        known.append(WatchProbe(path=protected_path, weight=5, session=True))
    return tuple(known)


def next_probes(mix: Sequence[WatchProbe], first: int, count: int) -> tuple[WatchProbe, ...]:
    """``count`` probes, from the ``first``-th of all on: each by its weight, spread evenly.

    The same number is always the same probe, so that chance never decides what a release is asked.
    """
    cycle = _cycle(mix)
    return tuple(cycle[number % len(cycle)] for number in range(first, first + count))


def _cycle(mix: Sequence[WatchProbe]) -> list[WatchProbe]:
    """Each probe as often as it weighs, none of them all at once (smooth weighted round robin)."""
    whole = sum(probe.weight for probe in mix)
    credit = [0] * len(mix)
    cycle = []
    for _ in range(whole):
        credit = [had + probe.weight for had, probe in zip(credit, mix, strict=True)]
        turn = max(range(len(mix)), key=lambda number: (credit[number], -number))
        credit[turn] -= whole
        cycle.append(mix[turn])
    return cycle


def after_probes(before: ProbeLook, asked: Sequence[Asked]) -> ProbeLook:
    """What has come of all probes, with those that were ``asked`` now."""
    counted = [one for one in asked if one.counts]
    failed = sum(1 for one in counted if one.failed)
    return ProbeLook(
        before.counted + Tally(len(counted), failed),
        (*before.took, *(one.answer.took for one in asked if one.answer.status)),
        before.too_many + len(asked) - len(counted),
    )


def say_failed(one: Asked) -> str:
    """What was asked, what came, and what was expected."""
    wanted, answer = one.wanted, one.answer
    came = f"answers HTTP {answer.status}" if answer.status else f"is not answered: {answer.detail}"
    expected = " or ".join(map(str, wanted.expect)) or "200 to 299"
    return f"{wanted.name} {came}, expected {expected}"


def measured_on(sources: Collection[str], mix: Sequence[WatchProbe]) -> str:
    """What an error rate is of, in a sentence; ``sources`` are those that count beside the probes.

    If none does, it says what is left out.
    """
    names = ", ".join(dict.fromkeys(probe.name for probe in mix))
    said = [_AS_COUNTED] if ROUTER in sources else []
    others = sorted(set(sources) - {ROUTER, PROBES})
    said += [f"those that {source.capitalize()} counts," for source in others]
    on = f"error rate measured on: {' and '.join([*said, f'our own probes of {names}'])}"
    return on if said else f"{on}; {_LEFT_OUT}"


_AS_COUNTED = "all requests, as the router counts them,"
_LEFT_OUT = (
    "not measured: all other requests, because neither a router nor a metrics server counts them"
)


def unmeasured(sources: Collection[str], mix: Sequence[WatchProbe]) -> tuple[str, ...]:
    """The same for people to look at, where the error rate rests on probes alone."""
    alone = not set(sources) - {PROBES}
    return (measured_on(sources, mix),) if alone else ()
