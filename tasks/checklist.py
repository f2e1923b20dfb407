"""A checklist in the world: shown in the UI, announced while it waits, written to the ledger."""

from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
from prefect import get_run_logger
from prefect.artifacts import create_markdown_artifact
from prefect.client.orchestration import get_client
from prefect.exceptions import PrefectException
from prefect.runtime import flow_run

from blocks.target import Target
from release.checklist import Decision, Item, Signature
from release.duration import say_duration
from release.ledger import EventKind
from tasks.step import step

WAITING_TAG = "awaiting-approval"
"""On a run while it waits for a person, so that one link lists all such runs."""

_EVENTS = {
    Decision.APPROVE: EventKind.ITEM_SIGNED,
    Decision.NOT_REQUIRED: EventKind.ITEM_SIGNED,
    Decision.REJECT: EventKind.REJECTED,
}


@step("Show checklist", timeout=timedelta(seconds=30), retries=2)
def show_checklist(environment: str, markdown: str, *, key: str) -> None:
    """Keep the checklist as it is now: the items, their evidence, who signed what."""
    create_markdown_artifact(
        key=f"checklist-{environment}",
        markdown=markdown,
        description=markdown.partition("\n")[0].replace("*", ""),
    )


@step("Open gate", timeout=timedelta(seconds=30), retries=2)
def open_gate(
    target: Target,
    run_id: str,
    waiting: tuple[Item, ...],
    deadline: timedelta,
    run: str,
    *,
    key: str,
) -> None:
    """Write down what is waited for, and mark the run as waiting. ``key`` names the round."""
    items = [item.id for item in waiting]
    target.ledger.record(
        target.environment,
        run_id,
        EventKind.GATE_OPENED,
        step=waiting[0].section,
        key=key,
        payload={"items": items, "deadline_s": int(deadline.total_seconds())},
    )
    tag_run(add=WAITING_TAG)
    get_run_logger().info(
        "[%s] Checklist %s open, up to %s: %s",
        run,
        len(items),
        say_duration(deadline),
        ", ".join(items),
    )


@step("Record signatures", timeout=timedelta(minutes=1), retries=2)
def record_signatures(
    target: Target,
    run_id: str,
    section: str,
    signatures: tuple[Signature, ...],
    run: str,
    *,
    key: str,
) -> tuple[Signature, ...]:
    """Write each signature to the ledger and return them with the time. ``key`` names the round."""
    at = datetime.now(UTC)
    recorded = tuple(replace(signature, at=at) for signature in signatures)
    for signature in recorded:
        target.ledger.record(
            target.environment,
            run_id,
            _EVENTS[signature.decision],
            step=section,
            key=f"{key}/{signature.item}",
            payload=_payload(signature),
        )
        get_run_logger().info(
            "[%s] Checklist %s: %s by %s%s",
            run,
            signature.item,
            signature.decision,
            signature.approver,
            f": {signature.comment}" if signature.comment else "",
        )
    tag_run(remove=WAITING_TAG)
    return recorded


def _payload(signature: Signature) -> dict[str, Any]:
    """A signature as JSON."""
    payload = asdict(signature)
    payload["at"] = signature.at.isoformat() if signature.at else None
    if signature.rests_on:
        payload["rests_on"]["at"] = signature.rests_on.at.isoformat()
    return payload


def tag_run(*, add: str = "", remove: str = "") -> None:
    """Put a tag on the flow run, or take it off. Only a sign for people: it may fail.

    A tag set by ``with tags()`` inside a flow goes to its tasks, never to the run itself.
    """
    try:
        with get_client(sync_client=True) as client:
            tags = set(client.read_flow_run(flow_run.id).tags)
            wanted = (tags | {add}) - {"", remove}
            if wanted != tags:
                client.update_flow_run(flow_run.id, tags=sorted(wanted))
    except (PrefectException, httpx.HTTPError) as error:
        get_run_logger().warning("the run's tags were not changed: %s", error)
