"""Who may sign: names and roles."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from release.wording import there_is


@dataclass(frozen=True, slots=True)
class Approver:
    """A person who may sign, without their secret."""

    name: str
    roles: tuple[str, ...] = ()

    def may(self, role: str) -> bool:
        """Whether this person may sign what ``role`` signs; "" is every approver."""
        return not role or role in self.roles


def find(approvers: Sequence[Approver], name: str) -> Approver | None:
    """The approver whom a typed name means: capitals and outer blanks do not count."""
    wanted = name.strip().casefold()
    return next((one for one in approvers if one.name.casefold() == wanted), None)


def not_enrolled(name: str, names: Collection[str]) -> str:
    """What is wrong with a name that is not an approver's, with the nearest one that is."""
    known = there_is(name, names) if names else "; there is: nobody"
    return f"{name!r} is not enrolled as an approver{known}"
