"""Settles a run that ended without saying so: its gate expired, it was cancelled, or it crashed.

Started by automations that `ignition setup` makes, because the server runs nothing of a run that it
ends, and a process that was killed runs nothing at all. What is to be done is read from the ledger
and decided in `release/rollback/recovery.py`. A recovery that is itself interrupted is taken up by
another.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID

from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun, State
from prefect.runtime import flow_run
from prefect.states import Crashed, Scheduled

from flows import outcome
from flows.once import once
from flows.rollback import rollback
from flows.run import Run, begin
from release.duration import say_duration
from release.errors import BadRequest, DeployError
from release.ledger import EventKind, short_run
from release.model import ImageRef, Release
from release.notice import left_locked
from release.outcome import Conclusion, Ending, one_line, sentence_in
from release.request import RollbackRequest, start_again
from release.rollback.recovery import Action, Recovery, is_gone, recovery_of, run_of
from release.watch.restored import said_after_rollback
from tasks.alive import OVER, RUN
from tasks.environment import release_environment
from tasks.events import CLOSED, tell_server
from tasks.notification import notify, page_of
from tasks.page import show_ending
from tasks.recovery import clear_away, end_processes, read_events, take_over
from tasks.say import say, speak_for, speaking
from tasks.serving import what_serves

MOST_TRIES = 3  # recoveries of one run, should each of them be interrupted


def _name() -> str:
    """A recovery's name in the UI: of which run."""
    given = flow_run.parameters
    of = str(given["run_id"]).rpartition(".")[2]
    return f"recovery of {short_run(of)} in {given['environment']}" if of else "recovery"


@flow(name="recover", flow_run_name=_name)
@once
def recover(run_id: str = "", environment: str = "staging") -> State[Any]:
    """Bring a run that stopped to an end: resume it, roll it back, or give its environment back.

    Args:
        run_id: The run that ended.
        environment: The environment that it was for.
    """
    try:
        run = begin(environment)
        if called := call_crashed(run, run_of(run_id)):
            return called
        with run.alive():
            return bring_to_an_end(run, run_of(run_id))
    except DeployError as error:
        return outcome.refused(error)


def call_crashed(run: Run, run_id: str) -> State[Any] | None:
    """See to a run that has not ended. Returns None if it has.

    One that holds the environment and gives no sign of life is marked as crashed. That starts
    another recovery, as every crash does, so that only one decides what is to be done. An
    automation that missed a run's events may be wrong, if the server was away: the lock's heartbeat
    is in the ledger.
    """
    label = short_run(run_id)
    with get_client(sync_client=True) as client:
        state = client.read_flow_run(UUID(run_id)).state
        if state is None or state.is_final():
            return None
        lock = run.target.ledger.holder(run.environment)
        if lock is None or not state.is_running() or not is_gone(lock, run_id):
            sentence = f"{label} has not ended, and nothing says that it is gone"
            return outcome.ended(run, Ending.NOTHING_TO_DO, sentence)
        message = f"it gave no sign of life for {say_duration(lock.silent)}"
        client.set_flow_run_state(UUID(run_id), Crashed(message=message))
    return outcome.ended(run, Ending.SETTLED, f"{label}: {message}, so it is marked as crashed")


@speaking(heading="Recover")
def bring_to_an_end(run: Run, run_id: str) -> State[Any]:
    """Do what is left of a run that has ended."""
    try:
        ended, holders = _read(run_id)
        # Of this environment alone: anybody can start this flow with the run of another one.
        events = read_events(run.target, str(ended.id))
        found = recovery_of(
            events, ended.state.type.value if ended.state else "", ended.run_count or 0
        )
        dead = replace(run, id=str(ended.id), label=short_run(str(ended.id)))
        speak_for(dead.label)
        say(found.sentence)
        tell_server(OVER, dead.environment, dead.id, RUN)  # nobody has to miss it any more
        if found.action is Action.NOTHING:
            return _nothing(run, ended, holders, found)
        if found.action is Action.TELL or len(holders) > MOST_TRIES:
            return _tell(run, dead, found)
        end_processes(dead.id)
        clear_away(run.target)
        if found.action is Action.RESUME:
            return _resume(run, dead, ended, found)
        take_over(run.target, holders, run.id, found.sentence)
    except DeployError as error:
        return outcome.refused(error)
    if found.action is Action.ROLL_BACK:
        return _roll_back(run, dead, ended, found)
    return _settle(run, dead, ended, Ending.EXPIRED if found.expired else Ending.FAILED, found)


def _nothing(run: Run, ended: FlowRun, holders: Sequence[str], found: Recovery) -> State[Any]:
    """All is written. What was killed right after that has not given back its lock."""
    if not found.keeps_lock:
        for holder in holders:
            release_environment(run.target, holder, key=holder)
    says_so = ended.state and outcome.ending_of(ended.state)
    if found.written and not says_so:  # killed right then, or forced to another end
        says = found.written.payload
        sentence = f"{says.get('sentence')}; {run.environment} serves {says.get('serves')}"
        ending = Ending(str(says.get("ending")))
        _say_on_run(ended, ending, outcome.state(ending, sentence))
    elif says_so:
        show_ending(says_so, str(ended.id))
    return outcome.ended(run, Ending.NOTHING_TO_DO, found.sentence)


def _resume(run: Run, dead: Run, ended: FlowRun, found: Recovery) -> State[Any]:
    """Let the run go on. It keeps its lock; what is done is kept under its id, and skipped."""
    payload = {"sentence": found.sentence, "begun": ended.run_count or 0}
    dead.record(EventKind.RESUMED, key=str(found.attempt), payload=payload)
    again: State[Any] = Scheduled(name="AwaitingRetry", message=found.sentence)
    with get_client(sync_client=True) as client:
        client.set_flow_run_state(ended.id, again, force=True)
    return outcome.ended(run, Ending.RESUMED, f"{dead.label}: {found.sentence}")


def _roll_back(run: Run, dead: Run, ended: FlowRun, found: Recovery) -> State[Any]:
    """Restore what served before the run, in this run's name, and end the other one."""
    wanted = RollbackRequest(reason=one_line(found.sentence), to=found.to, started_by="recover")
    restored = rollback(wanted, run.environment, return_state=True)
    if outcome.ending_of(restored) is Ending.ROLLBACK_DONE:
        ending = Ending.ROLLBACK_DONE if found.finishes else Ending.ROLLED_BACK
        seen = said_after_rollback(run.target.ledger.run_events(run.id, EventKind.VERDICT))
        sentence = "; ".join(filter(None, (found.sentence, seen)))
        return _settle(run, dead, ended, ending, replace(found, sentence=sentence))
    sentence = f"{found.sentence}; then the rollback failed: {sentence_in(restored.message)}"
    return _settle(run, dead, ended, Ending.ROLLBACK_FAILED, replace(found, sentence=sentence))


def _settle(run: Run, dead: Run, ended: FlowRun, ending: Ending, found: Recovery) -> State[Any]:
    """Write the ending that the run could not write, as it would have: ledger, report, messages."""
    request = ended.parameters.get("request") or {}
    again = start_again("deploy", request, dead.environment)  # no other run has gates
    tell_server(CLOSED, dead.environment, dead.id)
    hint = again if ending is Ending.EXPIRED else ""
    closed = outcome.close(
        dead,
        Conclusion(ending, found.sentence, _release(request, found), hint),
        deployer=request.get("started_by", ""),
        notes=request.get("notes", ""),
    )
    if ending is not Ending.ROLLBACK_FAILED:
        release_environment(run.target, run.id, key="recovery", return_state=True)
    _say_on_run(ended, ending, closed)
    good = ending is not Ending.ROLLBACK_FAILED
    return outcome.ended(
        run, Ending.SETTLED if good else Ending.NEEDS_A_PERSON, f"{dead.label}: {closed.message}"
    )


def _release(request: Mapping[str, Any], found: Recovery) -> Release:
    """What the run was about: what it was to deploy, or what it went back to."""
    if found.finishes:
        image = ImageRef.parse(found.to) if "@" in found.to else None
        return Release(found.version, revision="", image=image)
    return Release(request.get("version") or request.get("ref") or "", revision="")


def _tell(run: Run, dead: Run, found: Recovery) -> State[Any]:
    """Nothing is done to what serves: a person decides."""
    serves = what_serves(dead.target)
    hint = (
        f"ignition status {dead.environment}; then, if needed: ignition unlock {dead.environment} "
        f"--as NAME --reason …, and ignition rollback {dead.environment} --reason …"
    )
    page = page_of(dead.id)
    notice = left_locked(dead.environment, found.sentence, serves, hint, page)
    names = dead.settings.notify.blocks + dead.settings.notify.escalation
    notify(dead.target, names, notice, dead.id, key="recover")
    return outcome.ended(
        run,
        Ending.NEEDS_A_PERSON,
        f"{found.sentence}; {dead.environment} serves {serves} and stays locked",
        hint,
    )


def _say_on_run(ended: FlowRun, ending: Ending, closed: State[Any]) -> None:
    """Show the ending on the run itself, instead of the server's own words."""
    show_ending(ending, str(ended.id))
    if ended.state and ended.state.type.value != "CANCELLED":
        with get_client(sync_client=True) as client:
            client.set_flow_run_state(ended.id, closed, force=True)


def _read(run_id: str) -> tuple[FlowRun, tuple[str, ...]]:
    """The run that is to be recovered, and the runs that may hold its environment.

    A recovery that stopped is not recovered itself: what it was to recover is.
    """
    holders: list[str] = []
    with get_client(sync_client=True) as client:
        while True:
            holders.append(run_id)
            found = client.read_flow_run(UUID(run_id))
            if found.state is None or not found.state.is_final():
                raise BadRequest(
                    f"{short_run(run_id)} has not ended, so there is nothing to recover",
                    "ignition gates",
                )
            before = str(found.parameters.get("run_id") or "")
            if not before or run_of(before) in holders:
                return found, tuple(holders)
            run_id = run_of(before)
