"""Events by which the server knows of a gate, for its automations: no process waits at a gate."""

from prefect import get_run_logger
from prefect.events import emit_event

from release.ledger import short_run

OPENED = "ignition.gate.opened"
CLOSED = "ignition.gate.closed"
GATE = "ignition.gate."
"""Before a run's id: the resource that the events are about."""
ENVIRONMENT = "ignition.environment"
"""The resource's label that names the environment."""


def tell_server(event: str, environment: str, run_id: str) -> None:
    """Emit OPENED or CLOSED for a run's gate. Never raises."""
    resource = {"prefect.resource.id": f"{GATE}{run_id}", ENVIRONMENT: environment}
    try:
        emit_event(event, resource=resource)
    except Exception as error:  # noqa: BLE001  # without it nobody is reminded, and all else works
        get_run_logger().warning(
            "[%s] the server was not told of %s: %s", short_run(run_id), event, error
        )
