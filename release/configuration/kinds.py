"""What the settings of one sort of system share, whichever kind of it a team has.

A sort is what a deployment needs: something that runs instances, that routes requests, that counts
answers, that knows checks and issues, who is on call, or tickets. A kind is the product: each has a
class of settings of its own below one of these, told from the others by its ``kind``.
"""

from release.configuration.rules import Rules


class KindSettings(Rules):
    """The settings of one kind of system; ``kind`` has its name as the only choice."""

    kind: str


class OrchestratorSettings(KindSettings):
    """What runs the service's instances."""


class RouterSettings(KindSettings):
    """What stands before the service."""

    network: str = ""
    """The network on which the router finds the service's containers, by its name in the Compose
    file; empty: the only one that the service is on."""

    def refusal(self, replicas: int) -> str:
        """Why so many instances, old and new side by side, do not fit; "" if they do."""
        return ""


class MetricsSettings(KindSettings):
    """Where the backend's own counters are."""

    @property
    def configured(self) -> bool:
        """Whether there is anything to ask."""
        return True


class ForgeSettings(KindSettings):
    """Where commits have checks and issues have labels."""

    tests_command: tuple[str, ...] = ()
    """A program that says whether the tests pass, used instead of the forge: the program and its
    arguments, with `{revision}` for the commit. Exit code 0 means that they pass. It runs on the
    worker."""

    @property
    def configured(self) -> bool:
        """Whether there is a forge to ask."""
        return True


class OnCallSettings(KindSettings):
    """Who is on call."""

    @property
    def configured(self) -> bool:
        """Whether there is anybody to ask."""
        return True


class TicketSettings(KindSettings):
    """Where deployment tickets are."""

    @property
    def configured(self) -> bool:
        """Whether there is a ticket system at all."""
        return True
