"""A checklist as people read it: above a gate's form, and as an artifact."""

from collections.abc import Collection, Sequence
from datetime import UTC, datetime, timedelta

from release.duration import say_duration
from release.gate.checklist import Checklist, Decision, Item, Signature, missing
from release.gate.evidence import Evidence


def gate_text(
    plan_lines: Sequence[str],
    checklist: Checklist,
    *,
    until: datetime | None = None,
    note: str = "",
) -> str:
    """What stands above the form, in Markdown: a note, the plan, each item with its evidence.

    ``note`` says why the gate is open once more. Times are clock times, because the text is read
    long after it was written.
    """
    ends = (
        f" If not everything is signed by **{until.astimezone(UTC):%Y-%m-%d %H:%M} UTC**, the run "
        "ends, and what serves now keeps serving."
        if until
        else ""
    )
    return "\n".join(
        [
            *([f"> **{_cell(note)}**", ""] if note else []),
            *(f"- {line}" for line in plan_lines),
            "",
            f"**{_state(checklist)}**{ends}",
            "",
            *_table(checklist),
        ]
    )


def record(environment: str, checklist: Checklist) -> str:
    """The checklist as an artifact, in Markdown: its state in line 1, then the items."""
    rejected = len({s.item for s in checklist.signatures if s.decision is Decision.REJECT})
    state = f"{rejected} rejected" if rejected else _state(checklist)
    return "\n".join([f"**{environment}**: {state}", "", *_table(checklist)])


def _state(checklist: Checklist) -> str:
    """How far the checklist is, in a sentence or two."""
    count, lacks = len(checklist.items), checklist.lacks
    if not checklist.waiting:
        return f"All {count} items are signed."
    return f"{count - len(checklist.unsettled)} of {count} items signed." + (
        f" {lacks[0].upper()}{lacks[1:]}." if lacks else ""
    )


def _table(checklist: Checklist) -> list[str]:
    found = {one.item: one for one in checklist.evidence}
    return [
        *_collected(found.values()),
        "| Item | Evidence | Signed |",
        "|---|---|---|",
        *(
            f"| {_bar(item.text)} (`{item.id}`) | {_say_evidence(found.get(item.id))} "
            f"| {_say_signatures(item, checklist.signatures)} |"
            for item in checklist.items
        ),
    ]


def _say_signatures(item: Item, signatures: Sequence[Signature]) -> str:
    mine = [_say_signature(one) for one in signatures if one.item == item.id]
    more = missing(item, signatures)
    if more and not any(s.item == item.id and s.decision is Decision.REJECT for s in signatures):
        role = f" by {item.role}" if item.role else ""
        mine.append(f"**open**{role}" if more == 1 else f"**open**: {more} people{role}")
    return "<br>".join(mine)


def _say_evidence(evidence: Evidence | None) -> str:
    if evidence is None:
        return "none: your own judgement"
    asked = f" ({_source(evidence)})" if evidence.source else ""
    return f"**{evidence.verdict}**: {_cell(evidence.value)}{asked}"


def _collected(evidence: Collection[Evidence]) -> list[str]:
    """When the evidence is from, and when it is too old. All of a round is collected at once."""
    if not evidence:
        return []
    at = min(one.at for one in evidence)
    expires = [one.expires_at for one in evidence if one.expires_at]
    stale = f", stale from {_clock(min(expires))}" if expires else ""
    return [f"Evidence of {_clock(at)}{stale}:", ""]


def _source(evidence: Evidence) -> str:
    """The source, as a link if there is a page to look at."""
    if not evidence.link.startswith(("https://", "http://")):
        return _cell(evidence.source)
    address = evidence.link.translate({ord(c): f"%{ord(c):02X}" for c in ' ()<>|"\\'})
    return f"[{_cell(evidence.source)}]({address})"


def _say_signature(signature: Signature) -> str:
    if signature.decision is Decision.NOT_REQUIRED:
        return _cell(signature.comment)
    said = {Decision.APPROVE: "approved", Decision.REJECT: "**rejected**"}[signature.decision]
    when = f", {_clock(signature.at)}" if signature.at else ""
    comment = f": {_cell(signature.comment)}" if signature.comment else ""
    return f"{said} by {_cell(signature.approver)}{when}{_age(signature)}{comment}"


def _age(signature: Signature) -> str:
    """How old the evidence was when it was signed, if that is worth mentioning."""
    if signature.at is None or signature.rests_on is None:
        return ""
    age = signature.at - signature.rests_on.at
    return f", on evidence {say_duration(age)} old" if age >= timedelta(minutes=1) else ""


def _clock(at: datetime) -> str:
    return f"{at.astimezone(UTC):%H:%M:%S} UTC"


def _bar(text: str) -> str:
    """Runbook text in a table: it is Markdown already."""
    return text.replace("|", "\\|")


def _cell(text: str) -> str:
    """Text from outside in a table: shown as it is, never as Markdown or HTML."""
    line = " ".join(text.split())
    return "".join(f"\\{c}" if c in "\\`*_[]<>|#!~&" else c for c in line)
