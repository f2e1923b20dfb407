"""The wrapper around every flow: a run ends once, and shows how.

Prefect's UIs let anybody retry a run that has ended. What it did is done, and its lock may be
another's by now: it says so, stays what it was, and touches nothing.
"""

import functools
from collections.abc import Callable
from logging import ERROR
from typing import Any, ParamSpec
from uuid import UUID

import httpx
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State, StateType
from prefect.exceptions import PrefectException
from prefect.runtime import flow_run

from blocks.ledger.ledger import Ledger
from flows.logs import say_decisions_in_a_line
from release.ledger import EventKind, short_run
from release.outcome import Ending, ended_before, ending_in, message_of
from release.request import start_again
from tasks.page import show_ending
from tasks.say import say, speaking

P = ParamSpec("P")


class HasEnded(Exception):
    """The run that begins here has ended before."""

    def __init__(self, ending: Ending, state: State[Any]) -> None:
        super().__init__(state.message)
        self.ending, self.state = ending, state


def once(body: Callable[P, State[Any]]) -> Callable[P, State[Any]]:
    """A flow's body, whose ending is shown in the run's name and tags.

    The body of a run that has ended before is left by HasEnded; then all stays as it was.
    """

    @functools.wraps(body)
    def run(*args: P.args, **kwargs: P.kwargs) -> State[Any]:
        say_decisions_in_a_line()
        nested = flow_run.parent_flow_run_id is not None  # it speaks in its parent's name
        with speaking(run="" if nested else short_run(str(flow_run.id))):
            try:
                state = body(*args, **kwargs)
            except HasEnded as before:
                say(_last(before.state), ERROR)
                state = before.state
        if ending := ending_in(state.message):
            show_ending(ending)
        return state

    return run


def earlier_ends() -> list[State[Any]]:
    """The final states that this run has been in before it began again, oldest first.

    Raises HasEnded if one of them says how it ended. A subflow has none, because it is its parent
    that is taken up again. If the server cannot be asked, there may have been one.
    """
    if flow_run.parent_flow_run_id is not None:
        return []
    try:
        with get_client(sync_client=True) as client:
            states = client.read_flow_run_states(UUID(str(flow_run.id)))
    except (PrefectException, httpx.HTTPError):
        return [State(type=StateType.FAILED)]
    ends = sorted((each for each in states if each.is_final()), key=lambda each: each.timestamp)
    for end in ends:
        if ending := ending_in(end.message):
            raise _has_ended(ending, end, str(end.message))
    return ends


def refuse_ended(ends: list[State[Any]], ledger: Ledger, run_id: str) -> None:
    """Raise HasEnded for a run whose ending is in the ledger alone: it was cancelled or killed,
    and a recovery wrote it down. One that a recovery resumes has none there."""
    if not ends:
        return
    for event in ledger.run_events(run_id, EventKind.DEPLOYMENT_ENDED):
        ending = Ending(str(event.payload.get("ending")))
        says = event.payload
        sentence = f"{says.get('sentence')}; {event.environment} serves {says.get('serves')}"
        end = ends[-1].model_copy(update={"timestamp": event.at})
        raise _has_ended(ending, end, message_of(ending, sentence))


def _has_ended(ending: Ending, end: State[Any], message: str) -> HasEnded:
    given = flow_run.parameters
    request = given.get("request") or {}
    fields = request if isinstance(request, dict) else request.model_dump(mode="json")
    again = start_again(flow_run.flow_name, fields, str(given.get("environment", "staging")))
    said = ended_before(ending, end.timestamp, again)
    as_it_was = end.type
    if as_it_was is StateType.CRASHED:  # it had written its end
        as_it_was = StateType.COMPLETED if ending.good else StateType.FAILED
    return HasEnded(ending, State(type=as_it_was, message=f"{message}\n{said}"))


def _last(state: State[Any]) -> str:
    return str(state.message).splitlines()[-1]
