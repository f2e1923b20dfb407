"""A gate against a real Prefect server and a real ledger: suspended, answered, run again.

The tests play the worker: they run a deployment's flow run in this process until it suspends, and
again after each answer, as the next worker would in another process.
"""

import contextvars
import json
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal, cast
from uuid import UUID, uuid4

import psycopg
import pyotp
import pytest
from prefect import Flow, flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State
from prefect.exceptions import Pause
from prefect.flow_engine import run_flow
from prefect.input.actions import read_flow_run_input
from prefect.runtime import flow_run
from pydantic import SecretStr

from blocks.approvers import Approvers
from blocks.ledger import Ledger
from flows.gate import Subject, sign_off
from release.checklist import ALL_OPEN, Decision, Item, Signature
from release.errors import (
    BadConfiguration,
    GateExpired,
    NothingChanged,
    Rejected,
    SignaturesInvalid,
)
from release.evidence import Evidence, EvidenceSource, EvidenceVerdict
from release.ledger import Event, EventKind
from release.rules import GateRules
from tasks.checklist import WAITING_TAG
from tasks.step import step

pytestmark = [pytest.mark.usefixtures("prefect_server"), pytest.mark.gates]

SECTION = "Pre-Deployment Checklist"
ITEMS = (
    Item("tests-passing", "All tests passing", SECTION, EvidenceSource.TESTS),
    Item("migrations-tested", "Migrations tested", SECTION, EvidenceSource.MIGRATIONS_IN_STAGING),
    Item("on-call-aware", "On-call aware", SECTION),
)
ROLES = {"Ann": ("release-manager",), "Bob": ("on-call",), "Cleo": ()}


@pytest.fixture
def new_gate(postgres: str, tmp_path: Path) -> Callable[..., "Gate"]:
    """Makes gates, with a ledger and approvers of the test's own: codes count once."""
    ledger, approvers = _ledger(postgres, tmp_path / "spool"), enrolled(tmp_path)

    def make(**given: Any) -> Gate:
        return Gate(**{"ledger": ledger, "approvers": approvers, **given})

    return make


def enrolled(folder: Path) -> Approvers:
    """Three people with their telephones."""
    approvers = Approvers(folder / "approvers.json")
    for name, roles in ROLES.items():
        approvers.add(name, roles)
    return approvers


def _ledger(postgres: str, spool: Path) -> Ledger:
    name = f"gates_{uuid4().hex[:8]}"
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
    ledger = Ledger(dsn=SecretStr(postgres.rsplit("/", 1)[0] + f"/{name}"), spool=spool)
    ledger.install()
    return ledger


@dataclass
class Gate:
    """One run that needs signatures, as an approver and a worker see it."""

    ledger: Ledger
    approvers: Approvers
    approval: Literal["human", "evidence"] = "human"
    deadline: timedelta = timedelta(minutes=10)
    signers: int = 1
    wrong_codes: int = 5
    started_by: str = ""
    plan: str = "the plan's fingerprint"
    items: tuple[Item, ...] = ITEMS
    evidence: dict[str, EvidenceVerdict] = field(default_factory=dict)
    environment: str = field(default_factory=lambda: f"env-{uuid4().hex[:8]}")
    run_id: str = field(default_factory=lambda: str(uuid4()))
    bodies: int = 0  # how often the flow's body ran
    collections: list[int] = field(default_factory=list)  # rounds for which evidence was collected
    signatures: tuple[Signature, ...] = ()
    error: NothingChanged | None = None
    id: Any = None  # of the flow run, once there is one
    used: set[tuple[str, int]] = field(default_factory=set)

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
            run: Any = SimpleNamespace(
                id=self.run_id,
                label=f"d-{self.run_id[:6]}",
                environment=self.environment,
                target=SimpleNamespace(environment=self.environment, ledger=self.ledger),
                approvers=self.approvers,
            )
            rules = GateRules(
                approval=self.approval,
                deadline=self.deadline,
                signers=self.signers,
                wrong_codes=self.wrong_codes,
            )
            subject = Subject(["v1.0.0 → v1.1.0"], self.plan, self.started_by)
            try:
                self.signatures = sign_off(
                    run, subject, self.items, rules, lambda number: collect(key=str(number))
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

    def code(self, name: str) -> str:
        """What the approver's telephone shows, or showed or will show half a minute from it."""
        totp = pyotp.TOTP(json.loads(self.approvers.file.read_text())[name]["secret"])
        now = int(time.time() // 30)
        fresh = next(s for s in (0, 1, -1, -2, -3) if (name, now + s) not in self.used)
        self.used.add((name, now + fresh))
        return totp.generate_otp(now + fresh)

    def send(self, **answer: str) -> str:
        """Send the form; returns what the server says to it."""
        with get_client(sync_client=True) as client:
            return client.resume_flow_run(self.id, run_input=answer).status.value

    def answer(
        self, signs: str = ALL_OPEN, decision: str = "approve", by: str = "Ann", **rest: str
    ) -> Any:
        """Answer as a person would, then carry the run to its next stop."""
        proof = {"code": self.code(by)} if decision == "approve" and by in ROLES else {}
        given = {"signs": signs, "decision": decision, "approver": by, **proof, **rest}
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

    def events(self, kind: EventKind) -> list[Event]:
        return self.ledger.events(run_id=self.run_id, kinds=[kind])

    def signed(self) -> dict[str, list[str]]:
        """Who signed what, as the ledger has it."""
        found: dict[str, list[str]] = {}
        for event in self.events(EventKind.ITEM_SIGNED):
            found.setdefault(event.payload["item"], []).append(event.payload["approver"])
        return found

    @property
    def note(self) -> str:
        """Why the gate is open once more."""
        first = str(self.form()["description"]).partition("\n")[0]
        return first.replace("\\", "") if first.startswith("> ") else ""

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


MakeGate = Callable[..., Gate]


def test_one_answer_signs_the_whole_checklist_and_the_run_goes_on(new_gate: MakeGate) -> None:
    gate = new_gate()

    assert gate.start().name == "Suspended"
    assert gate.tags == [WAITING_TAG]
    ending = gate.answer(comment="go")

    assert ending.is_completed()
    assert gate.tags == []
    assert [(s.item, s.approver, s.comment) for s in gate.signatures] == [
        (item.id, "Ann", "go") for item in ITEMS
    ]
    (opened,) = gate.events(EventKind.GATE_OPENED)
    assert opened.payload["items"] == [item.id for item in ITEMS]
    assert 500 < opened.payload["deadline_s"] <= 600
    assert gate.signed() == {item.id: ["Ann"] for item in ITEMS}
    assert "All 3 items are signed." in gate.artifact


def test_two_people_sign_one_by_one_and_nothing_is_done_twice(new_gate: MakeGate) -> None:
    gate = new_gate(evidence={"tests-passing": EvidenceVerdict.UNKNOWN})
    gate.start()

    assert gate.answer("migrations-tested").name == "Suspended"
    assert gate.form()["properties"]["signs"]["enum"] == [
        ALL_OPEN,
        "tests-passing",
        "on-call-aware",
    ]
    assert gate.answer("on-call-aware", by="Bob").name == "Suspended"
    assert "2 of 3 items signed" in gate.artifact
    assert gate.answer("tests-passing", by="Bob").is_completed()

    assert {s.item: s.approver for s in gate.signatures} == {
        "migrations-tested": "Ann",
        "on-call-aware": "Bob",
        "tests-passing": "Bob",
    }
    assert gate.bodies == 4
    assert gate.collections == [1, 2, 3, 4]
    opened = gate.events(EventKind.GATE_OPENED)
    assert [event.payload["signed"] for event in opened] == [
        [],
        [{"item": "migrations-tested", "approver": "Ann"}],
        [
            {"item": "migrations-tested", "approver": "Ann"},
            {"item": "on-call-aware", "approver": "Bob"},
        ],
    ]
    assert len(gate.events(EventKind.ITEM_SIGNED)) == 3


def test_a_rejection_ends_the_run_with_its_item_and_its_reason_and_needs_no_code(
    new_gate: MakeGate,
) -> None:
    gate = new_gate()
    gate.start()

    ending = gate.answer("on-call-aware", "reject", comment="nobody picks up")

    with pytest.raises(Rejected, match="on-call-aware: rejected by Ann: nobody picks up"):
        ending.result()
    assert gate.tags == []
    assert [e.payload["item"] for e in gate.events(EventKind.REJECTED)] == ["on-call-aware"]
    assert gate.signed() == {}


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
        {"code": "12345"},
        {"code": "abcdef"},
        {"password": "hunter2"},
    ],
)
def test_the_server_refuses_a_wrong_form_and_the_run_stays_suspended(
    waiting: Gate, wrong: dict[str, str]
) -> None:
    answer = {"decision": "approve", "approver": "Ann", "code": "123456"} | wrong

    assert waiting.send(**answer) == "REJECT"
    assert waiting.tags == [WAITING_TAG]


@pytest.fixture(scope="module")
def waiting(prefect_server: None, postgres: str, tmp_path_factory: pytest.TempPathFactory) -> Gate:
    """A suspended run that no test carries on."""
    folder = tmp_path_factory.mktemp("gate")
    gate = Gate(_ledger(postgres, folder / "spool"), enrolled(folder))
    gate.start()
    return gate


def test_the_form_asks_five_things_below_plan_and_evidence(new_gate: MakeGate) -> None:
    gate = new_gate(evidence={"migrations-tested": EvidenceVerdict.FAILED})
    gate.start()
    form = gate.form()

    assert {name: one["title"] for name, one in form["properties"].items()} == {
        "decision": "Decision",
        "signs": "What you sign",
        "approver": "Your name",
        "code": "One-time code",
        "comment": "Comment",
    }
    assert [one["position"] for one in form["properties"].values()] == [0, 1, 2, 3, 4]
    assert form["required"] == ["decision", "approver"]
    assert form["properties"]["signs"]["default"] == ALL_OPEN
    assert all(one["description"] for one in form["properties"].values())
    assert form["description"].startswith("- v1.0.0 → v1.1.0\n")
    assert "**failed**: it failed (the source)" in form["description"]


def test_an_item_opens_again_when_its_evidence_fails_while_others_are_waited_for(
    new_gate: MakeGate,
) -> None:
    gate = new_gate(evidence={"migrations-tested": EvidenceVerdict.PASSED})
    gate.start()
    gate.answer("migrations-tested")
    gate.evidence["migrations-tested"] = EvidenceVerdict.FAILED

    assert gate.answer(by="Bob").name == "Suspended"
    assert "migrations-tested is open again" in gate.note
    assert gate.answer(by="Bob", comment="known, harmless").is_completed()
    assert {s.item: s.approver for s in gate.signatures}["migrations-tested"] == "Bob"


def test_a_checklist_that_evidence_signs_waits_for_nobody(new_gate: MakeGate) -> None:
    gate = new_gate(approval="evidence", evidence={"migrations-tested": EvidenceVerdict.PASSED})

    assert gate.start().is_completed()

    assert [(s.item, s.decision) for s in gate.signatures] == [
        ("tests-passing", Decision.NOT_REQUIRED),
        ("migrations-tested", Decision.APPROVE),
        ("on-call-aware", Decision.NOT_REQUIRED),
    ]
    assert f"not required in {gate.environment}" in gate.artifact
    assert len(gate.events(EventKind.ITEM_SIGNED)) == 3


def test_unknown_evidence_stops_a_run_that_nobody_attends(new_gate: MakeGate) -> None:
    gate = new_gate(approval="evidence", evidence={"migrations-tested": EvidenceVerdict.UNKNOWN})

    with pytest.raises(Rejected, match="migrations-tested: rejected by evidence: unknown"):
        gate.start().result()
    assert len(gate.events(EventKind.REJECTED)) == 1
    assert "1 rejected" in gate.artifact


# --- four eyes, roles, N of M ---


def test_one_person_cannot_get_past_a_gate_that_needs_two(new_gate: MakeGate) -> None:
    gate = new_gate(signers=2)
    gate.start()

    assert gate.answer().name == "Suspended"
    assert "2 different people must sign, Ann has: 1 to go." in gate.form()["description"]
    assert gate.answer().name == "Suspended"
    assert "Ann has signed" in gate.note
    assert gate.answer(by="Cleo").is_completed()
    assert {s.approver for s in gate.signatures} == {"Ann", "Cleo"}


def test_who_started_the_run_is_never_the_only_one_who_signs(new_gate: MakeGate) -> None:
    gate = new_gate(started_by=" ann")
    gate.start()

    assert gate.answer(by="Ann").name == "Suspended"
    assert "Ann started this run, so somebody else must sign as well." in gate.form()["description"]
    assert gate.answer(by="Bob").is_completed()


def test_an_item_is_signed_by_its_role_and_by_as_many_as_it_needs(new_gate: MakeGate) -> None:
    pager = Item("on-call-aware", "On-call aware", SECTION, role="on-call")
    twice = Item("rollback-plan", "Rollback plan reviewed", SECTION, approvals=2)
    gate = new_gate(items=(pager, twice))
    gate.start()

    assert gate.answer("on-call-aware", by="Ann").name == "Suspended"
    assert gate.note == (
        "> **on-call-aware is signed by the role on-call; Ann has: release-manager**"
    )
    assert gate.answer(by="Ann").name == "Suspended"
    assert gate.signed() == {"rollback-plan": ["Ann"]}
    assert gate.answer(by="Bob").is_completed()
    assert gate.signed() == {"rollback-plan": ["Ann", "Bob"], "on-call-aware": ["Bob"]}


def test_a_checklist_that_nobody_could_sign_never_waits(new_gate: MakeGate) -> None:
    gate = new_gate(items=(Item("audit", "Audited", SECTION, role="auditor", approvals=2),))

    with pytest.raises(BadConfiguration) as refused:
        gate.start().result()
    assert "audit needs 2 of the role auditor, enrolled: 0" in refused.value.what
    assert gate.events(EventKind.GATE_OPENED) == []


# --- attacks: who has the server's API, and no code ---


@pytest.mark.parametrize(
    ("name", "code", "says"),
    [
        ("Ann", "", "the code for Ann is wrong or too old"),
        ("Ann", "000000", "the code for Ann is wrong or too old"),
        ("Mallory", "123456", "'Mallory' is not enrolled as an approver"),
        ("007", "123456", "'007' is no name"),
    ],
)
def test_an_answer_without_a_good_code_signs_nothing_and_is_written_down(
    new_gate: MakeGate, name: str, code: str, says: str
) -> None:
    gate = new_gate()
    gate.start()

    assert gate.send(decision="approve", approver=name, code=code) == "ACCEPT"
    assert gate.run().name == "Suspended"

    assert says in gate.note
    assert gate.signed() == {}
    (refused,) = gate.events(EventKind.ANSWER_REFUSED)
    assert (refused.payload["approver"], says in refused.payload["why"]) == (name, True)
    assert gate.answer().is_completed()


def test_a_good_code_counts_once_whatever_it_is_sent_for(new_gate: MakeGate) -> None:
    """Anybody who reads the server's database can read a code that was sent."""
    first, second = new_gate(), new_gate(plan="another plan")
    first.start()
    second.start()
    stolen = first.code("Ann")
    assert first.answer(by="Ann", code=stolen).is_completed()

    assert second.send(decision="approve", approver="Ann", code=stolen) == "ACCEPT"
    assert second.run().name == "Suspended"

    assert "that code of Ann was used before" in second.note
    assert second.signed() == {}


def test_wrong_codes_are_counted_and_end_the_run(new_gate: MakeGate) -> None:
    gate = new_gate(wrong_codes=3)
    gate.start()
    for _ in range(2):
        gate.send(decision="approve", approver="Ann", code="000000")
        assert gate.run().name == "Suspended"
    gate.send(decision="approve", approver="Ann", code="000000")

    with pytest.raises(Rejected, match="3 answers had no good code, 3 end a gate"):
        gate.run().result()
    assert len(gate.events(EventKind.ANSWER_REFUSED)) == 3


def test_a_name_that_was_guessed_at_in_many_runs_takes_no_code_for_an_hour(
    new_gate: MakeGate,
) -> None:
    gate = new_gate()
    for number in range(10):
        gate.ledger.record(
            "elsewhere",
            f"{gate.run_id}-{number}",
            EventKind.ANSWER_REFUSED,
            payload={"approver": "cleo", "why": "wrong", "unproven": True},
        )
    gate.start()

    assert gate.answer(by="Cleo").name == "Suspended"
    assert "too many wrong codes for Cleo within an hour" in gate.note
    assert gate.answer(by="Ann").is_completed()


def test_a_run_that_is_forced_on_without_an_answer_waits_again(new_gate: MakeGate) -> None:
    gate = new_gate()
    gate.start()
    force(gate, "SCHEDULED")

    assert gate.run().name == "Suspended"
    assert "resumed without an answer" in gate.note
    assert gate.signed() == {}


def test_an_answer_that_is_put_into_the_server_by_hand_signs_nothing(new_gate: MakeGate) -> None:
    """The inputs of this and of the next round, and the state, written through the API."""
    gate = new_gate()
    gate.start()
    forged = {
        "decision": "approve",
        "signs": ALL_OPEN,
        "approver": "Ann",
        "code": "",
        "comment": "",
    }
    with get_client(sync_client=True) as client:
        for number in (1, 2):
            for key in (f"{KEY}-{number}-response", f"suspend-{KEY}-{number}-response"):
                body = {"key": key, "value": json.dumps(forged)}
                client.request("POST", f"/flow_runs/{gate.id}/input", json=body)
    for _ in range(2):
        force(gate, "SCHEDULED")
        assert gate.run().name == "Suspended"

    assert gate.signed() == {}


def test_an_answer_that_is_edited_after_it_was_judged_changes_nothing(new_gate: MakeGate) -> None:
    gate = new_gate()
    gate.start()
    key = response_key(gate)
    assert gate.answer("tests-passing").name == "Suspended"
    forged = {
        "decision": "approve",
        "signs": ALL_OPEN,
        "approver": "Bob",
        "code": "",
        "comment": "",
    }
    with get_client(sync_client=True) as client:
        client.request("DELETE", f"/flow_runs/{gate.id}/input/{key}")
        body = {"key": key, "value": json.dumps(forged)}
        client.request("POST", f"/flow_runs/{gate.id}/input", json=body)

    assert gate.answer("on-call-aware", by="Bob").name == "Suspended"
    assert gate.signed() == {"tests-passing": ["Ann"], "on-call-aware": ["Bob"]}


KEY = "pre-deployment-checklist"


def forgery(name: str) -> dict[str, str]:
    """An answer by somebody who has no code."""
    return {"decision": "approve", "signs": ALL_OPEN, "approver": name, "code": "", "comment": ""}


def force(gate: Gate, state: Any) -> None:
    """Set a run's state as the API lets anybody."""
    with get_client(sync_client=True) as client:
        client.set_flow_run_state(gate.id, State(type=state, name="Forced"), force=True)


def response_key(gate: Gate) -> str:
    """The name under which the server keeps the answer to the open form."""
    with get_client(sync_client=True) as client:
        run: Any = client.read_flow_run(gate.id)
    return str(run.state.state_details.run_input_keyset["response"])


@pytest.fixture
def own(postgres: str, tmp_path: Path) -> Gate:
    """A gate whose ledger somebody edits: signed but for one item."""
    gate = Gate(_ledger(postgres, tmp_path / "spool"), enrolled(tmp_path))
    gate.start()
    gate.answer("tests-passing")
    gate.answer("migrations-tested")
    return gate


def edit(gate: Gate, statement: str) -> None:
    """Change the ledger as the database's owner can: without its triggers."""
    with psycopg.connect(gate.ledger.dsn.get_secret_value(), autocommit=True) as connection:
        connection.execute("SET session_replication_role = replica")
        connection.execute(statement.encode())


REHASH = """
DO $$
DECLARE one ledger_events; before text := '';
BEGIN
    FOR one IN SELECT * FROM ledger_events ORDER BY seq LOOP
        one.previous_hash := before;
        before := ledger_event_hash(one);
        UPDATE ledger_events SET previous_hash = one.previous_hash, hash = before
        WHERE seq = one.seq;
    END LOOP;
END $$
"""


def test_a_signature_that_is_edited_in_the_ledger_stops_the_run_before_step_1(own: Gate) -> None:
    edit(
        own,
        "UPDATE ledger_events SET payload = replace(payload::text, 'Ann', 'Bob')::json"
        " WHERE kind = 'item_signed' AND payload ->> 'item' = 'tests-passing'",
    )

    with pytest.raises(SignaturesInvalid, match="the ledger was changed since this run began"):
        own.answer().result()


def test_a_ledger_that_was_edited_and_chained_anew_is_caught_by_the_seal(own: Gate) -> None:
    edit(
        own,
        "UPDATE ledger_events SET payload = replace(payload::text, 'Ann', 'Bob')::json"
        " WHERE kind = 'item_signed' AND payload ->> 'item' = 'tests-passing'",
    )
    edit(own, REHASH)
    assert own.ledger.verify() == []

    with pytest.raises(SignaturesInvalid, match="of Bob on tests-passing does not hold"):
        own.answer().result()


def test_a_signature_of_another_run_or_version_is_worth_nothing(own: Gate) -> None:
    """Signatures for one plan, moved to the run of another."""
    own.answer()
    victim = Gate(own.ledger, own.approvers, plan="v6.6.6", items=ITEMS[:1])
    victim.start()
    edit(
        own,
        f"UPDATE ledger_events SET run_id = '{victim.run_id}'"
        " WHERE kind = 'item_signed' AND payload ->> 'item' = 'tests-passing'",
    )
    edit(own, REHASH)
    own.ledger.record(own.environment, "later", EventKind.NOTIFIED)

    with pytest.raises(SignaturesInvalid, match="of Ann on tests-passing does not hold"):
        victim.answer(by="Bob").result()


def test_a_plan_that_changed_after_it_was_signed_is_not_carried_out(new_gate: MakeGate) -> None:
    """The run's stored results were lost, and what it would deploy now is something else."""
    gate = new_gate()
    gate.start()
    gate.answer("tests-passing")
    gate.answer("migrations-tested")
    gate.plan = "another version"

    with pytest.raises(SignaturesInvalid, match="or given for another run or another plan"):
        gate.answer().result()


def test_an_item_that_is_reworded_while_it_waits_is_signed_anew(new_gate: MakeGate) -> None:
    """The runbook is read again by each body; what was signed were the words of then."""
    gate = new_gate()
    gate.start()
    gate.answer("tests-passing")
    gate.items = (replace(ITEMS[0], text="Nobody ran a test"), *ITEMS[2:])

    assert gate.answer("on-call-aware", by="Bob").name == "Suspended"
    assert gate.note == (
        "> **tests-passing is open again: the runbook was edited since Ann signed it**"
    )
    assert gate.answer(by="Bob").is_completed()
    assert gate.signed() == {"tests-passing": ["Ann", "Bob"], "on-call-aware": ["Bob"]}


def test_who_started_a_run_cannot_be_edited_after_a_signature(new_gate: MakeGate) -> None:
    """The server lets anybody change a run's parameters while it waits."""
    gate = new_gate(started_by="Ann")
    gate.start()
    gate.answer(by="Ann")
    gate.started_by = "Somebody"

    with pytest.raises(SignaturesInvalid, match="or given for another run or another plan"):
        gate.answer(by="Ann").result()


def test_who_is_no_approver_any_more_has_not_signed(new_gate: MakeGate) -> None:
    gate = new_gate()
    gate.start()
    gate.answer("tests-passing", by="Cleo")
    gate.approvers.remove("Cleo")

    with pytest.raises(SignaturesInvalid, match="the signature of Cleo on tests-passing"):
        gate.answer().result()


def test_a_ledger_that_does_not_answer_takes_no_code_and_the_gate_stays(
    new_gate: MakeGate, tmp_path: Path
) -> None:
    gate = new_gate()
    gate.start()
    there = gate.ledger
    gate.ledger = Ledger(dsn=SecretStr("postgresql://me:x@127.0.0.1:1/none"), spool=there.spool)

    assert gate.answer().name == "Suspended"
    assert gate.note.startswith("> **no code can be checked while the ledger is away: database")
    gate.ledger = there
    assert gate.answer().is_completed()


def test_no_code_and_no_secret_is_kept_anywhere(
    new_gate: MakeGate, caplog: pytest.LogCaptureFixture
) -> None:
    gate = new_gate()
    gate.start()
    wrong, good = "918273", gate.code("Ann")
    gate.send(decision="approve", approver="Ann", code=wrong)
    gate.run()
    gate.answer(by="Ann", code=good)

    secrets = [e["secret"] for e in json.loads(gate.approvers.file.read_text()).values()]
    ledger = "".join(str(event) for event in gate.ledger.events(run_id=gate.run_id))
    for secret in (wrong, good, *secrets):
        assert secret not in ledger
        assert secret not in caplog.text
        assert secret not in gate.artifact
        assert secret not in repr(gate.approvers)


# --- time, and two at once ---


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
    call = Call(gate)
    while gate.id is None or not _accepted(gate):
        time.sleep(0.2)

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


def _accepted(gate: Gate) -> bool:
    """Answer; a run that is not paused yet, or whose form is not saved yet, is asked again."""
    return gate.send(decision="approve", approver="Ann", code=gate.code("Ann")) == "ACCEPT"
