"""The ticket system, whichever kind it is."""

from abc import ABC, abstractmethod

from blocks.part import Part
from release.configuration.kinds import TicketSettings


class Ticketing(TicketSettings, Part, ABC):
    """Comments on the deployment ticket and closes it."""

    @abstractmethod
    def close(self, ticket: str, comment: str) -> None:
        """Write ``comment`` on the ticket, then close it; closing a closed one does nothing.

        Raises Unreachable with the ticket's address, never with the token; nothing else, because
        the release serves by then. For text that cannot be a ticket no request is made.
        """
