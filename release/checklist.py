"""A checklist's items, what speaks for them, and who signed them.

Evidence is one of passed, failed and unknown. Unknown is never green: where a person decides, they
see it; where evidence decides, it stops the run.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from release.duration import say_duration
from release.errors import BadRequest, Rejected
from release.model import Baseline, Probe

ALL_OPEN = "all open items"
"""The choice of the form that signs whatever is open. No item's id can be this: ids have no space.
"""

APPROVER_LENGTH = 64
COMMENT_LENGTH = 500

BY_EVIDENCE = "evidence"
"""Who signed, where no person did."""


class EvidenceSource(StrEnum):
    """What can speak for an item. The value is what RUNBOOK.md says after ``evidence=``."""

    TESTS = "tests"
    STAGING_HEALTH = "staging-health"
    MIGRATIONS_IN_STAGING = "migrations-in-staging"
    ROLLBACK_PLAN = "rollback-plan"
    ON_CALL = "on-call"


class EvidenceVerdict(StrEnum):
    """What evidence says about its item."""

    PASSED = "passed"
    FAILED = "failed"
    UNKNOWN = "unknown"


class Decision(StrEnum):
    """How an item was settled."""

    APPROVE = "approve"
    REJECT = "reject"
    NOT_REQUIRED = "not required"


@dataclass(frozen=True, slots=True)
class Item:
    """One ``- [ ]`` line of the runbook that has to be signed."""

    id: str
    text: str
    section: str
    evidence: EvidenceSource | None = None  # None: a plain question to a person


@dataclass(frozen=True, slots=True)
class Finding:
    """What a source said when it was asked."""

    verdict: EvidenceVerdict
    value: str  # one line: what was found, measured against what is needed
    source: str  # who was asked; "" where there is nobody to ask here


@dataclass(frozen=True, slots=True)
class Evidence:
    """A finding about one item, at one time."""

    item: str
    verdict: EvidenceVerdict
    value: str
    source: str  # "" where there was nobody to ask
    at: datetime


@dataclass(frozen=True, slots=True)
class Answer:
    """What a person sent from the form, as they typed it."""

    decision: str
    signs: str  # an item's id, or ALL_OPEN
    approver: str  # a claim: the server cannot say who answered
    comment: str = ""


@dataclass(frozen=True, slots=True)
class Signature:
    """One item, settled."""

    item: str
    approver: str
    decision: Decision
    comment: str = ""
    at: datetime | None = None  # None until it is recorded
    rests_on: Evidence | None = None  # the evidence that the approver was shown


def open_items(items: Iterable[Item], signatures: Iterable[Signature]) -> tuple[Item, ...]:
    """The items that nobody has signed yet, in the runbook's order."""
    signed = {signature.item for signature in signatures}
    return tuple(item for item in items if item.id not in signed)


def standing(
    signatures: Iterable[Signature], evidence: Iterable[Evidence]
) -> tuple[tuple[Signature, ...], str]:
    """The signatures that still stand on ``evidence``, and a sentence for those that do not.

    Evidence ages while a gate waits. A signature falls when its item's evidence fails now and did
    not fail when it was signed; who signed against failed evidence knew it, and that stands.
    """
    now = _by_item(evidence)
    fallen = {s.item: s for s in signatures if _overtaken(s, now.get(s.item))}
    kept = tuple(s for s in signatures if s.item not in fallen)
    return kept, "; ".join(
        f"{item} is open again: since {signature.approver} signed it, {now[item].value}"
        for item, signature in fallen.items()
    )


def _overtaken(signature: Signature, now: Evidence | None) -> bool:
    before = signature.rests_on
    if now is None or now.verdict is not EvidenceVerdict.FAILED:
        return False
    return before is None or before.verdict is not EvidenceVerdict.FAILED


def signed_by(
    answer: Answer | None, waiting: Sequence[Item], evidence: Iterable[Evidence] = ()
) -> tuple[Signature, ...]:
    """The signatures that an answer gives to the items it covers, approving or rejecting them.

    Everything that the form promises is checked again, because a run can be resumed without it.
    Raises BadRequest, with a sentence for the person, for an answer that cannot count.
    """
    if answer is None:
        raise BadRequest("the run was resumed without an answer, so nothing is signed")
    if answer.decision not in (Decision.APPROVE, Decision.REJECT):
        raise BadRequest(f"decision {answer.decision!r} is neither approve nor reject")
    covered = [item for item in waiting if answer.signs in (ALL_OPEN, item.id)]
    if not covered:
        raise BadRequest(f"{answer.signs!r} is no open item")
    approver, comment = checked_approver(answer.approver), checked_comment(answer.comment)
    shown = _by_item(evidence)
    return tuple(
        Signature(
            item.id, approver, Decision(answer.decision), comment, rests_on=shown.get(item.id)
        )
        for item in covered
    )


def signed_by_evidence(
    items: Iterable[Item], evidence: Iterable[Evidence], environment: str
) -> tuple[Signature, ...]:
    """Settle a checklist without a person: each item passes on its own evidence.

    An item with nobody to ask is recorded as not required in ``environment``. Failed and unknown
    evidence rejects its item; :func:`refuse_rejected` turns that into the run's end.
    """
    found = _by_item(evidence)
    return tuple(_settled(item, found.get(item.id), environment) for item in items)


def _settled(item: Item, evidence: Evidence | None, environment: str) -> Signature:
    if evidence is None or not evidence.source:
        why = f"not required in {environment}: {evidence.value if evidence else 'no evidence'}"
        return Signature(item.id, BY_EVIDENCE, Decision.NOT_REQUIRED, why, rests_on=evidence)
    passed = evidence.verdict is EvidenceVerdict.PASSED
    return Signature(
        item.id,
        BY_EVIDENCE,
        Decision.APPROVE if passed else Decision.REJECT,
        f"{evidence.verdict}: {evidence.value} ({evidence.source})",
        rests_on=evidence,
    )


def refuse_rejected(signatures: Iterable[Signature]) -> None:
    """Raise Rejected if anything was rejected, naming the items, who said no, and why."""
    said: dict[tuple[str, str], list[str]] = {}
    for signature in signatures:
        if signature.decision is Decision.REJECT:
            said.setdefault((signature.approver, signature.comment), []).append(signature.item)
    if said:
        raise Rejected(
            "; ".join(
                f"{', '.join(items)}: rejected by {approver}: {comment or 'no reason given'}"
                for (approver, comment), items in said.items()
            ),
            "resolve it, then start the deployment again",
        )


def checked_approver(name: str) -> str:
    """Return ``name`` without spaces around it, if it can stand in a record.

    One line of 1 to 64 characters that can be seen, a letter of any alphabet first.
    Raises BadRequest.
    """
    name = name.strip()
    if not (1 <= len(name) <= APPROVER_LENGTH and name[0].isalpha() and name.isprintable()):
        raise BadRequest(
            f"{name[:APPROVER_LENGTH]!r} is no name: expected one line of 1 to {APPROVER_LENGTH} "
            "characters that starts with a letter"
        )
    return name


def checked_comment(comment: str) -> str:
    """Return ``comment`` as one line. Raises BadRequest above 500 characters."""
    line = " ".join(comment.split())
    if len(line) > COMMENT_LENGTH:
        raise BadRequest(f"the comment has {len(line)} characters, {COMMENT_LENGTH} are allowed")
    return "".join(character for character in line if character.isprintable())


# --- what the sources' answers mean ---------------------------------------------------------------


def nobody_to_ask(why: str) -> Finding:
    """The finding where an item names a source that does not exist here."""
    return Finding(EvidenceVerdict.UNKNOWN, why, "")


def no_answer(why: str, source: str) -> Finding:
    """The finding where a source was asked and did not answer."""
    return Finding(EvidenceVerdict.UNKNOWN, why, source)


def judge_staging_health(health: Probe, version: str, source: str) -> Finding:
    """Staging has no critical issue that a probe can see: it is healthy and names its version.

    ``version`` is what staging says it runs, "" where it did not say.
    """
    if not health.ok:
        status = health.status or "no answer"
        detail = f", {health.detail}" if health.detail else ""
        return Finding(EvidenceVerdict.FAILED, f"health check: {status}{detail}", source)
    if not version:
        return Finding(EvidenceVerdict.FAILED, "healthy, but it names no version", source)
    return Finding(EvidenceVerdict.PASSED, f"healthy, serves {version}", source)


def judge_migrations_in_staging(
    pending: Mapping[str, str], applied: Mapping[str, str], source: str
) -> Finding:
    """Each pending file has run in staging, byte for byte.

    Both map versions to checksums; an applied "" was recorded by a tool that keeps none.
    """
    problems = [
        f"{version} {_difference(applied.get(version))}"
        for version, checksum in sorted(pending.items())
        if applied.get(version) != checksum
    ]
    if problems:
        return Finding(EvidenceVerdict.FAILED, "; ".join(problems), source)
    if not pending:
        return Finding(EvidenceVerdict.PASSED, "no migration is pending", source)
    count = f"{len(pending)} pending migration{'s' if len(pending) > 1 else ''}"
    return Finding(EvidenceVerdict.PASSED, f"{count} applied in staging, same checksums", source)


def _difference(checksum: str | None) -> str:
    if checksum is None:
        return "is not applied in staging"
    if not checksum:
        return "was applied in staging by another tool, which kept no checksum"
    return "ran in staging with another content"


def judge_rollback_plan(
    baseline: Baseline, on_host: bool, contract: Sequence[str], source: str
) -> Finding:
    """There is a way back: the baseline's image is on the host. ``contract`` names the pending
    migrations that end it; they run only after the watch, when nothing rolls back by itself."""
    if baseline.release is None:
        return nobody_to_ask("nothing serves there yet, so there is nothing to return to")
    if baseline.image is None:
        sentence = f"{baseline.version} serves from an image without a digest"
        return Finding(EvidenceVerdict.FAILED, sentence, source)
    image = f"{baseline.version} ({baseline.image.short})"
    if not on_host:
        return Finding(EvidenceVerdict.FAILED, f"{image} is not on the host", source)
    until = f"; after the watch {', '.join(contract)} ends that" if contract else ""
    return Finding(EvidenceVerdict.PASSED, f"{image} is on the host{until}", source)


# --- what a person reads --------------------------------------------------------------------------


def gate_text(
    plan_lines: Sequence[str],
    items: Sequence[Item],
    evidence: Iterable[Evidence],
    signatures: Sequence[Signature],
    *,
    deadline: timedelta | None = None,
    note: str = "",
) -> str:
    """What stands above the form, in Markdown: a note, the plan, each item with its evidence.

    ``note`` says why the gate is open once more. Times are clock times, because the text is read
    long after it was written.
    """
    waiting = len(open_items(items, signatures))
    until = (
        f" Without an answer within {say_duration(deadline)} the run ends; what serves, stays."
        if deadline
        else ""
    )
    return "\n".join(
        [
            *([f"> **{_cell(note)}**", ""] if note else []),
            *(f"- {line}" for line in plan_lines),
            "",
            f"**{waiting} of {len(items)} items open.**{until}",
            "",
            *_table(items, evidence, signatures),
        ]
    )


def record(
    environment: str,
    items: Sequence[Item],
    evidence: Iterable[Evidence],
    signatures: Sequence[Signature],
) -> str:
    """The checklist as an artifact, in Markdown: its state in line 1, then the items."""
    waiting = open_items(items, signatures)
    state = (
        f"open: {', '.join(f'`{item.id}`' for item in waiting)}" if waiting else "nothing is open"
    )
    rejected = sum(signature.decision is Decision.REJECT for signature in signatures)
    counts = f"{len(signatures) - rejected} of {len(items)} items signed, {rejected} rejected"
    return "\n".join(
        [f"**{environment}**: {counts}; {state}.", "", *_table(items, evidence, signatures)]
    )


def _table(
    items: Sequence[Item], evidence: Iterable[Evidence], signatures: Sequence[Signature]
) -> list[str]:
    found = _by_item(evidence)
    signed = {signature.item: signature for signature in signatures}
    return [
        "| Item | Evidence | Signed |",
        "|---|---|---|",
        *(
            f"| {_bar(item.text)} (`{item.id}`) | {_say_evidence(found.get(item.id))} "
            f"| {_say_signature(signed.get(item.id))} |"
            for item in items
        ),
    ]


def _say_evidence(evidence: Evidence | None) -> str:
    if evidence is None:
        return "none: your own judgement"
    asked = f"{_cell(evidence.source)}, " if evidence.source else ""
    return f"**{evidence.verdict}**: {_cell(evidence.value)} ({asked}{_clock(evidence.at)})"


def _say_signature(signature: Signature | None) -> str:
    if signature is None:
        return "**open**"
    if signature.decision is Decision.NOT_REQUIRED:
        return _cell(signature.comment)
    said = {Decision.APPROVE: "approved", Decision.REJECT: "**rejected**"}[signature.decision]
    when = f", {_clock(signature.at)}" if signature.at else ""
    comment = f": {_cell(signature.comment)}" if signature.comment else ""
    return f"{said} by {_cell(signature.approver)}{when}{_age(signature)}{comment}"


def _age(signature: Signature) -> str:
    """How old the evidence was when it was signed, where that is worth a word."""
    if signature.at is None or signature.rests_on is None:
        return ""
    age = signature.at - signature.rests_on.at
    return f", on evidence {say_duration(age)} old" if age >= timedelta(minutes=1) else ""


def _by_item(evidence: Iterable[Evidence]) -> dict[str, Evidence]:
    return {one.item: one for one in evidence}


def _clock(at: datetime) -> str:
    return f"{at.astimezone(UTC):%H:%M:%S} UTC"


def _bar(text: str) -> str:
    """Runbook text in a table: it is Markdown already."""
    return text.replace("|", "\\|")


def _cell(text: str) -> str:
    """Text from outside in a table: shown as it is, never as Markdown or HTML."""
    line = " ".join(text.split())
    return "".join(f"\\{c}" if c in "\\`*_[]<>|#!~&" else c for c in line)
