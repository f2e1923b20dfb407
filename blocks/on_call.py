"""Who is on call and has acknowledged what, whichever kind of service knows it."""

from abc import ABC, abstractmethod

from blocks.part import Part
from release.configuration.kinds import OnCallSettings
from release.gate.evidence import Duty, Message


class OnCall(OnCallSettings, Part, ABC):
    """Asks who is on call now, and whether a message was acknowledged.

    A request takes at most 5 s, because all evidence together has six. Whatever it cannot say is
    Unreachable, in one sentence without a token.
    """

    @property
    @abstractmethod
    def rota(self) -> str:
        """What :meth:`now` asks, as a person calls it; "" if only messages can be asked for."""

    @abstractmethod
    def now(self) -> Duty | None:
        """Who is on call. Returns None if nobody is. Raises Unreachable."""

    @abstractmethod
    def message(self, about: str) -> Message | None:
        """The message whose title has ``about`` in it, among those of the last days.

        A run sends several; the newest that somebody has acknowledged counts, else the newest.
        Returns None if there is none. Raises Unreachable.
        """
