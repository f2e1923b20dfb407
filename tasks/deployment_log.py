"""The deployment log (runbook, "Deployment Log"): a view of the ledger, kept as an artifact."""

from datetime import UTC, datetime, timedelta
from logging import WARNING
from typing import Any

from prefect import get_run_logger
from prefect.artifacts import create_markdown_artifact

from blocks.target import Target
from release.errors import Unreachable
from release.ledger import EventKind, deployment_log
from release.outcome import Report, last_line
from tasks.say import say, this_run
from tasks.step import step


@step("Write deployment log", timeout=timedelta(minutes=1), retries=1)
def write_ending(target: Target, run_id: str, report: Report, payload: dict[str, Any]) -> None:
    """Record the ending in the ledger, then show the report and the deployment log.

    A ledger that does not answer keeps the event for later and fails nothing.
    """
    written = target.ledger.record(
        report.environment, run_id, EventKind.DEPLOYMENT_ENDED, payload=payload
    )
    create_markdown_artifact(
        key=report.key,
        markdown=report.markdown(),
        description=f"{report.ending}: {report.environment} serves {report.serves}",
    )
    if not written:
        say("the ledger does not answer; the ending is kept for later", WARNING)
        return
    create_markdown_artifact(
        key="deployment-log",
        markdown=deployment_log(target.ledger.log()),
        description=f"as of {datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
    )


@step("Catch up with the ledger", timeout=timedelta(seconds=30), retries=4)
def catch_up(target: Target) -> None:
    """Write what the ledger could not take when the run ended: its ending, and its lock given back.

    Raises Unreachable if it still cannot: the next run on this worker that needs it does.
    """
    if not target.ledger.flush():
        raise Unreachable(
            f"the ledger does not answer: the ending of {this_run()} is kept on the worker, and "
            f"{target.environment} is held at least until the ledger has it",
            "ignition doctor",
        )
    say("the ledger has what was kept for it")


def say_ending(report: Report) -> None:
    """The run's last line."""
    log = get_run_logger()
    (log.info if report.ending.good else log.error)(last_line(report))
