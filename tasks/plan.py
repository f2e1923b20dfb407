"""The plan: what a deployment is going to do, written down before it does it."""

from datetime import timedelta

from prefect import get_run_logger
from prefect.artifacts import create_markdown_artifact

from blocks.target import Target
from release.errors import BadConfiguration, SourceRefused
from release.layout import ServiceLayout
from release.migration import plan_migrations, read_migration
from release.model import Baseline, Release, ReleaseKind
from release.plan import Change, Plan, planned_version
from release.request import DeployRequest
from tasks.image import find_image
from tasks.step import step

# What the runbook's plain restart cost where there is no router: 4.1 to 6.1 s in five rollouts.
_RESTART_OUTAGE = timedelta(seconds=6)


@step("Plan", timeout=timedelta(minutes=3), retries=2)
def make_plan(
    target: Target, request: DeployRequest, baseline: Baseline, service: ServiceLayout, run: str
) -> Plan:
    """Resolve the release, its migrations and its changes, and write the plan artifact."""
    target.repository.fetch()
    revision = _resolve(target, request)
    _require_dockerfile(target, service, revision)
    migrations = plan_migrations(
        [
            read_migration(name, content)
            for name, content in target.repository.files(
                revision, service.migrations, ".sql"
            ).items()
        ],
        target.database.applied(),
    )
    version = planned_version(request, revision)
    since = baseline.release.revision if baseline.release else ""
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
        expand=migrations.expand,
        contract=migrations.contract,
        outage=timedelta() if target.router else _RESTART_OUTAGE,
        image=find_image(target, Release(version, revision), service),
    )
    create_markdown_artifact(
        key=f"plan-{target.environment}",
        markdown=plan.markdown(),
        description=f"{baseline.version} → {version}",
    )
    get_run_logger().info(
        "[%s] Plan      %s → %s (%s)", run, baseline.version, version, revision[:12]
    )
    return plan


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


def _require_dockerfile(target: Target, service: ServiceLayout, revision: str) -> None:
    dockerfile = f"{service.backend}/{service.dockerfile}"
    if not target.repository.has(revision, dockerfile):
        raise BadConfiguration(
            f"{revision[:12]} has no {dockerfile} to build from",
            "service.backend and service.dockerfile in ignition.toml say where it is",
        )
