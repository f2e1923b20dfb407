"""A run waits for its signatures: what every text says to type, and what that signs or ends."""

import io
import threading
from collections.abc import Callable
from contextlib import redirect_stdout
from contextvars import copy_context
from datetime import timedelta
from typing import Any

import psycopg
import pytest

import cli.main
from blocks.approvers import Approvers
from cli.gates import approval, judged
from cli.runs import answer, find_waiting, read
from cli.terminal import say_state
from release.errors import Rejected, SignaturesInvalid
from release.gate.checklist import Checklist
from release.gate.signatures import verify_signatures
from release.ledger import Event, EventKind, short_run
from release.model import Step
from sandbox.commands import wait_until
from tasks.checklist import GateRound, confirm_signatures
from tasks.notification import page_of
from tests.fakes.gate import ITEMS, Gate
from tests.fakes.shell import Done, Shell
from tests.hints.conftest import Crew

ALL = {item.id for item in ITEMS}


@pytest.fixture
def gate(crew: Crew, approvers: Approvers) -> Gate:
    """A deployment waits at its gate, and holds production."""
    made = Gate(crew.production.ledger, approvers, environment="production")
    made.create()
    made.run_id = str(made.id)
    made.ledger.acquire("production", made.run_id, "Grace", "deploy v1.2.0")
    made.ledger.record("production", made.run_id, EventKind.STEP_BEGUN, step=Step.PLAN)
    made.run()
    return made


class Answer:
    """A command that answers a gate, beside a worker that takes the run up as soon as it may."""

    def __init__(self, shell: Shell, gate: Gate) -> None:
        self.shell, self.gate = shell, gate

    def __call__(self, text: str, begins: str, code: str = "") -> Done:
        worker = threading.Thread(target=copy_context().run, args=(self._work,), daemon=True)
        worker.start()
        done = self.shell.type(
            text, begins, answer=f"{code or self.gate.code('Ann')}\n", NAME="Ann"
        )
        worker.join()
        return done

    def _work(self) -> None:
        run_id = str(self.gate.id)
        wait_until(
            lambda: not read(run_id).waiting or None,
            what="an answer",
            seconds=60,
            hint="read what the command said",
        )
        self.gate.run()


@pytest.fixture
def types(shell: Shell, gate: Gate) -> Answer:
    return Answer(shell, gate)


def by_status(shell: Shell, gate: Gate) -> str:
    """The hint about who holds production."""
    lines = shell.ignition("status", "production").said.splitlines()
    return next(line for line in lines if line.startswith("  hint: "))


def by_waiting(shell: Shell, gate: Gate) -> str:
    lines = shell.ignition("status", "production").said.splitlines()
    return next(line for line in lines if line.startswith("waiting: "))


def by_gates(shell: Shell, gate: Gate) -> str:
    return shell.ignition("gates").said


def by_message(shell: Shell, gate: Gate) -> str:
    return "\n".join(page_of(gate.run_id).lines)


def by_wait(shell: Shell, gate: Gate) -> str:
    said = io.StringIO()
    with redirect_stdout(said):
        say_state(read(gate.run_id))
    return said.getvalue()


Text = Callable[[Shell, Gate], str]


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(by_status, marks=pytest.mark.hint("_waiting: approve")),
        pytest.param(by_waiting, marks=pytest.mark.hint("StatusView._waiting: approve")),
        pytest.param(by_gates, marks=pytest.mark.hint("GateView.lines: approve")),
        pytest.param(by_message, marks=pytest.mark.hint("Page.lines: approve")),
        pytest.param(by_wait, marks=pytest.mark.hint("say_state: approve")),
    ],
)
def test_whoever_types_what_a_gate_asks_for_signs_it(
    shell: Shell, gate: Gate, types: Answer, crew: Crew, text: Text
) -> None:
    done = types(text(shell, gate), "ignition approve")

    assert done.code == 0, done.text
    assert set(gate.signed()) == ALL
    assert "no run waits for a signature" in shell.ignition("status", "production").said
    assert crew.left == ("v1.1.0", gate.run_id), "it goes on"


def by_unlock(shell: Shell, gate: Gate) -> str:
    refused = shell.ignition("unlock", "production", "--as", "Ada", "--reason", "it hangs")
    assert refused.code == 1
    assert refused.complained.startswith(f"error: {short_run(gate.run_id)} holds production")
    return refused.hint


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(by_status, marks=pytest.mark.hint("_waiting: reject")),
        pytest.param(by_unlock, marks=pytest.mark.hint("_end_of: reject")),
    ],
)
def test_whoever_says_no_ends_the_run(
    gate: Gate, types: Answer, shell: Shell, crew: Crew, text: Text
) -> None:
    done = types(text(shell, gate), "ignition reject")

    assert done.code == 0, done.text
    assert read(gate.run_id).ended
    assert isinstance(gate.error, Rejected)
    assert crew.production.serves == "v1.1.0"


# ── An answer that counts for nothing ────────────────────────────────────────────────────────────


@pytest.mark.hint("refuse_unknown_item: approve")
def test_an_item_that_is_misspelt_is_named_and_signed(
    shell: Shell, gate: Gate, types: Answer
) -> None:
    words = ("approve", short_run(gate.run_id), "--as", "Ann")
    refused = shell.ignition(*words, "--item", "test-passing")
    assert (refused.code, gate.signed()) == (1, {})

    done = types(refused.hint, "ignition approve")

    assert done.code == 0, done.text
    assert set(gate.signed()) == {"tests-passing"}


@pytest.mark.hint("judged: approve")
def test_a_wrong_code_is_followed_by_a_right_one(shell: Shell, gate: Gate, types: Answer) -> None:
    good = gate.code("Ann")
    wrong = f"{(int(good) + 1) % 1_000_000:06}"
    refused = types(
        f"ignition approve {short_run(gate.run_id)} --as NAME", "ignition approve", wrong
    )
    assert (refused.code, gate.signed()) == (1, {})

    done = types(refused.hint, "ignition approve")

    assert done.code == 0, done.text
    assert set(gate.signed()) == ALL


def test_what_is_no_code_is_typed_again(shell: Shell, gate: Gate, types: Answer) -> None:
    """The hint is no command, but where the code is read."""
    words = ("approve", short_run(gate.run_id), "--as", "Ann")
    refused = shell.ignition(*words, answer="12345\n")
    assert (refused.code, gate.signed()) == (1, {})
    assert refused.hint == "type the code that your authenticator shows now"

    assert types(by_status(shell, gate), "ignition approve").code == 0
    assert set(gate.signed()) == ALL


@pytest.mark.hint("refuse_unknown: approvers")
def test_a_name_that_is_not_enrolled_is_looked_up(shell: Shell, gate: Gate) -> None:
    refused = shell.ignition("approve", short_run(gate.run_id), "--as", "Anne", answer="123456\n")
    assert (refused.code, gate.signed()) == (1, {})
    assert "did you mean Ann?" in refused.complained

    listed = shell.type(refused.hint, "ignition approvers list")
    assert [line.split()[0] for line in listed.said.splitlines()] == ["Ann", "Bob", "Cleo"]


@pytest.mark.hint("find_waiting: status")
def test_a_run_that_does_not_wait_is_looked_up_in_status(
    shell: Shell, gate: Gate, types: Answer
) -> None:
    refused = shell.ignition("approve", "d-000000", "--as", "Ann")
    assert (refused.code, gate.signed()) == (1, {})

    assert f"waiting: {short_run(gate.run_id)} " in shell.type(refused.hint, "ignition status").said


@pytest.mark.hint("judged.look: gates")
def test_whoever_was_second_sees_that_nothing_waits_any_more(
    shell: Shell, gate: Gate, types: Answer
) -> None:
    assert types(by_status(shell, gate), "ignition approve").code == 0
    (opened,) = {event.key for event in gate.events(EventKind.GATE_OPENED)}
    with pytest.raises(Rejected) as refused:
        judged(gate.ledger, read(gate.run_id), opened, "Bob", timedelta(seconds=30))

    assert shell.type(str(refused.value), "ignition gates").said == "no gate waits\n"


@pytest.mark.hint("judged: gates")
def test_an_answer_that_no_worker_reads_is_followed_in_the_gates(
    shell: Shell, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli.main, "JUDGED_WITHIN", timedelta(milliseconds=10))
    words = ("approve", short_run(gate.run_id), "--as", "Ann")
    sent = shell.ignition(*words, answer=f"{gate.code('Ann')}\n")
    assert sent.code == 1

    assert shell.type(sent.hint, "ignition gates").said == "no gate waits\n"
    gate.run()  # a worker is there at last
    assert set(gate.signed()) == ALL


@pytest.mark.hint("answer: gates")
def test_an_answer_that_comes_too_late_is_followed_in_the_gates(
    shell: Shell, gate: Gate, types: Answer
) -> None:
    found = find_waiting(gate.run_id)
    assert types(by_status(shell, gate), "ignition reject").code == 0
    with pytest.raises(Rejected) as refused:
        answer(found, approval("Ann", "", "", "123456"))

    assert shell.type(str(refused.value), "ignition gates").said == "no gate waits\n"
    assert gate.signed() == {}


# ── What was signed ──────────────────────────────────────────────────────────────────────────────


def changed(event: Event, gate: Gate) -> None:
    """Somebody edits a signature in the ledger."""
    with psycopg.connect(gate.ledger.dsn.get_secret_value()) as connection:
        connection.execute("SET session_replication_role = replica")  # past the ledger's triggers
        connection.execute(
            'UPDATE ledger_events SET payload = (payload::jsonb || \'{"approver": "Bob"}\')::json'
            " WHERE seq = %s",
            (event.seq,),
        )


def of_the_signatures(gate: Gate) -> None:
    events = gate.events(EventKind.ITEM_SIGNED)
    verify_signatures(gate.run_id, gate.plan, Checklist(ITEMS), events, gate.approvers.seal)


def of_the_chain(gate: Gate) -> None:
    target: Any = type("Target", (), {"environment": "production", "ledger": gate.ledger})
    last = GateRound(gate.run_id, "Pre", "pre-1", gate.plan, "", Checklist(ITEMS))
    confirm_signatures.fn(target, gate.approvers, last, key="x")


@pytest.mark.parametrize(
    "confirm",
    [
        pytest.param(of_the_signatures, marks=pytest.mark.hint("verify_signatures: verify")),
        pytest.param(of_the_chain, marks=pytest.mark.hint("confirm_signatures: verify")),
    ],
)
def test_a_signature_that_was_edited_is_found_by_verify(
    shell: Shell, gate: Gate, types: Answer, confirm: Callable[[Gate], None]
) -> None:
    assert types(by_status(shell, gate), "ignition approve").code == 0
    changed(gate.events(EventKind.ITEM_SIGNED)[0], gate)
    with pytest.raises(SignaturesInvalid) as refused:
        confirm(gate)

    verified = shell.type(str(refused.value), "ignition verify")

    assert verified.code == 1
    assert verified.said.count("\n") == 1, verified.said


@pytest.mark.hint("verify_signatures: verify")
def test_a_gate_that_was_forced_open_is_no_fault_of_the_ledger(
    shell: Shell, gate: Gate, crew: Crew
) -> None:
    with pytest.raises(SignaturesInvalid) as refused:
        of_the_signatures(gate)

    verified = shell.type(str(refused.value), "ignition verify")

    assert (verified.code, verified.said) == (0, "the ledger's chain is whole\n")
    assert crew.left == ("v1.1.0", gate.run_id)
