"""Step 4 of the runbook: new instances beside the old, and cutover."""

import time
from collections.abc import Collection, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Protocol

from prefect.artifacts import create_markdown_artifact

from blocks.orchestrator import Orchestrator
from blocks.polling import poll
from blocks.router import Router
from release.configuration.rules import RolloutRules
from release.duration import say_duration
from release.errors import BadConfiguration, RolloutFailed, Unreachable
from release.measure.slot import FULL_WEIGHT, Slot
from release.model import Baseline, ImageRef, Instance
from release.rollout import (
    BAKE_WEIGHT,
    Cutover,
    Drained,
    Seen,
    missing_instances,
    or_why_not,
    rollout_report,
    which_to_retire,
)
from release.watch.bake import (
    ERROR_SHARE_CEILING,
    BakeVerdict,
    bake_is_over,
    judge_bake,
    looks_of,
    out_of_service,
)
from release.watch.verdict import Outcome
from tasks.alarm import heed
from tasks.say import say
from tasks.step import step, write_report

_LOOK_EVERY = 0.2  # seconds, during the bake
_ROUTER_BACK_WITHIN = timedelta(seconds=15)  # a restart takes 1 or 2 s, or 10 of grace before
_LONGEST = timedelta(hours=1)  # the rules bound these steps; this bounds a hanging system


class RolloutTarget(Protocol):
    """What these steps need of an environment."""

    @property
    def environment(self) -> str: ...
    @property
    def orchestrator(self) -> Orchestrator: ...
    @property
    def router(self) -> Router | None: ...


@step("Pull image", timeout=timedelta(minutes=15), retries=3)
def pull_image(target: RolloutTarget, image: ImageRef) -> None:
    """Fetch the release's image by digest."""
    began = time.monotonic()
    target.orchestrator.pull(image)
    say(f"{image.short} pulled in {_since(began)}")


@step("Start new instances", timeout=timedelta(minutes=10), retries=1)
def start_new_instances(
    target: RolloutTarget,
    image: ImageRef,
    baseline: Baseline,
    rules: RolloutRules,
) -> tuple[Instance, ...]:
    """Start the release beside the baseline; no request reaches it. Those there already count."""
    orchestrator = target.orchestrator
    there, missing = missing_instances(
        orchestrator.instances(), image, baseline.instances, rules.replicas
    )
    if missing:
        there += orchestrator.start_beside(image, missing, keep=baseline.instances)
    names = ", ".join(instance.name for instance in there)
    say(f"{image.short} started beside {baseline.version}: {names}")
    return there


@step("Await healthy", timeout=_LONGEST, retries=1)
def await_healthy(
    target: RolloutTarget,
    instances: Sequence[Instance],
    rules: RolloutRules,
) -> tuple[Instance, ...]:
    """Wait until the engine says that all are healthy; their addresses are known then."""
    began = time.monotonic()
    ids = [instance.id for instance in instances]
    healthy = target.orchestrator.await_healthy(ids, rules.healthy_within)
    for number, instance in enumerate(healthy, 1):
        say(f"{instance.name} {number}/{len(healthy)}  healthy after {_since(began)}")
    return healthy


@step("Admit instances", timeout=timedelta(minutes=10), retries=3)
def admit_instances(
    target: RolloutTarget,
    instances: Sequence[Instance],
    rules: RolloutRules,
) -> Cutover:
    """Let users meet the new instances, with a small share each until the bake has passed."""
    heed()  # a P0 declared before admission affects no users
    began = time.monotonic()
    router = _router(target)
    for slot in router.slots():
        if slot.serving:
            router.set_weight(slot.instance, FULL_WEIGHT)
    admitted = tuple(router.admit(instance, BAKE_WEIGHT) for instance in instances)
    # One look at all of them, so that both releases are counted over the same time.
    now = {slot.name: slot for slot in router.slots()}
    new = tuple(
        there if (there := now.pop(slot.name, slot)).instance == slot.instance else slot
        for slot in admitted
    )
    beside = tuple(now.values())
    for number, slot in enumerate(new, 1):
        say(f"{slot.instance} {number}/{len(new)}  serves in {slot.name}")
    return Cutover(instances[0].image, new, _length(began), beside, datetime.now(UTC))


@step("Bake", timeout=_LONGEST)
def bake(
    target: RolloutTarget,
    cutover: Cutover,
    rules: RolloutRules,
    ceiling: float = ERROR_SHARE_CEILING,
) -> BakeVerdict:
    """Watch both releases side by side. Raises RolloutFailed if the new one fails too often.

    Looked at again and again, so that a release that fails at once is stopped at once. It goes on
    for up to ``bake_up_to`` while errors speak against the release and do not yet prove anything.
    It begins again where the router was restarted, which is nothing that the release did; once, so
    that it ends. Raises Unreachable if the router does not come back, or is away again.
    """
    router = _router(target)
    began = time.monotonic()
    names = {slot.instance for slot in cutover.slots}
    seen = [(*cutover.slots, *cutover.beside)]
    pause = min(_LOOK_EVERY, rules.bake.total_seconds())
    restarted = False
    while True:
        time.sleep(pause)
        pause = _LOOK_EVERY
        heed()
        try:
            seen.append(router.slots())
        except Unreachable as error:
            if restarted:
                raise
            restarted = True
            say(f"{error.what}; the bake begins again when it does")
            seen.append(_slots_again(router, cutover))
            began = time.monotonic()
        verdict = judge_bake(looks_of(seen, names), ceiling, rules.bake_alpha)
        gone = out_of_service(cutover.slots, seen[-1])
        if gone or verdict.outcome is Outcome.UNHEALTHY:
            raise RolloutFailed(gone or verdict.sentence)
        if bake_is_over(verdict, _length(began), rules):
            say(f"bake of {_since(began)} {verdict.outcome}: {verdict.sentence}")
            return verdict


def _slots_again(router: Router, cutover: Cutover) -> tuple[Slot, ...]:
    """The slots of a router that did not answer, once it does and has found the new instances.

    Users have no other router either: to roll back meanwhile would help none of them. Raises
    Unreachable if it does not within ``_ROUTER_BACK_WITHIN``. If it has not found the new instances
    by then, the slots without them are for the caller to judge.
    """

    def look() -> tuple[Slot, ...]:
        heed()
        return router.slots()

    return poll(
        look,
        lambda slots: not out_of_service(cutover.slots, slots),
        every=timedelta(seconds=_LOOK_EVERY),
        within=_ROUTER_BACK_WITHIN,
        forgiving=Unreachable,
    )


@step("Pin release", timeout=timedelta(minutes=1), retries=1)
def pin_release(target: RolloutTarget, image: ImageRef) -> None:
    """Write the digest to where the host's own start reads it."""
    target.orchestrator.pin(image)
    say(f"{image.short} pinned: a reboot of {target.environment} brings it back")


@step("Drain baseline", timeout=_LONGEST, retries=3)
def drain_baseline(
    target: RolloutTarget,
    new: Sequence[Instance],
    rules: RolloutRules,
) -> Drained:
    """Send every request to the new instances; the old ones stay running, idle, ready to return."""
    began = time.monotonic()
    router, keep = _router(target), [instance.id for instance in new]
    leaving = which_to_retire(target.orchestrator.instances(), router.slots(), keep)
    for instance in new:
        router.set_weight(instance.name, FULL_WEIGHT)
    say(
        f"draining {', '.join(leaving) or 'nothing'} (up to {say_duration(rules.drain_timeout)})",
    )
    cut_off = _drain(router, leaving, rules.drain_timeout)
    say(f"drained in {_since(began)}; {cut_off} requests still under way")
    return Drained(leaving, cut_off, _length(began))


@step("Stop baseline", timeout=timedelta(minutes=10), retries=3)
def stop_baseline(
    target: RolloutTarget,
    new: Sequence[Instance],
    rules: RolloutRules,
) -> tuple[str, ...]:
    """Stop what is not new, and keep it stopped: a start of it takes seconds, no registry.

    With ``rules.keep_warm`` it goes on running instead, drained, until it is removed.
    """
    others = _others(target, new)
    names = ", ".join(i.name for i in others) or "nothing"
    if rules.keep_warm and target.router is not None:
        say(f"kept running, without requests: {names}")
    else:
        _stop(target, others, rules)
        say(f"stopped and kept: {names}")
    return tuple(instance.id for instance in others)


@step("Remove baseline", timeout=timedelta(minutes=5), retries=5)  # nobody waits for it
def remove_baseline(
    target: RolloutTarget,
    new: Sequence[Instance],
    rules: RolloutRules,
) -> tuple[str, ...]:
    """Remove the containers that are not new."""
    others = _others(target, new)
    _stop(target, others, rules)
    target.orchestrator.remove([instance.id for instance in others])
    say(f"removed {', '.join(i.name for i in others) or 'nothing'}")
    return tuple(instance.id for instance in others)


@step("Restart in place", timeout=_LONGEST)
def restart_in_place(
    target: RolloutTarget, image: ImageRef, rules: RolloutRules
) -> tuple[Instance, ...]:
    """The runbook's plain restart, for an environment without a router: users notice."""
    began = time.monotonic()
    orchestrator = target.orchestrator
    started = orchestrator.restart_in_place(image, rules.replicas)
    healthy = orchestrator.await_healthy([i.id for i in started], rules.healthy_within)
    say(f"{image.short} restarted in place, healthy after {_since(began)}")
    return healthy


@step("Record instances", timeout=timedelta(minutes=2), retries=1)
def record_instances(
    target: RolloutTarget,
    instances: Sequence[Instance],
    rules: RolloutRules,
) -> None:
    """Keep what the runbook looks at in step 4: `ps`, and the new containers' last log lines."""
    publish_evidence(target, evidence_of(target, see(target, instances, rules)))


# ---- shared


def _router(target: RolloutTarget) -> Router:
    if target.router is None:
        raise BadConfiguration(f"{target.environment} has no router: restart in place instead")
    return target.router


def _drain(router: Router, names: Collection[str], within: timedelta) -> int:
    """Drain all at once; returns how many requests were still under way when the time was up."""
    for name in names:
        router.drain(name)
    until = time.monotonic() + within.total_seconds()
    return sum(
        router.await_idle(name, timedelta(seconds=max(0.0, until - time.monotonic())))
        for name in names
    )


def _others(target: RolloutTarget, new: Sequence[Instance]) -> list[Instance]:
    keep = {instance.id for instance in new}
    return [i for i in target.orchestrator.instances() if i.id not in keep]


def _stop(target: RolloutTarget, instances: Sequence[Instance], rules: RolloutRules) -> None:
    """Stop instances that no request goes to. Raises RolloutFailed if one of them serves: then
    somebody has rolled back behind this run's back."""
    names = {instance.name for instance in instances}
    if target.router is not None:
        back = sorted(
            s.instance for s in target.router.slots() if s.admitted and s.instance in names
        )
        if back:
            raise RolloutFailed(
                f"{', '.join(back)} serves again, so nothing is stopped",
                f"ignition status {target.environment}",
            )
        for name in names:
            target.router.retire(name)
    target.orchestrator.stop([i.id for i in instances if i.running], rules.stop_grace)


def see(target: RolloutTarget, instances: Sequence[Instance], rules: RolloutRules) -> list[Seen]:
    """What there is to see of instances: state, health output, last log lines."""
    orchestrator = target.orchestrator

    return [
        Seen(
            instance,
            or_why_not(partial(orchestrator.health_output, instance.id)),
            or_why_not(partial(orchestrator.logs, instance.id, rules.log_lines)),
        )
        for instance in instances
    ]


def evidence_of(target: RolloutTarget, seen: Sequence[Seen]) -> str:
    """What the runbook looks at in step 4: `ps`, and the containers' last log lines."""
    return rollout_report(target.environment, target.orchestrator.listing(), seen)


def publish_evidence(target: RolloutTarget, markdown: str) -> None:
    """Show it in the UI."""
    write_report(
        partial(
            create_markdown_artifact,
            key=f"rollout-{target.environment}",
            markdown=markdown,
            description="containers and their last log lines (runbook, step 4)",
        )
    )


def _length(began: float) -> timedelta:
    return timedelta(seconds=time.monotonic() - began)


def _since(began: float) -> str:
    return say_duration(_length(began))
