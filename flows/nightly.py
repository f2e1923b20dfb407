"""Staging from the main branch, every night, with nobody watching."""

from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Failed

from flows import outcome
from flows.deploy import deploy
from flows.once import once
from flows.run import begin, run_name
from release.errors import DeployError
from release.model import ReleaseKind
from release.outcome import Ending, sentence_in
from release.request import DeployRequest
from tasks.nightly import reason_to_skip
from tasks.page import show_version


@flow(name="nightly", flow_run_name=run_name)
@once
def nightly(environment: str = "staging") -> State[Any]:
    """Deploy the head of the main branch, unless it has not moved.

    Args:
        environment: An environment whose checklist passes on evidence, so that nobody is asked.
    """
    try:
        run = begin(environment)
        reason = reason_to_skip(run.target, run.label)
    except DeployError as error:
        return outcome.refused(error)
    if reason:
        return outcome.ended(run, Ending.NOTHING_TO_DO, reason)
    request = DeployRequest(
        kind=ReleaseKind.BRANCH, ref=run.target.repository.main, started_by="nightly"
    )
    show_version(environment, request.ref)
    ended = deploy(request, environment, return_state=True)
    ending = outcome.ending_of(ended)
    if ending is None:  # it has not said how it ended: this run is recovered, which has its lock
        return Failed(message=ended.message)
    return outcome.ended(run, ending, sentence_in(ended.message))
