"""Evidence for the checklist's items, asked from the systems that know."""

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial

from blocks.on_call import OnCall
from blocks.target import Target
from release.configuration.rules import GateRules, WatchRules
from release.duration import say_duration
from release.errors import DeployError, Unreachable
from release.gate.checklist import Item
from release.gate.evidence import (
    Evidence,
    EvidenceSource,
    Finding,
    Staging,
    WayBack,
    judge_checks,
    judge_duty,
    judge_message,
    judge_migrations_in_staging,
    judge_on_call,
    judge_rollback_plan,
    judge_staging,
    judge_tests_command,
    no_answer,
    nobody_to_ask,
    say_rehearsal,
    undecided,
)
from release.ledger import EventKind
from release.measure.traffic import ALL_RELEASES, busiest
from release.plan import Plan
from tasks.notification import page_of
from tasks.say import say, this_run
from tasks.side_by_side import ask_side_by_side
from tasks.step import step
from tasks.watch import seen_now

WITHIN = timedelta(seconds=6)
"""How long all sources together may take; who is not done by then is unknown. The gate is open 10 s
after it was reached, however many of them hang."""

_ASKED_AGAIN = timedelta(seconds=5)  # after a round in which a source did not decide

Question = Callable[[], Finding]


def questions_about(
    items: Sequence[Item], plan: Plan, target: Target, staging: Target | None
) -> dict[str, Question]:
    """What is asked for each item that has a source, by the item's id."""
    return {
        item.id: partial(SOURCES[item.evidence], target, staging, plan)
        for item in items
        if item.evidence
    }


@step("Collect evidence", timeout=timedelta(minutes=12))  # each round is bounded by itself
def collect_evidence(
    questions: Mapping[str, Question], rules: GateRules, *, key: str
) -> tuple[Evidence, ...]:
    """Ask each item's source. ``key`` tells the rounds of a gate apart.

    A source that has not decided is asked again for ``rules.patience``, 10 minutes at most.
    """
    found: dict[str, Evidence] = {}

    def ask(names: Mapping[str, Question]) -> dict[str, Finding]:
        answers = findings_of(names, WITHIN)
        at = datetime.now(UTC)
        stale = at + rules.evidence_valid_for
        for item, one in answers.items():
            say(f"{item} {one.verdict}: {one.value}")
            found[item] = Evidence(item, one.verdict, one.value, one.source, at, one.link, stale)
        return answers

    ask_until_decided(questions, ask, rules.patience, _ASKED_AGAIN)
    return tuple(found[item] for item in questions)


def ask_until_decided(
    questions: Mapping[str, Question],
    ask: Callable[[Mapping[str, Question]], Mapping[str, Finding]],
    patience: timedelta,
    pause: timedelta,
) -> None:
    """Ask everything once, and what is undecided again, ``pause`` after it, while it helps.

    It helps until ``patience`` is over, or until something has failed.
    """
    end = time.monotonic() + patience.total_seconds()
    findings = dict(ask(questions))
    while (again := undecided(findings)) and time.monotonic() + pause.total_seconds() < end:
        time.sleep(pause.total_seconds())  # the distance between two looks
        findings |= ask({name: questions[name] for name in again})


def findings_of(questions: Mapping[str, Question], within: timedelta) -> dict[str, Finding]:
    """Ask all sources at once. One that fails or does not answer in time is unknown."""
    asked = {name: partial(_finding_of, question) for name, question in questions.items()}
    found = ask_side_by_side(asked, within)
    late = no_answer(f"no answer within {say_duration(within)}", "no answer")
    return {name: found.get(name, late) for name in questions}


def _finding_of(question: Question) -> Finding:
    try:
        return question()
    except DeployError as error:
        return no_answer(error.what, "no answer")
    except Exception as error:  # noqa: BLE001  # whatever broke, the source does not answer
        # Only the kind of error: a driver's message may quote a connection string.
        return no_answer(f"the source broke: {type(error).__name__}", "no answer")


def _tests(target: Target, staging: Target | None, plan: Plan) -> Finding:
    forge = target.forge
    if forge.tests_command:
        return judge_tests_command(forge.run_tests_command(plan.revision, WITHIN * 0.9))
    if not forge.configured:
        return nobody_to_ask("no CI source configured")
    return judge_checks(forge.checks(plan.revision), f"checks of {plan.revision[:12]}")


def _staging_health(target: Target, staging: Target | None, plan: Plan) -> Finding:
    if staging is None:
        return _no_staging(target)
    issues = target.forge.critical_issues() if target.forge.configured else None
    health = staging.service.health()
    version, _ = staging.service.version() if health.ok else ("", health)
    rules = WatchRules()
    seen = seen_now(staging, rules) if health.ok else None
    counted = busiest(seen.traffic, version or ALL_RELEASES) if seen else None
    found = Staging(health, version or "", counted.rate if counted else None, issues)
    return judge_staging(found, rules.error_rate_ceiling, staging.environment, staging.url)


def _migrations_in_staging(target: Target, staging: Target | None, plan: Plan) -> Finding:
    if staging is None:
        return _no_staging(target)
    return judge_migrations_in_staging(
        {file.version: file.checksum for file in (*plan.expand, *plan.contract)},
        {row.version: row.checksum for row in staging.database.applied() if row.done},
        f"schema_migrations of {staging.environment}",
        page_of("").artifact(f"schema-migrations-{staging.environment}"),
        plan.rehearsal,
    )


def _rollback_plan(target: Target, staging: Target | None, plan: Plan) -> Finding:
    image = plan.baseline.image
    rehearsal, link = _last_rollback(target, staging)
    way = WayBack(
        plan.baseline,
        on_host=image is not None and target.orchestrator.has_image(image),
        in_registry=image is not None and target.registry.holds(image),
        contract=[file.filename for file in plan.contract],
        rehearsal=rehearsal,
        schema=plan.rollback,
    )
    return judge_rollback_plan(way, f"engine and registry of {target.environment}", link)


def _last_rollback(target: Target, staging: Target | None) -> tuple[str, str]:
    """When something was last rolled back, here or in staging, and the page of that run."""
    names = [one.environment for one in (target, staging) if one is not None]
    rows = [
        row
        for name in names
        for row in target.ledger.log(name, _LOOK_BACK)
        if row.ending in _ROLLED_BACK
    ]
    if not rows:
        return "", ""
    newest = max(rows, key=lambda row: row.date)
    began = target.ledger.events(run_id=newest.run_id, kinds=[EventKind.ROLLBACK_STARTED])
    took = newest.date - began[-1].at if began else None
    said = say_rehearsal(newest.environment, took, datetime.now(UTC) - newest.date)
    return said, page_of(newest.run_id).address


def _on_call(target: Target, staging: Target | None, plan: Plan) -> Finding:
    on_call = target.on_call
    if not on_call.configured:
        return nobody_to_ask("no on-call source configured")
    message = _message(on_call)
    if not on_call.rota:
        return judge_on_call(message, None)
    return judge_on_call(message, judge_duty(on_call.now(), on_call.rota))


def _message(on_call: OnCall) -> Finding:
    """What became of the message of this run; it begins with the run's label."""
    try:
        return judge_message(on_call.message(f"[{this_run()}]"), "pager")
    except Unreachable as error:  # the schedule may still answer
        return no_answer(error.what, "pager")


def _no_staging(target: Target) -> Finding:
    return nobody_to_ask(f"{target.environment} has no staging environment configured")


_ROLLED_BACK = ("RolledBack", "RollbackDone")
_LOOK_BACK = 1000  # deployments of an environment

SOURCES: dict[EvidenceSource, Callable[[Target, Target | None, Plan], Finding]] = {
    EvidenceSource.TESTS: _tests,
    EvidenceSource.STAGING_HEALTH: _staging_health,
    EvidenceSource.MIGRATIONS_IN_STAGING: _migrations_in_staging,
    EvidenceSource.ROLLBACK_PLAN: _rollback_plan,
    EvidenceSource.ON_CALL: _on_call,
}
