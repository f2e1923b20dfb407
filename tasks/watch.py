"""Post-Deployment: the release is watched until every trigger has been judged."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from time import monotonic, sleep
from typing import Protocol
from uuid import UUID

import httpx
from prefect import get_run_logger
from prefect.artifacts import (
    create_markdown_artifact,
    create_progress_artifact,
    update_progress_artifact,
)
from prefect.exceptions import PrefectException

from blocks.metrics import Counters, Metrics
from blocks.service import Service
from release.duration import say_duration
from release.errors import TriggerFired
from release.ledger import Event
from release.model import Baseline, Release
from release.rules import WatchRules
from release.traffic import ALL_RELEASES, PROBES, busiest
from release.triggers import Action, Decision, Sample, judge_watch, percentile
from release.verdict import Outcome, Trigger, Verdict
from tasks.step import step

_TIMEOUT = timedelta(days=1)  # of the step; the rules bound the watch much closer
_PROGRESS_STEP = 5.0  # percent


class P0Reports(Protocol):
    """Where people declare a P0."""

    def p0_declared(self, environment: str, since: datetime) -> Event | None:
        """The newest P0 that was declared since then."""
        ...


class Watched(Protocol):
    """What the watch needs of a target."""

    @property
    def environment(self) -> str: ...
    @property
    def service(self) -> Service: ...
    @property
    def metrics(self) -> Metrics: ...
    @property
    def router(self) -> Counters | None: ...
    @property
    def ledger(self) -> P0Reports: ...


@dataclass(frozen=True, slots=True)
class WatchReport:
    """What the watch saw, and what it means."""

    environment: str
    version: str
    decision: Decision
    samples: int
    requests: int
    errors: int  # 5xx
    p50: timedelta | None  # of the probes' answers
    p95: timedelta | None
    lasted: timedelta

    @property
    def passed(self) -> bool:
        return self.decision.action is Action.PASS

    @property
    def verdicts(self) -> tuple[Verdict, ...]:
        return self.decision.verdicts

    @property
    def notes(self) -> tuple[str, ...]:
        """What could not be judged, and what a person should look at."""
        return self.decision.notes


@step("Watch release", timeout=_TIMEOUT)
def watch_release(
    target: Watched, release: Release, baseline: Baseline, rules: WatchRules, run: str
) -> WatchReport:
    """Watch the release until it has passed (runbook: "Monitor error rates (10 min)").

    Raises TriggerFired, as soon as a trigger is certain, with its sentence. A watch that was
    interrupted begins again from the start.
    """
    log = get_run_logger()
    report = watch(
        target,
        release,
        baseline,
        rules,
        say=lambda line: log.info("[%s] Post-Deployment  %s", run, line),
        progress=Progress(target.environment, release.version).show,
    )
    create_markdown_artifact(
        key=f"watch-{target.environment}",
        description=f"{release.version} on {target.environment}",
        markdown=markdown(report),
    )
    if not report.passed:
        raise TriggerFired(
            f"{release.version} on {target.environment}: {report.decision.sentence}",
            f'ignition status {target.environment}   ·   runbook, "Rollback Trigger Conditions"',
        )
    return report


def watch(
    target: Watched,
    release: Release,
    baseline: Baseline,
    rules: WatchRules,
    say: Callable[[str], None],
    progress: Callable[[float], None],
) -> WatchReport:
    """Take samples and judge them until there is a decision.

    A P0 counts if it was declared since the baseline was recorded: one that came between the
    cutover and the watch is not lost.
    """

    def ask_p0() -> str | None:
        event = target.ledger.p0_declared(target.environment, baseline.taken_at)
        return str(event.payload.get("reason") or "no reason given") if event else None

    say(
        f"watching {release.version} for {say_duration(rules.length)}, "
        f"a sample every {say_duration(rules.every)}"
    )
    samples: list[Sample] = []
    before: Decision | None = None
    started_at = datetime.now(UTC)
    with target.metrics.sampler(target.service, target.router, rules, ask_p0) as sampler:
        for at in ticks(started_at, rules.every):
            samples.append(sampler.sample(at))
            decision = judge_watch(samples, rules, started_at, baseline, release.version)
            for line in changes(before, decision, samples):
                say(line)
            progress(100 * (at - started_at) / (decision.until - started_at or rules.every))
            before = decision
            if decision.action is not Action.CONTINUE:
                break
        judged = [traffic for s in samples if (traffic := busiest(s.traffic, release.version))]
        report = WatchReport(
            environment=target.environment,
            version=release.version,
            decision=decision,
            samples=len(samples),
            requests=sum(traffic.requests for traffic in judged),
            errors=sum(traffic.errors for traffic in judged),
            p50=percentile(sampler.took, 0.5) if sampler.took else None,
            p95=percentile(sampler.took, 0.95) if sampler.took else None,
            lasted=samples[-1].at - started_at,
        )
    say(f"watch {'passed' if report.passed else 'FAILED'}: {decision.sentence}")
    return report


def ticks(started_at: datetime, every: timedelta) -> Iterator[datetime]:
    """The moments to sample at, ``every`` apart without drift; one that is missed is left out.

    They follow the monotonic clock: setting the wall clock neither stretches a watch nor ends it.
    """
    began = monotonic()
    number = 0
    while True:
        sleep(max(0.0, began + number * every.total_seconds() - monotonic()))
        yield started_at + timedelta(seconds=monotonic() - began)
        elapsed = timedelta(seconds=monotonic() - began)
        number = max(number, elapsed // every) + 1


def changes(before: Decision | None, now: Decision, samples: Sequence[Sample]) -> Iterator[str]:
    """What is different since the sample before, one line each."""
    were_bad = _bad(before) if before else {}
    are_bad = _bad(now)
    for trigger, verdict in are_bad.items():
        if trigger not in were_bad or were_bad[trigger].outcome is not verdict.outcome:
            yield verdict.sentence
    for verdict in now.verdicts:
        if verdict.trigger in were_bad and verdict.trigger not in are_bad:
            yield f"over: {verdict.sentence}"
    unknown_before = samples[-2].unknown if len(samples) > 1 else ()
    for sentence in samples[-1].unknown:
        if sentence not in unknown_before:
            yield f"not seen: {sentence}"
    extended = before and now.action is Action.CONTINUE and now.until != before.until
    if extended:
        yield now.sentence


def _bad(decision: Decision) -> dict[Trigger, Verdict]:
    return {
        verdict.trigger: verdict
        for verdict in decision.verdicts
        if verdict.under_way or verdict.outcome is Outcome.UNHEALTHY
    }


def measure_baseline(target: Watched, rules: WatchRules) -> tuple[float | None, timedelta | None]:
    """The error rate (fraction) and 95th percentile of what serves now; None: not measured."""
    if not target.service.health().status:
        return None, None  # nothing answers: on a first deployment that is as it should be
    with target.metrics.sampler(target.service, target.router, rules) as sampler:
        sample = sampler.sample(datetime.now(UTC), probes=rules.fewest_requests)
    counted = busiest(sample.traffic, ALL_RELEASES)
    p95 = next((times.p95 for times in sample.times if times.source == PROBES), None)
    return counted.rate if counted else None, p95


def markdown(report: WatchReport) -> str:
    """The report as the artifact shows it."""
    decision = report.decision
    headline = f"{report.version} {'passed' if report.passed else 'failed'} its watch on "
    rows = [
        f"| {verdict.trigger} | {_shown(verdict.outcome)} | {verdict.value} | {verdict.limit} "
        f"| {verdict.window} | {verdict.sentence.replace('|', chr(92) + '|')} |"
        for verdict in report.verdicts
    ]
    times = " · ".join(
        f"{name} {say_duration(value)}"
        for name, value in (("p50", report.p50), ("p95", report.p95))
        if value is not None
    )
    lines = [
        f"**{headline}{report.environment}: {decision.sentence}.**",
        "",
        "| trigger | verdict | value | limit | window | why |",
        "|---|---|---|---|---|---|",
        *rows,
        "",
        f"{report.requests:,} requests, {report.errors:,} of them 5xx, in {report.samples} samples "
        f"over {say_duration(report.lasted)}; probes: {times or 'none was answered'}.",
    ]
    if report.passed and report.notes:
        lines += ["", "To look at:", "", *(f"- {note}" for note in report.notes)]
    return "\n".join(lines)


def _shown(outcome: Outcome) -> str:
    return f"**{outcome}**" if outcome is Outcome.UNHEALTHY else str(outcome)


class Progress:
    """The watch's progress bar in the UI. That it cannot be shown is no reason to stop watching."""

    def __init__(self, environment: str, version: str) -> None:
        self._key = f"watch-progress-{environment}"
        self._description = f"{version} on {environment}"
        self._artifact: UUID | None = None
        self._shown = -_PROGRESS_STEP

    def show(self, percent: float) -> None:
        """Show ``percent`` if it has moved far enough to be worth a call."""
        percent = min(100.0, max(0.0, percent))
        if abs(percent - self._shown) < _PROGRESS_STEP and percent < 100:
            return
        self._shown = percent
        try:
            if self._artifact is None:
                made = create_progress_artifact(
                    percent, key=self._key, description=self._description
                )
                self._artifact = made if isinstance(made, UUID) else None
            else:
                update_progress_artifact(self._artifact, percent)
        except (httpx.HTTPError, PrefectException) as error:
            get_run_logger().warning("progress is not shown: %s", type(error).__name__)
