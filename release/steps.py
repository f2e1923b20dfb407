"""What a run did, read from its events."""

from collections.abc import Sequence

from release.ledger import Event, EventKind
from release.model import Step
from release.outcome import StepLine


def step_lines(events: Sequence[Event]) -> tuple[StepLine, ...]:
    """One line for each of the runbook's headings that the run reached, in the runbook's order."""
    begun = {event.step: event.at for event in events if event.kind == EventKind.STEP_BEGUN}
    done = {event.step: event.at for event in events if event.kind == EventKind.STEP_DONE}
    return tuple(
        StepLine(
            step,
            "done" if step in done else "failed",
            done[step] - begun[step] if step in done else None,
        )
        for step in Step
        if step in begun
    )


def approvals(events: Sequence[Event]) -> tuple[tuple[str, str, str], ...]:
    """Who signed which item, and what they said."""
    return tuple(
        (
            str(event.payload.get("item", "")),
            str(event.payload.get("approver", "")),
            str(event.payload.get("comment", "")),
        )
        for event in events
        if event.kind == EventKind.ITEM_SIGNED
    )


def needs_environment(begun: Sequence[Step]) -> bool:
    """Whether a run that began these steps got as far as to hold its environment.

    The lock is taken in the plan, and no later step begins without it.
    """
    return any(step is not Step.PLAN for step in begun)
