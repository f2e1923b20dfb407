"""A run that needs signatures, against a real Prefect server and a real ledger.

The tests play the worker: they run a deployment's flow run in this process until it suspends, and
again after each answer, as the next worker would in another process.
"""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal, cast
from uuid import UUID, uuid4

import psycopg
import pyotp
from prefect import Flow, flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State
from prefect.exceptions import Pause
from prefect.flow_engine import run_flow
from prefect.input.actions import read_flow_run_input
from prefect.runtime import flow_run
from pydantic import SecretStr

from blocks.approvers import Approvers
from blocks.ledger.ledger import Ledger
from flows.gate import Subject, sign_off
from release.configuration.rules import GateRules
from release.errors import NothingChanged
from release.gate.checklist import ALL_OPEN, Item, Signature
from release.gate.evidence import Evidence, EvidenceSource, EvidenceVerdict
from release.ledger import Event, EventKind
from tasks.checklist import GateRound
from tasks.say import speak_for
from tasks.step import step

SECTION = "Pre-Deployment Checklist"
ITEMS = (
    Item("tests-passing", "All tests passing", SECTION, EvidenceSource.TESTS),
    Item("migrations-tested", "Migrations tested", SECTION, EvidenceSource.MIGRATIONS_IN_STAGING),
    Item("on-call-aware", "On-call aware", SECTION),
)
ROLES = {"Ann": ("release-manager",), "Bob": ("on-call",), "Cleo": ()}


def enrolled(folder: Path) -> Approvers:
    """Three people with their telephones."""
    approvers = Approvers(folder / "approvers.json")
    for name, roles in ROLES.items():
        approvers.add(name, roles)
    return approvers


def new_ledger(postgres: str, spool: Path) -> Ledger:
    """A ledger in a database of its own."""
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
    told: list[tuple[str, str]] = field(default_factory=list)  # round, what people were told
    id: Any = None  # of the flow run, once there is one
    used: set[tuple[str, int]] = field(default_factory=set)

    @property
    def label(self) -> str:
        return f"d-{self.run_id[:6]}"

    def flow(self) -> Flow[[], Any]:
        @step("Collect evidence", timeout=timedelta(seconds=10))
        def collect(*, key: str) -> tuple[Evidence, ...]:
            self.collections.append(int(key))
            at = datetime.now(UTC)
            return tuple(
                Evidence(item, verdict, f"it {verdict}", "the source", at)
                for item, verdict in self.evidence.items()
            )

        @step("Tell", timeout=timedelta(seconds=10))
        def told(said: str, *, key: str) -> tuple[str, ...]:
            self.told.append((key, said))
            return ()

        def tell(round: GateRound, until: datetime, said: str) -> Any:
            return told(said, key=round.key)

        @flow(name="deploy")
        def deploy() -> None:
            self.bodies += 1
            self.id = UUID(flow_run.id)
            speak_for(self.label)  # as `once` does
            run: Any = SimpleNamespace(
                id=self.run_id,
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
            subject = Subject(self.items, ["v1.0.0 → v1.1.0"], self.plan, self.started_by)
            try:
                self.signatures = sign_off(
                    run, subject, rules, lambda number: collect(key=str(number)), tell
                )
            except NothingChanged as error:
                self.error = error  # a pause that timed out overwrites the state of its run
                raise

        return deploy

    def create(self) -> None:
        """Create a run of a deployment, which nobody has begun."""
        self.deploy = self.flow()
        with get_client(sync_client=True) as client:
            flow_id = client.create_flow(self.deploy)
            deployment = client.create_deployment(flow_id, f"to-{self.environment}")
            self.id = client.create_flow_run_from_deployment(deployment).id

    def start(self) -> State[Any]:
        """Start a run of a deployment and carry it to its first stop."""
        self.create()
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
