"""A gate: the run waits, as long as it takes, until people have signed each item of a checklist.

No process waits. The run is suspended; after the answer the flow's body runs again from the top,
earlier rounds give back their stored answers, and what they did is skipped.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import count
from typing import Any, Literal, Protocol

from prefect.exceptions import FlowPauseTimeout
from prefect.flow_runs import pause_flow_run, suspend_flow_run
from prefect.input import RunInput
from prefect.runtime import deployment
from pydantic import Field, ValidationError, create_model

from blocks.target import Target
from release.checklist import (
    ALL_OPEN,
    APPROVER_LENGTH,
    COMMENT_LENGTH,
    Answer,
    Evidence,
    Item,
    Signature,
    gate_text,
    open_items,
    record,
    refuse_rejected,
    signed_by,
    signed_by_evidence,
    standing,
)
from release.duration import say_duration
from release.errors import BadRequest, NothingChanged
from release.rules import GateRules
from release.runbook import slug
from tasks.checklist import open_gate, record_signatures, show_checklist

# How often an in-process pause looks for its answer. Runs of a deployment never wait like that.
_POLL_SECONDS = 2


class SigningRun(Protocol):
    """What a gate has to know of the run that it stops."""

    @property
    def id(self) -> str: ...
    @property
    def label(self) -> str: ...
    @property
    def environment(self) -> str: ...


class ChecklistForm(RunInput):
    """What a person fills in.

    Pattern and lengths stand in the JSON schema, which the server checks, and not in the model:
    the stored answer is read again on every resume, where a second, slightly different check of
    it would break the run instead of asking again. What counts is judged by ``signed_by``.
    """

    decision: Literal["approve", "reject"] = Field(
        title="Decision", description="reject ends the run; what serves, stays."
    )
    signs: str
    approver: str = Field(
        title="Your name",
        description=f"One line, a letter first, {APPROVER_LENGTH} characters at most. "
        "It is recorded as a claim: the server cannot prove it.",
        json_schema_extra={"pattern": r"^\S.*$", "minLength": 1, "maxLength": APPROVER_LENGTH},
    )
    comment: str = Field(
        default="",
        title="Comment",
        description="One line for the record. Say why, if you reject.",
        json_schema_extra={"maxLength": COMMENT_LENGTH},
    )


@dataclass(frozen=True)
class _Round:
    """One state of the checklist: what was known and signed when the gate opened."""

    key: str
    evidence: tuple[Evidence, ...]
    signatures: tuple[Signature, ...]
    waiting: tuple[Item, ...]


def sign_off(
    target: Target,
    run: SigningRun,
    plan_lines: Sequence[str],
    items: Sequence[Item],
    rules: GateRules,
    collect: Callable[[int], tuple[Evidence, ...]],
) -> tuple[Signature, ...]:
    """Return when each item is signed. To be called from the body of the run's own flow.

    ``items`` are those of one section. ``collect`` gives the evidence of a round, from 1 on; it
    has to be a step, keyed by the round, so that a resumed run sees what the approver saw.

    Raises Rejected when an item is rejected, by a person or by its evidence. In a run of a
    deployment the server ends the run when ``rules.deadline`` passes; otherwise NothingChanged.
    """
    if not items:
        return ()
    section = slug(items[0].section)
    if rules.approval == "evidence":
        return _by_evidence(target, run, items, collect(1), f"{section}-1")
    signatures: tuple[Signature, ...] = ()
    note = ""
    for number in count(1):
        evidence = collect(number)
        signatures, fallen = standing(signatures, evidence)
        waiting = open_items(items, signatures)
        round = _Round(f"{section}-{number}", evidence, signatures, waiting)
        show_checklist(
            run.environment, record(run.environment, items, evidence, signatures), key=round.key
        )
        if not waiting:
            break
        text = gate_text(
            plan_lines,
            items,
            evidence,
            signatures,
            deadline=rules.deadline,
            note="; ".join(part for part in (note, fallen) if part),
        )
        new, note = _ask(target, run, round, text, rules.deadline)
        signatures += new
    return signatures


def _by_evidence(
    target: Target,
    run: SigningRun,
    items: Sequence[Item],
    evidence: tuple[Evidence, ...],
    key: str,
) -> tuple[Signature, ...]:
    signatures = record_signatures(
        target,
        run.id,
        items[0].section,
        signed_by_evidence(items, evidence, run.environment),
        run.label,
        key=key,
    )
    show_checklist(run.environment, record(run.environment, items, evidence, signatures), key=key)
    refuse_rejected(signatures)
    return signatures


def _ask(
    target: Target, run: SigningRun, round: _Round, text: str, deadline: timedelta
) -> tuple[tuple[Signature, ...], str]:
    """The signatures of one answer; or none, and why the answer did not count."""
    open_gate(target, run.id, round.waiting, deadline, run.label, key=round.key)
    answer = _wait(_form(round.waiting, text), round, deadline)
    try:
        signatures = signed_by(answer, round.waiting, round.evidence)
    except BadRequest as error:
        return (), error.what
    signatures = record_signatures(
        target, run.id, round.waiting[0].section, signatures, run.label, key=round.key
    )
    refuse_rejected(signatures)
    return signatures, ""


def _wait(form: type[RunInput], round: _Round, deadline: timedelta) -> Answer | None:
    """Leave the process until the form is sent; None where the run was resumed without it."""
    seconds = int(deadline.total_seconds())
    try:
        if deployment.id is None:
            sent = pause_flow_run(form, timeout=seconds, poll_interval=_POLL_SECONDS, key=round.key)
        else:
            sent = suspend_flow_run(form, timeout=seconds, key=round.key)
    except ValidationError:
        return None
    except FlowPauseTimeout:
        items = ", ".join(item.id for item in round.waiting)
        raise NothingChanged(
            f"nobody answered within {say_duration(deadline)}; still open: {items}",
            "start the deployment again",
        ) from None
    return Answer(**sent.model_dump())


def _form(waiting: Sequence[Item], text: str) -> type[RunInput]:
    """The form of a round, with its open items to choose from and ``text`` above it."""
    choices: Any = Literal[(ALL_OPEN, *(item.id for item in waiting))]
    signs = Field(title="What you sign", description="One item, or all that are open.")
    form = create_model("ChecklistForm", __base__=ChecklistForm, signs=(choices, signs))
    # Only the description is prefilled: a prefilled field would lose its title and pattern.
    return form.with_initial_data(description=text)
