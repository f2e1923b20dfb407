"""The environment's lock, held from the plan to the end of the run, through every wait."""

from datetime import timedelta

from prefect import get_run_logger

from blocks.target import Target
from tasks.step import step


@step("Hold environment", timeout=timedelta(seconds=30), retries=2)
def hold_environment(target: Target, run_id: str, owner: str, reason: str, run: str) -> None:
    """Take the environment's lock for the run. Raises EnvironmentLocked with the holder's name."""
    target.ledger.acquire(target.environment, run_id, owner or "unnamed", reason)
    get_run_logger().info("[%s] Plan      %s is held by this run", run, target.environment)


@step("Release environment", timeout=timedelta(seconds=30), retries=2)
def release_environment(target: Target, run_id: str, run: str, *, key: str = "") -> bool:
    """Give the lock back; False where the run did not hold it.

    ``key`` tells a second call in one flow run apart: a recovery gives its own lock back too.
    """
    released = target.ledger.release(target.environment, run_id)
    if released:
        get_run_logger().info("[%s] Lock      %s is free", run, target.environment)
    return released
