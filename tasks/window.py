"""After the watch: what serves is checked by schedule while its rollback window is open."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from blocks.target import Target
from release.configuration.layout import ServiceLayout
from release.configuration.rules import WatchRules
from release.errors import BadRequest, DeployError
from release.measure.traffic import ALL_RELEASES, busiest
from release.model import Baseline, Release
from release.rollback.baseline import NOTHING, serving_release
from release.rollback.window import (
    Facts,
    Reaction,
    Window,
    glance,
    patience,
    reaction_to,
    window_of,
)
from release.watch.report import WatchReport
from release.watch.watched import Watch
from tasks.baseline import meant_to_serve
from tasks.restore import previous
from tasks.say import say, sayer
from tasks.step import step
from tasks.watch import Progress, publish, seen_now, watch

_TIMEOUT = timedelta(days=1)  # of the watch; its rules bound it much closer


@dataclass(frozen=True, slots=True)
class Situation:
    """What serves an environment, and what a breach of it means."""

    facts: Facts
    window: Window


@contextmanager
def turn(target: Target, rules: WatchRules, due: datetime | None) -> Iterator[bool]:
    """Be the only run that watches an environment. Yields False if another still does.

    Waits for it until this run would be out of date. If the ledger does not answer, no other is
    known of, and two that watch change no more than one: what they do is under the lock.
    """
    with ExitStack() as held:
        try:
            wait = patience(due, datetime.now(UTC), rules)
            mine = held.enter_context(target.ledger.turn(target.environment, wait))
        except DeployError as error:
            say(f"whether another run watches is not known: {error.what}")
            mine = True
        yield mine


@step("Look at the rollback window", timeout=timedelta(minutes=2), retries=1)
def look_at_window(
    target: Target,
    service: ServiceLayout,
    rules: WatchRules,
    key: str,
    due: datetime | None = None,
) -> Situation:
    """What serves, since when, who holds it, and what it may be rolled back to.

    ``due`` is when the run should have begun; None once it has watched.
    """
    facts = _facts(target, service) if rules.rollback_window else Facts(datetime.now(UTC))
    window = window_of(target.environment, facts, rules, due)
    say(f"{window.mode}: {window.sentence}")
    return Situation(facts, window)


def _facts(target: Target, service: ServiceLayout) -> Facts:
    now, there = datetime.now(UTC), target.environment
    running: Release | None = None
    try:
        running = serving_release(there, meant_to_serve(target))
        holder, log = target.ledger.holder(there), target.ledger.log(there)
        back_to = _previous(target, service)
    except DeployError as error:
        return Facts(now, running, problem=error.what)
    return Facts(now, running, log, holder, back_to)


def _previous(target: Target, service: ServiceLayout) -> Release | None:
    try:
        return previous(target, service)
    except BadRequest:
        return None


@step("Glance", timeout=timedelta(minutes=5), retries=1)
def look_once(target: Target, rules: WatchRules) -> tuple[str, ...]:
    """Look at health, auth flow and error rate once. Returns a sentence for each that does not look
    well."""
    seen = seen_now(target, rules)
    counted = busiest(seen.traffic, ALL_RELEASES) if seen else None
    rate = counted.rate if counted else None
    found = glance(target.service.health(), target.service.auth_flow(), rate, rules)
    say(f"looked once: {'; '.join(found) or 'well'}")
    return found


@step("Watch in the rollback window", timeout=_TIMEOUT)
def watch_window(target: Target, situation: Situation, rules: WatchRules) -> WatchReport:
    """Watch what serves by the rules of a deployment's watch, for ``rules.window_run``.

    It goes on, as that does, while a breach is under way, so that none is lost between two runs.
    """
    version, now = _watched(situation).version, datetime.now(UTC)
    this_long = rules.model_copy(update={"length": rules.window_run})
    report = watch(
        target,
        Watch(version, _compared_with(target, situation), this_long, now),
        say=sayer(),
        progress=Progress(target.environment, version).show,
    )
    # Its own key: the report of the deployment's watch is not written over every ten minutes.
    publish(report, f"window-{target.environment}")
    return report


def reaction_of(report: WatchReport, watched: Situation, now: Situation) -> Reaction:
    """What follows if a watch did not pass."""
    fired = {str(verdict.trigger) for verdict in report.verdicts if verdict.fires}
    return reaction_to(
        watched.facts.serving,
        now.facts,
        now.window,
        fired=bool(fired),
        declared=fired == {"p0"},
    )


def _watched(situation: Situation) -> Release:
    return situation.facts.serving or Release(NOTHING, revision="")


def _compared_with(target: Target, situation: Situation) -> Baseline:
    """The previous release has not been measured for hours, so nothing is compared with it."""
    return Baseline(
        environment=target.environment,
        release=situation.facts.back_to,
        instances=(),
        schema_version="",
        error_rate=None,
        p95=None,
        taken_at=situation.facts.now,
    )
