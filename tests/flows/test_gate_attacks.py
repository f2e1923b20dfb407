"""What a gate survives from somebody who has the server's API, or the ledger, and no code."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State
from pydantic import SecretStr

from blocks.ledger.ledger import Ledger
from release.errors import Rejected, SignaturesInvalid
from release.gate.checklist import ALL_OPEN
from release.ledger import EventKind
from tests.fakes.gate import ITEMS, Gate, MakeGate, enrolled, new_ledger

pytestmark = [pytest.mark.usefixtures("prefect_server"), pytest.mark.gates]


@pytest.mark.parametrize(
    ("name", "code", "says"),
    [
        ("Ann", "", "the code for Ann is wrong or too old"),
        ("Ann", "000000", "the code for Ann is wrong or too old"),
        ("Mallory", "123456", "'Mallory' is not enrolled as an approver"),
        ("007", "123456", "'007' is not a name"),
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

    with pytest.raises(Rejected, match="3 answers had no valid code, 3 end a gate"):
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
    gate = Gate(new_ledger(postgres, tmp_path / "spool"), enrolled(tmp_path))
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
