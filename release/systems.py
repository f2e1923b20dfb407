"""What the systems said when they were asked whether they are there."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Answer:
    """One system's answer; ``problem`` is empty where all is well."""

    name: str
    problem: str = ""
    hint: str = ""
    configuration: bool = False  # the system is there, what we know of it is wrong
    needed: bool = True  # False: a deployment goes on without it, and says so
    found: str = ""  # what there is to say of it where all is well

    @property
    def ok(self) -> bool:
        return not self.problem


def blocking(answers: Sequence[Answer]) -> list[Answer]:
    """The answers with a problem that no deployment goes on with."""
    return [answer for answer in answers if not answer.ok and answer.needed]


def warnings(answers: Sequence[Answer]) -> tuple[str, ...]:
    """What a deployment goes on without, a sentence each."""
    return tuple(f"{a.name}: {a.problem}" for a in answers if not a.ok and not a.needed)


def summary(answers: Sequence[Answer]) -> str:
    """All problems in one sentence, each with the system's name."""
    return "; ".join(f"{a.name}: {a.problem}" for a in answers if not a.ok)
