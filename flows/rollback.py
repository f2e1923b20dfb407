"""Back to a recorded baseline: the subflow of a failed deployment, and startable alone.

A P0 bug is: run this, with a reason (runbook, "Rollback Trigger Conditions").
"""

from typing import Any

from prefect import flow, get_run_logger
from prefect.client.schemas.objects import State

from flows import outcome
from flows.logs import say_unexpected
from flows.run import Run, begin, run_name
from release.baseline import baseline_address
from release.errors import BadRequest, DeployError, Unreachable
from release.ledger import EventKind
from release.model import Baseline, Step
from release.outcome import Ending, explain, hint_of
from release.request import RollbackRequest, checked_rollback
from tasks.environment import hold_environment
from tasks.hand_over import await_ending, declare_p0, deployment_in_watch
from tasks.migration import check_schema
from tasks.restore import find_baseline
from tasks.rollout import restore_baseline
from tasks.serving import what_serves
from tasks.verification import verify_baseline


@flow(name="rollback", flow_run_name=run_name)
def rollback(request: RollbackRequest, environment: str = "staging") -> State[Any]:
    """Restore a release that served before, and verify that it serves.

    Args:
        request: Why, and to which release.
        environment: The environment to roll back.
    """
    try:
        run = begin(environment)
        checked_rollback(request)
        deployment = None if run.nested else deployment_in_watch(run.target)
        if deployment:
            return _hand_over(run, deployment, request)
        _hold(run, request)
    except DeployError as error:
        return outcome.refused(error)
    try:
        baseline = _bring_back(run, request)
    except BadRequest as error:  # there is no such release to go back to: nothing was touched
        return _end(run, request, Ending.REFUSED, explain(error), hint=hint_of(error))
    except Exception as error:  # whatever it was, a person has to look at the environment now
        say_unexpected(run.label, error)
        return _end(run, request, Ending.ROLLBACK_FAILED, explain(error), hint=hint_of(error))
    sentence = f"rolled back to {baseline.version}: {request.reason}"
    return _end(run, request, Ending.ROLLBACK_DONE, sentence, baseline)


def _hold(run: Run, request: RollbackRequest) -> None:
    """Take the lock. A ledger that does not answer keeps nobody from going back at 3 am."""
    try:
        hold_environment(run.target, run.id, request.started_by, request.reason, run.label)
    except Unreachable as error:
        get_run_logger().warning(
            "[%s] Rollback  goes on without the lock of %s: %s",
            run.label,
            run.environment,
            error.what,
        )


def _bring_back(run: Run, request: RollbackRequest) -> Baseline:
    with run.step(Step.ROLLBACK):
        baseline = find_baseline(
            run.target, request.to, run.settings.service, run.rules.rollout, run.label
        )
        if not run.nested:  # what a deployment goes back to was serving on this schema just now
            check_schema(run.target, baseline, run.label)
        run.record(
            EventKind.ROLLBACK_STARTED, payload={"reason": request.reason, "to": baseline.version}
        )
        restore_baseline(
            run.target, baseline, run.rules.rollout, run.label, key=baseline_address(baseline)
        )
        verify_baseline(run.target, baseline, run.settings.service, run.rules.verify, run.label)
    return baseline


def _hand_over(run: Run, deployment: str, request: RollbackRequest) -> State[Any]:
    """Let the deployment that is being watched roll itself back: it holds the environment.

    Its watch reads the declaration with its next sample (runbook, "P0 bug discovered").
    """
    declare_p0(run.target, deployment, request.reason, request.started_by, run.label)
    ended = await_ending(run.target, deployment, run.label)
    ending = Ending.HANDED_OVER if ended == Ending.ROLLED_BACK else Ending.ROLLBACK_FAILED
    sentence = (
        f"deployment d-{deployment[:6]} was told and ended as {ended or 'nothing yet'}; "
        f"{run.environment} serves {what_serves(run.target)}"
    )
    return outcome.state(ending, sentence, f"ignition status {run.environment}")


def _end(
    run: Run,
    request: RollbackRequest,
    ending: Ending,
    sentence: str,
    baseline: Baseline | None = None,
    hint: str = "",
) -> State[Any]:
    """End a rollback; as a subflow it only reports, and its parent ends the run."""
    if run.nested:
        return outcome.state(ending, sentence, hint)
    release = baseline.release if baseline else None
    return outcome.close(
        run, ending, sentence, release=release, deployer=request.started_by, hint=hint
    )
