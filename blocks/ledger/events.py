"""The ledger's events: their form before they have a number, and the table they stand in."""

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from operator import attrgetter
from typing import Any

from blocks.postgres.connection import Connection
from release.ledger import Event, EventKind, write_payload

Entry = dict[str, Any]  # an event before it has a number

EVENT_COLUMNS = "seq, at, environment, run_id, kind, step, payload, previous_hash, hash, key"

_IDENTITY = attrgetter("kind", "step", "key")  # of an event in its run, as the table has it


def entry_of(
    environment: str,
    run_id: str,
    kind: EventKind,
    step: str = "",
    key: str = "",
    payload: Mapping[str, Any] | None = None,
    at: datetime | None = None,
) -> Entry:
    """An event that has just happened, or happened ``at``, in a form that JSON and SQL both take.

    The ledger's columns take one line each, without NUL.
    """
    return {
        "at": (at or datetime.now(UTC)).astimezone(UTC).isoformat(),
        "environment": _one_line(environment),
        "run_id": _one_line(run_id),
        "kind": kind.value,
        "step": _one_line(step),
        "key": _one_line(key),
        "payload": write_payload(payload or {}),
    }


def insert_event(connection: Connection, entry: Entry) -> None:
    """Write an event, unless its run has one of that kind, step and key already."""
    connection.execute(
        "INSERT INTO ledger_events (at, environment, run_id, kind, step, key, payload)"
        " VALUES (%(at)s, %(environment)s, %(run_id)s, %(kind)s, %(step)s, %(key)s, %(payload)s)"
        " ON CONFLICT (run_id, kind, step, key) DO NOTHING",
        entry,
    )


def select_events(
    connection: Connection,
    environment: str | None,
    run_id: str | None,
    kinds: Iterable[EventKind] | None,
) -> list[Event]:
    """Events, oldest first; an argument that is None selects all."""
    wanted = None if kinds is None else [kind.value for kind in kinds]
    rows = connection.execute(
        f"SELECT {EVENT_COLUMNS} FROM ledger_events"
        " WHERE (%(environment)s::text IS NULL OR environment = %(environment)s)"
        " AND (%(run_id)s::text IS NULL OR run_id = %(run_id)s)"
        " AND (%(kinds)s::text[] IS NULL OR kind = ANY (%(kinds)s)) ORDER BY seq".encode(),
        {"environment": environment, "run_id": run_id, "kinds": wanted},
    ).fetchall()
    return [Event(**row) for row in rows]


def with_kept(written: list[Event], kept: Iterable[Entry]) -> list[Event]:
    """The events of a run: those in the table, and behind them those that are only kept."""
    there = set(map(_IDENTITY, written))
    return written + [event for event in map(_kept_event, kept) if _IDENTITY(event) not in there]


def _kept_event(entry: Entry) -> Event:
    read = {"at": datetime.fromisoformat(entry["at"]), "payload": json.loads(entry["payload"])}
    return Event(seq=0, **entry | read)


def _one_line(text: str) -> str:
    return " ".join(text.replace("\0", " ").splitlines()) if text else ""
