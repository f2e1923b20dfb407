"""The automations that `ignition setup` makes: what happens while nothing of ours runs."""

from datetime import timedelta
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.events.actions import RunDeployment
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture

from settings import Settings
from tasks.gate_events import CLOSED, ENVIRONMENT, GATE, OPENED

_PREFIX = "ignition: "
_SHORTEST = timedelta(seconds=10)  # what the server takes
# Our own endings have names of their own: a run that is plainly Completed was forced to be.
_ENDS = {
    "prefect.flow-run.Failed",
    "prefect.flow-run.Cancelled",
    "prefect.flow-run.Crashed",
    "prefect.flow-run.Completed",
}


def apply(client: SyncPrefectClient, settings: Settings) -> list[str]:
    """Create or replace our automations, delete those that are ours no more; their names."""
    wanted = {one.name: one for one in _wanted(client, settings)}
    there = {one.name: one for one in client.read_automations() if one.name.startswith(_PREFIX)}
    for name, automation in wanted.items():
        if name in there:
            client.update_automation(there[name].id, automation)
        else:
            client.create_automation(automation)
    for name in there.keys() - wanted.keys():
        client.delete_automation(there[name].id)
    return sorted(wanted)


def _wanted(client: SyncPrefectClient, settings: Settings) -> list[AutomationCore]:
    found = []
    for name, rules in sorted(settings.environments.items()):
        if rules.gate.approval != "human":
            continue
        deadline = rules.gate.deadline
        found += [
            _waits(client, name, "reminder", deadline / 2),
            _waits(client, name, "escalation", deadline * 3 / 4),
            _ended(client, name),
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
        trigger=EventTrigger(
            posture=Posture.Proactive,
            match={"prefect.resource.id": f"{GATE}*", ENVIRONMENT: environment},
            after={OPENED},
            expect={CLOSED},
            for_each={"prefect.resource.id"},
            threshold=1,
            within=max(after, _SHORTEST),
        ),
        actions=[_run(_id(client, f"deadline/{environment}"), parameters)],
    )


def _ended(client: SyncPrefectClient, environment: str) -> AutomationCore:
    """A deployment that failed, crashed, was cancelled or forced: it has not said so itself."""
    parameters: dict[str, object] = {
        "run_id": _jinja("{{ flow_run.id }}"),
        "environment": environment,
    }
    deployment = _id(client, f"deploy/{environment}")
    return AutomationCore(
        name=f"{_PREFIX}recover {environment}",
        description="A deployment ended without saying so. Made by `ignition setup`.",
        trigger=EventTrigger(
            posture=Posture.Reactive,
            match={"prefect.resource.id": "prefect.flow-run.*"},
            match_related={
                "prefect.resource.role": "deployment",
                "prefect.resource.id": f"prefect.deployment.{deployment}",
            },
            expect=_ENDS,
            for_each={"prefect.resource.id"},
            threshold=1,
            within=timedelta(0),
        ),
        actions=[_run(_id(client, f"recover/{environment}"), parameters)],
    )


def _run(deployment: UUID, parameters: dict[str, object]) -> RunDeployment:
    return RunDeployment(source="selected", deployment_id=deployment, parameters=parameters)


def _jinja(template: str) -> dict[str, str]:
    return {"__prefect_kind": "jinja", "template": template}


def _id(client: SyncPrefectClient, name: str) -> UUID:
    return client.read_deployment_by_name(name).id
