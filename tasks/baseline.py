"""What the environment serves before the run touches it."""

from datetime import UTC, datetime, timedelta

from prefect import get_run_logger

from blocks.target import Target
from release.baseline import serving_instances, serving_release
from release.model import Baseline, Instance
from release.rules import WatchRules
from release.traffic import ALL_RELEASES, PROBES, busiest, slowest_p95
from tasks.step import step
from tasks.watch import measure_baseline


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


def _admitted(target: Target) -> set[str] | None:
    """The names that the router sends requests to; None: there is no router."""
    if target.router is None:
        return None
    return {slot.instance for slot in target.router.slots() if slot.admitted}


@step("Record baseline", timeout=timedelta(minutes=2), retries=2)
def record_baseline(target: Target, rules: WatchRules, run: str) -> Baseline:
    """Record digests, schema version, error rate and answer times: the target of a rollback."""
    instances = serving(target)
    release = serving_release(target.environment, instances)
    seen = measure_baseline(target, rules)
    traffic, times = (seen.traffic, seen.times) if seen else ((), ())
    counted = busiest(traffic, release.version if release else ALL_RELEASES)
    baseline = Baseline(
        environment=target.environment,
        release=release,
        instances=tuple(instance.id for instance in instances),
        schema_version=target.database.schema_version(),
        error_rate=counted.rate if counted else None,
        p95=slowest_p95(times, PROBES),
        taken_at=datetime.now(UTC),
        traffic=traffic,
        times=times,
    )
    image = baseline.image.short if baseline.image else "nothing"
    get_run_logger().info("[%s] Plan      baseline %s %s", run, baseline.version, image)
    return baseline
