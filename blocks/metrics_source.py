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
    """Whether it counts on while it does not answer, so that a later look has it all."""

    @abstractmethod
    def look(self) -> L:
        """What it has counted until now. Raises a DeployError where it cannot be seen."""

    @abstractmethod
    def growth(self, before: L, now: L, versions: Mapping[str, str]) -> Growth:
        """What it has counted between two looks. Asks nobody.

        ``versions`` names the release of each instance, for a source that knows instances only. A
        counter that began again is never negative growth: it is unknown, or counted from zero.
        """

    def remember(self, before: L | None, now: L) -> L:
        """The look that the next one is compared with, where ``now`` may lack what only was away
        for a moment."""
        return now


class MetricsServer(MetricsSettings, Part, MetricsSource[Any], ABC):
    """A system beside the service that keeps what its instances count."""

    environment: str
    """The environment whose service it is asked about."""

    @abstractmethod
    def check(self, serving: bool) -> None:
        """Raise BadConfiguration if what it is asked could never judge a release.

        Where nothing is ``serving``, nothing can have been counted yet. Raises Unreachable where
        it, or its data of now, is not there: that is no reason not to deploy.
        """
