"""Step 1 of the runbook: the release gets its name."""

from datetime import timedelta

from blocks.target import Target
from release.model import Release, ReleaseKind
from release.plan import Plan
from tasks.say import say
from tasks.step import step


@step("Prepare release", timeout=timedelta(minutes=5), retries=3)
def prepare_release(target: Target, plan: Plan) -> Release:
    """Tag the planned commit and push the tag, or fast-forward the branch to it."""
    prepare = {ReleaseKind.TAG: _tag, ReleaseKind.BRANCH: _fast_forward}[plan.kind]
    say(prepare(target, plan))
    return Release(plan.version, plan.revision)


def _tag(target: Target, plan: Plan) -> str:
    new = target.repository.push_tag(plan.version, plan.revision)
    return f"tag {plan.version} {'pushed' if new else 'stands'} on {plan.revision[:12]}"


def _fast_forward(target: Target, plan: Plan) -> str:
    head = target.repository.fast_forward(plan.ref)
    return f"branch {plan.ref} at {head[:12]}, deploying {plan.revision[:12]}"
