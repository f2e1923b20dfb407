"""Staging from the main branch, every night, with nobody watching."""

from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run
from prefect.states import Failed

from flows import outcome
from flows.deploy import deploy
from flows.once import once
from flows.run import Run, begin, run_name
from release.errors import DeployError
from release.model import ReleaseKind
from release.nightly import NIGHTLY
from release.notice import nightly_refused
from release.outcome import Ending, sentence_in
from release.request import DeployRequest
from settings import load_settings
from tasks.nightly import reason_to_skip
from tasks.notification import notify, page_of, warn
from tasks.page import show_version
from tasks.serving import what_serves


@flow(name="nightly", flow_run_name=run_name)
@once
def nightly(environment: str = "staging") -> State[Any]:
    """Deploy the head of the main branch, unless it has not moved.

    Args:
        environment: An environment whose checklist passes on evidence, so that nobody is asked.
    """
    run = None
    try:
        run = begin(environment)
        reason = reason_to_skip(run.target)
    except DeployError as error:
        tell_refused(environment, run, error)
        return outcome.refused(error)
    if reason:
        return outcome.ended(run, Ending.NOTHING_TO_DO, reason)
    main = run.target.repository.main
    request = DeployRequest(kind=ReleaseKind.BRANCH, ref=main, started_by=NIGHTLY)
    show_version(environment, request.ref)
    ended = deploy(request, environment, return_state=True)
    ending = outcome.ending_of(ended)
    if ending is None:  # it has not said how it ended: this run is recovered, which has its lock
        return Failed(message=ended.message)
    sentence = sentence_in(ended.message)
    if ending is Ending.REFUSED:  # nobody waits for its answer; every other ending was told
        what, _, hint = sentence.partition("\nhint: ")
        tell_refused(environment, run, DeployError(what, hint))
    return outcome.ended(run, ending, sentence)


def tell_refused(environment: str, run: Run | None, error: DeployError) -> None:
    """Tell people that tonight's deployment has not begun: nobody waits for its answer.

    ``run`` is None if not even that could begin; then it is known neither what serves nor where to
    record that people were told.
    """
    page = page_of(str(flow_run.id))
    if run is None:
        notice = nightly_refused(environment, NIGHTLY, error, "", page)
        warn(_whom(), notice, return_state=True)
        return
    branch, serves = run.target.repository.main, what_serves(run.target)
    notice = nightly_refused(environment, branch, error, serves, page)
    names = run.settings.notify.blocks
    notify(run.target, names, notice, run.id, key="refused", return_state=True)


def _whom() -> tuple[str, ...]:
    try:
        return load_settings().notify.blocks
    except DeployError:  # where it cannot be read, nobody is known
        return ()
