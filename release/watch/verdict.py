"""What a rule says about a release: its verdict, over a stretch of time.

Source: the runbook, "Rollback Trigger Conditions".
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum

_SECONDS_BELOW = timedelta(minutes=2)  # spans shorter than this are written with seconds


class Outcome(StrEnum):
    """What a rule says."""

    HEALTHY = "healthy"
    UNHEALTHY = "unhealthy"
    INCONCLUSIVE = "inconclusive"


class Trigger(StrEnum):
    """What is judged, by the ids that the runbook's trigger conditions carry.

    ``restarts`` is a part of the runbook's condition of health. All but the last two roll back;
    those ask a person.
    """

    P0 = "p0"
    AUTH = "auth-flow"
    HEALTH = "health"
    RESTARTS = "restarts"
    ERROR_RATE = "error-rate"
    ERROR_CHANGE = "error-change"
    RESPONSE_TIMES = "response-times"


ASKS_A_PERSON = frozenset({Trigger.ERROR_CHANGE, Trigger.RESPONSE_TIMES})
"""Rules relative to the baseline: no rollback trigger of the runbook, so they never roll back."""


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of time."""

    since: datetime
    until: datetime

    @property
    def length(self) -> timedelta:
        return self.until - self.since

    def __str__(self) -> str:
        form = "%H:%M:%S" if self.length < _SECONDS_BELOW else "%H:%M"
        since, until = (at.astimezone(UTC).strftime(form) for at in (self.since, self.until))
        return f"{since}–{until} UTC"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one rule says about the samples, with its numbers as people read them."""

    trigger: Trigger
    outcome: Outcome
    sentence: str
    value: str = "–"
    limit: str = "–"
    window: str = "–"
    under_way: bool = False  # a breach that has not lasted long enough, and has not ended
    source: str = ""  # who says so, where several can

    @property
    def fires(self) -> bool:
        """Whether it rolls the release back."""
        return self.outcome is Outcome.UNHEALTHY and self.trigger not in ASKS_A_PERSON


def clock(at: datetime) -> str:
    """A time of day as sentences show it: 02:14:30 UTC."""
    return at.astimezone(UTC).strftime("%H:%M:%S UTC")


def percent(rate: float, ceiling: float) -> str:
    """Write a rate with as many digits as tell it from the ceiling: 5.04%, not 5.0% > 5.0%."""
    for digits in (1, 2, 3):
        text = f"{rate:.{digits}%}"
        if rate == ceiling or text != f"{ceiling:.{digits}%}":
            return text
    return text
