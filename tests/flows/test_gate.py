"""A gate against a real Prefect server: suspended, answered through the API, run again.

The tests play the worker: they run a deployment's flow run in this process until it suspends, and
again after each answer, as the next worker would in another process.
"""

import contextvars
import threading
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, Literal, cast
from uuid import UUID, uuid4

import pytest
from prefect import Flow, flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State
from prefect.exceptions import Pause
from prefect.flow_engine import run_flow
from prefect.input.actions import read_flow_run_input
from prefect.runtime import flow_run

from flows.gate import sign_off
from release.checklist import (
    Decision,
    Evidence,
    EvidenceSource,
    EvidenceVerdict,
    Item,
    Signature,
)
from release.errors import NothingChanged, Rejected
from release.ledger import EventKind
from release.rules import GateRules
from tasks.checklist import WAITING_TAG
from tasks.step import step

pytestmark = pytest.mark.usefixtures("prefect_server")

SECTION = "Pre-Deployment Checklist"
ITEMS = (
    Item("tests-passing", "All tests passing", SECTION, EvidenceSource.TESTS),
    Item("migrations-tested", "Migrations tested", SECTION, EvidenceSource.MIGRATIONS_IN_STAGING),
    Item("on-call-aware", "On-call aware", SECTION),
)


class Ledger:
    """Keeps events as the real one does: the same run, kind, step and key are written once."""

    def __init__(self) -> None:
        self.events: dict[tuple[str, EventKind, str, str], dict[str, Any]] = {}

    def record(
        self,
        environment: str,
        run_id: str,
        kind: EventKind,
        step: str = "",
        key: str = "",
        payload: dict[str, Any] | None = None,
    ) -> bool:
        self.events.setdefault((run_id, kind, step, key), payload or {})
        return True

    def of(self, kind: EventKind) -> list[dict[str, Any]]:
        return [payload for key, payload in self.events.items() if key[1] is kind]


@dataclass
class Gate:
    """One run that needs signatures, as an approver and a worker see it."""

    approval: Literal["human", "evidence"] = "human"
    deadline: timedelta = timedelta(minutes=10)
    evidence: dict[str, EvidenceVerdict] = field(default_factory=dict)
    ledger: Ledger = field(default_factory=Ledger)
    environment: str = field(default_factory=lambda: f"env-{uuid4().hex[:8]}")
    bodies: int = 0  # how often the flow's body ran
    collections: list[int] = field(default_factory=list)  # rounds for which evidence was collected
    signatures: tuple[Signature, ...] = ()
    error: NothingChanged | None = None
    id: Any = None  # of the flow run, once there is one

    def flow(self) -> Flow[[], Any]:
        @step("Collect evidence", timeout=timedelta(seconds=10))
        def collect(*, key: str) -> tuple[Evidence, ...]:
            self.collections.append(int(key))
            at = datetime.now(UTC)
            return tuple(
                Evidence(item, verdict, f"it {verdict}", "the source", at)
                for item, verdict in self.evidence.items()
            )

        @flow(name="deploy")
        def deploy() -> None:
            self.bodies += 1
            self.id = UUID(flow_run.id)
            target: Any = SimpleNamespace(environment=self.environment, ledger=self.ledger)
            try:
                self.signatures = sign_off(
                    target,
                    SimpleNamespace(id="run-1", label="d-run1", environment=self.environment),
                    ["v1.0.0 → v1.1.0"],
                    ITEMS,
                    GateRules(approval=self.approval, deadline=self.deadline),
                    lambda number: collect(key=str(number)),
                )
            except NothingChanged as error:
                self.error = error  # a pause that timed out overwrites the state of its run
                raise

        return deploy

    def start(self) -> State[Any]:
        """Start a run of a deployment and carry it to its first stop."""
        self.deploy = self.flow()
        with get_client(sync_client=True) as client:
            flow_id = client.create_flow(self.deploy)
            deployment = client.create_deployment(flow_id, f"to-{self.environment}")
            self.id = client.create_flow_run_from_deployment(deployment).id
        return self.run()

    def run(self) -> State[Any]:
        """Do what a worker does with a run that is due."""
        with get_client(sync_client=True) as client:
            due = client.read_flow_run(self.id)
        stopped: Any
        try:
            stopped = run_flow(self.deploy, due, return_type="state")
        except Pause as stop:  # how a suspended run leaves its process
            stopped = stop.state
        return cast("State[Any]", stopped)

    def send(self, **answer: str) -> str:
        """Send the form; returns what the server says to it."""
        with get_client(sync_client=True) as client:
            return client.resume_flow_run(self.id, run_input=answer).status.value

    def answer(self, signs: str = "all open items", decision: str = "approve", **rest: str) -> Any:
        """Answer as a person would, then carry the run to its next stop."""
        given = {"signs": signs, "decision": decision, "approver": "Ann", **rest}
        assert self.send(**given) == "ACCEPT"
        return self.run()

    def form(self) -> dict[str, Any]:
        """The schema of the form that is open, with its description."""
        with get_client(sync_client=True) as client:
            run: Any = client.read_flow_run(self.id)
        keys = run.state.state_details.run_input_keyset
        schema: Any = read_flow_run_input(keys["schema"], flow_run_id=self.id)
        text: Any = read_flow_run_input(keys["description"], flow_run_id=self.id)
        return {**schema, "description": text}

    @property
    def tags(self) -> list[str]:
        with get_client(sync_client=True) as client:
            return client.read_flow_run(self.id).tags

    @property
    def artifact(self) -> str:
        with get_client(sync_client=True) as client:
            (found,) = client.request(
                "POST",
                "/artifacts/latest/filter",
                json={"artifacts": {"key": {"any_": [f"checklist-{self.environment}"]}}},
            ).json()
        return str(found["data"])


@pytest.fixture(scope="module")
def waiting(prefect_server: None) -> Gate:
    """A suspended run that no test carries on."""
    gate = Gate()
    gate.start()
    return gate


def test_one_answer_signs_the_whole_checklist_and_the_run_goes_on() -> None:
    gate = Gate()

    assert gate.start().name == "Suspended"
    assert gate.tags == [WAITING_TAG]
    ending = gate.answer(comment="go")

    assert ending.is_completed()
    assert gate.tags == []
    assert [(s.item, s.approver, s.comment) for s in gate.signatures] == [
        (item.id, "Ann", "go") for item in ITEMS
    ]
    assert len(gate.ledger.of(EventKind.GATE_OPENED)) == 1
    signed = gate.ledger.of(EventKind.ITEM_SIGNED)
    assert [(one["item"], one["approver"], one["comment"]) for one in signed] == [
        (item.id, "Ann", "go") for item in ITEMS
    ]
    assert "3 of 3 items signed, 0 rejected; nothing is open." in gate.artifact


def test_two_people_sign_one_by_one_and_nothing_is_done_twice() -> None:
    gate = Gate(evidence={"tests-passing": EvidenceVerdict.UNKNOWN})
    gate.start()

    assert gate.answer("migrations-tested").name == "Suspended"
    assert gate.form()["properties"]["signs"]["enum"] == [
        "all open items",
        "tests-passing",
        "on-call-aware",
    ]
    assert gate.answer("on-call-aware", approver="Bob").name == "Suspended"
    assert "2 of 3 items signed" in gate.artifact
    assert gate.answer("tests-passing", approver="Bob").is_completed()

    assert {s.item: s.approver for s in gate.signatures} == {
        "migrations-tested": "Ann",
        "on-call-aware": "Bob",
        "tests-passing": "Bob",
    }
    assert gate.bodies == 4
    assert gate.collections == [1, 2, 3, 4]
    assert len(gate.ledger.of(EventKind.GATE_OPENED)) == 3
    assert len(gate.ledger.of(EventKind.ITEM_SIGNED)) == 3


def test_a_rejection_ends_the_run_with_its_item_and_its_reason() -> None:
    gate = Gate()
    gate.start()

    ending = gate.answer("on-call-aware", "reject", comment="nobody picks up")

    with pytest.raises(Rejected, match="on-call-aware: rejected by Ann: nobody picks up"):
        ending.result()
    assert gate.tags == []
    assert [one["item"] for one in gate.ledger.of(EventKind.REJECTED)] == ["on-call-aware"]
    assert gate.ledger.of(EventKind.ITEM_SIGNED) == []


def test_a_name_that_only_the_form_accepts_reopens_the_gate_and_says_why() -> None:
    gate = Gate()
    gate.start()

    assert gate.answer(approver="007").name == "Suspended"
    assert gate.form()["description"].startswith("> **'007' is no name: expected one line")
    assert gate.ledger.of(EventKind.ITEM_SIGNED) == []
    assert gate.answer(approver="James").is_completed()


@pytest.mark.parametrize(
    "wrong",
    [
        {"decision": "perhaps"},
        {"signs": "coffee"},
        {"approver": ""},
        {"approver": " "},
        {"approver": "Ann\nBob"},
        {"approver": "x" * 65},
        {"comment": "x" * 501},
        {"code": "123456"},
    ],
)
def test_the_server_refuses_a_wrong_form_and_the_run_stays_suspended(
    waiting: Gate, wrong: dict[str, str]
) -> None:
    answer = {"decision": "approve", "signs": "all open items", "approver": "Ann"} | wrong

    assert waiting.send(**answer) == "REJECT"
    assert waiting.tags == [WAITING_TAG]


def test_the_form_asks_four_things_below_plan_and_evidence() -> None:
    gate = Gate(evidence={"migrations-tested": EvidenceVerdict.FAILED})
    gate.start()
    form = gate.form()

    assert list(form["properties"]) == ["decision", "signs", "approver", "comment"]
    assert form["required"] == ["decision", "signs", "approver"]
    assert {name: one["title"] for name, one in form["properties"].items()} == {
        "decision": "Decision",
        "signs": "What you sign",
        "approver": "Your name",
        "comment": "Comment",
    }
    assert all(one["description"] for one in form["properties"].values())
    assert form["description"].startswith("- v1.0.0 → v1.1.0\n")
    assert "**failed**: it failed (the source, " in form["description"]


def test_an_item_opens_again_when_its_evidence_fails_while_others_are_waited_for() -> None:
    gate = Gate(evidence={"migrations-tested": EvidenceVerdict.PASSED})
    gate.start()
    gate.answer("migrations-tested")
    gate.evidence["migrations-tested"] = EvidenceVerdict.FAILED

    assert gate.answer(approver="Bob").name == "Suspended"
    assert "migrations-tested is open again" in gate.form()["description"]
    assert gate.answer(approver="Bob", comment="known, harmless").is_completed()
    assert {s.item: s.approver for s in gate.signatures}["migrations-tested"] == "Bob"


def test_a_run_that_is_forced_on_without_an_answer_waits_again() -> None:
    gate = Gate()
    gate.start()
    with get_client(sync_client=True) as client:
        client.set_flow_run_state(gate.id, State(type="SCHEDULED", name="Forced"), force=True)

    assert gate.run().name == "Suspended"
    assert "resumed without an answer" in gate.form()["description"]
    assert gate.ledger.of(EventKind.ITEM_SIGNED) == []


def test_a_checklist_that_evidence_signs_waits_for_nobody() -> None:
    gate = Gate(approval="evidence", evidence={"migrations-tested": EvidenceVerdict.PASSED})

    assert gate.start().is_completed()

    assert [(s.item, s.decision) for s in gate.signatures] == [
        ("tests-passing", Decision.NOT_REQUIRED),
        ("migrations-tested", Decision.APPROVE),
        ("on-call-aware", Decision.NOT_REQUIRED),
    ]
    assert f"not required in {gate.environment}" in gate.artifact
    assert len(gate.ledger.of(EventKind.ITEM_SIGNED)) == 3


def test_unknown_evidence_stops_a_run_that_nobody_attends() -> None:
    gate = Gate(approval="evidence", evidence={"migrations-tested": EvidenceVerdict.UNKNOWN})

    with pytest.raises(Rejected, match="migrations-tested: rejected by evidence: unknown"):
        gate.start().result()
    assert len(gate.ledger.of(EventKind.REJECTED)) == 1
    assert "1 rejected" in gate.artifact


# --- a flow that was called directly, with no deployment ---


def test_a_run_without_a_deployment_pauses_in_its_process() -> None:
    gate = Gate()
    call = Call(gate)
    while gate.id is None or not _accepted(gate):
        time.sleep(0.2)

    assert call.ending().is_completed()
    assert [signature.approver for signature in gate.signatures] == ["Ann"] * 3
    assert gate.bodies == 1


def test_a_gate_that_nobody_answers_in_time_says_what_was_open() -> None:
    gate = Gate(deadline=timedelta(seconds=2))

    call = Call(gate)
    call.ending()

    assert isinstance(gate.error, NothingChanged)
    assert gate.error.what.startswith("nobody answered within 2 s; still open: tests-passing, ")


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


def _accepted(gate: Gate) -> bool:
    """Answer; a run that is not paused yet, or whose form is not saved yet, is asked again."""
    return gate.send(decision="approve", signs="all open items", approver="Ann") == "ACCEPT"
