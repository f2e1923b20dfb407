"""The proxy in front of the service: which instances get requests, and how one leaves unnoticed."""

from abc import ABC, abstractmethod
from datetime import timedelta

from blocks.part import Part
from release.configuration.kinds import RouterSettings
from release.configuration.layout import ServiceInterface
from release.measure.counters import Counted, RouterLook
from release.measure.slot import FULL_WEIGHT, Slot
from release.model import Instance


class Router(ServiceInterface, RouterSettings, Part, ABC):
    """Sends users' requests to admitted instances. Every method is safe to repeat."""

    @abstractmethod
    def check(self) -> None:
        """Raise Unreachable or BadConfiguration if the router could not be told anything."""

    @abstractmethod
    def slots(self) -> tuple[Slot, ...]:
        """All slots, as the router sees them now."""

    @abstractmethod
    def answered(self) -> Counted:
        """All answers to users since the router started, also those that no instance gave."""

    def look(self) -> RouterLook:
        """What has been counted, in all and slot by slot."""
        return RouterLook(slots=self.slots(), answered=self.answered())

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
        """Free the instance's slot; one that has none is no error."""

    @abstractmethod
    def set_weight(self, name: str, weight: int) -> None:
        """Set the instance's share, 1 to 256; 100 is a trusted instance's."""
