"""A watch: which release, since when, compared with what, by which rules."""

from dataclasses import dataclass
from datetime import datetime

from release.configuration.rules import WatchRules
from release.model import Baseline


@dataclass(frozen=True, slots=True)
class Watch:
    """A release that is watched."""

    version: str
    baseline: Baseline  # that it is compared with
    rules: WatchRules
    started_at: datetime
    cutover: datetime | None = None  # when users met it first, for the report; None: not known

    def second(self, at: datetime) -> float:
        """A moment in seconds since the watch began, below 0 before that."""
        return round((at - self.started_at).total_seconds(), 3)
