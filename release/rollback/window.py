"""The rollback window: why a release that has passed its watch may still be rolled back.

A scheduled run watches it by the same rules. While the release is younger than the window, a breach
rolls it back; an older one, or one of which something is not as the ledger says, alerts people.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from release.configuration.rules import WatchRules
from release.duration import say_duration
from release.ledger import Lock, LogRow, short_run
from release.model import Check, Probe, Release
from release.outcome import Ending, one_line
from release.request import RollbackRequest

BY = "the scheduled watch"
"""In whose name it rolls back, in the ledger."""

_CHANGED = (Ending.DEPLOYED, Ending.ROLLBACK_DONE, Ending.ROLLED_BACK, Ending.ROLLBACK_FAILED)
"""Endings after which something else serves, or was meant to."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of an environment at one moment."""

    now: datetime
    serving: Release | None = None  # None: nothing serves
    log: Sequence[LogRow] = ()  # newest first
    holder: Lock | None = None
    back_to: Release | None = None  # what served before; None: no such release is known
    problem: str = ""  # why the rest is not to be relied on


class Mode(StrEnum):
    """What a scheduled run does."""

    SKIP = "skip"  # nothing
    WATCH = "watch"  # watch; a breach rolls back
    GLANCE = "glance"  # look once, watch what does not look well; a breach alerts


@dataclass(frozen=True, slots=True)
class Window:
    """What a scheduled run does, and why."""

    mode: Mode
    sentence: str


def window_of(
    environment: str, facts: Facts, rules: WatchRules, due: datetime | None = None
) -> Window:
    """Decide whether what an environment serves is watched, and may be rolled back for it.

    ``due`` is when the run should have begun: one that queued for longer than the run before it
    can take is out of date (no worker ran for hours), and others follow.

    Younger than ``rules.rollback_window``, not as old: a release is outside of it at exactly 24 h.
    It counts from the end of its deployment. A release that came by a rollback has no window, so
    that no rollback follows another by itself.
    """
    if not rules.rollback_window:
        return Window(Mode.SKIP, f"{environment} has no rollback window")
    if due is not None and facts.now > _out_of_date(due, rules):
        return Window(Mode.SKIP, f"it is {_say(facts.now - due)} late, and later runs follow")
    if facts.problem:
        return Window(Mode.GLANCE, f"what to go back to is not known: {facts.problem}")
    if facts.holder is not None:
        lock = facts.holder
        return Window(
            Mode.SKIP,
            f"{environment} is held by {lock.owner}, run {short_run(lock.run_id)}"
            + (f": {lock.reason}" if lock.reason else ""),
        )
    if facts.serving is None:
        return Window(Mode.SKIP, f"{environment} serves nothing")
    return _by_age(environment, facts, facts.serving, rules.rollback_window)


def patience(due: datetime | None, now: datetime, rules: WatchRules) -> timedelta:
    """How long a run waits for the one that watches already: until it would be out of date."""
    return max(timedelta(), _out_of_date(due or now, rules) - now)


def _out_of_date(due: datetime, rules: WatchRules) -> datetime:
    """From when on a run that was ``due`` has nothing to do: the one before it has ended."""
    return due + rules.window_run + rules.extend_up_to


def _by_age(environment: str, facts: Facts, serving: Release, window: timedelta) -> Window:
    last = next((row for row in facts.log if row.ending in _CHANGED), None)
    if last is None:
        return Window(Mode.GLANCE, f"the ledger has no deployment to {environment}")
    if last.ending != Ending.DEPLOYED:
        return Window(
            Mode.GLANCE,
            f"{serving.version} came by a rollback ({short_run(last.run_id)}), so no other "
            "follows by itself",
        )
    if last.release.image != serving.image:
        return Window(
            Mode.GLANCE,
            f"{environment} runs {serving.version}, and the ledger says {last.version}",
        )
    age = facts.now - last.date
    if age >= window:
        return Window(
            Mode.GLANCE,
            f"{serving.version} was deployed {_say(age)} ago, and its rollback window is "
            f"{say_duration(window)}",
        )
    if facts.back_to is None:
        return Window(
            Mode.GLANCE, f"no release is known that {environment} served before {serving.version}"
        )
    left = _say(window - age)
    sentence = f"{serving.version} may go back to {facts.back_to.version} for another {left}"
    return Window(Mode.WATCH, sentence)


def _say(length: timedelta) -> str:
    """A duration, without the seconds if it is one of hours."""
    hours = length >= timedelta(hours=1)
    return say_duration(length - length % timedelta(minutes=1) if hours else length)


class Act(StrEnum):
    """What follows if a watch did not pass."""

    ROLL_BACK = "roll back"
    ALERT = "alert"
    LEAVE = "leave"  # others have it in hand


@dataclass(frozen=True, slots=True)
class Reaction:
    """What follows if a watch did not pass and, if that is not a rollback, why."""

    act: Act
    sentence: str = ""


def reaction_to(
    watched: Release | None, facts: Facts, window: Window, *, fired: bool, declared: bool
) -> Reaction:
    """Decide what follows if a watch of ``watched`` did not pass.

    ``facts`` and ``window`` are taken after the watch: what was true at its beginning may have
    changed. ``fired``: a trigger is certain; otherwise health was not proven, which is no reason to
    roll back. ``declared``: all that fired is a P0; a person is dealing with it, and needs no
    alert.
    """
    if declared and window.mode is not Mode.WATCH:
        return Reaction(Act.LEAVE, f"left to whoever declared it: {window.sentence}")
    if _image(facts.serving) != _image(watched):
        serves = facts.serving.version if facts.serving else "nothing"
        was = watched.version if watched else "nothing"
        return Reaction(Act.ALERT, f"it serves {serves} now, but {was} was watched")
    if window.mode is not Mode.WATCH:
        return Reaction(Act.ALERT, window.sentence)
    if not fired:
        return Reaction(Act.ALERT, "no trigger is certain")
    return Reaction(Act.ROLL_BACK)


def request_of(why: str, facts: Facts) -> RollbackRequest:
    """The rollback that follows a breach: to the release that ``facts`` name, and no other."""
    to = str(facts.back_to.image) if facts.back_to and facts.back_to.image else ""
    return RollbackRequest(reason=one_line(why), to=to, started_by=BY)


def _image(release: Release | None) -> object:
    return release.image if release else None


def glance(
    health: Probe, auth: Check | None, error_rate: float | None, rules: WatchRules
) -> tuple[str, ...]:
    """What does not look well at one look, a sentence each; empty if everything does.

    One look proves no trigger: what does not look well is watched.
    """
    found = []
    if not health.ok:
        found.append(f"health check failed ({health.detail or f'HTTP {health.status}'})")
    if auth is not None and not auth.passed:
        found.append(f"auth flow failed: {auth.sentence}")
    if error_rate is not None and error_rate > rules.error_rate_ceiling:
        found.append(f"error rate {error_rate:.1%} > {rules.error_rate_ceiling:.1%}")
    return tuple(found)
