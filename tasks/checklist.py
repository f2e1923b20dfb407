"""A checklist in the world: shown in the UI, announced while it waits, written to the ledger."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from logging import WARNING
from typing import Any

from prefect.artifacts import create_markdown_artifact

from blocks.approvers import Approvers
from blocks.target import Target
from release.errors import BadRequest, DeployError, SignaturesInvalid, Unproven, Unreachable
from release.gate.approvers import find
from release.gate.checklist import (
    Answer,
    Checklist,
    Decision,
    Signature,
    checked_answer,
    covered,
    missing,
    rejected_by,
)
from release.gate.evidence import say_evidence
from release.gate.signatures import LOCKOUT, locked_until, sealed_text, verify_signatures
from release.ledger import EventKind
from tasks.events import CLOSED, OPENED, tell_server
from tasks.page import WAITING_TAG, change_run
from tasks.say import say
from tasks.step import step

_EVENTS = {
    Decision.APPROVE: EventKind.ITEM_SIGNED,
    Decision.NOT_REQUIRED: EventKind.ITEM_SIGNED,
    Decision.REJECT: EventKind.REJECTED,
}


@dataclass(frozen=True)
class GateRound:
    """One opening of a gate: what was known and signed when the form was shown."""

    run_id: str
    section: str
    key: str  # the section and the round's number
    subject: str  # what is signed beside the item: the plan's fingerprint, and who started it
    about: str  # the plan's first line, for messages
    checklist: Checklist


@dataclass(frozen=True)
class Judged:
    """What an answer came to: its signatures, or why it has none."""

    signatures: tuple[Signature, ...] = ()
    refusal: str = ""
    unproven: bool = False  # it had no good code, so it may have been somebody else


@step("Show checklist", timeout=timedelta(seconds=30), retries=2)
def show_checklist(environment: str, markdown: str, *, key: str) -> None:
    """Keep the checklist as it is now: the items, their evidence, who signed what."""
    create_markdown_artifact(
        key=f"checklist-{environment}",
        markdown=markdown,
        description=markdown.partition("\n")[0].replace("*", ""),
    )


@step("Open gate", timeout=timedelta(seconds=30), retries=2)
def open_gate(target: Target, gate: GateRound, until: datetime | None, *, key: str) -> None:
    """Record what is waited for, and until when, and mark the run as waiting.

    ``key`` names the round. None: it waits for ever.
    """
    checklist = gate.checklist
    items = [item.id for item in checklist.waiting]
    roles = {item.id: item.role for item in checklist.waiting if item.role}
    payload: dict[str, Any] = {
        "items": items,
        "roles": roles,
        "more": {item.id: missing(item, checklist.signatures) for item in checklist.waiting},
        "lacks": checklist.lacks,
        "about": gate.about,
        "evidence": say_evidence(checklist.evidence),
        "signed": [{"item": one.item, "approver": one.approver} for one in checklist.signatures],
    }
    if until:
        left = until - datetime.now(UTC)
        payload |= {"deadline_s": int(left.total_seconds()), "until": until.isoformat()}
    target.ledger.record(
        target.environment,
        gate.run_id,
        EventKind.GATE_OPENED,
        step=gate.section,
        key=key,
        payload=payload,
    )
    change_run(tags=lambda tags: tags | {WAITING_TAG})
    if key.endswith("-1"):  # its reminders are counted from the first opening
        tell_server(OPENED, target.environment, gate.run_id)
    until_when = f" until {until:%Y-%m-%d %H:%M:%S} UTC" if until else ""
    say(f"{len(items)} open{until_when}: {', '.join(items)}")


@step("Say what an answer came to", timeout=timedelta(seconds=30))
def say_said(gate: GateRound, said: str, *, key: str) -> None:
    """The last line of a run's log before it is suspended again. ``key`` names the round."""
    say(said)


@step("Close gate", timeout=timedelta(seconds=30), retries=2)
def close_gate(target: Target, run_id: str, section: str, *, key: str) -> None:
    """Record that a gate no longer waits, whatever came of it. ``key`` names the gate."""
    target.ledger.record(target.environment, run_id, EventKind.GATE_CLOSED, step=section, key=key)
    tell_server(CLOSED, target.environment, run_id)
    change_run(tags=lambda tags: tags - {WAITING_TAG})


@step("Gate deadline", timeout=timedelta(seconds=30))
def gate_deadline(deadline: timedelta, *, key: str) -> datetime:
    """Until when a gate may wait: counted from its first opening, however often it reopens."""
    return datetime.now(UTC) + deadline


@step("Check answer", timeout=timedelta(minutes=1), retries=2)
def check_answer(
    target: Target, approvers: Approvers, gate: GateRound, answer: Answer | None, *, key: str
) -> Judged:
    """Turn an answer into signatures and write them down; or write down why it signs nothing.

    Every name and code is checked here, on the worker: the server can prove neither. ``key`` names
    the round. Never raises for what a person typed.
    """
    try:
        given = checked_answer(answer)
        if given.decision == Decision.REJECT:
            signatures = rejected_by(given, gate.checklist.waiting, gate.checklist.evidence)
        else:
            signatures = _signed(target, approvers, gate, given)
    except DeployError as error:
        said_by = answer.approver if answer else ""
        unproven = isinstance(error, Unproven)
        say(f"an answer signs nothing: {error.what}", WARNING)
        target.ledger.record(
            target.environment,
            gate.run_id,
            EventKind.ANSWER_REFUSED,
            step=gate.section,
            key=key,
            payload={"approver": said_by, "why": error.what, "unproven": unproven},
        )
        return Judged(refusal=error.what, unproven=unproven)
    return Judged(_record(target, gate.run_id, gate.section, signatures, key))


def _signed(
    target: Target, approvers: Approvers, gate: GateRound, answer: Answer
) -> tuple[Signature, ...]:
    """The sealed signatures of an approval. Raises DeployError, Unproven for a code."""
    checklist = gate.checklist
    approver = find(approvers.known(), answer.approver)
    if approver is None:
        # Without the names that there are: whoever answers need not know them.
        raise Unproven(f"{answer.approver!r} is not enrolled as an approver")
    items = covered(answer, approver, checklist.waiting, checklist.signatures)
    _prove(target, approvers, gate, approver.name, answer.code)
    shown = {one.item: one for one in checklist.evidence}
    signed = (
        Signature(
            item.id,
            approver.name,
            Decision.APPROVE,
            answer.comment,
            rests_on=shown.get(item.id),
            gate=gate.key,
            text=item.text,
        )
        for item in items
    )
    return tuple(
        replace(one, seal=approvers.seal(one.approver, sealed_text(gate.run_id, gate.subject, one)))
        for one in signed
    )


def _prove(target: Target, approvers: Approvers, gate: GateRound, name: str, code: str) -> None:
    """Raise Unproven unless ``code`` is the approver's own and is used for the first time."""
    now = datetime.now(UTC)
    step = approvers.step_of(name, code, now)
    try:
        until = locked_until(target.ledger.unproven(name, now - LOCKOUT), now)
        first = step is not None and target.ledger.use_code(name, step, gate.run_id, gate.key)
    except Unreachable as error:
        raise BadRequest(f"no code can be checked while the ledger is away: {error.what}") from None
    if until:
        raise Unproven(
            f"too many wrong codes for {name} within an hour, so none is taken until "
            f"{until:%H:%M} UTC; another approver can sign"
        )
    if step is None:
        raise Unproven(f"the code for {name} is wrong or too old: send the one that is shown now")
    if not first:
        raise Unproven(f"that code of {name} was used before: wait up to 30 s for the next one")


@step("Record signatures", timeout=timedelta(minutes=1), retries=2)
def record_signatures(
    target: Target,
    run_id: str,
    section: str,
    signatures: tuple[Signature, ...],
    *,
    key: str,
) -> tuple[Signature, ...]:
    """Write what evidence signed to the ledger. ``key`` names the round."""
    return _record(target, run_id, section, signatures, key)


@step("Verify signatures", timeout=timedelta(minutes=2), retries=2)
def confirm_signatures(target: Target, approvers: Approvers, gate: GateRound, *, key: str) -> int:
    """Read the signatures of a checklist back from the ledger and verify each; return how many.

    ``gate`` is the last round, ``key`` names the gate. Raises SignaturesInvalid if a signature does
    not hold or is missing, or if the ledger was changed since this run began; Unreachable if it
    does not answer.
    """
    events = target.ledger.events(run_id=gate.run_id)
    first = min((event.seq for event in events), default=0)
    broken = [found for found in target.ledger.verify() if found.seq >= first]
    if broken:
        raise SignaturesInvalid(
            f"the ledger was changed since this run began: {broken[0].sentence}",
            "ignition verify, then start the deployment again",
        )
    signing = [event for event in events if event.kind == EventKind.ITEM_SIGNED]
    found = verify_signatures(gate.run_id, gate.subject, gate.checklist, signing, approvers.seal)
    people = sorted({one.approver for one in found})
    say(f"{len(found)} signatures of {', '.join(people)} verified")
    return len(found)


def _record(
    target: Target,
    run_id: str,
    section: str,
    signatures: Sequence[Signature],
    key: str,
) -> tuple[Signature, ...]:
    at = datetime.now(UTC)
    recorded = tuple(replace(signature, at=at) for signature in signatures)
    for signature in recorded:
        target.ledger.record(
            target.environment,
            run_id,
            _EVENTS[signature.decision],
            step=section,
            key=f"{key}/{signature.item}",
            payload=_payload(signature),
        )
        comment = f": {signature.comment}" if signature.comment else ""
        say(f"{signature.item}: {signature.decision} by {signature.approver}{comment}")
    change_run(tags=lambda tags: tags - {WAITING_TAG})
    return recorded


def _payload(signature: Signature) -> dict[str, Any]:
    """A signature as JSON."""
    payload = asdict(signature)
    payload["at"] = signature.at.isoformat() if signature.at else None
    rests_on = signature.rests_on
    if rests_on:
        payload["rests_on"]["at"] = rests_on.at.isoformat()
        expires = rests_on.expires_at
        payload["rests_on"]["expires_at"] = expires.isoformat() if expires else None
    return payload
