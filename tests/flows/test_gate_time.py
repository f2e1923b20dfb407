"""A gate's deadline, two answers at once, and a flow that waits in its own process."""

import contextvars
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State

from release.errors import GateExpired
from release.ledger import EventKind
from sandbox.commands import wait_until
from tests.fakes.gate import Gate, MakeGate

pytestmark = [pytest.mark.usefixtures("prefect_server"), pytest.mark.gates]


def test_of_two_people_who_answer_at_the_same_moment_one_is_told_no(new_gate: MakeGate) -> None:
    gate = new_gate()
    gate.start()
    forms = [
        {"decision": "approve", "approver": name, "code": gate.code(name)}
        for name in ("Ann", "Bob")
    ]

    with ThreadPoolExecutor(2) as pool:
        said = sorted(pool.map(lambda form: _send(gate, form), forms))

    assert said == ["ABORT", "ACCEPT"]
    assert gate.run().is_completed()
    assert len({s.approver for s in gate.signatures}) == 1
    assert len(gate.events(EventKind.ITEM_SIGNED)) == 3


def test_all_rounds_of_a_gate_share_one_deadline(new_gate: MakeGate) -> None:
    gate = new_gate()
    gate.start()
    gate.answer("tests-passing")

    first, second = gate.events(EventKind.GATE_OPENED)
    assert first.payload["until"] == second.payload["until"]
    assert second.payload["deadline_s"] <= first.payload["deadline_s"]


def test_an_answer_after_the_deadline_is_refused(new_gate: MakeGate) -> None:
    gate = new_gate(deadline=timedelta(seconds=1))
    gate.start()
    _expire(gate)

    assert gate.send(decision="approve", approver="Ann", code=gate.code("Ann")) != "ACCEPT"
    assert gate.signed() == {}


def test_a_gate_that_waits_for_a_day_holds_no_process_and_no_connection(
    new_gate: MakeGate,
) -> None:
    gate = new_gate(deadline=timedelta(hours=24))

    assert gate.start().name == "Suspended"

    with get_client(sync_client=True) as client:
        state: Any = client.read_flow_run(gate.id).state
    assert state.state_details.pause_timeout > datetime.now(UTC) + timedelta(hours=23, minutes=59)
    with psycopg.connect(gate.ledger.dsn.get_secret_value()) as connection:
        others = connection.execute(
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        ).fetchone()
    assert others == (0,)
    assert gate.answer().is_completed()


def _expire(gate: Gate) -> None:
    """Do what the server's own service does with a suspended run whose time is over."""
    with get_client(sync_client=True) as client:
        failed = State(type="FAILED", message="The flow was paused and never resumed.")
        client.set_flow_run_state(gate.id, failed, force=True)


def _send(gate: Gate, form: dict[str, str]) -> str:
    return contextvars.copy_context().run(lambda: gate.send(**form))


# --- a flow that was called directly, with no deployment ---


def test_a_run_without_a_deployment_pauses_in_its_process(new_gate: MakeGate) -> None:
    gate = new_gate()
    code = gate.code("Ann")
    call = Call(gate)
    # A run that is not paused yet, or whose form is not saved yet, takes no answer.
    wait_until(
        lambda: gate.id and gate.send(decision="approve", approver="Ann", code=code) == "ACCEPT",
        what="a form that takes the answer",
        seconds=60,
        hint="",
    )

    assert call.ending().is_completed()
    assert [signature.approver for signature in gate.signatures] == ["Ann"] * 3
    assert gate.bodies == 1


def test_a_gate_that_nobody_answers_in_time_says_what_was_open(new_gate: MakeGate) -> None:
    gate = new_gate(deadline=timedelta(seconds=2))

    call = Call(gate)
    call.ending()

    assert isinstance(gate.error, GateExpired)
    assert "still open: tests-passing, " in gate.error.what


class Call:
    """A flow called directly in a thread, which sees the test server's settings."""

    def __init__(self, gate: Gate) -> None:
        self._states: list[State[Any]] = []
        deploy: Any = gate.flow()
        self._thread = threading.Thread(
            target=contextvars.copy_context().run,
            args=(lambda: self._states.append(deploy(return_state=True)),),
            daemon=True,
        )
        self._thread.start()

    def ending(self) -> State[Any]:
        self._thread.join(60)
        (state,) = self._states
        return state
