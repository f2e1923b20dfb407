"""Post-Deployment: the release is watched until every trigger has been judged."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from contextvars import copy_context
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from threading import Thread
from time import monotonic
from typing import Protocol
from uuid import UUID

import httpx
from prefect import get_run_logger
from prefect.artifacts import (
    create_markdown_artifact,
    create_progress_artifact,
    update_progress_artifact,
)
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import ArtifactUpdate
from prefect.exceptions import PrefectException

from blocks.metrics import Engine, Metrics, Sampled, Source
from blocks.plots import picture_of
from blocks.service import Service
from release.configuration.deployed_with import DeployedWith
from release.configuration.rules import WatchRules
from release.duration import say_duration
from release.errors import DeployError, TriggerFired
from release.measure.counters import Looks
from release.measure.sample import Sample, percentile
from release.measure.traffic import busiest
from release.model import Baseline, Release
from release.watch.chart import Chart, Moment, chart_of_watch
from release.watch.probing import measured_on, unmeasured
from release.watch.report import DRAWING, WatchReport, changes, markdown, moments_of
from release.watch.restored import AfterRollback, rules_after_rollback, verdict_after_rollback
from release.watch.triggers import Action, Decision, judge_watch
from release.watch.watched import Watch
from tasks.alarm import Alarm, Reports, reason_of
from tasks.say import say, sayer
from tasks.step import put_off, step, write_report

_TIMEOUT = timedelta(days=1)  # of the step; the rules bound the watch much closer
_PROGRESS_STEP = 5.0  # percent
_DRAWN_WITHIN = timedelta(minutes=1)  # 2 s on a quiet machine
_ADDED_WITHIN = timedelta(seconds=30)


class Watched(Sampled, Protocol):
    """What the watch needs of a target."""

    @property
    def environment(self) -> str: ...
    @property
    def metrics(self) -> Metrics: ...
    @property
    def ledger(self) -> Reports: ...


@step("Watch release", timeout=_TIMEOUT)
def watch_release(
    target: Watched,
    release: Release,
    baseline: Baseline,
    rules: WatchRules,
    cutover: datetime | None = None,
) -> WatchReport:
    """Watch the release until it has passed (runbook: "Monitor error rates (10 min)").

    ``cutover`` is when users met the release first, for the report. Raises TriggerFired, as soon
    as a trigger is certain, with its sentence. A watch that was interrupted begins again from the
    start.
    """
    report = watch(
        target,
        Watch(release.version, baseline, rules, datetime.now(UTC), cutover),
        say=sayer(),
        progress=Progress(target.environment, release.version).show,
    )
    keep = partial(publish, report, f"watch-{target.environment}")
    if not report.passed:
        put_off(keep)  # until the baseline serves again
        raise TriggerFired(
            f"{release.version} on {target.environment}: {report.decision.sentence}",
            f'ignition status {target.environment}   ·   runbook, "Rollback Trigger Conditions"',
        )
    keep()
    return report


@dataclass(frozen=True)
class AsDeployed:
    """An environment, asked as the release that it serves knows it."""

    environment: str
    service: Service
    metrics: Metrics
    router: Source | None
    ledger: Reports
    orchestrator: Engine


def as_deployed(target: Watched, then: DeployedWith | None) -> Watched:
    """The environment as a release knows it; as it is configured now, without a record of that."""
    if then is None:
        return target
    return AsDeployed(
        environment=target.environment,
        service=target.service.as_deployed(then),
        metrics=target.metrics,
        router=target.router,
        ledger=target.ledger,
        orchestrator=target.orchestrator,
    )


@step("Watch what was restored", timeout=_TIMEOUT)
def watch_restored(
    target: Watched, baseline: Baseline, length: timedelta, rules: WatchRules
) -> AfterRollback | None:
    """Watch what a rollback has brought back. Returns None if it is not watched.

    It serves already, so nobody waits for this but the run, and whoever holds a release back until
    it is known. By what it was deployed with, as it was verified.
    """
    then = baseline.deployed_with
    if baseline.release is None or not length:
        say(f"{baseline.version} is not watched")
        return None
    now = datetime.now(UTC)
    # Compared with nothing: what is better than this is not known.
    unmeasured = replace(baseline, traffic=(), times=(), p95=None, taken_at=now)
    own_rules = rules_after_rollback(then.rules(rules) if then else rules, length)
    report = watch(
        as_deployed(target, then),
        Watch(baseline.version, unmeasured, own_rules, now),
        say=sayer(),
        progress=lambda percent: None,
    )
    publish(report, f"rollback-watch-{target.environment}")
    return verdict_after_rollback(report)


def publish(report: WatchReport, key: str) -> None:
    """Keep the report as an artifact. Never raises: a release that has passed is not rolled back
    for it.
    """
    write_report(partial(_publish, report, key))


def _publish(report: WatchReport, key: str) -> None:
    """Nobody waits for the report's plots, neither a rollback nor the end of the run: they are
    added.
    """
    made = create_markdown_artifact(
        key=key,
        description=f"{report.version} on {report.environment}",
        markdown=markdown(report, DRAWING if report.chart else ""),
    )
    if report.chart and isinstance(made, UUID):
        # Its context says which server the artifact is on. The process ends after it.
        adding = copy_context().run
        work = (_add_picture, made, report, report.chart)
        Thread(target=adding, args=work, name="watch plots").start()


def _add_picture(artifact: UUID, report: WatchReport, chart: Chart) -> None:
    """Add the plots to the report that is shown, or why there are none."""
    try:
        picture = picture_of(chart, _DRAWN_WITHIN)
    except DeployError as error:
        picture = f"No plots: {error.what}."
    data = markdown(report, picture)
    # A client of its own: that of the run is closed when the run has ended.
    own = {"timeout": _ADDED_WITHIN.total_seconds()}
    # Where the server is gone, the report stays as it was: without plots, and saying so.
    with suppress(httpx.HTTPError, PrefectException), get_client(own, sync_client=True) as client:
        client.update_artifact(artifact, ArtifactUpdate(data=data))


def watch(
    target: Watched,
    under_way: Watch,
    say: Callable[[str], None],
    progress: Callable[[float], None],
) -> WatchReport:
    """Take samples and judge them until there is a decision.

    A P0 counts if it was declared since the baseline was recorded: one that came between the
    cutover and the watch is not lost. It interrupts the watch, a sample under way included.
    """
    rules, version, started_at = under_way.rules, under_way.version, under_way.started_at
    since = under_way.baseline.taken_at

    def ask_p0() -> str | None:
        return reason_of(target.ledger.p0_declared(target.environment, since))

    say(
        f"watching {version} for {say_duration(rules.length)}, "
        f"a sample every {say_duration(rules.every)}"
    )
    samples: list[Sample] = []
    moments: list[Moment] = []
    before: Decision | None = None
    with Alarm(ask_p0) as alarm, target.metrics.sampler(target, rules, ask_p0) as sampler:
        for at in ticks(started_at, rules.every, alarm.wait):
            sample = alarm.unless_declared(partial(sampler.sample, at))
            samples.append(sample or Sample(at, p0=alarm.reason))
            decision = judge_watch(under_way, samples)
            for line in changes(before, decision, samples):
                say(line)
            moments.extend(moments_of(before, decision, samples[-1], moments))
            progress(100 * (at - started_at) / (decision.until - started_at or rules.every))
            before = decision
            if decision.action is not Action.CONTINUE:
                break
        took, mix = sampler.took, sampler.mix
    judged = [traffic for sample in samples if (traffic := busiest(sample.traffic, version))]
    sources = {traffic.source for sample in samples for traffic in sample.traffic}
    report = WatchReport(
        environment=target.environment,
        version=version,
        decision=decision,
        samples=len(samples),
        requests=sum(traffic.requests for traffic in judged),
        errors=sum(traffic.errors for traffic in judged),
        p50=percentile(took, 0.5) if took else None,
        p95=percentile(took, 0.95) if took else None,
        lasted=samples[-1].at - started_at,
        moments=tuple(moments),
        measured_on=measured_on(sources, mix),
        unmeasured=unmeasured(sources, mix),
        chart=chart_of_watch(under_way, samples, moments),
    )
    say(f"watch {'passed' if report.passed else 'FAILED'}: {decision.sentence}")
    return report


def ticks(
    started_at: datetime, every: timedelta, wait: Callable[[timedelta], None]
) -> Iterator[datetime]:
    """The moments to sample at, ``every`` apart without drift; one that is missed is left out.

    ``wait`` sleeps for a time, or less where something is to be looked at sooner.
    They follow the monotonic clock: setting the wall clock neither stretches a watch nor ends it.
    """
    began = monotonic()
    number = 0
    while True:
        wait(timedelta(seconds=began + number * every.total_seconds() - monotonic()))
        yield started_at + timedelta(seconds=monotonic() - began)
        elapsed = timedelta(seconds=monotonic() - began)
        number = max(number, elapsed // every) + 1


def seen_now(target: Watched, rules: WatchRules) -> Sample | None:
    """What serves, seen once with enough probes to be judged. Returns None if nothing answers."""
    seen = seen_since(target, rules, None)
    return seen[0] if seen else None


def seen_since(
    target: Watched, rules: WatchRules, looks: Looks | None
) -> tuple[Sample, Looks] | None:
    """The same, of what users were answered all that came since the ``looks``; and the looks now.

    Without any, what comes while it is looked.
    """
    if not target.service.health().status:
        return None  # on a first deployment that is as it should be
    with target.metrics.sampler(target, rules, since=looks) as sampler:
        sample = sampler.sample(datetime.now(UTC), probes=rules.fewest_requests)
        return sample, sampler.looks


class Progress:
    """The watch's progress bar in the UI. A failure to show it is no reason to stop watching."""

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
