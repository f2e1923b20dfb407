"""What the environment serves before the run touches it."""

import contextlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from prefect import get_run_logger

from blocks.target import Target
from release.configuration.deployed_with import DeployedWith, read_deployed_with
from release.configuration.rules import WatchRules
from release.duration import say_duration
from release.errors import DeployError
from release.ledger import EventKind
from release.measure.counters import Looks
from release.measure.sample import Sample
from release.measure.traffic import busiest
from release.model import Baseline, Instance, Release
from release.outcome import Ending
from release.rollback.baseline import measured, serving_instances, serving_release
from tasks.say import say
from tasks.step import step
from tasks.watch import as_deployed, seen_since

_AT_ONCE = timedelta(seconds=2)


def serving(target: Target) -> tuple[Instance, ...]:
    """The instances that users of the environment are to meet now.

    One whose health check fails at this moment counts: a busy environment serves something, and it
    is what a rollback has to bring back.
    """
    return serving_instances(target.orchestrator.instances(), _admitted(target))


def meant_to_serve(target: Target) -> tuple[Instance, ...]:
    """The instances that serve or, if none runs, those that would: they crashed, or were stopped.

    What a rollback leaves is this release, even if nothing of it runs any more.
    """
    instances, admitted = target.orchestrator.instances(), _admitted(target)
    meant = tuple(i for i in instances if admitted is None or i.name in admitted)
    return serving_instances(instances, admitted) or meant


def what_is_left(target: Target) -> str:
    """The versions that a rollback is about to leave; "" if that is not known. Never raises: it is
    for the record alone.
    """
    with contextlib.suppress(DeployError):
        found = {i.version or (i.image.short if i.image else "") for i in meant_to_serve(target)}
        return ", ".join(sorted(found))
    return ""


def _admitted(target: Target) -> set[str] | None:
    """The names that the router sends requests to. Returns None if there is no router."""
    if target.router is None:
        return None
    return {slot.instance for slot in target.router.slots() if slot.admitted}


def deployed_with(target: Target, release: Release | None) -> DeployedWith | None:
    """How a release was checked when it was deployed to the environment.

    Returns None if no such record is known, or if the ledger does not answer at once. Then the
    release is checked as is configured now: no rollback waits or fails for the record. Never
    raises.
    """
    if release is None or release.image is None:
        return None
    pool = ThreadPoolExecutor(1, thread_name_prefix="deployed-with")
    try:
        return pool.submit(_read_record, target, release).result(_AT_ONCE.total_seconds())
    except Exception as error:  # noqa: BLE001  # whatever it was, it is a record that is not there
        kind = type(error).__name__
        get_run_logger().warning("how %s was deployed is unknown: %s", release.version, kind)
        return None
    finally:
        pool.shutdown(wait=False)


def _read_record(target: Target, release: Release) -> DeployedWith | None:
    for row in target.ledger.served(target.environment):
        if row.image == str(release.image) and row.ending == Ending.DEPLOYED:
            planned = target.ledger.run_events(row.run_id, EventKind.PLAN_MADE)
            return read_deployed_with([event.payload for event in planned])
    return None


@step("Record baseline", timeout=timedelta(minutes=2), retries=3)
def record_baseline(target: Target, rules: WatchRules) -> Baseline:
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
        deployed_with=deployed_with(target, release),
    )
    seen = _seen(target, served, rules)
    baseline = measured(served, *seen) if seen else served
    image = baseline.image.short if baseline.image else "nothing"
    say(f"baseline {baseline.version} {image}")
    return baseline


@step("Measure baseline", timeout=timedelta(minutes=2))
def measure_baseline(target: Target, baseline: Baseline, rules: WatchRules) -> Baseline:
    """Measure the baseline once more, at the last moment before another release is started.

    The plan has seen it for a second only; the counters now tell of the whole time since.
    A baseline that was not measured in the plan is not measured now: something else may serve.
    """
    if baseline.looks is None:
        return baseline
    seen = _seen(target, baseline, rules)
    found = measured(baseline, *seen) if seen else baseline
    counted = busiest(found.traffic, found.version)
    errors = f"{counted.errors:,} errors of {counted.requests:,}" if counted else "nothing counted"
    p95 = say_duration(found.p95) if found.p95 else "unknown"
    say(f"baseline {found.version}: {errors}, p95 {p95}")
    return replace(found, looks=None)


def _seen(target: Target, baseline: Baseline, rules: WatchRules) -> tuple[Sample, Looks] | None:
    """What is seen of a baseline, asked as it was deployed: its own errors, and no 404 of a page
    that only the next release has."""
    then = baseline.deployed_with
    asked = then.rules(rules) if then else rules
    return seen_since(as_deployed(target, then), asked, baseline.looks)
