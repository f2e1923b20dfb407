"""What is broken when, and how the deployment has to end: the table of `make chaos`.

No I/O and no clock: what happened is a value, and whether it is right is a function of it.
"""

import statistics
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sandbox.errors import SandboxError

RATE = 60.0  # requests a second: enough to see a gap, little enough for two cores
AT_ONCE = 60.0  # seconds from the fault until the pipeline has it in hand (the limit)
GIVEN_UP = 150.0  # … where what is gone is tried again and again first
NEVER, DEPLOYED, ROLLED_BACK = "", "Deployed", "RolledBack"
FAILED, REFUSED, BACK = "Failed", "Refused", "RollbackDone"
SERVES_THE_NEW = (DEPLOYED,)


class Fault(StrEnum):
    """What is done to the deployment."""

    KILL_RUN = "the run's process is killed"
    FORGET = "the run's process is killed, and the results of its steps are lost"
    KILL_ROLLBACK = "the rollback's process is killed"
    KILL_WORKER = "the worker is killed, and started again"
    KILL_BOTH = "the worker and the run are killed, the worker is started again"
    KILL_SERVER = "Prefect's server is killed, and started again"
    HANG = "the run's process is stopped and says nothing more"
    CANCEL = "it is cancelled"
    CANCEL_TWICE = "it is cancelled twice"
    DATABASE = "PostgreSQL (Prefect's, the ledger's, the target's) crashes and comes back"
    LOCKED_DATABASE = "Prefect's database is locked for 8 s"
    DNS = "DNS is gone for 8 s"
    PROXY = "the proxy is restarted"
    ENGINE = "the container engine is restarted, with everything on it"
    DISK = "the worker's disk is full"
    REGISTRY = "the registry is gone for 8 s"
    REGISTRY_GONE = "the registry is gone for good"
    ORIGIN = "the git origin is gone for 8 s"
    ORIGIN_GONE = "the git origin is gone for good"


class Moment(StrEnum):
    """When: seen in the ledger, in the world that the step changes, or by a user."""

    PLAN = "the plan begins"
    CHECKLIST = "the checklist begins"
    PREPARE = "step 1 begins"
    TAG = "the tag is on the origin"
    BUILD = "step 2 begins"
    IMAGE = "the image is in the registry"
    MIGRATE = "step 3 begins"
    MIGRATING = "a migration is under way"
    MIGRATED = "the migration is recorded"
    DEPLOY = "step 4 begins"
    STARTED = "a new container is there"
    ADMITTED = "a user meets the release"
    PINNED = "a reboot would bring it up"
    VERIFY = "step 5 begins"
    STOPPED = "the old container is stopped"
    WATCH = "the watch begins"
    WATCHED = "the watch has passed"
    WRITTEN = "the ending is written"
    SOUGHT = "the way back is looked for"
    ROLLBACK = "the rollback begins"
    RESTARTED = "the old release's container is there again"
    RESTORED = "a user meets the old release again"


@dataclass(frozen=True)
class Cell:
    """One fault at one moment, and what has to come of it."""

    fault: Fault
    moment: Moment
    endings: tuple[str, ...]
    why: str
    cut: bool = False  # the fault itself takes the service from its users
    within: float = AT_ONCE  # seconds until it is in hand

    @property
    def name(self) -> str:
        """What ONLY= takes: `kill-run@build`."""
        return f"{self.fault.name}@{self.moment.name}".lower().replace("_", "-")

    @property
    def is_rollback(self) -> bool:
        """Whether the run that is hit is a rollback."""
        return self.moment in _OF_A_ROLLBACK


_OF_A_ROLLBACK = (Moment.SOUGHT, Moment.ROLLBACK, Moment.RESTARTED, Moment.RESTORED)
_ON_CRASH = {
    Moment.PLAN: ((NEVER, FAILED), "nothing was changed: its lock is given back"),
    Moment.CHECKLIST: ((FAILED,), "nothing was changed: its lock is given back"),
    Moment.PREPARE: ((DEPLOYED,), "nobody has met the release: it goes on, once"),
    Moment.TAG: ((DEPLOYED,), "the tag is found, not made again"),
    Moment.BUILD: ((DEPLOYED,), "nobody has met the release: it goes on, once"),
    Moment.IMAGE: ((DEPLOYED,), "the same commit gives the same image"),
    Moment.MIGRATE: ((DEPLOYED,), "nobody has met the release: it goes on, once"),
    Moment.MIGRATING: ((DEPLOYED,), "the file is rolled back with its record, and applied again"),
    Moment.MIGRATED: ((DEPLOYED,), "the record says that it is applied"),
    Moment.DEPLOY: ((ROLLED_BACK,), "instances may have been touched: the baseline is restored"),
    Moment.STARTED: ((ROLLED_BACK,), "the new container is removed"),
    Moment.ADMITTED: ((ROLLED_BACK,), "the baseline has every request again"),
    Moment.PINNED: ((ROLLED_BACK,), "the baseline is pinned again"),
    Moment.VERIFY: ((ROLLED_BACK,), "the drained baseline is admitted again"),
    Moment.STOPPED: ((ROLLED_BACK,), "the baseline is started again"),
    Moment.WATCH: ((ROLLED_BACK,), "nobody watches the release any more: it does not stay"),
    Moment.WATCHED: ((DEPLOYED,), "it has passed its watch: the rest is done"),
    Moment.WRITTEN: ((DEPLOYED,), "all is written"),
}


def _killed() -> Iterable[Cell]:
    for moment, (endings, why) in _ON_CRASH.items():
        yield Cell(Fault.KILL_RUN, moment, endings, why)
    for moment in (Moment.TAG, Moment.MIGRATED, Moment.WATCHED):
        lost = "each step asks the world what is true already"
        yield Cell(Fault.FORGET, moment, (DEPLOYED,), lost)
    again = "a rollback is done again from its beginning, which is safe"
    for moment in _OF_A_ROLLBACK:
        yield Cell(Fault.KILL_ROLLBACK, moment, (BACK,), again)


def _unheard() -> Iterable[Cell]:
    for fault in (Fault.KILL_BOTH, Fault.HANG):
        for moment in (Moment.BUILD, Moment.WATCH):
            endings, why = _ON_CRASH[moment]
            yield Cell(fault, moment, endings, f"its signs of life are missed; {why}")


def _survived() -> Iterable[Cell]:
    """What a deployment lives through, users included unless the fault itself hits them.

    Outages come before, while and after a step needs what is gone, as often as an hour allows.
    """
    lives = "the run is a process of its own"
    for moment in (Moment.BUILD, Moment.STARTED, Moment.WATCH):
        yield Cell(Fault.KILL_WORKER, moment, (DEPLOYED,), lives)
    asks = "the run asks the server again until it answers"
    for moment in (Moment.PLAN, Moment.BUILD, Moment.STARTED, Moment.WATCH):
        yield Cell(Fault.KILL_SERVER, moment, (DEPLOYED,), asks)
    for moment in (Moment.BUILD, Moment.WATCH):
        yield Cell(Fault.LOCKED_DATABASE, moment, (DEPLOYED,), asks)
    tried = "tried again"
    yield Cell(Fault.REGISTRY, Moment.BUILD, (DEPLOYED,), tried)
    yield Cell(Fault.REGISTRY, Moment.DEPLOY, (DEPLOYED,), "the image is on the host or comes late")
    yield Cell(Fault.ORIGIN, Moment.PLAN, (DEPLOYED,), tried)
    yield Cell(Fault.ORIGIN, Moment.PREPARE, (DEPLOYED,), tried)
    yield Cell(Fault.DNS, Moment.PLAN, (DEPLOYED,), tried)
    yield Cell(Fault.DNS, Moment.MIGRATING, (DEPLOYED,), tried)
    both = (DEPLOYED, ROLLED_BACK)
    for moment in (Moment.STARTED, Moment.WATCH):
        yield Cell(Fault.DNS, moment, both, "a release that nobody can look at does not stay")
    refused = (DEPLOYED, NEVER, REFUSED, FAILED)
    yield Cell(Fault.DATABASE, Moment.PLAN, refused, tried, cut=True)
    for moment in (
        *(Moment.BUILD, Moment.MIGRATE, Moment.MIGRATING, Moment.MIGRATED),
        *(Moment.STARTED, Moment.PINNED, Moment.WATCH),
    ):
        why = "tried again; a release whose users got errors for too long does not stay"
        yield Cell(Fault.DATABASE, moment, (*both, FAILED), why, cut=True)
    for moment in (Moment.STARTED, Moment.ADMITTED, Moment.WATCH):
        yield Cell(Fault.PROXY, moment, both, "what it serves is in its file", cut=True)
    for moment in (Moment.BUILD, Moment.STARTED, Moment.PINNED, Moment.WATCH):
        why = "what a reboot brings up is what serves"
        yield Cell(Fault.ENGINE, moment, (*both, FAILED), why, cut=True)
    for moment in (Moment.BUILD, Moment.STARTED, Moment.WATCH):
        why = "what cannot be written down is kept in memory, or ends the run"
        yield Cell(Fault.DISK, moment, (*both, FAILED), why)


def _rolled_back_all_the_same() -> Iterable[Cell]:
    """What a rollback lives through: there is nothing else to go back to."""
    yield Cell(Fault.KILL_SERVER, Moment.SOUGHT, (BACK,), "the run asks the server again")
    tried = "tried again"
    for moment in (Moment.SOUGHT, Moment.RESTARTED, Moment.RESTORED):
        yield Cell(Fault.DATABASE, moment, (BACK,), tried, cut=True)
    yield Cell(Fault.DNS, Moment.SOUGHT, (BACK,), tried)
    yield Cell(Fault.PROXY, Moment.RESTARTED, (BACK,), "what it serves is in its file", cut=True)
    for moment in (Moment.ROLLBACK, Moment.RESTORED):
        yield Cell(Fault.ENGINE, moment, (BACK,), tried, cut=True)
    yield Cell(Fault.DISK, Moment.ROLLBACK, (BACK,), "what cannot be written decides nothing")
    yield Cell(Fault.CANCEL, Moment.RESTARTED, (BACK,), "a rollback is finished")


def _given_up() -> Iterable[Cell]:
    gone = "given up after bounded tries; the baseline serves on"
    yield Cell(Fault.REGISTRY_GONE, Moment.BUILD, (FAILED,), gone, within=GIVEN_UP)
    yield Cell(Fault.ORIGIN_GONE, Moment.PLAN, (NEVER, FAILED, REFUSED), gone, within=GIVEN_UP)
    before = "nothing that users meet was changed; the run stays Cancelled"
    yield Cell(Fault.CANCEL, Moment.BUILD, (FAILED,), before)
    yield Cell(Fault.CANCEL, Moment.MIGRATING, (FAILED,), before)
    yield Cell(Fault.CANCEL, Moment.ADMITTED, (ROLLED_BACK,), "the baseline is restored")
    yield Cell(Fault.CANCEL_TWICE, Moment.WATCH, (ROLLED_BACK,), "the baseline is restored")


CELLS = (*_killed(), *_unheard(), *_survived(), *_rolled_back_all_the_same(), *_given_up())


def chosen(only: str) -> tuple[Cell, ...]:
    """The cells whose names are given, with commas; all, where none is.

    Raises SandboxError for a name that there is not.
    """
    names = [name.strip() for name in only.split(",") if name.strip()]
    there = {cell.name: cell for cell in CELLS}
    unknown = [name for name in names if name not in there]
    if unknown:
        raise SandboxError(f"there is no {unknown[0]!r}; there are: {', '.join(there)}")
    return tuple(there[name] for name in names) if names else CELLS


def in_order_of_play(cells: Sequence[Cell]) -> Iterable[Cell]:
    """The cells, so that one that hits a rollback comes after one that ends as Deployed.

    It leaves that release then, and needs no deployment of its own; those for which there is no
    such cell come last.
    """
    back = deque(cell for cell in cells if cell.is_rollback)
    for cell in cells:
        if not cell.is_rollback:
            yield cell
            if back and cell.endings == (DEPLOYED,):
                yield back.popleft()
    yield from back


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
    in_hand_after: float | None  # seconds from the fault until somebody acted on it
    settled_after: float | None  # … and until all was over; None: never
    held_by: str
    containers: Sequence[tuple[str, str, str]]  # name, image, state
    pinned: str
    waiting: int  # runs that have not ended
    tag: str  # the commit of the release's tag; "" without one
    commit: str  # that it has to be
    applied: Mapping[str, int]  # how often each migration of these runs had its effect
    recorded: Sequence[str]  # those that schema_migrations has as applied
    invalid_indexes: int


def wrongs(cell: Cell, seen: Seen) -> tuple[str, ...]:
    """What is wrong; nothing where it ended right."""
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
            yield f"{count} requests after it was settled were answered by {version or 'nobody'}"
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


def rows(results: Sequence[Result], cells: Sequence[Cell] = CELLS) -> list[tuple[str, ...]]:
    """One row for each cell, in the table's order."""
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
