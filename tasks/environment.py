"""The environment's lock, held from the plan to the end of the run, through every wait."""

from datetime import timedelta

from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception_type,
    stop_after_delay,
    wait_random,
)

from blocks.target import Target
from release.duration import say_duration
from release.errors import EnvironmentLocked
from tasks.say import say
from tasks.step import step

_LOOK_EVERY = (2.0, 4.0)  # seconds: runs that wait for the same environment do not ask in step
_HOLD = timedelta(seconds=30)  # for the ledger's answer: nobody waits longer for one that hangs


@step("Hold environment", timeout=_HOLD, retries=2)
def hold_environment(
    target: Target, run_id: str, owner: str, reason: str, wait: timedelta = timedelta()
) -> None:
    """Take the environment's lock for the run; wait as long as told for a run that holds it.

    The step's own limit is for one answer of the ledger; a caller that waits passes :func:`patient`
    as its ``timeout_seconds``. Raises EnvironmentLocked with the holder's name once the wait is
    over.
    """
    said = ""

    def say_holder(state: RetryCallState) -> None:
        nonlocal said
        error = state.outcome.exception() if state.outcome else None
        if isinstance(error, EnvironmentLocked) and error.what != said:
            said = error.what
            say(f"waits up to {say_duration(wait)}: {said}")

    waiting = Retrying(
        retry=retry_if_exception_type(EnvironmentLocked),
        stop=stop_after_delay(wait.total_seconds()),
        wait=wait_random(*_LOOK_EVERY),
        before_sleep=say_holder,
        reraise=True,
    )
    waiting(target.ledger.acquire, target.environment, run_id, owner or "unnamed", reason)
    say(f"{target.environment} is held by this run")


def patient(wait: timedelta) -> float:
    """How long, in seconds, one try of :func:`hold_environment` may take that waits for others."""
    return (_HOLD + wait).total_seconds()


@step("Release environment", timeout=timedelta(seconds=30), retries=2)
def release_environment(target: Target, run_id: str, *, key: str = "") -> bool:
    """Give the lock back. Returns False if the run did not hold it.

    ``key`` tells a second call in one flow run apart: a recovery gives its own lock back too.
    """
    released = target.ledger.release(target.environment, run_id)
    if released:
        say(f"{target.environment} is free")
    return released
