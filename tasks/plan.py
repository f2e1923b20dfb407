"""The plan: what a deployment is going to do, written down before it does it."""

from dataclasses import dataclass
from datetime import timedelta
from functools import partial

from prefect.artifacts import create_markdown_artifact

from blocks.target import Target
from release.configuration.layout import ServiceLayout, refuse_unfit_source
from release.configuration.rules import WatchRules
from release.errors import SourceRefused
from release.migration.change import SchemaChange
from release.migration.rehearsal.outcome import Rehearsal, refuse_breaking
from release.model import Baseline, Release, ReleaseKind
from release.plan import Change, Plan, planned_version
from release.readiness.systems import Readiness, warnings
from release.request import DeployRequest
from release.watch.probing import measured_on
from tasks.image import find_image
from tasks.say import say
from tasks.step import step

# What the runbook's plain restart cost where there is no router: 4.1 to 6.1 s in five rollouts.
_RESTART_OUTAGE = timedelta(seconds=6)


@dataclass(frozen=True)
class Survey:
    """What was found out, and changed nothing, before a plan is made of it."""

    systems: tuple[Readiness, ...]  # what each of them answered
    revision: str  # the commit that is to be released
    baseline: Baseline
    schema: SchemaChange
    rehearsal: Rehearsal


@step("Resolve release", timeout=timedelta(minutes=2), retries=3)
def resolve_release(target: Target, request: DeployRequest, service: ServiceLayout) -> str:
    """The commit that is to be released, as of now, with what is needed to build and to test it."""
    target.service.check_smoke(service.smoke)
    target.repository.fetch()
    revision = _resolve(target, request)
    refuse_unfit_source(service, revision, partial(target.repository.read, revision))
    say(f"{request.ref} is {revision[:12]}")
    return revision


@step("Plan", timeout=timedelta(minutes=3), retries=3)
def make_plan(
    target: Target,
    request: DeployRequest,
    survey: Survey,
    service: ServiceLayout,
    watch: WatchRules,
) -> Plan:
    """Say what will happen, and write the plan artifact. Refuses what breaks what serves."""
    revision, baseline, schema = survey.revision, survey.baseline, survey.schema
    refuse_breaking(survey.rehearsal, schema.expand)
    version = planned_version(request, revision)
    since = baseline.release.revision if baseline.release else ""
    metrics = target.metrics
    plan = Plan(
        environment=target.environment,
        kind=request.kind,
        version=version,
        revision=revision,
        ref=request.ref,
        baseline=baseline,
        changes=tuple(
            Change(c.revision, c.subject, c.author)
            for c in (target.repository.changes(since, revision) if since else ())
        ),
        expand=schema.expand,
        contract=schema.contract.due,
        outage=timedelta() if target.router else _RESTART_OUTAGE,
        image=find_image(target, Release(version, revision), service),
        waiting=schema.contract.waiting,
        waits_for=schema.contract.why,
        rehearsal=survey.rehearsal,
        left=target.orchestrator.left_behind(),
        unmeasured=warnings(survey.systems) + _asked_in_vain(target, baseline, watch),
        measured_on=measured_on(
            [source.name for source in metrics.counting(target.router)],
            metrics.mix(target.service, watch),
        ),
        warnings=schema.warnings,
    )
    create_markdown_artifact(
        key=f"plan-{target.environment}",
        markdown=plan.markdown(),
        description=f"{baseline.version} → {version}",
    )
    say(f"{baseline.version} → {version} ({revision[:12]})")
    return plan


def _asked_in_vain(target: Target, baseline: Baseline, watch: WatchRules) -> tuple[str, ...]:
    """What the watch would ask the release for and what serves now does not have; nothing if
    nothing serves. The release may be what brings it, so it is for people to see."""
    return target.metrics.misses(target.service, watch) if baseline.release else ()


def _resolve(target: Target, request: DeployRequest) -> str:
    revision = target.repository.resolve(request.ref)
    if request.kind is ReleaseKind.BRANCH:
        target.repository.refuse_dirty(request.ref)
        return revision
    standing = target.repository.tag_revision(request.version)
    if standing not in (None, revision):
        raise SourceRefused(
            f"tag {request.version} stands on {standing[:12]}, {request.ref} is {revision[:12]}",
            f"to deploy the tag as it is: --ref {request.version}; else choose the next version",
        )
    return revision
