"""What is left of a run that ended without saying so: read from the ledger, decided here.

The server ends a gate whose time is over, and a cancelled run that waits, without running anything
of the run's own; so another run, started by an automation, does what it could not.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from release.errors import BadRequest
from release.ledger import Event, EventKind, Lock
from release.model import ImageRef, Release, Step
from release.outcome import Ending
from release.rollback.baseline import NOTHING, release_of_image

_BEFORE_ANYTHING = (Step.PLAN.value, Step.CHECKLIST.value)


class Action(StrEnum):
    """What a recovery does."""

    NOTHING = "nothing"  # the run ended by itself, or never held the environment
    SETTLE = "settle"  # nothing that users meet changed: write the ending, free the environment
    RESUME = "resume"  # the run goes on where it stopped: what it has done is not done again
    ROLL_BACK = "roll back"  # instances were touched: the baseline is restored
    TELL = "tell"  # nobody can say what is to be done: a person has to look


@dataclass(frozen=True, slots=True)
class OpenGate:
    """A gate that waits, as the ledger has it."""

    section: str
    items: tuple[str, ...]  # not signed by enough people yet
    signed: tuple[str, ...]  # "tests-passing by Ada"; an item that needs two is in both
    until: str  # ISO 8601; "" if none is known
    about: str = ""  # the plan's first line, in Markdown
    evidence: str = ""  # each item's verdict when the gate was last opened
    lacks: str = ""  # who is missing beside the items, in a sentence
    roles: Mapping[str, str] = field(
        default_factory=dict
    )  # who may sign an item, where not all may
    since: datetime | None = None  # its first opening
    opened: datetime | None = None  # its last one, with the evidence of then

    @property
    def open(self) -> str:
        """What is missing: the items, or, where each of them is signed, the people."""
        if self.items:
            return f"not signed: {', '.join(self.items)}"
        return self.lacks or "its last answer is being read"

    @property
    def ends(self) -> datetime | None:
        """When its time is over; None if that is not known."""
        return datetime.fromisoformat(self.until) if self.until else None


@dataclass(frozen=True, slots=True)
class Recovery:
    """What to do about a run, and the sentence that says why."""

    action: Action
    sentence: str
    expired: bool = False
    to: str = ""  # of a rollback: the baseline, as a rollback is told it
    version: str = ""  # … and its version
    finishes: bool = False  # the run was a rollback itself, which is done when this one is
    attempt: int = 0  # of a resumption: which one
    written: Event | None = None  # of a run that ended by itself: its ending in the ledger

    @property
    def keeps_lock(self) -> bool:
        """Whether the environment stays locked until a person has looked."""
        ending = self.written.payload.get("ending") if self.written else ""
        return ending == Ending.ROLLBACK_FAILED


def run_of(resource: str) -> str:
    """The run's id in what an automation sends: the id, or a resource that ends with it.

    Raises BadRequest if there is none.
    """
    found = resource.rpartition(".")[2]
    if len(found) != 36 or found.count("-") != 4:
        raise BadRequest(f"{resource!r} names no run: expected its id")
    return found


def open_gate_of(events: Sequence[Event]) -> OpenGate | None:
    """The gate at which a run waits; None if its last gate is closed or it has ended."""
    gate = last_gate_of(events)
    if gate is None or any(event.kind in _ENDS for event in events):
        return None
    closed = {event.step for event in events if event.kind == EventKind.GATE_CLOSED}
    return None if gate.section in closed else gate


def last_gate_of(events: Sequence[Event]) -> OpenGate | None:
    """The last gate that a run opened, with those of its signatures that stand; None if there is
    none.

    They are those of its last opening, because a signature may have fallen with its evidence, and
    those that were given since.
    """
    opened = [event for event in events if event.kind == EventKind.GATE_OPENED]
    if not opened:
        return None
    last = opened[-1]
    given = [
        (str(event.payload.get("item")), str(event.payload.get("approver")))
        for event in events[events.index(last) + 1 :]
        if event.kind == EventKind.ITEM_SIGNED and event.step == last.step
    ]
    stood = [(str(one["item"]), str(one["approver"])) for one in last.payload.get("signed", ())]
    return OpenGate(
        section=last.step,
        items=_unsigned(last.payload, [item for item, _ in stood], [item for item, _ in given]),
        signed=tuple(f"{item} by {approver}" for item, approver in (*stood, *given)),
        until=str(last.payload.get("until", "")),
        about=str(last.payload.get("about", "")),
        evidence=str(last.payload.get("evidence", "")),
        lacks="" if given else str(last.payload.get("lacks", "")),
        roles=dict(last.payload.get("roles", {})),
        since=next(event.at for event in opened if event.step == last.step),
        opened=last.at,
    )


def _unsigned(
    payload: Mapping[str, Any], stood: Sequence[str], given: Sequence[str]
) -> tuple[str, ...]:
    """The items that still need somebody.

    A form also offers those that are signed, where only a second person is missing. How many more
    an item needs is in ``more``; where an older version opened the gate, one who has not signed it.
    """
    offered = [str(item) for item in payload.get("items", ())]
    more = payload.get("more") or {item: int(item not in stood) for item in offered}
    return tuple(item for item in offered if more.get(item, 1) > given.count(item))


_ENDS = (EventKind.DEPLOYMENT_ENDED, EventKind.LOCK_RELEASED, EventKind.LOCK_BROKEN)


LONGEST_SILENCE = timedelta(seconds=15)
"""Of a run that holds an environment and says every 3 s that it is alive."""


def is_gone(lock: Lock, run_id: str) -> bool:
    """Whether a run that is called running holds the environment and gives no sign of life.

    One that holds nothing needs no watching here: Prefect's own heartbeats see to it.
    """
    return lock.run_id == run_id and lock.silent > LONGEST_SILENCE


_HOW = {
    "CANCELLED": "was cancelled",
    "CRASHED": "crashed",
    "COMPLETED": "was called completed by hand",
}


def recovery_of(events: Sequence[Event], state: str, begun: int) -> Recovery:
    """Decide from a run's events what is to be done after it has ended as ``state``.

    ``state`` is the type that Prefect gives: FAILED, CANCELLED or CRASHED; COMPLETED where somebody
    set that by hand, because our own runs write their end before they have it. ``begun`` is how
    often the run has begun, as Prefect counts it.

    A run that crashed goes on once, as long as users meet only the baseline, or the release has
    passed its watch; so does a rollback that had not yet found where to go back to. Where instances
    were touched, the baseline is restored; a rollback that was under way is done again from its
    beginning, which is safe. What a person ended is not resumed.
    """
    kinds = {event.kind for event in events}
    if EventKind.LOCK_TAKEN not in kinds:
        return Recovery(Action.NOTHING, "it never held the environment")
    if kinds & set(_ENDS):
        written = [event for event in events if event.kind == EventKind.DEPLOYMENT_ENDED]
        last = written[-1] if written else None
        return Recovery(Action.NOTHING, "it ended by itself", written=last)
    how = _HOW.get(state, "failed")
    later = [step for step in _steps(events, EventKind.STEP_BEGUN) if step not in _BEFORE_ANYTHING]
    if not later:
        return _before_anything(events, state, how)
    passed = Step.POST in _steps(events, EventKind.STEP_DONE)
    touched = not _TOUCHES_INSTANCES.isdisjoint(later)
    what = f"the run {how} {'after its watch had passed' if passed else f'in {str(later[-1])!r}'}"
    if touched and (not passed or Step.ROLLBACK in later):
        back = _back(events, what)
        if back.action is not Action.SETTLE:
            return back
    attempt = _attempt(events, begun)
    if state == "CRASHED" and attempt:
        sentence = f"{what}; it goes on where it stopped, once"
        return Recovery(Action.RESUME, sentence, attempt=attempt)
    return Recovery(Action.SETTLE, what)


def _attempt(events: Sequence[Event], begun: int) -> int:
    """Which resumption would be next; 0 if the run has had its chance.

    A worker may say late that the process died which a recovery killed: a run that has not begun
    since it was resumed has not crashed again. Neither is it resumed for ever, by a worker that
    cannot start it.
    """
    resumed = [event for event in events if event.kind == EventKind.RESUMED]
    if any(event.payload.get("begun") != begun for event in resumed):
        return 0
    return len(resumed) + 1 if len(resumed) < _MOST_RESUMPTIONS else 0


_MOST_RESUMPTIONS = 3


def planned_baseline(events: Sequence[Event]) -> str:
    """Where a deployment is to go back to, as its plan wrote it down; "" before there is one."""
    return str(_first_plan(events).get("baseline", ""))


@dataclass(frozen=True, slots=True)
class Before:
    """What a plan found beside the release that served."""

    instances: int | None = None  # that served; None if it is not known
    pin: str = ""  # what the host's own start named; "" for nothing


def found_before(events: Sequence[Event], baseline: str) -> Before:
    """What the last plan that found ``baseline`` serving found beside it.

    A deployment is undone to what was there: with as many instances as served, which may be fewer
    than its own rules ask for, and be all that the host can run.
    """
    for event in reversed(events):
        found = event.payload
        if event.kind == EventKind.PLAN_MADE and found.get("baseline") == baseline:
            count = found.get("instances")
            return Before(count if isinstance(count, int) else None, str(found.get("pin", "")))
    return Before()


def replaced_release(events: Sequence[Event]) -> Release | None:
    """What a deployment's plan found serving, read from the events of its run.

    None if there was no plan, or nothing served then. The revision is not known.
    """
    plan = _first_plan(events)
    address = str(plan.get("baseline", ""))
    if address in ("", NOTHING):
        return None
    return release_of_image(ImageRef.parse(address), str(plan.get("to", "")), revision="")


def restored_since(events: Sequence[Event], since: datetime | None) -> Release | None:
    """What a rollback has brought back later than ``since``, of which no ending tells.

    It is still being watched, or was not healthy: the run's ending names it only once it is. None
    if there was no such rollback. ``events`` are in order; the revision is not known.
    """
    done = {e.run_id for e in events if (e.kind, e.step) == (EventKind.STEP_DONE, Step.ROLLBACK)}
    for event in reversed(events):
        late = since is None or event.at > since
        if event.kind == EventKind.ROLLBACK_STARTED and event.run_id in done and late:
            address = str(event.payload.get("baseline", ""))
            if address in ("", NOTHING):
                return None
            version = str(event.payload.get("to", ""))
            return release_of_image(ImageRef.parse(address), version, revision="")
    return None


def left_by(events: Sequence[Event]) -> str:
    """What a rollback left, as a sentence begins: "v1.1.0 was "; "" if that is not known."""
    begun = [event for event in events if event.kind == EventKind.ROLLBACK_STARTED]
    left = str(begun[0].payload.get("from", "")) if begun else ""
    return f"{left} was " if left else ""


def _first_plan(events: Sequence[Event]) -> Mapping[str, Any]:
    """One that was made again, after the release served, would name the release itself."""
    planned = (event.payload for event in events if event.kind == EventKind.PLAN_MADE)
    return next(planned, {})


_TOUCHES_INSTANCES = frozenset({Step.DEPLOY, Step.VERIFY, Step.POST, Step.ROLLBACK})


def _steps(events: Sequence[Event], kind: EventKind) -> list[str]:
    return [event.step for event in events if event.kind == kind]


def _back(events: Sequence[Event], what: str) -> Recovery:
    """Back to what the run had recorded before it touched anything."""
    planned = [event for event in events if event.kind == EventKind.PLAN_MADE]
    begun = [event for event in events if event.kind == EventKind.ROLLBACK_STARTED]
    for event in reversed([*planned, *begun]):
        to = str(event.payload.get("baseline", ""))
        if to:
            version = str(event.payload.get("to", ""))
            return Recovery(Action.ROLL_BACK, what, to=to, version=version, finishes=not planned)
    if Step.DEPLOY in _steps(events, EventKind.STEP_BEGUN):
        return Recovery(Action.TELL, f"{what}, and which release it is to go back to is not known")
    return Recovery(Action.SETTLE, what)  # a rollback that had not found where to go back to


def _before_anything(events: Sequence[Event], state: str, how: str) -> Recovery:
    gate = open_gate_of(events)
    if gate is not None:
        if state == "FAILED":
            return Recovery(Action.SETTLE, f"the gate's time is over; {gate.open}", expired=True)
        return Recovery(Action.SETTLE, f"the run {how} at its gate; {gate.open}")
    return Recovery(Action.SETTLE, f"the run {how} before anything was changed")
