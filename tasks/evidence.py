"""What speaks for the checklist's items, asked from the systems that know."""

import threading
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from queue import Empty, SimpleQueue
from time import monotonic

from prefect import get_run_logger

from blocks.target import Target
from release.checklist import (
    Evidence,
    EvidenceSource,
    Finding,
    Item,
    judge_migrations_in_staging,
    judge_rollback_plan,
    judge_staging_health,
    no_answer,
    nobody_to_ask,
)
from release.duration import say_duration
from release.errors import DeployError
from release.plan import Plan
from tasks.step import step

WITHIN = timedelta(seconds=10)
"""How long all sources together may take; who is not done by then is unknown."""


@step("Collect evidence", timeout=timedelta(minutes=1))
def collect_evidence(
    target: Target,
    staging: Target | None,
    plan: Plan,
    items: tuple[Item, ...],
    run: str,
    *,
    key: str,
) -> tuple[Evidence, ...]:
    """Ask the source of each item that has one. ``key`` tells the rounds of a gate apart."""
    findings = ask_side_by_side(
        {
            item.id: partial(SOURCES[item.evidence], target, staging, plan)
            for item in items
            if item.evidence
        },
        WITHIN,
    )
    at = datetime.now(UTC)
    for item, finding in findings.items():
        get_run_logger().info("[%s] Checklist %s %s: %s", run, item, finding.verdict, finding.value)
    return tuple(
        Evidence(item, finding.verdict, finding.value, finding.source, at)
        for item, finding in findings.items()
    )


def ask_side_by_side(
    questions: Mapping[str, Callable[[], Finding]], within: timedelta
) -> dict[str, Finding]:
    """Ask all questions at once and return the answers in the questions' order.

    One that fails or is not answered in time is unknown. Its thread is left behind, as a daemon:
    a hung system can keep neither the answers of the others nor the end of the process waiting.
    """
    answers: SimpleQueue[tuple[str, Finding]] = SimpleQueue()
    for name, question in questions.items():
        threading.Thread(target=_ask, args=(name, question, answers), daemon=True).start()
    found: dict[str, Finding] = {}
    end = monotonic() + within.total_seconds()
    while len(found) < len(questions):
        try:
            name, finding = answers.get(timeout=max(end - monotonic(), 0.001))
        except Empty:
            break
        found[name] = finding
    late = no_answer(f"no answer within {say_duration(within)}", "timeout")
    return {name: found.get(name, late) for name in questions}


def _ask(
    name: str, question: Callable[[], Finding], answers: "SimpleQueue[tuple[str, Finding]]"
) -> None:
    try:
        answers.put((name, question()))
    except DeployError as error:
        answers.put((name, no_answer(error.what, "error")))
    except Exception as error:  # noqa: BLE001  # whatever broke, the source does not answer
        # Only the kind of error: a driver's message may quote a connection string.
        answers.put((name, no_answer(f"the source broke: {type(error).__name__}", "error")))


def _tests(target: Target, staging: Target | None, plan: Plan) -> Finding:
    return nobody_to_ask("no CI source configured")


def _staging_health(target: Target, staging: Target | None, plan: Plan) -> Finding:
    if staging is None:
        return _no_staging(target)
    health = staging.service.health()
    version, _ = staging.service.version() if health.ok else ("", health)
    return judge_staging_health(health, version or "", staging.url)


def _migrations_in_staging(target: Target, staging: Target | None, plan: Plan) -> Finding:
    if staging is None:
        return _no_staging(target)
    return judge_migrations_in_staging(
        {file.version: file.checksum for file in (*plan.expand, *plan.contract)},
        {
            row.version: row.checksum
            for row in staging.database.applied()
            if row.status == "applied"
        },
        f"schema_migrations of {staging.environment}",
    )


def _rollback_plan(target: Target, staging: Target | None, plan: Plan) -> Finding:
    image = plan.baseline.image
    return judge_rollback_plan(
        plan.baseline,
        image is not None and target.orchestrator.has_image(image),
        [file.filename for file in plan.contract],
        f"engine of {target.environment}",
    )


def _on_call(target: Target, staging: Target | None, plan: Plan) -> Finding:
    return nobody_to_ask("no on-call source configured")


def _no_staging(target: Target) -> Finding:
    return nobody_to_ask(f"{target.environment} has no staging environment configured")


SOURCES: dict[EvidenceSource, Callable[[Target, Target | None, Plan], Finding]] = {
    EvidenceSource.TESTS: _tests,
    EvidenceSource.STAGING_HEALTH: _staging_health,
    EvidenceSource.MIGRATIONS_IN_STAGING: _migrations_in_staging,
    EvidenceSource.ROLLBACK_PLAN: _rollback_plan,
    EvidenceSource.ON_CALL: _on_call,
}
