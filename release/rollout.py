"""Which instance is in which slot of the router, and what has to move.

A rollout puts new instances beside the old ones, lets the router send them requests, and takes the
old ones out.
"""

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from release.duration import say_duration
from release.errors import DeployError, RolloutFailed
from release.measure.slot import Slot
from release.model import ImageRef, Instance

_LINES_SAID = 10  # of an instance's log, in the run's own
_LONGEST_LINE = 2_000  # characters
_LONGEST_TEXT = 50_000  # characters of one instance's log
# What a program writes last is often not why it ended: node adds its version, go its stack.
_NAMES_AN_ERROR = re.compile(r"\b\w*(error|exception|panic|fatal)\b", re.IGNORECASE)
BAKE_WEIGHT = 25  # of 100: a new instance beside one old one gets a fifth of the requests


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
    Being unhealthy is final, because the engine says it only after its last retry. Being started
    but not healthy is not final until ``within`` is over.
    """
    if instance.state in ("exited", "dead"):
        return f"{instance.name} stopped with exit code {instance.exit_code}"
    if restarts or instance.state == "restarting":
        code = f" with exit code {instance.exit_code}" if instance.exit_code else ""
        return f"{instance.name} ended{code} and was started again {max(restarts, 1)} ×"
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

    HAProxy gives the address behind a name to one slot only, even if that one is in maintenance: a
    name that comes back (Compose numbers its containers again) has to get its old slot. Of the free
    ones, those come first that have no request under way. Raises RolloutFailed if there are too
    few.
    """
    held = {slot.remembers: slot.name for slot in slots if slot.remembers in names}
    held |= {slot.instance: slot.name for slot in slots if slot.instance}
    idle_first = sorted(slots, key=lambda slot: slot.sessions > 0)
    free = [s.name for s in idle_first if not s.instance and s.name not in held.values()]
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


@dataclass(frozen=True, slots=True)
class Seen:
    """An instance as it was last seen, without secrets."""

    instance: Instance
    health: str  # what its last health check said; "" for nothing
    log: str  # its last lines

    def __str__(self) -> str:
        found = self.instance
        parts = [found.name, found.version, found.state]
        if not found.running:
            parts[-1] += f" with exit code {found.exit_code}"
        if found.restarts:
            code = (
                f" after exit code {found.exit_code}" if found.running and found.exit_code else ""
            )
            parts.append(f"started again {found.restarts} ×{code}")
        if found.health != "none":
            parts.append(_health(found))
        return ", ".join(filter(None, parts))

    def last_lines(self) -> tuple[str, ...]:
        """The end of what it said, for the run's log."""
        said = [f"health check: {line}" for line in bounded(self.health).splitlines()]
        logged = bounded(self.log).splitlines() or ["(it logged nothing)"]
        return (*said[-_LINES_SAID:], *logged[-_LINES_SAID:])


def rollout_report(environment: str, listing: str, seen: Sequence[Seen]) -> str:
    """The artifact of step 4: all containers, then each instance's state and last log lines."""
    parts = [f"# Containers of {environment}", _fenced(listing)]
    for each in seen:
        parts += [f"## Last log lines of {each.instance.name}", str(each)]
        if each.health:
            parts += ["Its last health check said:", _fenced(bounded(each.health))]
        parts += [_fenced(bounded(each.log) or "(it logged nothing)")]
    return "\n\n".join(parts) + "\n"


def did_not_come_up(why: str, health: str, log: str) -> str:
    """Why an instance is given up, and what it logged about it, in one sentence.

    It stands in the run's state, the deployment log and messages; all that the instance said is
    in the artifact of step 4.
    """
    said = f"last log line: {line}" if (line := telling_line(log)) else "it logged nothing"
    checked = f"health check: {line}" if (line := telling_line(health)) else ""
    return "; ".join(filter(None, (why, checked, said)))


def or_why_not(read: Callable[[], str]) -> str:
    """What ``read`` gives or, in brackets, why it gives nothing: a failure hides nothing else."""
    try:
        return read()
    except DeployError as error:
        return f"({error.what})"


def telling_line(text: str) -> str:
    """The last line that names an error, else the last one; "" for a text without any."""
    lines = [line.strip() for line in bounded(text).splitlines() if line.strip()]
    errors = [line for line in lines if _NAMES_AN_ERROR.search(line)]
    return next(reversed(errors or lines), "")


def bounded(text: str) -> str:
    """The end of a text, so that a release that writes without end fills no database."""
    lines = [line[:_LONGEST_LINE] for line in text.rstrip().splitlines()]
    return "\n".join(lines)[-_LONGEST_TEXT:]


def _fenced(text: str) -> str:
    """A code block that the text cannot end, whatever it holds."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}text\n{text.rstrip()}\n{fence}"
