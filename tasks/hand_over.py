"""A rollback that a deployment under way carries out itself, because it holds the environment."""

from datetime import timedelta

from prefect import get_run_logger
from tenacity import Retrying, retry_if_result, stop_after_delay, wait_fixed

from blocks.target import Target
from release.errors import DeployError
from release.ledger import EventKind
from release.model import Step
from tasks.step import step

_EVERY = timedelta(seconds=1)
_WITHIN = timedelta(minutes=10)


@step("Look for a deployment under way", timeout=timedelta(minutes=1), retries=1)
def deployment_in_watch(target: Target) -> str:
    """The id of the run that holds the environment and has changed what serves; empty for none."""
    try:
        holder = target.ledger.holder(target.environment)
    except DeployError:
        return ""  # no record, no hand-over: the lock itself decides
    if holder is None or Step.DEPLOY not in target.ledger.steps_begun(holder.run_id):
        return ""
    return holder.run_id


@step("Declare P0", timeout=timedelta(minutes=1), retries=2)
def declare_p0(target: Target, deployment: str, reason: str, by: str, run: str) -> None:
    """Tell the watch of a deployment that its release must not stay."""
    target.ledger.record(
        target.environment,
        deployment,
        EventKind.P0_DECLARED,
        key=run,
        payload={"reason": reason, "by": by},
    )
    get_run_logger().info("[%s] Rollback  d-%s is told: %s", run, deployment[:6], reason)


@step("Await the deployment's ending", timeout=_WITHIN + timedelta(minutes=1))
def await_ending(target: Target, deployment: str, run: str) -> str:
    """Wait until the deployment has ended, and return its ending; empty if it does not end."""
    waiting = Retrying(
        retry=retry_if_result(lambda ending: ending == ""),
        stop=stop_after_delay(_WITHIN),
        wait=wait_fixed(_EVERY),
        retry_error_callback=lambda state: "",
    )
    return str(waiting(_ending_of, target, deployment))


def _ending_of(target: Target, deployment: str) -> str:
    ended = target.ledger.run_events(deployment, EventKind.DEPLOYMENT_ENDED)
    return str(ended[-1].payload.get("ending", "")) if ended else ""
