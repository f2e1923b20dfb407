"""Which instance stands in which slot of the router, and what has to move.

A rollout puts new instances beside the old ones, lets the router send them requests, and takes the
old ones out. A restore looks at what there is, whatever was interrupted, and names the moves that
bring the baseline back; done one at a time with a fresh look after each, they come to an end.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from release.duration import say_duration
from release.errors import RollbackFailed, RolloutFailed
from release.model import Baseline, ImageRef, Instance

FULL_WEIGHT = 100  # of a slot's weight; what every instance has once it is trusted
BAKE_WEIGHT = 25  # of 100: a new instance beside one old one gets a fifth of the requests
_STOPPED = ("exited", "created")  # the engine's words for a container that can be started


class Admin(StrEnum):
    """What the router was told to do with a slot."""

    READY = "ready"
    DRAIN = "drain"  # no new requests, finish the old ones
    MAINT = "maint"  # nothing, no health checks


@dataclass(frozen=True, slots=True)
class Slot:
    """One server slot of the router's backend, with its counters since the router started."""

    name: str
    instance: str = ""  # name of the instance in it; "" while the slot is free
    address: str = ""  # ip address that the router found for that name
    admin: Admin = Admin.MAINT
    up: bool = False  # the router's own health checks say that it can serve
    sessions: int = 0  # requests under way
    answered_2xx: int = 0
    answered_4xx: int = 0
    answered_5xx: int = 0
    answered: int = 0  # all responses
    average: timedelta = timedelta()  # answer time, over the last 1,024 requests
    weight: int = FULL_WEIGHT
    remembers: str = ""  # name that a free slot had last: a router may be unable to forget it

    @property
    def admitted(self) -> bool:
        """Whether the router is to send requests here, whether or not it may just now."""
        return bool(self.instance) and self.admin is Admin.READY

    @property
    def serving(self) -> bool:
        """Whether users meet this instance."""
        return self.admitted and self.up


@dataclass(frozen=True, slots=True)
class Cutover:
    """The moment at which the router began to send requests to new instances."""

    image: ImageRef | None
    slots: tuple[Slot, ...]  # the new instances' slots, with their counters at that moment
    took: timedelta
    beside: tuple[Slot, ...] = ()  # all other slots, at the same moment
    at: datetime | None = None  # when the last of them was admitted


@dataclass(frozen=True, slots=True)
class Drained:
    """What was taken out of service."""

    instances: tuple[str, ...]  # names
    cut_off: int  # requests that were still under way when the time was up
    took: timedelta


@dataclass(frozen=True, slots=True)
class Restored:
    """A restore, as it was done."""

    serving: tuple[Instance, ...]
    moves: tuple[str, ...]  # one sentence each, in order
    took: timedelta


def slot_names(backend: str, count: int) -> tuple[str, ...]:
    """The names of the router's slots: ``api1`` to ``api6``."""
    return tuple(f"{backend}{number}" for number in range(1, count + 1))


# ---- the file that a restarted router reads


def render_backend(
    slots: Sequence[Slot], backend: str, port: int, text: str = "", health_path: str = "/health"
) -> str:
    """Write HAProxy's ``backend`` section with one line for each slot.

    What ``text`` (the file as it is) says besides its slots is kept, so that a team can tune its
    backend there. A free slot points at nothing. One that is not ready is ``disabled`` but keeps
    its name: a router that restarts sends it nothing, and it can still be admitted again.
    """
    lines = [_server_line(slot, port) for slot in slots]
    own = {slot.name for slot in slots}
    kept = (text or _new_backend(backend, health_path)).splitlines()
    kept = [line for line in kept if _server_of(line) not in own]
    at = _end_of_section(kept, backend)
    return "\n".join([*kept[:at], *lines, *kept[at:]]) + "\n"


def instances_in_file(text: str) -> dict[str, str]:
    """Slot name to instance name, as the router's file has it; "" for a free slot."""
    found = {}
    for line in text.splitlines():
        name = _server_of(line)
        if name:
            host = line.split()[2].rpartition(":")[0]
            found[name] = "" if host == "127.0.0.1" else host
    return found


def _new_backend(backend: str, health_path: str) -> str:
    # Not leastconn: it gives everything to a server that fails fast. rise 1 and fall 3: a starved
    # machine must not take the only server out.
    return f"""\
backend {backend}
  balance roundrobin
  option httpchk
  http-check send meth GET uri {health_path} ver HTTP/1.1 hdr Host proxy
  http-check expect status 200
  default-server check inter 1s fastinter 200ms downinter 200ms fall 3 rise 1 \
resolvers docker resolve-prefer ipv4 init-addr last,none
"""


def _server_line(slot: Slot, port: int) -> str:
    if not slot.instance:
        return f"  server {slot.name} 127.0.0.1:{port} weight {FULL_WEIGHT} disabled"
    line = f"  server {slot.name} {slot.instance}:{port} weight {slot.weight}"
    return line if slot.admin is Admin.READY else f"{line} disabled"


def _server_of(line: str) -> str:
    words = line.split()
    return words[1] if len(words) > 2 and words[0] == "server" else ""


def _end_of_section(lines: Sequence[str], backend: str) -> int:
    """Where the last line of ``backend <name>`` ends; behind everything where there is none."""
    inside, end = False, len(lines)
    for number, line in enumerate(lines):
        if re.match(r"\S", line) and not line.startswith("#"):
            inside = line.split()[:2] == ["backend", backend]
        if inside and line.strip():
            end = number + 1
    return end


# ---- forward


def missing_instances(
    instances: Sequence[Instance], image: ImageRef, old: Collection[str], replicas: int
) -> tuple[tuple[Instance, ...], int]:
    """The running instances of the release that are there already, and how many are missing.

    ``old`` holds the baseline's ids: a release whose image serves already is still rolled out in
    new containers.
    """
    there = tuple(i for i in instances if i.image == image and i.running and i.id not in old)
    return there[:replicas], max(0, replicas - len(there))


def unfit_instance(
    instance: Instance, *, restarts: int, waited: timedelta, within: timedelta
) -> str:
    """Why an awaited instance will not be admitted; "" while nothing speaks against it.

    A container that stopped or was started again by the engine has failed, even if it runs now.
    Being unhealthy is final, because the engine says it only after its last retry. Being no more
    than started is not, until ``within`` is over.
    """
    if instance.state in ("exited", "dead"):
        return f"{instance.name} stopped with exit code {instance.exit_code}"
    if restarts or instance.state == "restarting":
        # Not its exit code: the engine forgets that while the container runs again.
        return f"{instance.name} ended and was started again {max(restarts, 1)} ×"
    if instance.health == "unhealthy":
        return f"{instance.name} is unhealthy after {say_duration(waited)}"
    if waited > within and not is_ready(instance):
        return (
            f"{instance.name} is {instance.state} and {_health(instance)} after "
            f"{say_duration(waited)}, allowed are {say_duration(within)}"
        )
    return ""


def is_ready(instance: Instance) -> bool:
    """Whether the engine says that an instance can serve; one without a check only has to run."""
    return instance.running and instance.health in ("healthy", "none")


def _health(instance: Instance) -> str:
    return {"none": "has no health check", "starting": "not yet healthy"}.get(
        instance.health, instance.health
    )


def choose_slots(slots: Sequence[Slot], names: Sequence[str]) -> tuple[str, ...]:
    """A slot for each instance: the one that it has, or had last, else the next free one.

    HAProxy gives the address behind a name to one slot only, even if that one is in maintenance:
    a name that comes back (Compose numbers its containers again) has to get its old slot.
    Raises RolloutFailed if there are too few.
    """
    held = {slot.remembers: slot.name for slot in slots if slot.remembers in names}
    held |= {slot.instance: slot.name for slot in slots if slot.instance}
    free = [s.name for s in slots if not s.instance and s.name not in held.values()]
    wanted = [name for name in names if name not in held]
    if len(wanted) > len(free):
        taken = ", ".join(f"{slot.name} {slot.instance}" for slot in slots if slot.instance)
        raise RolloutFailed(
            f"the router has {len(free)} free slots of {len(slots)}, {len(wanted)} are needed for "
            f"{', '.join(wanted)}; taken: {taken or 'none'}",
            "raise the router's slots to twice the replicas",
        )
    given = dict(zip(wanted, free, strict=False))
    return tuple(held.get(name) or given[name] for name in names)


def which_to_retire(
    instances: Sequence[Instance], slots: Sequence[Slot], keep: Collection[str]
) -> tuple[str, ...]:
    """The names in the router's slots that must go: all but the instances with an id in ``keep``.

    Raises RolloutFailed if nothing would be left that serves.
    """
    kept = {instance.name for instance in instances if instance.id in keep}
    if not any(slot.serving for slot in slots if slot.instance in kept):
        raise RolloutFailed("none of the new instances serves, so the old ones stay in service")
    return tuple(slot.instance for slot in slots if slot.instance and slot.instance not in kept)


def rollout_report(environment: str, listing: str, logs: Mapping[str, str]) -> str:
    """The artifact of step 4: all containers, then each new one's last log lines."""
    parts = [f"# Containers of {environment}", _fenced(listing)]
    for name, text in logs.items():
        parts += [f"## Last log lines of {name}", _fenced(text or "(it logged nothing)")]
    return "\n\n".join(parts) + "\n"


def _fenced(text: str) -> str:
    """A code block that the text cannot end, whatever it holds."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}text\n{text.rstrip()}\n{fence}"


# ---- back


class Act(StrEnum):
    """What a move of a restore does."""

    START_BESIDE = "start beside"
    START = "start"
    AWAIT = "await"
    ADMIT = "admit"
    PIN = "pin"
    RESTART = "restart in place"
    DRAIN = "drain"
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
    return _bring_back(world, world.slots, baseline) or _clear_away(world, world.slots, baseline)


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
    cold = [i for i in kept if i.running and not (is_ready(i) or _trusted(i, held))]
    out = [i for i in kept if not (i.name in held and held[i.name].serving)]
    free = sum(not slot.instance for slot in slots)
    room = len([i for i in out if i.name not in held]) - free
    return (
        *_each(Act.RETIRE, early),
        *_each(Act.START, idle),
        *_each(Act.AWAIT, cold),
        *_make_room(world, slots, kept, room),
        *_each(Act.ADMIT, out),
    )


def _clear_away(world: World, slots: Sequence[Slot], baseline: Baseline) -> tuple[Move, ...]:
    """The moves that leave the baseline alone, once it serves."""
    kept = _kept(world, slots, baseline)
    names = {i.name for i in kept}
    others = [i for i in world.instances if i.name not in names]
    taken = [slot for slot in slots if slot.instance and slot.instance not in names]
    in_service = tuple(slot.instance for slot in taken if slot.admin is Admin.READY)
    leaving = tuple(slot.instance for slot in taken)
    running = [i for i in others if i.state not in (*_STOPPED, "dead")]
    return (
        *_pin(world, baseline),
        *((Move(Act.DRAIN, names=in_service),) if in_service else ()),
        *((Move(Act.RETIRE, names=leaving),) if leaving else ()),
        *_each(Act.STOP, running),
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
        *_each(Act.STOP, in_the_way),
        *_each(Act.START, idle),
        *_each(Act.AWAIT, [i for i in kept if i.running and not is_ready(i)]),
        *_each(Act.REMOVE, others),
    )


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
    if baseline.image is None or world.pinned == baseline.image:
        return ()
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
