"""A place in the router's backend, as the router describes it."""

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from release.measure.tally import Tally

FULL_WEIGHT = 100  # of a slot's weight; what every instance has once it is trusted


class Admin(StrEnum):
    """What the router was told to do with a slot."""

    READY = "ready"
    DRAIN = "drain"  # no new requests, finish the old ones
    MAINT = "maint"  # nothing, no health checks


@dataclass(frozen=True, slots=True)
class Slot:
    """One server slot of the router's backend, with its counters since the router started."""

    name: str
    instance: str = ""  # name of the instance in it; "" while the slot is free
    address: str = ""  # ip address that the router found for that name
    admin: Admin = Admin.MAINT
    up: bool = False  # the router's own health checks say that it can serve
    sessions: int = 0  # requests under way
    answered_2xx: int = 0
    answered_4xx: int = 0
    answered_5xx: int = 0
    answered: int = 0  # all responses
    average: timedelta = timedelta()  # answer time, over the last 1,024 requests
    weight: int = FULL_WEIGHT
    remembers: str = ""  # name that a free slot had last: a router may be unable to forget it

    @property
    def tally(self) -> Tally:
        """What it has answered since the router started."""
        return Tally(self.answered, self.answered_5xx)

    @property
    def admitted(self) -> bool:
        """Whether the router is to send requests here, whether or not it may just now."""
        return bool(self.instance) and self.admin is Admin.READY

    @property
    def serving(self) -> bool:
        """Whether users meet this instance."""
        return self.admitted and self.up
