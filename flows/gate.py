"""A gate: the run waits, as long as it takes, until people have signed each item of a checklist.

No process waits. The run is suspended; after the answer the flow's body runs again from the top,
earlier rounds give back their stored answers, and what they did is skipped. What an answer is worth
is decided on the worker (``tasks/checklist.py``), and once more before anything acts on it.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from typing import Any, Literal, Protocol

from prefect.exceptions import FlowPauseTimeout
from prefect.flow_runs import pause_flow_run, suspend_flow_run
from prefect.input import RunInput
from prefect.runtime import deployment
from pydantic import Field, ValidationError, create_model

from blocks.approvers import Approvers
from blocks.target import Target
from release.configuration.rules import GateRules
from release.errors import BadConfiguration, GateExpired, Rejected
from release.gate.checklist import (
    ALL_OPEN,
    APPROVER_LENGTH,
    COMMENT_LENGTH,
    Answer,
    Item,
    Quorum,
    Signature,
    as_worded,
    open_items,
    refuse_rejected,
    say_answer,
    say_open,
    say_reworded,
    signed_by_evidence,
    standing,
)
from release.gate.evidence import Evidence
from release.gate.signatures import unsignable
from release.gate.text import gate_text, record
from release.model import Step
from release.runbook.document import slug
from tasks.checklist import (
    GateRound,
    Judged,
    check_answer,
    close_gate,
    confirm_signatures,
    gate_deadline,
    open_gate,
    record_signatures,
    say_said,
    show_checklist,
)
from tasks.say import speaking

# How often an in-process pause looks for its answer. Runs of a deployment never wait like that.
_POLL_SECONDS = 2


Collect = Callable[[int], tuple[Evidence, ...]]
Opened = Callable[[GateRound, datetime, str], Sequence[str]]


class SigningRun(Protocol):
    """What a gate has to know of the run that it stops."""

    @property
    def id(self) -> str: ...
    @property
    def environment(self) -> str: ...
    @property
    def target(self) -> Target: ...
    @property
    def approvers(self) -> Approvers: ...


@dataclass(frozen=True)
class Subject:
    """What is signed: the plan, as a person reads it and as a fingerprint."""

    lines: Sequence[str]
    fingerprint: str
    started_by: str  # a claim; never the only one who signs

    @property
    def signed(self) -> str:
        """What a signature is over. A claim that is edited while the run waits breaks it."""
        return json.dumps([self.fingerprint, self.started_by], ensure_ascii=False)


class ChecklistForm(RunInput):
    """What a person fills in.

    Pattern and lengths stand in the JSON schema, which the server checks, and not in the model:
    the stored answer is read again on every resume, where a second, slightly different check of
    it would break the run instead of asking again. What counts is judged by ``check_answer``.
    """

    decision: Literal["approve", "reject"] = Field(
        title="Decision",
        description="reject ends the run, and what serves now keeps serving. It needs no code.",
        json_schema_extra={"position": 0},
    )
    signs: str
    approver: str = Field(
        title="Your name",
        description=f"As you were enrolled, {APPROVER_LENGTH} characters at most.",
        json_schema_extra={
            "position": 2,
            "pattern": r"^\S.*$",
            "minLength": 1,
            "maxLength": APPROVER_LENGTH,
        },
    )
    code: str = Field(
        default="",
        title="One-time code",
        description="The six digits that your authenticator shows now. Each counts once.",
        json_schema_extra={"position": 3, "pattern": r"^([0-9]{3} ?[0-9]{3})?\s*$"},
    )
    comment: str = Field(
        default="",
        title="Comment",
        description="One line for the record. Say why, if you reject.",
        json_schema_extra={"position": 4, "maxLength": COMMENT_LENGTH},
    )


@speaking(heading=Step.CHECKLIST.short)
def sign_off(
    run: SigningRun,
    subject: Subject,
    items: Sequence[Item],
    rules: GateRules,
    collect: Collect,
    opened: Opened = lambda round, until, said: (),
) -> tuple[Signature, ...]:
    """Return when each item is signed. To be called from the body of the run's own flow.

    ``items`` are those of one section. ``collect`` gives the evidence of a round, from 1 on; it
    has to be a step, keyed by the round, so that a resumed run sees what the approver saw.
    ``opened`` is called with each round, the deadline, and what the last answer came to ("" for the
    first round), before anybody can answer; it tells people, and returns a sentence for each who
    was not told. It has to be a step as well.

    Raises Rejected when an item is rejected, by a person or by its evidence, and after too many
    wrong codes; SignaturesInvalid when the ledger does not bear out what was signed;
    BadConfiguration when too few approvers are enrolled. When ``rules.deadline`` passes, the
    server ends a run of a deployment; otherwise GateExpired.
    """
    if not items:
        return ()
    section = items[0].section
    if rules.approval == "evidence":
        return _by_evidence(run, items, collect(1), f"{slug(section)}-1")
    quorum = Quorum(rules.signers, subject.started_by)
    _refuse_unsignable(run, items, quorum)
    until = gate_deadline(rules.deadline, key=slug(section))
    gate = _Gate(run, subject, tuple(items), rules, quorum, until, collect, opened)
    try:
        signatures = gate.wait_until_signed()
        gate.confirm()
    except Exception:  # a run that is suspended leaves by another way
        close_gate(run.target, run.id, section, key=slug(section))
        raise
    close_gate(run.target, run.id, section, key=slug(section))
    return signatures


@dataclass(frozen=True)
class _Gate:
    """A gate that people sign, round by round."""

    run: SigningRun
    subject: Subject
    items: tuple[Item, ...]
    rules: GateRules
    quorum: Quorum
    until: datetime
    collect: Collect
    opened: Opened

    def wait_until_signed(self) -> tuple[Signature, ...]:
        """Ask until nothing is open."""
        signatures: tuple[Signature, ...] = ()
        lost: tuple[Signature, ...] = ()
        judged, unproven, refused = Judged(), 0, 0
        for number in count(1):
            signatures, reworded = as_worded(signatures, self.items)
            lost += reworded
            round, fallen = self.round(number, signatures)
            if not round.waiting:
                break
            changed = _joined(fallen, say_reworded(lost, round.waiting))
            note = _joined(judged.refusal, changed)
            answered = say_answer(judged.signatures, judged.refusal, round.open)
            said = _joined(answered, changed)
            tell = not judged.refusal or refused <= self.rules.wrong_codes
            judged = self.ask(round, note=note, said=said, tell=tell)
            signatures = round.signatures + judged.signatures
            unproven += judged.unproven
            refused += bool(judged.refusal)
            if unproven >= self.rules.wrong_codes:
                raise Rejected(
                    f"{unproven} answers had no good code, {self.rules.wrong_codes} end a gate: "
                    f"{judged.refusal}",
                    "find out who answered, then start the deployment again",
                )
        return round.signatures

    def round(self, number: int, signatures: tuple[Signature, ...]) -> tuple[GateRound, str]:
        """What is known and open now, shown as an artifact; and why signatures fell."""
        evidence = self.collect(number)
        signatures, fallen = standing(signatures, evidence)
        round = GateRound(
            run_id=self.run.id,
            section=self.items[0].section,
            key=f"{slug(self.items[0].section)}-{number}",
            subject=self.subject.signed,
            about=self.subject.lines[0],
            waiting=open_items(self.items, signatures, self.quorum),
            evidence=evidence,
            signatures=signatures,
            lacks=self.quorum.lacks(signatures),
            open=say_open(self.items, signatures, self.quorum),
        )
        where = self.run.environment
        artifact = record(where, self.items, evidence, signatures, self.quorum)
        # A page that cannot be kept decides nothing: the form shows the same.
        show_checklist(where, artifact, key=round.key, return_state=True)
        return round, fallen

    def ask(self, round: GateRound, *, note: str, said: str, tell: bool) -> Judged:
        """Open the form, leave until it is sent, and say what the answer came to.

        ``said`` is what the answer before came to, ``note`` what of it the form does not show.
        ``tell`` False: people are not told of it, because answers that sign nothing, which anybody
        can send, have told them too often. Raises Rejected for a no.
        """
        open_gate(self.run.target, round, self.until, key=round.key)
        not_told = self.opened(round, self.until, said) if tell else ()
        if said:
            say_said(round, said, key=round.key)
        text = gate_text(
            self.subject.lines,
            self.items,
            round.evidence,
            round.signatures,
            self.quorum,
            until=self.until,
            note=_joined(note, *not_told),
        )
        answer = _wait(_form(round.waiting, text), round, self.until)
        judged = check_answer(self.run.target, self.run.approvers, round, answer, key=round.key)
        refuse_rejected(judged.signatures)
        return judged

    def confirm(self) -> None:
        """Verify what was signed from the ledger, before anything acts on it."""
        confirm_signatures(
            self.run.target,
            self.run.approvers,
            self.run.id,
            self.subject.signed,
            self.items,
            self.quorum,
            key=slug(self.items[0].section),
        )


def _joined(*sentences: str) -> str:
    return "; ".join(filter(None, sentences))


def _refuse_unsignable(run: SigningRun, items: Sequence[Item], quorum: Quorum) -> None:
    """Raise BadConfiguration where nobody could ever get past the gate."""
    problem = unsignable(items, run.approvers.known(), quorum)
    if problem:
        raise BadConfiguration(
            f"this checklist cannot be signed: {problem}", "ignition approvers add NAME --role ROLE"
        )


def _by_evidence(
    run: SigningRun, items: Sequence[Item], evidence: tuple[Evidence, ...], key: str
) -> tuple[Signature, ...]:
    signatures = record_signatures(
        run.target,
        run.id,
        items[0].section,
        signed_by_evidence(items, evidence, run.environment),
        key=key,
    )
    artifact = record(run.environment, items, evidence, signatures, Quorum())
    show_checklist(run.environment, artifact, key=key, return_state=True)
    refuse_rejected(signatures)
    return signatures


def _wait(form: type[RunInput], round: GateRound, until: datetime) -> Answer | None:
    """Leave the process until the form is sent; None where the run was resumed without it."""
    left = until - datetime.now(UTC)
    seconds = max(int(left.total_seconds()), 1)  # a round that was answered waits no more
    try:
        if deployment.id is None:
            sent = pause_flow_run(form, timeout=seconds, poll_interval=_POLL_SECONDS, key=round.key)
        else:
            sent = suspend_flow_run(form, timeout=seconds, key=round.key)
    except ValidationError:
        return None
    except FlowPauseTimeout:
        raise GateExpired(
            f"not all have signed until {until:%H:%M:%S} UTC; still open: {round.open}",
            "start the deployment again",
        ) from None
    return Answer(**sent.model_dump())


def _form(waiting: Sequence[Item], text: str) -> type[RunInput]:
    """The form of a round, with its open items to choose from and ``text`` above it."""
    choices: Any = Literal[(ALL_OPEN, *(item.id for item in waiting))]
    signs = Field(
        default=ALL_OPEN,
        title="What you sign",
        description="Everything that is open and yours to sign, or one item.",
        json_schema_extra={"position": 1},
    )
    form = create_model("ChecklistForm", __base__=ChecklistForm, signs=(choices, signs))
    # Only the description is prefilled: a prefilled field would lose its title and pattern.
    return form.with_initial_data(description=text)
