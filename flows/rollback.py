"""Back to a recorded baseline: the subflow of a failed deployment, also startable by itself.

A P0 bug is: run this, with a reason (runbook, "Rollback Trigger Conditions").
"""

from logging import WARNING
from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State

from flows import outcome
from flows.logs import say_unexpected
from flows.once import once
from flows.run import Run, begin, run_name
from release.errors import BadRequest, DeployError, Unreachable
from release.ledger import EventKind
from release.model import Baseline, Step
from release.outcome import Conclusion, Ending, explain, hint_of
from release.request import RollbackRequest, checked_rollback
from release.rollback.baseline import baseline_address
from release.rollback.hand_over import Way
from release.rollback.recovery import left_by
from release.watch.restored import AfterRollback
from release.watch.verdict import Outcome
from tasks.baseline import what_is_left
from tasks.environment import hold_environment
from tasks.hand_over import Holder, await_holder, declare_p0, look_for_holder, take_over
from tasks.migration import check_schema
from tasks.page import show_restored
from tasks.restore import find_baseline, restore_baseline, serve_baseline
from tasks.say import say, speaking
from tasks.serving import what_serves
from tasks.verification import verify_baseline
from tasks.watch import watch_restored


@flow(name="rollback", flow_run_name=run_name)
@once
def rollback(request: RollbackRequest, environment: str = "staging") -> State[Any]:
    """Restore a release that served before, and verify that it serves.

    Args:
        request: Why, and to which release.
        environment: The environment to roll back.
    """
    try:
        run = begin(environment)
        checked_rollback(request, run.environment)
        if run.nested:  # in a deployment, which holds the environment and ends the run
            return _end(run, request, _try(run, request))
        handed_over = clear_the_way(run, request)
    except DeployError as error:
        return outcome.refused(error)
    return handed_over or roll_back(run, request)


def roll_back(run: Run, request: RollbackRequest) -> State[Any]:
    """Take the environment, restore a release, and write down how it ended."""
    with run.alive():
        try:
            _hold(run, request)
        except DeployError as error:
            return outcome.refused(error)
        return _end(run, request, _try(run, request))


@speaking(heading=Step.ROLLBACK.short)
def _try(run: Run, request: RollbackRequest) -> Conclusion:
    """Restore a release and watch it."""
    try:
        baseline = _bring_back(run, request)
    except BadRequest as error:  # there is no such release to go back to: nothing was touched
        return Conclusion(Ending.REFUSED, explain(error), hint=hint_of(error))
    except Exception as error:  # whatever it was, a person has to look at the environment now
        say_unexpected(error)
        why = "" if run.nested else f"; it was to be rolled back because: {request.reason}"
        return Conclusion(Ending.ROLLBACK_FAILED, explain(error) + why, hint=hint_of(error))
    seen = _watched(run, baseline)
    if seen is not None and seen.ill:
        there = run.environment
        sentence = f"{baseline.version} serves {there} again, and is not well: {seen.sentence}"
        hint = f"to go further back: ignition rollback {there} --to VERSION --reason …"
        return Conclusion(Ending.ROLLBACK_FAILED, sentence, baseline.release, hint)
    left = left_by(run.target.ledger.run_events(run.id, EventKind.ROLLBACK_STARTED))
    sentence = f"{left}rolled back to {baseline.version}: {request.reason}"
    said = f"{sentence}; {seen.sentence}" if seen else sentence
    return Conclusion(Ending.ROLLBACK_DONE, said, baseline.release)


def _watched(run: Run, baseline: Baseline) -> AfterRollback | None:
    """How the restored release does. It serves already, so being unable to tell is not a
    failure."""
    length, rules = run.rules.rollback.watch, run.rules.watch
    watched = watch_restored(run.target, baseline, length, rules, return_state=True).result(
        raise_on_failure=False
    )
    if isinstance(watched, Exception):
        watched = AfterRollback(Outcome.INCONCLUSIVE, f"it was not watched: {explain(watched)}")
    if watched is not None:  # for the report of the run that this is a part of
        payload = {"outcome": watched.outcome.value, "sentence": watched.sentence}
        run.record(EventKind.VERDICT, step=Step.ROLLBACK, payload=payload)
    return watched


@speaking(heading=Step.ROLLBACK.short)
def clear_the_way(run: Run, request: RollbackRequest) -> State[Any] | None:
    """See to whoever holds the environment. Returns the ending if a deployment rolls itself
    back."""
    for attempt in ("1", "2", "3", "4"):
        holder = _holder(run, attempt)
        if holder.way is Way.GO:
            return None
        by, why = request.started_by, request.reason
        if holder.way is Way.TAKE:
            take_over(run.target, holder, by, why)
            return None
        declare_p0(run.target, holder.run_id, why, by, key=attempt)
        ended = await_holder(run.target, holder, key=attempt)
        told = holder.way is Way.TELL and ended == Ending.ROLLBACK_FAILED
        if told or ended == Ending.ROLLED_BACK:  # by a deployment, never by another rollback
            return _handed_over(run, holder, ended)
    return None  # the lock itself refuses, and names the holder


def _holder(run: Run, attempt: str) -> Holder:
    """Who holds the environment; nobody if the ledger cannot be asked, because the lock decides."""
    try:
        return look_for_holder(run.target, key=attempt)
    except DeployError as error:
        say(error.what, WARNING)
        return Holder(Way.GO)


@speaking(heading=Step.ROLLBACK.short)
def _hold(run: Run, request: RollbackRequest) -> None:
    """Take the lock. A ledger that does not answer keeps nobody from going back at 3 am."""
    try:
        hold_environment(run.target, run.id, request.started_by, request.reason)
    except Unreachable as error:
        say(f"goes on without the lock of {run.environment}: {error.what}", WARNING)


def _bring_back(run: Run, request: RollbackRequest) -> Baseline:
    target, rules, service = run.target, run.rules, run.settings.service
    with run.step(Step.ROLLBACK):
        # A deployment is undone to what its plan found; a person goes back to a release.
        baseline = find_baseline(target, request.to, service, rules.rollout, as_planned=run.nested)
        if not run.nested:  # what a deployment goes back to was serving on this schema just now
            check_schema(target, baseline)
        key = baseline_address(baseline)
        payload = {
            "reason": request.reason,
            "to": baseline.version,
            "baseline": key,
            "by": request.started_by,
            # Once: a run that goes on would find what it has restored itself.
            "from": "" if run.nested else what_is_left(target),
        }
        run.record(EventKind.ROLLBACK_STARTED, payload=payload)
        serve_baseline(target, baseline, service, rules.rollout, key=key)
        show_restored(run.environment, baseline.version)  # not before: users were waiting
        restore_baseline(target, baseline, service, rules.rollout, key=key)
        verify_baseline(target, baseline, service, rules.verify)
    return baseline


def _handed_over(run: Run, holder: Holder, ended: str) -> State[Any]:
    """A deployment that holds the environment was told, and has rolled itself back."""
    ending = Ending.HANDED_OVER if ended == Ending.ROLLED_BACK else Ending.ROLLBACK_FAILED
    sentence = (
        f"deployment {holder.label} was told and ended as {ended}; "
        f"{run.environment} serves {what_serves(run.target)}"
    )
    return outcome.ended(run, ending, sentence, f"ignition status {run.environment}")


def _end(run: Run, request: RollbackRequest, found: Conclusion) -> State[Any]:
    """End a rollback; as a subflow it only reports, and its parent ends the run."""
    if run.nested:
        return outcome.state(found.ending, found.sentence, found.hint)
    return outcome.close(run, found, deployer=request.started_by)
