"""Whether signatures hold: before anything acts on them, they are verified again.

A signature is sealed with a secret that only the approver's device and the worker have, over
everything that it is about: the run, the gate's round, the item and its words, the plan. So it
cannot be made by somebody who can write to the server or to the ledger, and says nothing about
another run or version.

A run can be forced onward through the server's API, and a row of the ledger can be edited by hand.
So what counts is read back from the ledger, and each seal is made again from what it is said to be
over; the flow's own memory of who signed decides nothing.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from release.errors import BadConfiguration, SignaturesInvalid
from release.gate.approvers import Approver
from release.gate.checklist import Checklist, Decision, Item, Quorum, Signature
from release.ledger import Event

WRONG_CODES_AN_HOUR = 10
"""Answers without a good code that one name gets in an hour, over all runs. Each has a chance of 6
in a million (the codes of 3 min); ten an hour for a year stay below one in two."""

LOCKOUT = timedelta(hours=1)


def signature_of(event: Event) -> Signature:
    """The signature that an event says was given; its evidence is left out."""
    payload = event.payload
    return Signature(
        item=str(payload.get("item", "")),
        approver=str(payload.get("approver", "")),
        decision=Decision(str(payload.get("decision", Decision.APPROVE))),
        comment=str(payload.get("comment", "")),
        at=event.at,
        gate=str(payload.get("gate", "")),
        seal=str(payload.get("seal", "")),
        text=str(payload.get("text", "")),
    )


def sealed_text(run: str, subject: str, one: Signature) -> str:
    """What a signature's seal is over: one line of JSON, so that no two texts can be confused.

    ``subject`` is what is signed beside the item's words: the plan's fingerprint, and who started
    the run.
    """
    parts = [run, one.gate, one.item, one.text, one.decision, one.approver, subject]
    return json.dumps(parts, ensure_ascii=False)


def verify_signatures(
    run: str,
    subject: str,
    checklist: Checklist,
    events: Sequence[Event],
    seal: Callable[[str, str], str],
) -> tuple[Signature, ...]:
    """The proven signatures of a checklist, read from the run's signing events and nowhere else.

    ``subject`` is what is about to be carried out, and for whom: see :func:`sealed_text`. ``seal``
    makes the seal of an approver over a text, and raises BadConfiguration for a person who is not
    enrolled. Raises SignaturesInvalid for a signature that does not hold, and if too few are left.
    """
    texts = {item.id: item.text for item in checklist.items}
    given = [one for one in map(signature_of, events) if one.item in texts]
    for one in given:
        if not _holds(run, subject, one, seal):
            raise SignaturesInvalid(
                f"the signature of {one.approver} on {one.item} does not hold: it was changed "
                "after it was given, or given for another run or another plan",
                "ignition verify, then start the deployment again",
            )
    # Who signed before the runbook was edited has signed other words.
    given = [one for one in given if one.text == texts[one.item]]
    proven = replace(checklist, signatures=tuple(given))
    if proven.waiting:
        why = f"{proven.open} not signed" if proven.unsettled else proven.lacks
        raise SignaturesInvalid(
            f"the ledger does not have the signatures that this run needs: {why}",
            "ignition verify, then start the deployment again",
        )
    return proven.signatures


def _holds(run: str, subject: str, one: Signature, seal: Callable[[str, str], str]) -> bool:
    try:
        return bool(one.seal) and seal(one.approver, sealed_text(run, subject, one)) == one.seal
    except BadConfiguration:
        return False


def unsignable(items: Sequence[Item], approvers: Sequence[Approver], quorum: Quorum) -> str:
    """Why no number of people could sign this checklist; empty if they could."""
    problems = []
    for item in items:
        able = [one.name for one in approvers if one.may(item.role)]
        if len(able) < item.approvals:
            of = f" of the role {item.role}" if item.role else ""
            problems.append(f"{item.id} needs {item.approvals}{of}, enrolled: {len(able)}")
    able = [one.name for one in approvers if any(one.may(item.role) for item in items)]
    if len(able) < quorum.signers:
        problems.append(
            f"{quorum.signers} different people must sign, enrolled: {', '.join(able) or 'nobody'}"
        )
    return "; ".join(problems)


def locked_until(refused: Sequence[datetime], now: datetime) -> datetime | None:
    """Until when a name is refused, after too many answers without a good code. Returns None if it
    is not.

    ``refused`` are the times of those answers, in any order.
    """
    recent = sorted(at for at in refused if at > now - LOCKOUT)
    if len(recent) < WRONG_CODES_AN_HOUR:
        return None
    return recent[-WRONG_CODES_AN_HOUR] + LOCKOUT
