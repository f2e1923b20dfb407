"""What counts the answers that users get, whatever it is called."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Generic, TypeVar

from blocks.part import Part
from release.configuration.kinds import MetricsSettings
from release.measure.counters import Growth

L = TypeVar("L")
"""What one look at a source shows: a value that only the source itself reads."""


class MetricsSource(ABC, Generic[L]):
    """Something that counts: the router, a system that keeps what instances count, our own probes.

    Whoever samples keeps two looks, and asks the source what it has counted in between.
    """

    name: ClassVar[str]
    """As samples and sentences name it, in small letters."""

    counts_on: ClassVar[bool] = True
    """Whether it keeps counting while it does not answer, so that a later look has everything."""

    @abstractmethod
    def look(self) -> L:
        """What it has counted until now. Raises a DeployError if it cannot be seen."""

    @abstractmethod
    def growth(self, before: L, now: L, versions: Mapping[str, str]) -> Growth:
        """What it has counted between two looks. Makes no request.

        ``versions`` names the release of each instance, for a source that knows instances only. A
        counter that began again is never negative growth: it is unknown, or counted from zero.
        """

    def remember(self, before: L | None, now: L) -> L:
        """The look that the next one is compared with: ``now``, with what was missing from it only
        for a moment."""
        return now


class MetricsServer(MetricsSettings, Part, MetricsSource[Any], ABC):
    """A system beside the service that keeps what its instances count."""

    environment: str
    """The environment whose service it is asked about."""

    @abstractmethod
    def check(self, serving: bool) -> None:
        """Raise BadConfiguration if what it is asked could never judge a release.

        If nothing is ``serving``, nothing can have been counted yet. Raises Unreachable if it does
        not answer, or has no present data: that is no reason not to deploy.
        """
