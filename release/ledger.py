"""The ledger's nouns: events in a chain of hashes, the environment's lock, the deployment log.

An event carries the hash of the one before, so an event that is changed, removed or slipped in
later breaks the chain from there on. The database computes the hash (``migrations/``); this module
computes it again, from the same text, to verify it.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

from release.model import ImageRef, Release


class EventKind(StrEnum):
    """What happened. The values stand in the ledger for ever: add some, rename none."""

    DEPLOYMENT_STARTED = "deployment_started"
    PLAN_MADE = "plan_made"
    STEP_BEGUN = "step_begun"
    STEP_DONE = "step_done"
    GATE_OPENED = "gate_opened"
    ITEM_SIGNED = "item_signed"
    REJECTED = "rejected"
    ANSWER_REFUSED = "answer_refused"  # it signed nothing: a wrong code, a role that is missing
    GATE_CLOSED = "gate_closed"
    NOTIFIED = "notified"
    VERDICT = "verdict"
    P0_DECLARED = "p0_declared"
    ROLLBACK_STARTED = "rollback_started"
    RESUMED = "resumed"  # by a recovery, after a crash: it goes on where it stopped
    DEPLOYMENT_ENDED = "deployment_ended"
    LOCK_TAKEN = "lock_taken"
    LOCK_RELEASED = "lock_released"
    LOCK_BROKEN = "lock_broken"
    LOCK_TAKEN_OVER = "lock_taken_over"  # from a run that ended without giving it back


@dataclass(frozen=True, slots=True)
class Event:
    """One line of the ledger."""

    seq: int  # from 1, without gaps; 0: kept by the worker, not written yet
    at: datetime
    environment: str
    run_id: str
    kind: str  # an EventKind, or one that a newer version wrote
    step: str = ""
    payload: Mapping[str, Any] = field(default_factory=dict)
    previous_hash: str = ""  # "" for the first
    hash: str = ""
    key: str = ""  # tells events of one run, kind and step apart


@dataclass(frozen=True, slots=True)
class Break:
    """A place where the chain does not hold."""

    seq: int
    sentence: str


@dataclass(frozen=True, slots=True)
class Lock:
    """Who holds an environment."""

    environment: str
    run_id: str
    owner: str
    reason: str
    token: int  # grows with every new holder: a late writer with a smaller one is out of date
    acquired_at: datetime
    heartbeat_at: datetime
    silent: timedelta = timedelta()  # since then, by the ledger's clock


@dataclass(frozen=True, slots=True)
class LogRow:
    """A deployment's line in the log."""

    date: datetime
    version: str
    deployer: str
    notes: str
    environment: str
    ending: str
    run_id: str
    digest: str = ""  # sha256:…; "" if none is known
    revision: str = ""  # full git commit hash
    image: str = ""  # repository@sha256:…

    @property
    def release(self) -> Release:
        """What was deployed; without an image if the ledger has none."""
        image = ImageRef.parse(self.image) if self.image else None
        return Release(self.version, self.revision, image)


RUNBOOK_RUN = "runbook"
"""In place of a run's id, for the rows of the runbook's own log: nobody knows which run it was."""

_VERSION_DIGIT = 14  # of a UUID, in its text


def short_run(run_id: str) -> str:
    """A run as log lines name it: ``d-1874ab``; the runbook's own rows by the word.

    The ids of scheduled runs (UUID version 7) begin with the time at which they were planned:
    those of four hours begin alike, so they are named by their end. Source: RFC 9562, 5.7.
    """
    if run_id == RUNBOOK_RUN:
        return run_id
    by_time = run_id[_VERSION_DIGIT : _VERSION_DIGIT + 1] == "7"
    return f"d-{run_id[-6:] if by_time else run_id[:6]}"


def write_payload(payload: Mapping[str, Any]) -> str:
    """A payload as one line of JSON, always in the same form. What JSON has no form for is text."""
    text = json.dumps(
        payload, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=str
    )
    return text.encode("utf-8", "replace").decode()


def event_hash(event: Event) -> str:
    """The hash that the event should carry: SHA-256 of its fields, one a line."""
    fields = (
        event.previous_hash,
        str(event.seq),
        f"{event.at.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%fZ}",
        event.environment,
        event.run_id,
        event.kind,
        event.step,
        event.key,
        write_payload(event.payload),
    )
    return hashlib.sha256("\n".join(fields).encode()).hexdigest()


def verify_chain(events: Sequence[Event]) -> list[Break]:
    """Find the events, in order of ``seq``, that are not what was written. Empty if the chain
    holds.

    The last events could be cut off unnoticed; a copy of the newest hash kept elsewhere shows that.
    """
    found = []
    expected, previous = 1, ""
    for event in events:
        if event.seq != expected:
            gone = str(expected) if event.seq == expected + 1 else f"{expected} to {event.seq - 1}"
            found.append(Break(event.seq, f"event {gone} is missing before event {event.seq}"))
        elif event.previous_hash != previous:
            found.append(Break(event.seq, f"event {event.seq} does not follow the one before it"))
        if event.hash != event_hash(event):
            found.append(
                Break(
                    event.seq, f"event {event.seq} ({event.kind}) was changed after it was written"
                )
            )
        expected, previous = event.seq + 1, event.hash
    return found


def deployment_log(rows: Sequence[LogRow]) -> str:
    """The runbook's Deployment Log as Markdown, oldest first, whatever the order of ``rows``.

    The runbook's four columns come first; the environment tells staging's rows from production's.
    """
    lines = [
        "| Date | Version | Deployer | Notes | Environment |",
        "|------|---------|----------|-------|-------------|",
    ]
    for row in sorted(rows, key=lambda row: row.date):
        notes = row.notes if row.ending == "Deployed" else f"{row.ending}: {row.notes}"
        cells = (f"{row.date:%Y-%m-%d}", row.version, row.deployer, notes, row.environment)
        lines.append("| " + " | ".join(_cell(text) for text in cells) + " |")
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return " ".join(text.replace("\\", "\\\\").replace("|", "\\|").split())
