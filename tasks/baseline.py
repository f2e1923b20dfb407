"""What the environment serves before the run touches it."""

import contextlib
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from prefect import get_run_logger

from blocks.target import Target
from release.baseline import measured, serving_instances, serving_release
from release.duration import say_duration
from release.errors import DeployError
from release.model import Baseline, Instance
from release.rules import WatchRules
from release.traffic import busiest
from tasks.step import step
from tasks.watch import seen_since


def serving(target: Target) -> tuple[Instance, ...]:
    """The instances that users of the environment are to meet now.

    One whose health check fails at this moment counts: a busy environment serves something, and it
    is what a rollback has to bring back.
    """
    return serving_instances(target.orchestrator.instances(), _admitted(target))


def meant_to_serve(target: Target) -> tuple[Instance, ...]:
    """The instances that serve; where none runs, those that would: they crashed, or were stopped.

    What a rollback leaves is this release, even if nothing of it runs any more.
    """
    instances, admitted = target.orchestrator.instances(), _admitted(target)
    meant = tuple(i for i in instances if admitted is None or i.name in admitted)
    return serving_instances(instances, admitted) or meant


def what_is_left(target: Target) -> str:
    """The versions that a rollback is about to leave; "" where nobody can say. Never raises: it is
    for the record alone.
    """
    with contextlib.suppress(DeployError):
        found = {i.version or (i.image.short if i.image else "") for i in meant_to_serve(target)}
        return ", ".join(sorted(found))
    return ""


def _admitted(target: Target) -> set[str] | None:
    """The names that the router sends requests to; None: there is no router."""
    if target.router is None:
        return None
    return {slot.instance for slot in target.router.slots() if slot.admitted}


@step("Record baseline", timeout=timedelta(minutes=2), retries=3)
def record_baseline(target: Target, rules: WatchRules, run: str) -> Baseline:
    """Record digests, schema version, error rate and answer times: the target of a rollback."""
    instances = serving(target)
    release = serving_release(target.environment, instances)
    served = Baseline(
        environment=target.environment,
        release=release,
        instances=tuple(instance.id for instance in instances),
        schema_version=target.database.schema_version(),
        error_rate=None,
        p95=None,
        taken_at=datetime.now(UTC),
        pin=target.orchestrator.pin_text(),
    )
    seen = seen_since(target, rules, None)
    baseline = measured(served, *seen) if seen else served
    image = baseline.image.short if baseline.image else "nothing"
    get_run_logger().info("[%s] Plan      baseline %s %s", run, baseline.version, image)
    return baseline


@step("Measure baseline", timeout=timedelta(minutes=2))
def measure_baseline(target: Target, baseline: Baseline, rules: WatchRules, run: str) -> Baseline:
    """Measure the baseline once more, at the last moment before another release is started.

    The plan has seen it for a second only; the counters now tell of the whole time since.
    A baseline that was not measured in the plan is not measured now: something else may serve.
    """
    if baseline.looks is None:
        return baseline
    seen = seen_since(target, rules, baseline.looks)
    found = measured(baseline, *seen) if seen else baseline
    counted = busiest(found.traffic, found.version)
    errors = f"{counted.errors:,} errors of {counted.requests:,}" if counted else "nothing counted"
    p95 = say_duration(found.p95) if found.p95 else "unknown"
    get_run_logger().info(
        "[%s] 4. Deploy   baseline %s: %s, p95 %s", run, found.version, errors, p95
    )
    return replace(found, looks=None)
