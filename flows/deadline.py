"""A gate that waits too long: people are reminded at half of its time, and more people later.

Started by the automations that `ignition setup` makes; the waiting run itself has no process.
"""

from typing import Any, Literal

from prefect import flow
from prefect.client.schemas.objects import State

from flows import outcome
from flows.once import once
from flows.run import begin
from release.errors import DeployError
from release.ledger import short_run
from release.notice import Asked, gate_waits
from release.outcome import Ending
from release.rollback.recovery import open_gate_of, run_of
from tasks.notification import notify, page_of
from tasks.say import speak_for
from tasks.serving import what_serves


@flow(name="deadline", flow_run_name="{kind} for {environment}")
@once
def deadline(
    run_id: str = "",
    kind: Literal["reminder", "escalation"] = "reminder",
    environment: str = "staging",
) -> State[Any]:
    """Tell people of a gate that still waits.

    Args:
        run_id: The waiting run, or its gate's resource.
        kind: reminder: notify.blocks; escalation: notify.escalation as well.
        environment: The environment that the run is for.
    """
    try:
        run = begin(environment)
        waiting = run_of(run_id)
        gate = open_gate_of(run.target.ledger.events(run_id=waiting))
    except DeployError as error:
        return outcome.refused(error)
    if gate is None:
        return outcome.ended(
            run, Ending.NOTHING_TO_DO, f"{short_run(waiting)} no longer waits for anybody"
        )
    names = run.settings.notify.blocks
    if kind == "escalation":
        names = tuple(dict.fromkeys(names + run.settings.notify.escalation))
    passed = "half" if kind == "reminder" else "three quarters"
    asked = Asked(
        environment,
        gate.about,
        ", ".join(gate.items) or gate.open,
        what_serves(run.target),
        gate.evidence,
        gate.ends,
        gate.signed,
    )
    notice = gate_waits(asked, passed, page_of(waiting))
    speak_for(short_run(waiting))
    failed = notify(run.target, names, notice, waiting, key=kind)
    told = f"{len(names) - len(failed)} of {len(names)} told of {short_run(waiting)}"
    ending = Ending.FAILED if failed else Ending.REMINDED
    return outcome.ended(run, ending, "; ".join((told, *failed)))
