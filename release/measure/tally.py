"""A tally: answers that were counted, and errors among them."""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Tally:
    """Answers, and errors among them."""

    requests: int = 0
    errors: int = 0

    def __add__(self, other: "Tally") -> "Tally":
        return Tally(self.requests + other.requests, self.errors + other.errors)

    def __sub__(self, other: "Tally") -> "Tally":
        return Tally(self.requests - other.requests, self.errors - other.errors)

    @property
    def possible(self) -> bool:
        """Whether it can have been counted: a difference of two cannot, where counters fell."""
        return 0 <= self.errors <= self.requests

    @property
    def rate(self) -> float:
        """The error rate, a fraction; 0 without a request."""
        return self.errors / self.requests if self.requests else 0.0


def sum_of(tallies: Iterable[Tally]) -> Tally:
    """All of them together."""
    return sum(tallies, Tally())
