"""What a rollback does about the run that holds the environment: tell it, wait, or take over."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from logging import WARNING
from uuid import UUID

import httpx
from prefect.client.orchestration import get_client
from prefect.exceptions import PrefectException

from blocks.polling import poll
from blocks.target import Target
from release.errors import DeployError, Rejected, Unreachable
from release.ledger import EventKind, Lock, short_run
from release.rollback.hand_over import Way, way_of
from tasks.alarm import reason_of
from tasks.say import say, this_run
from tasks.step import step

_EVERY = timedelta(seconds=1)
_WITHIN = timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds the environment, and what a rollback does about it."""

    way: Way
    run_id: str = ""
    owner: str = ""

    @property
    def label(self) -> str:
        return short_run(self.run_id)


@step("Look who holds the environment", timeout=timedelta(minutes=1), retries=3)
def look_for_holder(target: Target, key: str) -> Holder:
    """Who holds the environment, and what is to be done about that. Raises Unreachable."""
    return holder_of(target, target.ledger.holder(target.environment))


def holder_of(target: Target, lock: Lock | None, ended: bool | None = None) -> Holder:
    """What is to be done about a lock. Raises Unreachable.

    ``ended``: whether its run is over; if None, Prefect is asked.
    """
    if lock is None:
        return Holder(Way.GO)
    events = target.ledger.events(run_id=lock.run_id)
    over = has_ended(lock.run_id) if ended is None else ended
    return Holder(way_of(lock, events, over), lock.run_id, lock.owner)


@step("Declare P0", timeout=timedelta(minutes=1), retries=2)
def declare_p0(target: Target, deployment: str, reason: str, by: str, key: str) -> None:
    """Tell a deployment that its release must not stay; it asks for that every second."""
    target.ledger.record(
        target.environment,
        deployment,
        EventKind.P0_DECLARED,
        key=f"{this_run()}-{key}",
        payload={"reason": reason, "by": by},
    )
    say(f"{short_run(deployment)} is told: {reason}")


@step("Look for a P0", timeout=timedelta(minutes=1), retries=1)
def refuse_after_p0(target: Target, since: datetime) -> None:
    """Raise Rejected if a P0 was declared since then: no user has met the release yet.

    A ledger that does not answer has told nobody.
    """
    try:
        reason = reason_of(target.ledger.p0_declared(target.environment, since))
    except Unreachable:
        return
    if reason is not None:
        raise Rejected(
            f"a P0 was declared before the rollout: {reason}",
            "start the deployment again when it is over",
        )


@step("Await the holder", timeout=_WITHIN + timedelta(minutes=1))
def await_holder(target: Target, holder: Holder, key: str) -> str:
    """Wait until the holder has ended, or does something else about a rollback than before: it
    waits for people now, or users meet its release. Returns its ending; empty if there is none."""
    ending = poll(
        lambda: _ending_of(target, holder),
        lambda ending: ending is not None,
        every=_EVERY,
        within=_WITHIN,
    )
    return ending or ""


@step("Take over for the rollback", timeout=timedelta(minutes=1), retries=1)
def take_over(target: Target, holder: Holder, by: str, reason: str) -> None:
    """Take the environment from a run that waits for people, or that has ended without giving it
    back. One that waits ends when it is answered."""
    target.ledger.break_lock(
        target.environment, by or "unnamed", f"rollback: {reason}", held_by=holder.run_id
    )
    say(f"{target.environment} is taken from {holder.label} of {holder.owner}", WARNING)


def has_ended(run_id: str) -> bool:
    """Whether Prefect says that a run is over; False if it cannot be asked."""
    try:
        with get_client(sync_client=True) as client:
            state = client.read_flow_run(UUID(run_id)).state
    except (httpx.HTTPError, PrefectException, ValueError):
        return False
    return state is not None and state.is_final()


def _ending_of(target: Target, holder: Holder) -> str | None:
    """Its ending; empty if it goes on in another way; None as long as it goes on in this one."""
    try:
        lock = target.ledger.holder(target.environment)
        still = lock is not None and lock.run_id == holder.run_id
        if still and holder_of(target, lock).way is holder.way:
            return None
    except DeployError:
        return None  # it may go on
    ended = target.ledger.run_events(holder.run_id, EventKind.DEPLOYMENT_ENDED)
    return str(ended[-1].payload.get("ending", "")) if ended else ""
