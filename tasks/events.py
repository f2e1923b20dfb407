"""Events of our own, for automations: a gate at which no process waits, a run that is alive."""

from logging import WARNING

from prefect.events import emit_event

from tasks.say import say

OPENED = "ignition.gate.opened"
CLOSED = "ignition.gate.closed"
GATE = "ignition.gate."
"""Before a run's id: the resource that the events are about."""
ENVIRONMENT = "ignition.environment"
"""The resource's label that names the environment."""


def tell_server(event: str, environment: str, run_id: str, about: str = GATE) -> None:
    """Emit an event about a run's gate, or about anything else that goes by the run's id. Never
    raises."""
    resource = {"prefect.resource.id": f"{about}{run_id}", ENVIRONMENT: environment}
    try:
        emit_event(event, resource=resource)
    except Exception as error:  # noqa: BLE001  # without it nobody is told, and all else works
        say(f"the server was not told of {event}: {error}", WARNING)
