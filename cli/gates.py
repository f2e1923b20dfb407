"""Gates, as the `ignition` command shows and answers them."""

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from blocks.ledger.ledger import Ledger
from blocks.polling import poll
from cli.runs import RunView
from release.duration import say_duration
from release.errors import BadRequest, Rejected
from release.gate.approvers import Approver, find
from release.gate.checklist import ALL_OPEN, Decision
from release.ledger import Event, EventKind
from release.rollback.recovery import last_gate_of
from release.wording import nearest, there_is

_CODE = re.compile(r"[0-9]{3} ?[0-9]{3}")
_EVERY = timedelta(seconds=1)
_JUDGED = (EventKind.ITEM_SIGNED, EventKind.REJECTED, EventKind.ANSWER_REFUSED)


def approval(approver: str, item: str, comment: str, code: str) -> dict[str, Any]:
    """Sign one item, or all that the approver may sign. Raises BadRequest for what is not a code.

    The worker would count it as a wrong one, and a few of those end the run.
    """
    if not _CODE.fullmatch(code):
        raise BadRequest(
            "that is not a one-time code, so nothing was sent: six digits are expected",
            "type the code that your authenticator shows now",
        )
    return _answer(Decision.APPROVE, item or ALL_OPEN, approver, code, comment)


def refuse_unknown_item(item: str, run: RunView, events: Sequence[Event]) -> None:
    """Raise BadRequest if the gate at which the run waits has no such item, before a code is asked
    for. Empty means all, and is never refused."""
    opened = [event for event in events if event.kind == EventKind.GATE_OPENED]
    offered = [str(one) for one in opened[-1].payload.get("items", ())] if opened else []
    if item and offered and item not in offered:
        raise BadRequest(
            f"{run.label} has no item {item!r} to sign{there_is(item, offered)}; nothing was sent",
            f"ignition approve {run.label} --as NAME --item {nearest(item, offered) or offered[0]}",
        )


def rejection(approver: str, reason: str) -> dict[str, Any]:
    """Say no to the whole run. Raises BadRequest without a reason, because whoever started the run
    reads it."""
    if not reason.strip():
        raise BadRequest("a rejection has no reason", 'add --reason "…"')
    return _answer(Decision.REJECT, ALL_OPEN, approver, "", reason)


def _answer(
    decision: Decision, signs: str, approver: str, code: str, comment: str
) -> dict[str, Any]:
    return {
        "decision": decision.value,
        "signs": signs,
        "approver": approver,
        "code": code,
        "comment": comment,
    }


@dataclass(frozen=True)
class GateView:
    """A gate that waits: what for, since when, until when."""

    run: str
    label: str
    name: str
    environment: str
    items: tuple[str, ...]  # not signed by enough people yet
    roles: dict[str, str]  # who may sign an item, where not everybody may
    lacks: str  # how many people are missing, in a sentence
    signed: tuple[str, ...]  # "tests-passing by Ada"; an item that needs two is in both
    evidence: str  # each item's verdict when the form was last shown
    age: str  # of the evidence
    since: str
    until: str
    url: str

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    def lines(self) -> list[str]:
        signed = [f"  signed: {', '.join(self.signed)}"] if self.signed else []
        return [
            f"[{self.label}] {self.name}, waiting since {self.since or 'unknown'}"
            f" until {self.until or 'unknown'}",
            f"  open: {', '.join(map(self._item, self.items)) or self._nothing}",
            *signed,
            *([f"  evidence, {self.age} old: {self.evidence}"] if self.evidence else []),
            *([f"  {self.lacks}"] if self.lacks else []),
            *([f"  {self.url}"] if self.url else []),
            f"  ignition approve {self.label} --as NAME",
        ]

    @property
    def summary(self) -> str:
        """All of it in a line."""
        what = f"open: {', '.join(map(self._item, self.items))}" if self.items else self.lacks
        return f"{self.label} {self.name}, since {self.since}, until {self.until}; {what}"

    @property
    def _nothing(self) -> str:
        return "no item, but a signature by somebody else" if self.lacks else "unknown"

    def _item(self, item: str) -> str:
        role = self.roles.get(item)
        return f"{item} (by {role})" if role else item


def gate_view(run: RunView, events: Sequence[Event], now: datetime | None = None) -> GateView:
    """The gate that a waiting run stands at, read from the run's events. ``now``: for ages."""
    now = now or datetime.now(UTC)
    gate = last_gate_of(events)
    return GateView(
        run=run.id,
        label=run.label,
        name=run.name,
        environment=events[-1].environment if gate else "",
        items=gate.items if gate else (),
        roles=dict(gate.roles) if gate else {},
        lacks=gate.lacks if gate else "",
        signed=gate.signed if gate else (),
        evidence=gate.evidence if gate else "",
        age=_age(now, gate.opened) if gate and gate.opened else "",
        since=f"{gate.since:%Y-%m-%d %H:%M} UTC" if gate and gate.since else "",
        until=run.waits_until,
        url=run.url,
    )


def _age(now: datetime, at: datetime) -> str:
    return say_duration(timedelta(seconds=int((now - at).total_seconds())))


def judged(ledger: Ledger, run: RunView, gate: str, approver: str, within: timedelta) -> list[str]:
    """Wait until the worker has judged the answer to one round of a gate, named by its key.

    Returns what was signed, a line each, or that the run was rejected and why. Each round takes one
    answer. If that was somebody else's, sent at the same moment, this one counts for nothing.
    Raises Rejected for that and, with the worker's sentence, if nothing was signed; BadRequest when
    no worker has read it ``within`` that time.
    """
    seen = 0
    again = f"ignition approve {run.label} --as NAME"

    def look() -> list[str]:
        nonlocal seen
        events = ledger.events(run_id=run.id, kinds=_JUDGED)
        found = {_say_judged(e): e for e in events if e.key.partition("/")[0] == gate}
        last = next(reversed(found.values()), None)
        if last and not _is_by(last, approver):
            raise Rejected(
                f"your answer signed nothing: {last.payload.get('approver') or 'somebody else'} "
                "answered at the same moment",
                "ignition gates, then try again",
            )
        if last and last.kind == EventKind.ANSWER_REFUSED:
            raise Rejected(f"nothing was signed: {last.payload.get('why')}", again)
        if found and len(found) == seen:  # the signatures of one answer are written one by one
            return list(found)
        seen = len(found)
        return []

    if lines := poll(look, bool, every=_EVERY, within=within):
        return lines
    raise BadRequest(
        f"the answer was sent, and no worker has read it within {within.total_seconds():.0f} s; "
        "a code that is read too late is asked for again",
        "ignition gates",
    )


def _is_by(event: Event, approver: str) -> bool:
    return find([Approver(str(event.payload.get("approver") or ""))], approver) is not None


def _say_judged(event: Event) -> str:
    by = event.payload.get("approver")
    if event.kind == EventKind.REJECTED:  # one no is about the whole run, whatever it lists
        return f"rejected by {by}: {event.payload.get('comment') or 'no reason given'}"
    return f"{event.payload.get('item')} signed by {by}"
