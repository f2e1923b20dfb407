"""Who may sign: names, roles, and what is signed when somebody signs.

A signature is sealed with a secret that only the approver's device and the worker have, over
everything that it is about: the run, the gate's round, the item and its words, the plan. So it
cannot be made by who can write to the server or to the ledger, and says nothing about another run
or version.
"""

import json
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
    """The approver of a name as a person types it: capitals and outer blanks do not count."""
    wanted = name.strip().casefold()
    return next((one for one in approvers if one.name.casefold() == wanted), None)


def not_enrolled(name: str, names: Collection[str]) -> str:
    """What is wrong with a name that is none of the approvers', with the nearest of those."""
    known = there_is(name, names) if names else "; there is: nobody"
    return f"{name!r} is not enrolled as an approver{known}"


def sealed_text(
    run: str, gate: str, item: str, text: str, decision: str, approver: str, subject: str
) -> str:
    """What a signature's seal is over: one line of JSON, so that no two texts can be confused.

    ``text`` are the item's words in the runbook when it was signed; ``subject`` is what is signed
    beside them: the plan's fingerprint, and who started the run.
    """
    return json.dumps([run, gate, item, text, decision, approver, subject], ensure_ascii=False)
