"""Flow runs, as the `ignition` command starts, finds, answers and follows them."""

import contextlib
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.exceptions import ObjectNotFound
from prefect.settings import get_current_settings

from release.errors import BadRequest, Rejected, Unreachable

_EVERY = timedelta(seconds=1)


@dataclass(frozen=True)
class RunView:
    """A run, as the command line shows it."""

    id: str
    label: str
    name: str
    state: str
    state_type: str
    message: str
    url: str
    started_at: str
    waits_until: str = ""

    @property
    def ended(self) -> bool:
        return self.state_type in ("COMPLETED", "FAILED", "CANCELLED", "CRASHED")

    @property
    def waiting(self) -> bool:
        return self.state_type == "PAUSED"

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


@contextlib.contextmanager
def prefect() -> Iterator[SyncPrefectClient]:
    """A client of the Prefect server. Raises Unreachable where none answers."""
    address = get_current_settings().api.url
    if not address:
        raise Unreachable(
            "PREFECT_API_URL is not set, so there is no Prefect server to ask", "make up"
        )
    try:
        with get_client(sync_client=True) as client:
            yield client
    except httpx.TransportError as error:
        raise Unreachable(
            f"the Prefect server at {address} does not answer: {error}", "prefect server start"
        ) from None
    except httpx.HTTPStatusError as error:
        raise BadRequest(f"Prefect refused: {_detail(error)}") from None


def start(deployment: str, parameters: dict[str, Any], name: str, tags: list[str]) -> RunView:
    """Create a run of ``deployment`` (flow/name). Raises BadRequest if there is none."""
    with prefect() as client:
        try:
            found = client.read_deployment_by_name(deployment)
        except ObjectNotFound:
            raise BadRequest(
                f"Prefect has no deployment {deployment!r}", "ignition setup"
            ) from None
        run = client.create_flow_run_from_deployment(
            found.id, parameters=parameters, name=name, tags=tags
        )
    return view(run)


def read(run_id: str) -> RunView:
    """One run, by its id."""
    with prefect() as client:
        return view(client.read_flow_run(UUID(run_id)))


def waiting() -> list[RunView]:
    """The runs that wait for a person."""
    with prefect() as client:
        return [view(run) for run in _waiting(client)]


def find_waiting(reference: str) -> RunView:
    """The waiting run that ``reference`` names: a label (d-1874ab), an id or the start of one.

    Raises BadRequest where there is none or more than one.
    """
    wanted = reference.removeprefix("d-").lower()
    runs = waiting()
    found = [run for run in runs if run.id.startswith(wanted)] if wanted else []
    if len(found) == 1:
        return found[0]
    there = ", ".join(f"{run.label} ({run.name})" for run in runs) or "none"
    problem = f"{len(found)} waiting runs match" if found else "no waiting run matches"
    raise BadRequest(f"{problem} {reference!r}; waiting: {there}", "ignition status")


def gate_text(run: RunView) -> str:
    """The Markdown above the form that a run waits with; empty where it has none."""
    with prefect() as client:
        state = client.read_flow_run(UUID(run.id)).state
        keyset = (state.state_details.run_input_keyset or {}) if state else {}
        key = keyset.get("description")
        if not key:
            return ""
        try:
            return str(json.loads(client.read_flow_run_input(UUID(run.id), key=key)))
        except (ObjectNotFound, ValueError):
            return ""


def answer(run: RunView, values: dict[str, Any]) -> str:
    """Answer the form that a run waits with, and return which it was: the key of its pause.

    Raises Rejected with the server's own reason.
    """
    with prefect() as client:
        state = client.read_flow_run(UUID(run.id)).state
        # The server answers HTTP 200 even when it refuses: the status says which.
        result = client.resume_flow_run(UUID(run.id), run_input=values)
    status = getattr(result.status, "value", str(result.status))
    if status != "ACCEPT":
        reason = getattr(result.details, "reason", "") or "no reason given"
        if status == "ABORT":  # it does not wait any more
            reason = f"somebody else has answered it, or it has ended ({reason})"
        raise Rejected(f"{run.label} was not resumed: {reason}", "ignition gates, then try again")
    return (state.state_details.pause_key if state else None) or ""


def follow(
    run: RunView, say: Callable[[RunView], None], within: timedelta | None = None
) -> RunView:
    """Poll a run until it has ended, telling ``say`` of each new state, and return it.

    Raises Unreachable if it has not ended ``within`` that time; None waits for ever.
    """
    shown = ("", "")
    until = time.monotonic() + within.total_seconds() if within else None
    with prefect() as client:
        while until is None or time.monotonic() < until:
            run = view(client.read_flow_run(UUID(run.id)))
            if (run.state, run.message) != shown:
                shown = (run.state, run.message)
                say(run)
            if run.ended:
                return run
            time.sleep(_EVERY.total_seconds())  # the distance between two looks at its state
    raise Unreachable(f"{run.label} has not ended, it is {run.state}", "ignition status")


def view(run: FlowRun) -> RunView:
    """A run as the command line shows it."""
    state = run.state
    # The second UI is the one that Prefect's home page opens; a path without /v2 opens the first.
    ui = (get_current_settings().ui_url or "").rstrip("/").removesuffix("/v2") + "/v2"
    expires = state.state_details.pause_timeout if state else None
    return RunView(
        id=str(run.id),
        label=f"d-{str(run.id)[:6]}",
        name=run.name,
        state=state.name or "" if state else "",
        state_type=state.type.value if state else "",
        message=(state.message or "") if state else "",
        url=f"{ui}/runs/flow-run/{run.id}",
        started_at=_clock(run.start_time or run.created),
        waits_until=_clock(expires),
    )


def _waiting(client: SyncPrefectClient) -> list[FlowRun]:
    paused = FlowRunFilterStateType(any_=[StateType.PAUSED])
    return client.read_flow_runs(
        flow_run_filter=FlowRunFilter(state=FlowRunFilterState(type=paused))
    )


def _clock(at: datetime | None) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S} UTC" if at else ""


def _detail(error: httpx.HTTPStatusError) -> str:
    try:
        return str(error.response.json().get("detail", error))
    except ValueError:
        return str(error)
