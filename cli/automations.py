"""The automations that `ignition setup` makes: what happens while nothing of ours runs."""

from collections.abc import Mapping
from datetime import timedelta
from types import MappingProxyType
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import StateType
from prefect.client.schemas.responses import DeploymentResponse
from prefect.events.actions import ChangeFlowRunState, RunDeployment
from prefect.events.schemas.automations import Automation, AutomationCore, EventTrigger, Posture
from prefect.exceptions import ObjectNotFound

from release.duration import say_duration
from release.outcome import ENDED_NAMES
from settings import Settings
from tasks.alive import ALIVE, OVER, RUN
from tasks.events import CLOSED, ENVIRONMENT, GATE, OPENED

_PREFIX = "ignition: "
_SHORTEST = timedelta(seconds=10)  # what the server takes
_HOLDERS = ("deploy", "rollback", "nightly", "watch", "recover")  # flows that take the lock
_STATE = "prefect.flow-run."
_HEARTBEAT = f"{_STATE}heartbeat"
# Three heartbeats of 30 s, which is the least that Prefect takes: one that comes late is no death.
_SILENCE = timedelta(seconds=90)
_MISSED = timedelta(seconds=15)  # five of our own signs; the recovery asks the ledger as well
_BROKEN_OFF = {f"{_STATE}{name}" for name in ("Cancelled", "Crashed")}
_ENDED = {f"{_STATE}{name}" for name in ("Completed", "Failed")}


def apply(client: SyncPrefectClient, settings: Settings) -> list[str]:
    """Create or replace our automations and delete those that are no longer ours. Returns their
    names."""
    ours = {one.name: one for one in wanted(client, settings)}
    there = {one.name: one for one in registered(client)}
    for name, automation in ours.items():
        if name in there:
            client.update_automation(there[name].id, automation)
            if not there[name].enabled:  # an update leaves it as it is
                client.resume_automation(there[name].id)
        else:
            client.create_automation(automation)
    for name in there.keys() - ours.keys():
        client.delete_automation(there[name].id)
    return sorted(ours)


def registered(client: SyncPrefectClient) -> list[Automation]:
    """Our automations that the server has."""
    return [one for one in client.read_automations() if one.name.startswith(_PREFIX)]


def wanted(client: SyncPrefectClient, settings: Settings) -> list[AutomationCore]:
    """The automations that this version makes; nothing is written. Raises ObjectNotFound if a
    deployment that one of them starts does not exist."""
    found = []
    for name, rules in sorted(settings.environments.items()):
        found.append(_broken_off(client, name))
        found.append(_unsaid(client, name))
        found.append(_silent(client, name))
        found.append(_gone(client, name))
        if rules.gate.approval != "human":
            continue
        deadline = rules.gate.deadline
        found += [
            _waits(client, name, "reminder", deadline / 2),
            _waits(client, name, "escalation", deadline * 3 / 4),
        ]
    return found


def _waits(
    client: SyncPrefectClient, environment: str, kind: str, after: timedelta
) -> AutomationCore:
    """A gate that has not closed some time after it opened."""
    parameters: dict[str, object] = {
        "run_id": _jinja("{{ labels.prefect.resource.id }}"),
        "kind": kind,
        "environment": environment,
    }
    return AutomationCore(
        name=f"{_PREFIX}{kind} for {environment}",
        description="A gate waits for its signatures. Made by `ignition setup`.",
        trigger=_missing(GATE, environment, OPENED, {CLOSED}, max(after, _SHORTEST)),
        actions=[_run(_id(client, f"deadline/{environment}"), parameters)],
    )


def _broken_off(client: SyncPrefectClient, environment: str) -> AutomationCore:
    """A run that crashed or was cancelled, and so could not say so itself."""
    return AutomationCore(
        name=f"{_PREFIX}recover {environment}",
        description="A run crashed or was cancelled. Made by `ignition setup`.",
        trigger=_ends(client, environment, _BROKEN_OFF),
        actions=[_recover(client, environment)],
    )


def _unsaid(client: SyncPrefectClient, environment: str) -> AutomationCore:
    """A run that completed or failed without our saying so: its gate expired, somebody forced it.

    Our own runs put their ending into their name before they have it. The event has the name as it
    is then; its tags, and all else about the run, may be those of minutes ago.
    """
    return AutomationCore(
        name=f"{_PREFIX}settle {environment}",
        description="A run ended without saying so. Made by `ignition setup`.",
        trigger=_ends(client, environment, _ENDED, {"prefect.resource.name": f"!{ENDED_NAMES}"}),
        actions=[_recover(client, environment)],
    )


def _ends(
    client: SyncPrefectClient,
    environment: str,
    states: set[str],
    only: Mapping[str, str] = MappingProxyType({}),
) -> EventTrigger:
    """A run that may hold an environment has come into one of these states."""
    return EventTrigger(
        posture=Posture.Reactive,
        match={"prefect.resource.id": "prefect.flow-run.*", **only},
        match_related=_runs_of(client, environment),
        expect=states,
        for_each={"prefect.resource.id"},
        threshold=1,
        within=timedelta(0),
    )


def _recover(client: SyncPrefectClient, environment: str) -> RunDeployment:
    parameters: dict[str, object] = {
        "run_id": _jinja("{{ flow_run.id }}"),
        "environment": environment,
    }
    return _run(_id(client, f"recover/{environment}"), parameters)


def _silent(client: SyncPrefectClient, environment: str) -> AutomationCore:
    """A run whose process gives no sign of life: its worker or its machine is gone too."""
    return AutomationCore(
        name=f"{_PREFIX}crash {environment}",
        description="A run gave no sign of life. Made by `ignition setup`.",
        trigger=EventTrigger(
            posture=Posture.Proactive,
            match={"prefect.resource.id": "prefect.flow-run.*"},
            match_related=_runs_of(client, environment),
            after={_HEARTBEAT},
            expect={_HEARTBEAT, f"{_STATE}Suspended", *_ENDED, *_BROKEN_OFF},
            for_each={"prefect.resource.id"},
            threshold=1,
            within=_SILENCE,
        ),
        actions=[
            ChangeFlowRunState(
                state=StateType.CRASHED,
                name="Crashed",
                message=f"it gave no sign of life for {say_duration(_SILENCE)}",
            )
        ],
    )


def _gone(client: SyncPrefectClient, environment: str) -> AutomationCore:
    """A run that may hold an environment has stopped saying that it is alive."""
    parameters: dict[str, object] = {
        "run_id": _jinja("{{ labels.prefect.resource.id }}"),
        "environment": environment,
    }
    return AutomationCore(
        name=f"{_PREFIX}silence {environment}",
        description="A run does not say any more that it is alive. Made by `ignition setup`.",
        trigger=_missing(RUN, environment, ALIVE, {ALIVE, OVER}, _MISSED),
        actions=[_run(_id(client, f"recover/{environment}"), parameters)],
    )


def _missing(
    about: str, environment: str, after: str, expect: set[str], within: timedelta
) -> EventTrigger:
    """None of the expected events of ours, about the same run, came in time."""
    return EventTrigger(
        posture=Posture.Proactive,
        match={"prefect.resource.id": f"{about}*", ENVIRONMENT: environment},
        after={after},
        expect=expect,
        for_each={"prefect.resource.id"},
        threshold=1,
        within=within,
    )


def _runs_of(client: SyncPrefectClient, environment: str) -> dict[str, str | list[str]]:
    """The runs of every deployment that can hold an environment."""
    names = (f"{flow}/{environment}" for flow in _HOLDERS)
    ids = [found.id for name in names if (found := _deployment(client, name))]
    return {
        "prefect.resource.role": "deployment",
        "prefect.resource.id": [f"prefect.deployment.{one}" for one in ids],
    }


def _run(deployment: UUID, parameters: dict[str, object]) -> RunDeployment:
    return RunDeployment(source="selected", deployment_id=deployment, parameters=parameters)


def _jinja(template: str) -> dict[str, str]:
    return {"__prefect_kind": "jinja", "template": template}


def _id(client: SyncPrefectClient, name: str) -> UUID:
    return client.read_deployment_by_name(name).id


def _deployment(client: SyncPrefectClient, name: str) -> DeploymentResponse | None:
    try:
        return client.read_deployment_by_name(name)
    except ObjectNotFound:
        return None
