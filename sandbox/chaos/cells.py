"""What `make chaos` breaks, when, and how the deployment must end."""

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase

from sandbox.errors import SandboxError

AT_ONCE = 60.0  # seconds from the fault until the pipeline has it in hand (the limit)
GIVEN_UP = 150.0  # … where what is gone is tried again and again first
NEVER, DEPLOYED, ROLLED_BACK = "", "Deployed", "RolledBack"
FAILED, REFUSED, BACK = "Failed", "Refused", "RollbackDone"


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
    STARTED = "a new container exists"
    ADMITTED = "a user reaches the release"
    PINNED = "a reboot would bring it up"
    VERIFY = "step 5 begins"
    STOPPED = "the old container is stopped"
    WATCH = "the watch begins"
    WATCHED = "the watch has passed"
    WRITTEN = "the ending is written"
    SOUGHT = "the release to go back to is looked up"
    ROLLBACK = "the rollback begins"
    RESTARTED = "the old release has a container again"
    RESTORED = "a user reaches the old release again"


@dataclass(frozen=True)
class Cell:
    """One fault at one moment, and what must come of it."""

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
    Moment.PREPARE: ((DEPLOYED,), "no user has reached the release: it goes on, once"),
    Moment.TAG: ((DEPLOYED,), "the tag is found, not made again"),
    Moment.BUILD: ((DEPLOYED,), "no user has reached the release: it goes on, once"),
    Moment.IMAGE: ((DEPLOYED,), "the same commit gives the same image"),
    Moment.MIGRATE: ((DEPLOYED,), "no user has reached the release: it goes on, once"),
    Moment.MIGRATING: ((DEPLOYED,), "the file is rolled back with its record, and applied again"),
    Moment.MIGRATED: ((DEPLOYED,), "the record says that it is applied"),
    Moment.DEPLOY: ((ROLLED_BACK,), "instances may have been touched: the baseline is restored"),
    Moment.STARTED: ((ROLLED_BACK,), "the new container is removed"),
    Moment.ADMITTED: ((ROLLED_BACK,), "the baseline has every request again"),
    Moment.PINNED: ((ROLLED_BACK,), "the baseline is pinned again"),
    Moment.VERIFY: ((ROLLED_BACK,), "the drained baseline is admitted again"),
    Moment.STOPPED: ((ROLLED_BACK,), "the baseline is started again"),
    Moment.WATCH: ((ROLLED_BACK,), "the release is no longer watched: it does not stay"),
    Moment.WATCHED: ((DEPLOYED,), "it has passed its watch: the rest is done"),
    Moment.WRITTEN: ((DEPLOYED,), "everything is written"),
}


def _killed() -> Iterable[Cell]:
    for moment, (endings, why) in _ON_CRASH.items():
        yield Cell(Fault.KILL_RUN, moment, endings, why)
    for moment in (Moment.TAG, Moment.MIGRATED, Moment.WATCHED):
        lost = "each step looks at what is already done"
        yield Cell(Fault.FORGET, moment, (DEPLOYED,), lost)
    again = "a rollback is done again from its beginning, which is safe"
    for moment in _OF_A_ROLLBACK:
        yield Cell(Fault.KILL_ROLLBACK, moment, (BACK,), again)


def _unheard() -> Iterable[Cell]:
    for fault in (Fault.KILL_BOTH, Fault.HANG):
        for moment in (Moment.BUILD, Moment.WATCH):
            endings, why = _ON_CRASH[moment]
            yield Cell(fault, moment, endings, f"its silence is noticed; {why}")


def _survived() -> Iterable[Cell]:
    """What a deployment survives, and its users too unless the fault itself hits them.

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
        yield Cell(Fault.DNS, moment, both, "a release that cannot be observed does not stay")
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
    """What a rollback survives: there is nothing else to go back to."""
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
    gone = "given up after bounded tries; the baseline keeps serving"
    yield Cell(Fault.REGISTRY_GONE, Moment.BUILD, (FAILED,), gone, within=GIVEN_UP)
    yield Cell(Fault.ORIGIN_GONE, Moment.PLAN, (NEVER, FAILED, REFUSED), gone, within=GIVEN_UP)
    before = "nothing that users see was changed; the run stays Cancelled"
    yield Cell(Fault.CANCEL, Moment.BUILD, (FAILED,), before)
    yield Cell(Fault.CANCEL, Moment.MIGRATING, (FAILED,), before)
    yield Cell(Fault.CANCEL, Moment.ADMITTED, (ROLLED_BACK,), "the baseline is restored")
    yield Cell(Fault.CANCEL_TWICE, Moment.WATCH, (ROLLED_BACK,), "the baseline is restored")


CELLS = (*_killed(), *_unheard(), *_survived(), *_rolled_back_all_the_same(), *_given_up())
"""Those that are played within an hour."""


def _at_every_other_moment() -> Iterable[Cell]:
    there = {cell.name for cell in CELLS}
    for moment in _ON_CRASH:
        if moment is not Moment.WRITTEN:
            for cell in _outages(moment):
                if cell.name not in there:
                    yield cell


def _outages(moment: Moment) -> Iterable[Cell]:
    """Everything that can fail at this moment, whether the step needs it or not."""
    endings, why = _ON_CRASH[moment]
    yield Cell(Fault.HANG, moment, endings, f"its silence is noticed; {why}")
    needed = "it is asked again until it answers"
    for fault in (Fault.KILL_SERVER, Fault.LOCKED_DATABASE, Fault.REGISTRY, Fault.ORIGIN):
        yield Cell(fault, moment, (DEPLOYED,), needed)
    endings = _ON_OUTAGE[moment]
    for fault in (Fault.DATABASE, Fault.PROXY, Fault.ENGINE):
        yield Cell(fault, moment, endings, "tried again, or given up", cut=True)
    for fault in (Fault.DNS, Fault.DISK):
        yield Cell(fault, moment, endings, "tried again, or given up")


_ON_OUTAGE = {
    Moment.PLAN: (DEPLOYED, NEVER, REFUSED, FAILED),
    Moment.CHECKLIST: (DEPLOYED, REFUSED, FAILED),  # a silent source is asked again
    **dict.fromkeys((Moment.PREPARE, Moment.TAG, Moment.BUILD, Moment.IMAGE), (DEPLOYED, FAILED)),
    **dict.fromkeys((Moment.MIGRATE, Moment.MIGRATING, Moment.MIGRATED), (DEPLOYED, FAILED)),
    **dict.fromkeys((Moment.DEPLOY, Moment.STARTED, Moment.ADMITTED), (DEPLOYED, ROLLED_BACK)),
    **dict.fromkeys((Moment.PINNED, Moment.VERIFY, Moment.STOPPED), (DEPLOYED, ROLLED_BACK)),
    Moment.WATCH: (DEPLOYED, ROLLED_BACK),
    Moment.WATCHED: (DEPLOYED,),
}

FURTHER = tuple(_at_every_other_moment())
"""Each outage at each moment of a deployment that ``CELLS`` leaves out: some hours."""

EVERY_CELL = (*CELLS, *FURTHER)


def chosen(only: str) -> tuple[Cell, ...]:
    """The cells of these names, with commas; ``CELLS`` if none is given.

    A name may have wildcards, as a file's may (``engine@*``); ``further`` names all of ``FURTHER``.
    Raises SandboxError for a name that no cell has.
    """
    names = [name.strip() for name in only.split(",") if name.strip()]
    if not names:
        return CELLS
    return tuple(dict.fromkeys(cell for name in names for cell in _named(name)))


def _named(name: str) -> tuple[Cell, ...]:
    if name == "further":
        return FURTHER
    found = tuple(cell for cell in EVERY_CELL if fnmatchcase(cell.name, name))
    if not found:
        there = ", ".join(cell.name for cell in EVERY_CELL)
        raise SandboxError(f"there is no {name!r}; there are: further, {there}")
    return found


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
