"""After a run that ended without saying so: its gate expired, it was cancelled, or it crashed.

Started by an automation that `ignition setup` makes, because the server runs nothing of a suspended
run that it ends. What had begun to change something is left to a person for now.
"""

from dataclasses import replace
from typing import Any
from uuid import UUID

from prefect import flow, get_run_logger
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun, State

from flows import outcome
from flows.run import Run, begin
from release.errors import BadRequest, DeployError
from release.ledger import short_run
from release.model import Release
from release.notice import Notice
from release.outcome import Ending, what_to_do
from release.recovery import Action, Recovery, recovery_of, run_of
from tasks.checklist import WAITING_TAG
from tasks.gate_events import CLOSED, tell_server
from tasks.notification import notify
from tasks.serving import what_serves


@flow(name="recover", flow_run_name="recover {environment}")
def recover(run_id: str = "", environment: str = "staging") -> State[Any]:
    """Write down the ending that a run could not, and give its environment back.

    Args:
        run_id: The run that ended.
        environment: The environment that it was for.
    """
    try:
        run = begin(environment)
        ended = _read(run_of(run_id))
        # Of this environment alone: anybody can start this flow with the run of another one.
        events = run.target.ledger.events(environment, str(ended.id))
    except DeployError as error:
        return outcome.refused(error)
    found = recovery_of(events, ended.state.type.value if ended.state else "")
    get_run_logger().info("[%s] Recover   %s", short_run(str(ended.id)), found.sentence)
    if found.action is Action.NOTHING:
        return outcome.state(Ending.NOTHING_TO_DO, found.sentence)
    # The rest is done in the name of the run that ended: its ledger entries, its lock.
    dead = replace(run, id=str(ended.id), label=short_run(str(ended.id)))
    if found.action is Action.TELL:
        return _tell(dead, found)
    return _settle(dead, ended, found)


def _settle(dead: Run, ended: FlowRun, found: Recovery) -> State[Any]:
    ending = Ending.EXPIRED if found.expired else Ending.FAILED
    request = ended.parameters.get("request") or {}
    version = request.get("version") or request.get("ref") or ""
    tell_server(CLOSED, dead.environment, dead.id)
    # As the run itself would have ended: ledger, report, lock, messages.
    closed = outcome.close(
        dead,
        ending,
        found.sentence,
        release=Release(version, revision=""),
        deployer=request.get("started_by", ""),
        notes=request.get("notes", ""),
        hint=what_to_do(ending, dead.environment, ""),
    )
    _say_on_run(ended, closed)
    return outcome.state(Ending.SETTLED, f"{dead.label}: {closed.message}")


def _tell(dead: Run, found: Recovery) -> State[Any]:
    """Nothing is done to what serves: a person decides."""
    serves = what_serves(dead.target)
    hint = (
        f"ignition status {dead.environment}; then, if needed: ignition unlock {dead.environment} "
        f"--as NAME --reason …, and ignition rollback {dead.environment} --reason …"
    )
    notice = Notice(
        f"[{dead.label}] {dead.environment} needs somebody to look: this run left it locked",
        f"{found.sentence}; {dead.environment} serves {serves}\nto do: {hint}",
    )
    names = dead.settings.notify.blocks + dead.settings.notify.escalation
    notify(dead.target, names, notice, dead.id, dead.label, key="recover")
    return outcome.state(
        Ending.NEEDS_A_PERSON,
        f"{found.sentence}; {dead.environment} serves {serves} and stays locked",
        hint,
    )


def _say_on_run(ended: FlowRun, closed: State[Any]) -> None:
    """Show the ending on the run itself, instead of the server's own words."""
    with get_client(sync_client=True) as client:
        if ended.state and ended.state.type.value in ("FAILED", "COMPLETED"):
            client.set_flow_run_state(ended.id, closed, force=True)
        tags = sorted(set(ended.tags) - {WAITING_TAG})
        client.update_flow_run(ended.id, tags=tags)


def _read(run_id: str) -> FlowRun:
    with get_client(sync_client=True) as client:
        found = client.read_flow_run(UUID(run_id))
    if found.state is None or not found.state.is_final():
        raise BadRequest(
            f"{short_run(run_id)} has not ended, so there is nothing to recover", "ignition gates"
        )
    return found
