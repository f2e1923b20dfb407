"""Flow runs, as the `ignition` command starts, finds, answers and follows them."""

import contextlib
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
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

from blocks.http_client import shown
from blocks.polling import poll
from cli.workforce import Stalls
from release.duration import say_duration
from release.errors import BadRequest, DeployError, Rejected, Unreachable
from release.ledger import short_run
from release.outcome import ending_in, sentence_in
from release.readiness.prefect_address import EXAMPLE, hint_for, how_to_start
from tasks.side_by_side import ask_side_by_side

_EVERY = timedelta(seconds=1)
_ANSWERS_WITHIN = timedelta(seconds=8)
_KNOWN: set[str] = set()  # addresses at which Prefect's API has answered this process


@dataclass(frozen=True)
class RunView:
    """A run, as the command line shows it."""

    id: str
    label: str
    name: str
    state: str  # of a run that has ended: how, in our words
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
    """A client of the Prefect server. Raises Unreachable if none answers, and BadRequest if
    something else does."""
    address = get_current_settings().api.url
    if not address:
        raise Unreachable(
            "PREFECT_API_URL is not set, so there is no Prefect server to ask",
            f"export PREFECT_API_URL={EXAMPLE}; if no server runs yet: prefect server start",
        )
    try:
        with get_client(sync_client=True) as client:
            _refuse_what_is_not_prefect(client, address)
            yield client
    except httpx.UnsupportedProtocol:
        raise BadRequest(
            f"PREFECT_API_URL is {shown(address)}, which has no scheme: "
            "an address begins with http:// or https://",
            hint_for(address),
        ) from None
    except httpx.TransportError as error:
        raise Unreachable(
            f"the Prefect server at {shown(address)} does not answer: {error}",
            how_to_start(address),
        ) from None
    except httpx.HTTPStatusError as error:
        password = error.response.status_code == HTTPStatus.UNAUTHORIZED
        hint = "export PREFECT_API_AUTH_STRING=…, as the server has it" if password else ""
        raise BadRequest(f"Prefect refused: {_detail(error)}", hint) from None


def _refuse_what_is_not_prefect(client: SyncPrefectClient, address: str) -> None:
    """Raise BadRequest if the address is not the API's: each question would get a 404, which would
    mean that a deployment does not exist."""
    if address in _KNOWN:
        return
    try:
        is_prefect = client.request("GET", "/health").json() is True
    except ValueError:  # a page of HTML
        is_prefect = False
    except httpx.HTTPStatusError as error:
        if error.response.status_code != HTTPStatus.NOT_FOUND:
            raise
        is_prefect = False
    if not is_prefect:
        raise BadRequest(
            f"PREFECT_API_URL is {shown(address)}, and what answers there is not Prefect's API",
            hint_for(address),
        )
    _KNOWN.add(address)


def unavailable(within: timedelta = _ANSWERS_WITHIN) -> DeployError | None:
    """Why Prefect cannot be asked. Returns None if it answers.

    The client retries a server that hangs for minutes, and nobody waits for that at 3 am.
    """
    answer = ask_side_by_side({"prefect": _why_away}, within)
    if answer:
        return answer["prefect"]
    address, length = get_current_settings().api.url or "", say_duration(within)
    return Unreachable(
        f"the Prefect server at {shown(address)} has not answered within {length}",
        how_to_start(address),
    )


def _why_away() -> DeployError | None:
    try:
        with prefect() as client:
            client.hello()
    except DeployError as error:
        return error
    return None


def require_server(instead: str) -> None:
    """Raise what :func:`unavailable` says, and that ``instead`` needs no server.

    Raises also if the server hangs: the client would retry it for minutes.
    """
    if away := unavailable():
        without = f"without it: {instead}"
        raise type(away)(away.what, f"{away.hint}; {without}" if away.hint else without)


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

    Raises BadRequest if there is none or more than one.
    """
    wanted = reference.removeprefix("d-").lower()
    runs = waiting()
    found = [run for run in runs if _is_named(run, wanted)] if wanted else []
    if len(found) == 1:
        return found[0]
    there = ", ".join(f"{run.label} ({run.name})" for run in runs) or "none"
    problem = f"{len(found)} waiting runs match" if found else "no waiting run matches"
    raise BadRequest(f"{problem} {reference!r}; waiting: {there}", "ignition status")


def _is_named(run: RunView, wanted: str) -> bool:
    return run.id.startswith(wanted) or run.label == f"d-{wanted}"


def gate_text(run: RunView) -> str:
    """The Markdown above the form that a run waits with; empty if it has none."""
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
    run: RunView,
    say: Callable[[RunView], None],
    within: timedelta | None = None,
    complain: Callable[[str], None] = lambda _: None,
) -> RunView:
    """Poll a run until it has ended, telling ``say`` of each new state, and return it.

    ``complain`` is told why no worker takes it, once for each cause. Raises Unreachable if it has
    not ended ``within`` that time; None waits for ever.
    """
    told = ("", "")

    def look() -> RunView:
        nonlocal told
        found = client.read_flow_run(UUID(run.id))
        seen = view(found)
        if (seen.state, seen.message) != told:
            told = (seen.state, seen.message)
            say(seen)
        if not seen.ended:
            stalls.look(found, datetime.now(UTC))
        return seen

    with prefect() as client:
        stalls = Stalls(client, complain)
        run = poll(look, lambda seen: seen.ended, every=_EVERY, within=within)
    if run.ended:
        return run
    raise Unreachable(f"{run.label} has not ended, it is {run.state}", "ignition status")


def view(run: FlowRun) -> RunView:
    """A run as the command line shows it."""
    state = run.state
    # The second UI is the one that Prefect's home page opens; a path without /v2 opens the first.
    ui = (get_current_settings().ui_url or "").rstrip("/").removesuffix("/v2") + "/v2"
    expires = state.state_details.pause_timeout if state else None
    return RunView(
        id=str(run.id),
        label=short_run(str(run.id)),
        name=run.name,
        state=ending_in(state.message) or state.name or "" if state else "",
        state_type=state.type.value if state else "",
        message=sentence_in(state.message) if state else "",
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
