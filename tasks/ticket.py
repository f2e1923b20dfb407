"""The deployment ticket (runbook, Post-Deployment: "Close deployment ticket")."""

from datetime import timedelta

from blocks.target import Target
from release.errors import Unreachable
from tasks.say import say
from tasks.step import step


@step("Close deployment ticket", timeout=timedelta(minutes=1), retries=0)
def close_ticket(target: Target, ticket: str, comment: str) -> str:
    """Close the ticket and say what came of it. A ticket system that is down does not fail the
    run."""
    said = _close(target, ticket, comment)
    say(said)
    return said


def _close(target: Target, ticket: str, comment: str) -> str:
    if not ticket:
        return "no ticket was named"
    if not target.ticketing.configured:
        return f"ticket {ticket} is to be closed by hand: no ticket system is configured"
    try:
        target.ticketing.close(ticket, comment)
    except Unreachable as error:
        return f"{error.what}; {error.hint}"
    return f"ticket {ticket} closed"
