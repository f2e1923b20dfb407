"""What is known of a release that must not stay, kept before its instances are removed."""

from datetime import timedelta
from functools import partial

from release.configuration.rules import RolloutRules
from release.errors import DeployError
from release.model import Baseline
from tasks.rollout import RolloutTarget, evidence_of, publish_evidence, see
from tasks.say import say
from tasks.step import put_off, step


@step("Keep evidence", timeout=timedelta(minutes=2))
def keep_evidence(target: RolloutTarget, baseline: Baseline, rules: RolloutRules) -> None:
    """Keep what is to be seen of the instances that a rollback is going to remove, in this run.

    A rollback keeps it too, but in its own run, which is another one's subflow perhaps.
    """
    found = target.orchestrator.instances()
    if any(instance.id not in baseline.instances for instance in found):
        put_off(partial(publish_evidence, target, what_is_known(target, baseline, rules)))


def what_is_known(target: RolloutTarget, baseline: Baseline, rules: RolloutRules) -> str:
    """What is to be seen of the instances that are not the baseline's; said in the log as well.

    Never raises DeployError: no restore fails for it.
    """
    try:
        found = target.orchestrator.instances()
        seen = see(target, [i for i in found if i.id not in baseline.instances], rules)
        evidence = evidence_of(target, seen)
    except DeployError as error:
        return f"no logs were kept: {error.what}\n"
    for each in seen:
        say(f"{each}; kept in artifact rollout-{target.environment}")
        for line in each.last_lines():
            say(f"{each.instance.name} | {line}")
    return evidence
