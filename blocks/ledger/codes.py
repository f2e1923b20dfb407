"""One-time codes that approvers gave: each counts once, and guessing is noticed."""

from datetime import datetime

from blocks.postgres.connection import Connection
from release.ledger import EventKind


def use_code(connection: Connection, approver: str, step: int, run_id: str, gate: str) -> bool:
    """Mark the code of an approver's ``step`` as used by an answer; say whether it was the first.

    ``step`` counts 30 s since 1970 (RFC 6238, T). The same answer may ask again.
    """
    with connection.transaction():
        connection.execute(
            "INSERT INTO used_codes (approver, step, run_id, gate) VALUES (%s, %s, %s, %s)"
            " ON CONFLICT DO NOTHING",
            (approver, step, run_id, gate),
        )
        row = connection.execute(
            "SELECT run_id, gate FROM used_codes WHERE approver = %s AND step = %s",
            (approver, step),
        ).fetchone()
    return row == {"run_id": run_id, "gate": gate}


def unproven_answers(connection: Connection, approver: str, since: datetime) -> list[datetime]:
    """When answers in a name had no good code since then, over all runs."""
    rows = connection.execute(
        "SELECT at FROM ledger_events WHERE kind = %s AND at > %s"
        " AND lower(payload ->> 'approver') = lower(%s)"
        " AND payload ->> 'unproven' = 'true'",
        (EventKind.ANSWER_REFUSED.value, since, approver),
    ).fetchall()
    return [row["at"] for row in rows]
