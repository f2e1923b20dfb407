"""The moves that restore the baseline, from whatever state there is.

A restore looks at what there is, whatever was interrupted, and names the moves that bring the
baseline back; done one at a time with a fresh look after each, they come to an end.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum

from release.errors import RollbackFailed
from release.measure.slot import Admin, Slot
from release.model import Baseline, ImageRef, Instance
from release.rollout import is_ready

_STOPPED = ("exited", "created")  # the engine's words for a container that can be started


@dataclass(frozen=True, slots=True)
class Restored:
    """A restore, as it was done."""

    serving: tuple[Instance, ...]
    moves: tuple[str, ...]  # one sentence each, in order
    took: timedelta


class Act(StrEnum):
    """What a move of a restore does."""

    START_BESIDE = "start beside"
    START = "start"
    AWAIT = "await"
    ADMIT = "admit"
    PIN = "pin"
    UNPIN = "take the pin back"
    RESTART = "restart in place"
    DRAIN = "drain"
    LEAVE = "retire when idle"
    RETIRE = "retire"
    STOP = "stop"
    REMOVE = "remove"


@dataclass(frozen=True, slots=True)
class Move:
    """One move of a restore. ``ids`` are containers, except where the router is told ``names``."""

    act: Act
    ids: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    image: ImageRef | None = None
    count: int = 0

    def __str__(self) -> str:
        what = self.image.short if self.image else ""
        match self.act:
            case Act.START_BESIDE | Act.RESTART:
                return f"{self.act} {self.count} × {what}"
            case Act.PIN:
                return f"pin {what}"
            case Act.UNPIN:
                return str(self.act)
            case _:
                return f"{self.act} {', '.join(self.names)}"


@dataclass(frozen=True, slots=True)
class World:
    """What there is, at one look."""

    instances: tuple[Instance, ...]
    slots: tuple[Slot, ...] | None  # None: there is no router
    pinned: ImageRef | None
    given_up: frozenset[str] = field(default_factory=frozenset)  # ids that would not come up


def plan_restore(world: World, baseline: Baseline) -> tuple[Move, ...]:
    """The moves that bring the baseline back, from whatever there is; none when it is back.

    The aim: as many instances of the baseline's image as served, admitted and pinned, and nothing
    else left. Instances that served are taken again in the cheapest state they are in (admitted,
    drained, stopped), and only what is missing is started from the digest. Nothing is taken out of
    service before the baseline serves in full. Only the first move is certain: do it, look again,
    plan again; each move brings the world nearer, and a plan for its end is empty.

    Raises RollbackFailed if the baseline's containers are gone and it has no digest.
    """
    if world.slots is None:
        return _plan_in_place(world, baseline)
    return _bring_back(world, world.slots, baseline) or (
        *_silence(world, world.slots, baseline),
        *_clear_away(world, world.slots, baseline),
    )


def plan_serving(world: World, baseline: Baseline) -> tuple[Move, ...]:
    """The moves until every request goes to the baseline: the part of a restore that users wait
    for. What the host would start, and what is left of the other release, is looked at later.

    Raises RollbackFailed as :func:`plan_restore` does.
    """
    if world.slots is None:
        return _plan_in_place(world, baseline)
    return _bring_back(world, world.slots, baseline) or _silence(world, world.slots, baseline)


def _bring_back(world: World, slots: Sequence[Slot], baseline: Baseline) -> tuple[Move, ...]:
    """The moves until the baseline serves in full."""
    kept = _kept(world, slots, baseline)
    missing = _replicas(baseline) - len(kept)
    if missing:
        image = _digest(baseline, missing)
        return (Move(Act.START_BESIDE, image=image, count=missing),)
    held = {slot.instance: slot for slot in slots if slot.instance}
    idle = [i for i in kept if not i.running]
    # A name that is ready in the router would be served the moment its container starts.
    early = [i for i in idle if i.name in held and held[i.name].admin is not Admin.MAINT]
    out = [i for i in kept if not (i.name in held and held[i.name].serving)]
    free = sum(not slot.instance for slot in slots)
    room = len([i for i in out if i.name not in held]) - free
    return (
        *_each(Act.RETIRE, early),
        *_each(Act.START, idle),
        *_make_room(world, slots, kept, room),
        *_each(Act.ADMIT, out),
    )


def _silence(world: World, slots: Sequence[Slot], baseline: Baseline) -> tuple[Move, ...]:
    """The move after which no other instance gets requests, once the baseline serves."""
    names = {i.name for i in _kept(world, slots, baseline)}
    others = tuple(slot.instance for slot in slots if slot.admitted and slot.instance not in names)
    return (Move(Act.DRAIN, names=others),) if others else ()


def _clear_away(world: World, slots: Sequence[Slot], baseline: Baseline) -> tuple[Move, ...]:
    """The moves that leave nothing but the baseline, once it gets every request."""
    kept = _kept(world, slots, baseline)
    names = {i.name for i in kept}
    others = [i for i in world.instances if i.name not in names]
    taken = [slot for slot in slots if slot.instance and slot.instance not in names]
    leaving = tuple(slot.instance for slot in taken)
    return (
        *_pin(world, baseline),
        *((Move(Act.LEAVE, names=leaving),) if leaving else ()),
        *_each(Act.STOP, _not_stopped(others)),
        *_each(Act.REMOVE, others),
    )


def _plan_in_place(world: World, baseline: Baseline) -> tuple[Move, ...]:
    """The moves without a router: the runbook's plain restart, on the baseline's digest."""
    kept = _kept(world, (), baseline)
    names = {i.name for i in kept}
    others = [i for i in world.instances if i.name not in names]
    in_the_way = [i for i in others if i.running]
    missing = _replicas(baseline) - len(kept)
    idle = [i for i in kept if not i.running]
    if missing or (in_the_way and baseline.image):
        count = _replicas(baseline)
        image = _digest(baseline, missing or count)
        return (*_pin(world, baseline), Move(Act.RESTART, image=image, count=count))
    return (
        *_pin(world, baseline),
        *_each(Act.STOP, _not_stopped(others)),
        *_each(Act.START, idle),
        *_each(Act.AWAIT, [i for i in kept if i.running and not is_ready(i)]),
        *_each(Act.REMOVE, others),
    )


def _not_stopped(instances: Sequence[Instance]) -> list[Instance]:
    """Those that the engine does not remove yet: they run, or it is about to start them again."""
    return [i for i in instances if i.state not in (*_STOPPED, "dead")]


def _replicas(baseline: Baseline) -> int:
    """How many instances have to serve: as many as did; none only where nothing ran at all."""
    return max(len(baseline.instances), 1 if baseline.release else 0)


def _kept(world: World, slots: Sequence[Slot], baseline: Baseline) -> list[Instance]:
    """The instances that will serve: of those that can, the ones nearest to serving."""
    held = {slot.instance: slot for slot in slots if slot.instance}

    def distance(instance: Instance) -> tuple[bool, bool, bool, bool]:
        slot = held.get(instance.name)
        return (
            not (slot and slot.serving),
            not is_ready(instance),
            not instance.running,
            instance.id not in baseline.instances,
        )

    fit = [i for i in world.instances if _can_serve(i, world, held, baseline)]
    return sorted(fit, key=distance)[: _replicas(baseline)]


def _can_serve(instance: Instance, world: World, held: dict[str, Slot], baseline: Baseline) -> bool:
    ours = instance.id in baseline.instances or (
        instance.image is not None and instance.image == baseline.image
    )
    if not ours or instance.id in world.given_up:
        return False
    if instance.running:
        return instance.health != "unhealthy" or _trusted(instance, held)
    return instance.state in _STOPPED


def _trusted(instance: Instance, held: dict[str, Slot]) -> bool:
    """Whether the router's own check says that it serves, whatever the engine's check says."""
    return instance.name in held and held[instance.name].serving


def _make_room(
    world: World, slots: Sequence[Slot], kept: Sequence[Instance], room: int
) -> tuple[Move, ...]:
    """Free as many slots as are needed, of containers that are gone first, then of idle ones."""
    if room <= 0:
        return ()
    there = {i.name for i in world.instances}
    names = {i.name for i in kept}
    taken = [slot for slot in slots if slot.instance and slot.instance not in names]
    taken.sort(key=lambda slot: (slot.instance in there, slot.serving, slot.admin))
    return (Move(Act.RETIRE, names=tuple(slot.instance for slot in taken[:room])),)


def _pin(world: World, baseline: Baseline) -> tuple[Move, ...]:
    if world.pinned == baseline.image:
        return ()
    if baseline.image is None:  # what was pinned before, if anything, is no release of ours
        return () if str(world.pinned) == baseline.pin else (Move(Act.UNPIN),)
    return (Move(Act.PIN, image=baseline.image),)


def _each(act: Act, instances: Sequence[Instance]) -> tuple[Move, ...]:
    if not instances:
        return ()
    return (Move(act, tuple(i.id for i in instances), tuple(i.name for i in instances)),)


def _digest(baseline: Baseline, missing: int) -> ImageRef:
    if baseline.image is None:
        raise RollbackFailed(
            f"{missing} of {_replicas(baseline)} baseline containers of "
            f"{baseline.environment} are gone, and their image has no registry digest",
            "start the service from an image that you trust, by hand",
        )
    return baseline.image
