"""What a source has counted and timed: answers, 5xx among them, and how long they took."""

from dataclasses import dataclass
from datetime import timedelta

ROUTER = "router"
PROBES = "probes"

TOO_MANY = 429
"""Our own requests may be what is too many: it says nothing of a release."""

ALL_RELEASES = ""
"""The release of traffic that a source cannot tell apart by release."""


@dataclass(frozen=True, slots=True)
class Traffic:
    """Answers that one source has counted since the sample before.

    Sources overlap (the router counts the probes too): they are judged one by one, never summed.
    """

    source: str  # ROUTER, PROBES, or the name of a system that keeps what instances count
    release: str  # version; ALL_RELEASES where the source does not tell
    requests: int
    errors: int  # 5xx, or no answer

    @property
    def rate(self) -> float | None:
        """The error rate, a fraction of at most 1; None without a request."""
        return min(1.0, self.errors / self.requests) if self.requests else None

    def concerns(self, version: str) -> bool:
        """Whether it may be held against ``version``: it is its own, or all traffic."""
        return self.release in (ALL_RELEASES, version)


@dataclass(frozen=True, slots=True)
class Times:
    """Percentiles of the answer times that one source has seen since the sample before."""

    source: str
    release: str  # as in Traffic
    p50: timedelta | None = None
    p95: timedelta | None = None
    p99: timedelta | None = None

    def concerns(self, version: str) -> bool:
        """Whether it may be held against ``version``: it is its own, or all traffic."""
        return self.release in (ALL_RELEASES, version)


def busiest(counted: tuple[Traffic, ...], version: str) -> Traffic | None:
    """Of what may be held against ``version``, the source that has counted most; None if there is
    none."""
    return max(
        (traffic for traffic in counted if traffic.concerns(version)),
        key=lambda traffic: (traffic.requests, traffic.errors, traffic.source, traffic.release),
        default=None,
    )


def slowest_p95(times: tuple[Times, ...], source: str) -> timedelta | None:
    """The 95th percentile that ``source`` has measured; None if it measured none."""
    found = [one.p95 for one in times if one.source == source and one.p95 is not None]
    return max(found, default=None)
