"""The results of the cells of `make chaos`: whether each passed, and the table of them.

No I/O and no clock: what happened is a value, and whether it is right is a function of it.
"""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sandbox.chaos.cells import CELLS, DEPLOYED, FURTHER, Cell

RATE = 60.0  # requests a second: enough to see a gap, little enough for two cores
SERVES_THE_NEW = (DEPLOYED,)


# ---- what was seen, and what is wrong with it


@dataclass(frozen=True)
class Seen:
    """What came of a deployment that was hit."""

    version: str  # the release that was deployed, or that a rollback left
    before: str  # what served before the run
    came: bool  # whether the moment came at all
    ending: str  # as the ledger has it
    state: str  # … and Prefect
    serves: str
    answered_after: Mapping[str, int]  # requests after it was settled, by the release
    requests: int
    failed: int
    in_hand_after: float | None  # seconds from the fault until something acted on it
    settled_after: float | None  # … and until all was over; None if it never was
    held_by: str
    containers: Sequence[tuple[str, str, str]]  # name, image, state
    pinned: str
    waiting: int  # runs that have not ended
    tag: str  # the commit of the release's tag; "" without one
    commit: str  # that it must name
    applied: Mapping[str, int]  # how often each migration of these runs had its effect
    recorded: Sequence[str]  # those that schema_migrations has as applied
    invalid_indexes: int


def wrongs(cell: Cell, seen: Seen) -> tuple[str, ...]:
    """What is wrong; empty if the cell passed."""
    if not seen.came:
        return (f"{cell.moment} never came: it ended as {seen.ending or seen.state}",)
    return (*_how_it_ended(cell, seen), *_what_serves(cell, seen), *_what_is_left(seen))


def _how_it_ended(cell: Cell, seen: Seen) -> Iterable[str]:
    if seen.settled_after is None:
        yield f"it was never settled: {seen.state}"
    if seen.ending not in cell.endings:
        allowed = " or ".join(ending or "without an entry" for ending in cell.endings)
        yield f"ended as {seen.ending or 'nothing'} ({seen.state}), not {allowed}"
    if seen.in_hand_after is not None and seen.in_hand_after > cell.within:
        yield f"in hand after {seen.in_hand_after:.0f} s, allowed: {cell.within:.0f} s"


def _what_serves(cell: Cell, seen: Seen) -> Iterable[str]:
    wanted = seen.version if seen.ending in SERVES_THE_NEW else seen.before
    if seen.serves != wanted:
        yield f"serves {seen.serves or 'nothing'} afterwards, not {wanted}"
    for version, count in sorted(seen.answered_after.items()):
        if version != wanted:
            by = version or "no release"
            yield f"{count} requests after it was settled were answered by {by}"
    if seen.failed and not cell.cut:
        yield f"{seen.failed} of {seen.requests} requests failed"


def _what_is_left(seen: Seen) -> Iterable[str]:
    if seen.held_by:
        yield f"the environment is still held by {seen.held_by}"
    if [(image, state) for _, image, state in seen.containers] != [(seen.pinned, "running")]:
        there = ", ".join(f"{name} {state}" for name, _, state in seen.containers) or "none"
        yield f"not one running container of the pinned image is left, but: {there}"
    if seen.waiting:
        yield f"{seen.waiting} runs have not ended"
    if seen.tag and seen.tag != seen.commit:
        yield f"the tag names {seen.tag}, not {seen.commit}"
    twice = [name for name, times in seen.applied.items() if times > 1]
    if twice:
        yield f"applied more than once: {', '.join(twice)}"
    if sorted(seen.applied) != sorted(seen.recorded):
        yield f"applied {sorted(seen.applied)}, recorded {sorted(seen.recorded)}"
    if seen.invalid_indexes:
        yield f"{seen.invalid_indexes} invalid indexes are left"


# ---- the table


@dataclass(frozen=True)
class Result:
    """One cell's result as it is kept in a file."""

    cell: str
    wrongs: tuple[str, ...]
    ending: str
    serves: str  # "the new release", "the baseline", or what else
    requests: int
    failed: int
    in_hand_after: float | None
    settled_after: float | None

    @classmethod
    def of(cls, cell: Cell, seen: Seen) -> "Result":
        """What is kept of what was seen."""
        names = {seen.before: "the baseline", seen.version: "the new release"}
        return cls(
            cell.name,
            wrongs(cell, seen),
            seen.ending or seen.state,
            names.get(seen.serves, seen.serves or "nothing"),
            seen.requests,
            seen.failed,
            _rounded(seen.in_hand_after),
            _rounded(seen.settled_after),
        )

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Result":
        """A result as it was kept."""
        return cls(**{**values, "wrongs": tuple(values["wrongs"])})


HEAD = ("fault", "when", "right", "ends as", "serves then", "failed", "in hand, s", "settled, s")


def rows(results: Sequence[Result]) -> list[tuple[str, ...]]:
    """One row for each of ``CELLS``, and then for each of the further ones that was played."""
    there = {result.cell for result in results}
    return rows_of((*CELLS, *(cell for cell in FURTHER if cell.name in there)), results)


def rows_of(cells: Sequence[Cell], results: Sequence[Result]) -> list[tuple[str, ...]]:
    """One row for each of these cells."""
    return [_row(cell, [r for r in results if r.cell == cell.name]) for cell in cells]


def _row(cell: Cell, results: Sequence[Result]) -> tuple[str, ...]:
    right = sum(not result.wrongs for result in results)
    failed = sum(result.failed for result in results)
    requests = sum(result.requests for result in results)
    return (
        cell.fault.value,
        cell.moment.value,
        f"{right} of {len(results)}" if results else "not run",
        ", ".join(sorted({result.ending for result in results})) or "–",
        ", ".join(sorted({result.serves for result in results})) or "–",
        f"{failed:,} of {requests:,}" if results else "–",
        _middle(result.in_hand_after for result in results),
        _middle(result.settled_after for result in results),
    )


def _middle(values: Iterable[float | None]) -> str:
    there = [value for value in values if value is not None]
    return f"{statistics.median(there):.0f}" if there else "–"


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 1)
