"""The proxy in front of the service: which instances get requests, and how one leaves unnoticed."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from datetime import timedelta
from typing import ClassVar

from blocks.metrics_source import MetricsSource
from blocks.part import Part
from release.configuration.kinds import RouterSettings
from release.configuration.layout import ServiceInterface
from release.measure.counters import Growth, RouterLook, router_growth
from release.measure.slot import FULL_WEIGHT, Slot
from release.measure.tally import Tally
from release.measure.traffic import ROUTER
from release.model import Instance


class Router(ServiceInterface, RouterSettings, Part, MetricsSource[RouterLook], ABC):
    """Sends users' requests to admitted instances, and counts them. Every method is safe to repeat.

    A router that did not answer may have been restarted, and then counts from zero.
    """

    name: ClassVar[str] = ROUTER
    counts_on: ClassVar[bool] = False

    @abstractmethod
    def check(self) -> None:
        """Raise Unreachable or BadConfiguration if the router could not be controlled."""

    @abstractmethod
    def slots(self) -> tuple[Slot, ...]:
        """All slots, as the router sees them now."""

    @abstractmethod
    def answered(self) -> Tally:
        """All answers to users since the router started, including those that no instance gave."""

    def look(self) -> RouterLook:
        """What has been counted, in total and slot by slot."""
        return RouterLook(slots=self.slots(), answered=self.answered())

    def growth(self, before: RouterLook, now: RouterLook, versions: Mapping[str, str]) -> Growth:
        """What it has counted between two looks, in total and by release."""
        return router_growth(before, now, versions)

    @abstractmethod
    def admit(self, instance: Instance, weight: int = FULL_WEIGHT) -> Slot:
        """Let users meet an instance, after the router's own health check of it has passed.

        Raises RolloutFailed, and sends it nothing, if that does not happen.
        """

    @abstractmethod
    def drain(self, name: str) -> None:
        """Send no new request to the instance; those under way go on."""

    @abstractmethod
    def await_idle(self, name: str, within: timedelta) -> int:
        """Wait until no request is under way at the instance; returns how many still are."""

    @abstractmethod
    def retire(self, name: str) -> None:
        """Free the instance's slot. An instance without a slot is not an error."""

    @abstractmethod
    def set_weight(self, name: str, weight: int) -> None:
        """Set the instance's share, 1 to 256; 100 is a trusted instance's."""
