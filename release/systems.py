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

    @property
    def ok(self) -> bool:
        return not self.problem


def summary(answers: Sequence[Answer]) -> str:
    """All problems in one sentence, each with the system's name."""
    return "; ".join(f"{a.name}: {a.problem}" for a in answers if not a.ok)
