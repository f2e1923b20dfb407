"""A checklist's items, who signed them, and what is still open.

A checklist is done when each item has as many signatures as it needs, and enough different people
stand behind the whole (four eyes). A person who signs proves it with a one-time code; one who says
no need not, because nothing happens then.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from release.errors import BadRequest, Rejected
from release.gate.approvers import Approver
from release.gate.evidence import Evidence, EvidenceSource, EvidenceVerdict

ALL_OPEN = "all that I may sign"
"""The choice of the form that signs whatever is open and the approver's roles allow. No item's id
can be this: ids have no space."""

APPROVER_LENGTH = 64
COMMENT_LENGTH = 500

BY_EVIDENCE = "evidence"
"""Who signed, where no person did."""


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
    role: str = ""  # who may sign it; "" for every approver
    approvals: int = 1  # different people who have to sign it


@dataclass(frozen=True, slots=True)
class Answer:
    """What a person sent from the form, as they typed it."""

    decision: str
    signs: str  # an item's id, or ALL_OPEN
    approver: str
    code: str = ""  # one-time code; "" if the answer is no
    comment: str = ""

    def __repr__(self) -> str:  # a code may still be good, so it stands in no log
        return f"Answer({self.decision!r}, {self.signs!r}, {self.approver!r}, {self.comment!r})"


@dataclass(frozen=True, slots=True)
class Signature:
    """One item, settled by one person."""

    item: str
    approver: str
    decision: Decision
    comment: str = ""
    at: datetime | None = None  # None until it is recorded
    rests_on: Evidence | None = None  # the evidence that the approver was shown
    gate: str = ""  # the round of the gate that it answered
    seal: str = ""  # proves who signed what; "" for a no, and where evidence signed
    text: str = ""  # the item's words when it was signed


@dataclass(frozen=True, slots=True)
class Quorum:
    """How many people have to stand behind a checklist as a whole."""

    signers: int = 1  # different people
    started_by: str = ""  # never the only one who signed; a claim, "" if nobody is named

    def lacks(self, signatures: Iterable[Signature]) -> str:
        """Who is missing, in a sentence; empty if nobody is."""
        people = {s.approver.casefold(): s.approver for s in signatures if _counts(s)}
        names = ", ".join(sorted(people.values()))
        if BY_EVIDENCE in people:
            return ""
        if len(people) < self.signers:
            more = self.signers - len(people)
            have = f"{names} {'have' if len(people) > 1 else 'has'}" if people else "nobody has"
            who = "1 person" if self.signers == 1 else f"{self.signers} different people"
            return f"{who} must sign, {have}: {more} to go"
        if list(people) == [self.started_by.strip().casefold()]:
            return f"{names} started this run, so somebody else must sign as well"
        return ""


def _counts(signature: Signature) -> bool:
    return signature.decision is not Decision.REJECT


def missing(item: Item, signatures: Iterable[Signature]) -> int:
    """How many more people have to sign ``item``; 0 if it is settled."""
    mine = [s for s in signatures if s.item == item.id and _counts(s)]
    if any(s.approver == BY_EVIDENCE for s in mine):
        return 0
    return max(item.approvals - len({s.approver.casefold() for s in mine}), 0)


@dataclass(frozen=True, slots=True)
class Checklist:
    """The items of one section as they stand: what speaks for them, and who has signed them."""

    items: tuple[Item, ...]
    quorum: Quorum = Quorum()
    evidence: tuple[Evidence, ...] = ()
    signatures: tuple[Signature, ...] = ()

    @property
    def unsettled(self) -> tuple[Item, ...]:
        """The items that too few have signed."""
        return tuple(item for item in self.items if missing(item, self.signatures))

    @property
    def lacks(self) -> str:
        """Who is missing for the whole, in a sentence; empty if nobody is."""
        return self.quorum.lacks(self.signatures)

    @property
    def waiting(self) -> tuple[Item, ...]:
        """The items that still need somebody, in the runbook's order; empty if it is done.

        If each item is settled and the quorum is not met, all are open, for somebody who has not
        signed yet.
        """
        return self.unsettled or (self.items if self.lacks else ())

    @property
    def open(self) -> str:
        """What is missing: the items that too few have signed or, if there are none, the people."""
        return ", ".join(item.id for item in self.unsettled) or self.lacks


def say_answer(given: Iterable[Signature], refusal: str, still_open: str) -> str:
    """The result of an answer that leaves the gate open: who signed what, or that nothing was
    signed.

    ``refusal`` is why it signed nothing, ``still_open`` what :attr:`Checklist.open` says.
    """
    if refusal:
        return f"an answer was refused, nothing was signed: {refusal}"
    signed: dict[str, list[str]] = {}
    for signature in given:
        signed.setdefault(signature.approver, []).append(signature.item)
    said = "; ".join(f"{who} has signed {', '.join(items)}" for who, items in signed.items())
    return f"{said}; still missing: {still_open}" if said else ""


def covered(
    answer: Answer, approver: Approver, waiting: Sequence[Item], signatures: Sequence[Signature]
) -> tuple[Item, ...]:
    """The open items that an approver signs by an answer. Raises BadRequest if there is none."""
    asked = [item for item in waiting if answer.signs in (ALL_OPEN, item.id)]
    if not asked:
        raise BadRequest(f"{answer.signs!r} is not an open item")
    allowed = [item for item in asked if approver.may(item.role)]
    if not allowed:
        roles = ", ".join(approver.roles) or "none"
        needs = "; ".join(f"{item.id} is signed by the role {item.role}" for item in asked)
        raise BadRequest(f"{needs}; {approver.name} has: {roles}")
    already = {s.item for s in signatures if s.approver == approver.name and _counts(s)}
    fresh = tuple(item for item in allowed if item.id not in already)
    if not fresh:
        raise BadRequest(
            f"{approver.name} has signed {', '.join(item.id for item in allowed)} already, and "
            "somebody else has to"
        )
    return fresh


def checked_answer(answer: Answer | None) -> Answer:
    """Return ``answer`` with its texts in order. Raises BadRequest for what no form sends.

    Everything that the form promises is checked again: a run can be resumed without it.
    """
    if answer is None:
        raise BadRequest("the run was resumed without an answer")
    if answer.decision not in (Decision.APPROVE, Decision.REJECT):
        raise BadRequest(f"decision {answer.decision!r} is neither approve nor reject")
    return Answer(
        answer.decision,
        answer.signs,
        checked_approver(answer.approver),
        answer.code,
        checked_comment(answer.comment),
    )


def rejected_by(
    answer: Answer, waiting: Sequence[Item], evidence: Iterable[Evidence] = ()
) -> tuple[Signature, ...]:
    """What a rejection is about. Its name is a claim, because a rejection needs no proof and
    changes nothing."""
    shown = _by_item(evidence)
    asked = [item for item in waiting if answer.signs == item.id] or list(waiting)
    return tuple(
        Signature(
            item.id,
            answer.approver,
            Decision.REJECT,
            answer.comment,
            rests_on=shown.get(item.id),
            text=item.text,
        )
        for item in asked
    )


def as_worded(
    signatures: Iterable[Signature], items: Iterable[Item]
) -> tuple[tuple[Signature, ...], tuple[Signature, ...]]:
    """The signatures of what the runbook says now, and those of other words.

    Whoever signed an item before the runbook was edited signed another item. An item that is no
    longer in the runbook is asked of nobody, and its signatures do no harm.
    """
    texts = {item.id: item.text for item in items}
    kept = tuple(s for s in signatures if texts.get(s.item, s.text) == s.text)
    return kept, tuple(s for s in signatures if s not in kept)


def say_reworded(lost: Iterable[Signature], waiting: Iterable[Item]) -> str:
    """A sentence for each open item that was signed under other words; empty for none."""
    who: dict[str, list[str]] = {}
    for signature in lost:
        who.setdefault(signature.item, []).append(signature.approver)
    return "; ".join(
        f"{item.id} is open again: the runbook was edited since {', '.join(who[item.id])} signed it"
        for item in waiting
        if item.id in who
    )


def standing(
    signatures: Iterable[Signature], evidence: Iterable[Evidence]
) -> tuple[tuple[Signature, ...], str]:
    """The signatures that still stand on ``evidence``, and a sentence for those that do not.

    Evidence ages while a gate waits. A signature falls when its item's evidence fails now and did
    not fail when it was signed; one that was given against failed evidence was given knowingly, and
    stands. One that was given on passed evidence that was stale by then falls unless it passes now.
    """
    now = _by_item(evidence)
    why = {
        signature: reason
        for signature in signatures
        if (reason := _fell(signature, now.get(signature.item)))
    }
    kept = tuple(s for s in signatures if s not in why)
    who: dict[tuple[str, str], list[str]] = {}
    for signature, reason in why.items():
        who.setdefault((signature.item, reason), []).append(signature.approver)
    return kept, "; ".join(
        f"{item} is open again: since {', '.join(names)} signed it, {reason}"
        for (item, reason), names in who.items()
    )


def _fell(signature: Signature, now: Evidence | None) -> str:
    """Why a signature no longer stands; empty if it does."""
    before = signature.rests_on
    if now is None or (before is not None and before.verdict is EvidenceVerdict.FAILED):
        return ""
    if now.verdict is EvidenceVerdict.FAILED:
        return now.value
    if now.verdict is EvidenceVerdict.UNKNOWN and _was_stale(signature):
        return f"on evidence that was stale, {now.value}"
    return ""


def _was_stale(signature: Signature) -> bool:
    """Whether it was given on passed evidence whose time was over."""
    before = signature.rests_on
    return (
        before is not None
        and before.verdict is EvidenceVerdict.PASSED
        and before.expires_at is not None
        and signature.at is not None
        and signature.at >= before.expires_at
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
        return Signature(
            item.id, BY_EVIDENCE, Decision.NOT_REQUIRED, why, rests_on=evidence, text=item.text
        )
    passed = evidence.verdict is EvidenceVerdict.PASSED
    return Signature(
        item.id,
        BY_EVIDENCE,
        Decision.APPROVE if passed else Decision.REJECT,
        f"{evidence.verdict}: {evidence.value} ({evidence.source})",
        rests_on=evidence,
        text=item.text,
    )


def refuse_rejected(signatures: Iterable[Signature]) -> None:
    """Raise Rejected if anything was rejected, naming the items, who said no, and why."""
    said: dict[tuple[str, str], list[str]] = {}
    for signature in signatures:
        if signature.decision is Decision.REJECT:
            said.setdefault((signature.approver, signature.comment), []).append(signature.item)
    if said:
        raise Rejected(
            "; ".join(_say_rejected(by, why, items) for (by, why), items in said.items()),
            "resolve it, then start the deployment again",
        )


def _say_rejected(by: str, why: str, items: Sequence[str]) -> str:
    """The reason comes first: the reader knows what is on the list. Evidence has one reason per
    item."""
    if by == BY_EVIDENCE:
        return f"rejected by evidence: {', '.join(items)} {why}"
    return f"rejected by {by}: {why or 'no reason given'} ({', '.join(items)})"


def checked_approver(name: str) -> str:
    """Return ``name`` without spaces around it, if it can stand in a record.

    One line of 1 to 64 characters that can be seen, a letter of any alphabet first.
    Raises BadRequest.
    """
    name = name.strip()
    if not (1 <= len(name) <= APPROVER_LENGTH and name[0].isalpha() and name.isprintable()):
        raise BadRequest(
            f"{name[:APPROVER_LENGTH]!r} is not a name: expected one line of 1 to "
            f"{APPROVER_LENGTH} characters that starts with a letter"
        )
    return name


def checked_comment(comment: str) -> str:
    """Return ``comment`` as one line. Raises BadRequest above 500 characters."""
    line = " ".join(comment.split())
    if len(line) > COMMENT_LENGTH:
        raise BadRequest(f"the comment has {len(line)} characters, {COMMENT_LENGTH} are allowed")
    return "".join(character for character in line if character.isprintable())


def _by_item(evidence: Iterable[Evidence]) -> dict[str, Evidence]:
    return {one.item: one for one in evidence}
