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
    Checklist,
    Item,
    Quorum,
    Signature,
    as_worded,
    refuse_rejected,
    say_answer,
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
    """What a gate has to know about the run that it stops."""

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
    """What is signed: a section's items, and with them the plan, as a person reads it and as a
    fingerprint."""

    items: tuple[Item, ...]
    lines: Sequence[str]
    fingerprint: str
    started_by: str  # a claim; never the only one who signs

    @property
    def section(self) -> str:
        """The runbook's heading that the items stand under."""
        return self.items[0].section

    @property
    def signed(self) -> str:
        """What a signature is over, beside its item. A claim that is edited while the run waits
        breaks it."""
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
    rules: GateRules,
    collect: Collect,
    opened: Opened = lambda round, until, said: (),
) -> tuple[Signature, ...]:
    """Return when each item is signed. To be called from the body of the run's own flow.

    ``collect`` gives the evidence of a round, from 1 on; it has to be a step, keyed by the round,
    so that a resumed run sees what the approver saw. ``opened`` is called with each round, the
    deadline, and what the last answer came to ("" for the first round), before anybody can answer;
    it tells people, and returns a sentence for each person who was not told. It has to be a step as
    well.

    Raises Rejected when an item is rejected, by a person or by its evidence, and after too many
    wrong codes; SignaturesInvalid when the ledger does not bear out what was signed;
    BadConfiguration when too few approvers are enrolled. When ``rules.deadline`` passes, the
    server ends a run of a deployment; otherwise GateExpired.
    """
    if not subject.items:
        return ()
    section = subject.section
    if rules.approval == "evidence":
        return _by_evidence(run, subject.items, collect(1), f"{slug(section)}-1")
    quorum = Quorum(rules.signers, subject.started_by)
    _refuse_unsignable(run, subject.items, quorum)
    until = gate_deadline(rules.deadline, key=slug(section))
    gate = _Gate(run, subject, rules, quorum, until, collect, opened)
    try:
        last = gate.wait_until_signed()
        confirm_signatures(run.target, run.approvers, last, key=slug(section))
    except Exception:  # a run that is suspended leaves by another way
        close_gate(run.target, run.id, section, key=slug(section))
        raise
    close_gate(run.target, run.id, section, key=slug(section))
    return last.checklist.signatures


@dataclass(frozen=True)
class _Gate:
    """A gate that people sign, round by round."""

    run: SigningRun
    subject: Subject
    rules: GateRules
    quorum: Quorum
    until: datetime
    collect: Collect
    opened: Opened

    def wait_until_signed(self) -> GateRound:
        """Ask until nothing is open; the last round, which asked nobody."""
        signatures: tuple[Signature, ...] = ()
        lost: tuple[Signature, ...] = ()
        judged, unproven, refused = Judged(), 0, 0
        for number in count(1):
            signatures, reworded = as_worded(signatures, self.subject.items)
            lost += reworded
            round, fallen = self.round(number, signatures)
            checklist = round.checklist
            if not checklist.waiting:
                break
            changed = _joined(fallen, say_reworded(lost, checklist.waiting))
            note = _joined(judged.refusal, changed)
            answered = say_answer(judged.signatures, judged.refusal, checklist.open)
            said = _joined(answered, changed)
            tell = not judged.refusal or refused <= self.rules.wrong_codes
            judged = self.ask(round, note=note, said=said, tell=tell)
            signatures = checklist.signatures + judged.signatures
            unproven += judged.unproven
            refused += bool(judged.refusal)
            if unproven >= self.rules.wrong_codes:
                raise Rejected(
                    f"{unproven} answers had no valid code, {self.rules.wrong_codes} end a gate: "
                    f"{judged.refusal}",
                    "find out who answered, then start the deployment again",
                )
        return round

    def round(self, number: int, signatures: tuple[Signature, ...]) -> tuple[GateRound, str]:
        """What is known and open now, shown as an artifact; and why signatures fell."""
        evidence = self.collect(number)
        signatures, fallen = standing(signatures, evidence)
        round = GateRound(
            run_id=self.run.id,
            section=self.subject.section,
            key=f"{slug(self.subject.section)}-{number}",
            subject=self.subject.signed,
            about=self.subject.lines[0],
            checklist=Checklist(self.subject.items, self.quorum, evidence, signatures),
        )
        where = self.run.environment
        artifact = record(where, round.checklist)
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
        note = _joined(note, *not_told)
        text = gate_text(self.subject.lines, round.checklist, until=self.until, note=note)
        answer = _wait(_form(round.checklist.waiting, text), round, self.until)
        judged = check_answer(self.run.target, self.run.approvers, round, answer, key=round.key)
        refuse_rejected(judged.signatures)
        return judged


def _joined(*sentences: str) -> str:
    return "; ".join(filter(None, sentences))


def _refuse_unsignable(run: SigningRun, items: Sequence[Item], quorum: Quorum) -> None:
    """Raise BadConfiguration if nobody could ever get past the gate."""
    problem = unsignable(items, run.approvers.known(), quorum)
    if problem:
        raise BadConfiguration(
            f"this checklist cannot be signed: {problem}", "ignition approvers add NAME --role ROLE"
        )


def _by_evidence(
    run: SigningRun, items: tuple[Item, ...], evidence: tuple[Evidence, ...], key: str
) -> tuple[Signature, ...]:
    signatures = record_signatures(
        run.target,
        run.id,
        items[0].section,
        signed_by_evidence(items, evidence, run.environment),
        key=key,
    )
    settled = Checklist(items, evidence=evidence, signatures=signatures)
    artifact = record(run.environment, settled)
    show_checklist(run.environment, artifact, key=key, return_state=True)
    refuse_rejected(signatures)
    return signatures


def _wait(form: type[RunInput], round: GateRound, until: datetime) -> Answer | None:
    """Leave the process until the form is sent. Returns None if the run was resumed without it."""
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
            f"not everything was signed by {until:%H:%M:%S} UTC; "
            f"still open: {round.checklist.open}",
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
