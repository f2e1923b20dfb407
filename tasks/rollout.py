"""Step 4 of the runbook: new instances beside the old, cutover, and the way back."""

import time
from collections.abc import Collection, Sequence
from datetime import UTC, datetime, timedelta
from typing import Protocol

from prefect import get_run_logger
from prefect.artifacts import create_markdown_artifact

from blocks.orchestrator import Orchestrator
from blocks.router import Router
from release.bake import (
    ERROR_SHARE_CEILING,
    BakeVerdict,
    bake_is_over,
    judge_bake,
    looks_of,
    out_of_service,
)
from release.duration import say_duration
from release.errors import (
    BadConfiguration,
    DeployError,
    RollbackFailed,
    RolloutFailed,
    Unreachable,
)
from release.model import Baseline, ImageRef, Instance
from release.rollout import (
    BAKE_WEIGHT,
    FULL_WEIGHT,
    Act,
    Cutover,
    Drained,
    Move,
    Restored,
    World,
    missing_instances,
    plan_restore,
    rollout_report,
    which_to_retire,
)
from release.rules import RolloutRules
from release.verdict import Outcome
from tasks.step import step

_LOOK_EVERY = 0.2  # seconds, during the bake
_MOST_MOVES = 40  # of one restore; its longest plan has 10
_HICCUPS = (1, 3, 10, 10, 30)  # seconds between tries while a system does not answer
_LONGEST = timedelta(hours=1)  # the rules bound these steps; this bounds a hanging system


class RolloutTarget(Protocol):
    """What these steps need of an environment."""

    @property
    def environment(self) -> str: ...
    @property
    def orchestrator(self) -> Orchestrator: ...
    @property
    def router(self) -> Router | None: ...


# ---- forward


@step("Pull image", timeout=timedelta(minutes=15), retries=3)
def pull_image(target: RolloutTarget, image: ImageRef, run: str, key: str = "") -> None:
    """Fetch the release's image by digest."""
    began = time.monotonic()
    target.orchestrator.pull(image)
    _say(run, f"{image.short} pulled in {_since(began)}")


@step("Start new instances", timeout=timedelta(minutes=10), retries=1)
def start_new_instances(
    target: RolloutTarget,
    image: ImageRef,
    baseline: Baseline,
    rules: RolloutRules,
    run: str,
    key: str = "",
) -> tuple[Instance, ...]:
    """Start the release beside the baseline; no request reaches it. Those there already count."""
    orchestrator = target.orchestrator
    there, missing = missing_instances(
        orchestrator.instances(), image, baseline.instances, rules.replicas
    )
    if missing:
        there += orchestrator.start_beside(image, missing, keep=baseline.instances)
    names = ", ".join(instance.name for instance in there)
    _say(run, f"{image.short} started beside {baseline.version}: {names}")
    return there


@step("Await healthy", timeout=_LONGEST, retries=1)
def await_healthy(
    target: RolloutTarget,
    instances: Sequence[Instance],
    rules: RolloutRules,
    run: str,
    key: str = "",
) -> tuple[Instance, ...]:
    """Wait until the engine says that all are healthy; their addresses are known then."""
    began = time.monotonic()
    ids = [instance.id for instance in instances]
    healthy = target.orchestrator.await_healthy(ids, rules.healthy_within)
    for number, instance in enumerate(healthy, 1):
        _say(run, f"{instance.name} {number}/{len(healthy)}  healthy after {_since(began)}")
    return healthy


@step("Admit instances", timeout=timedelta(minutes=10), retries=1)
def admit_instances(
    target: RolloutTarget,
    instances: Sequence[Instance],
    rules: RolloutRules,
    run: str,
    key: str = "",
) -> Cutover:
    """Let users meet the new instances, with a small share each until the bake has passed."""
    began = time.monotonic()
    router = _router(target)
    for slot in router.slots():
        if slot.serving:
            router.set_weight(slot.instance, FULL_WEIGHT)
    for number, instance in enumerate(instances, 1):
        slot = router.admit(instance, BAKE_WEIGHT)
        _say(run, f"{slot.instance} {number}/{len(instances)}  serves in {slot.name}")
    names = {instance.name for instance in instances}
    # One look at all of them, so that both releases are counted over the same time.
    slots = router.slots()
    new = tuple(slot for slot in slots if slot.instance in names)
    beside = tuple(slot for slot in slots if slot.instance not in names)
    return Cutover(instances[0].image, new, _length(began), beside, datetime.now(UTC))


@step("Bake", timeout=_LONGEST)
def bake(
    target: RolloutTarget,
    cutover: Cutover,
    rules: RolloutRules,
    run: str,
    ceiling: float = ERROR_SHARE_CEILING,
    key: str = "",
) -> BakeVerdict:
    """Watch both releases side by side. Raises RolloutFailed if the new one fails too often.

    Looked at again and again, so that a release that fails at once is stopped at once. It goes on
    for up to ``bake_up_to`` while errors speak against the release and do not yet prove anything.
    """
    router = _router(target)
    began = time.monotonic()
    names = {slot.instance for slot in cutover.slots}
    seen = [(*cutover.slots, *cutover.beside)]
    pause = min(_LOOK_EVERY, rules.bake.total_seconds())
    while True:
        time.sleep(pause)
        pause = _LOOK_EVERY
        seen.append(router.slots())
        verdict = judge_bake(looks_of(seen, names), ceiling, rules.bake_alpha)
        gone = out_of_service(cutover.slots, seen[-1])
        if gone or verdict.outcome is Outcome.UNHEALTHY:
            raise RolloutFailed(gone or verdict.sentence, f"artifact rollout-{target.environment}")
        if bake_is_over(verdict, _length(began), rules):
            _say(run, f"bake of {_since(began)} {verdict.outcome}: {verdict.sentence}")
            return verdict


@step("Pin release", timeout=timedelta(minutes=1), retries=1)
def pin_release(target: RolloutTarget, image: ImageRef, run: str, key: str = "") -> None:
    """Write the digest where the host's own start reads it."""
    target.orchestrator.pin(image)
    _say(run, f"{image.short} pinned: a reboot of {target.environment} brings it back")


@step("Drain baseline", timeout=_LONGEST, retries=1)
def drain_baseline(
    target: RolloutTarget,
    new: Sequence[Instance],
    rules: RolloutRules,
    run: str,
    key: str = "",
) -> Drained:
    """Send every request to the new instances; the old ones stay running, idle, ready to return."""
    began = time.monotonic()
    router, keep = _router(target), [instance.id for instance in new]
    leaving = which_to_retire(target.orchestrator.instances(), router.slots(), keep)
    for instance in new:
        router.set_weight(instance.name, FULL_WEIGHT)
    _say(
        run,
        f"draining {', '.join(leaving) or 'nothing'} (up to {say_duration(rules.drain_timeout)})",
    )
    cut_off = _drain(router, leaving, rules.drain_timeout)
    _say(run, f"drained in {_since(began)}; {cut_off} requests still under way")
    return Drained(leaving, cut_off, _length(began))


@step("Stop baseline", timeout=timedelta(minutes=10), retries=1)
def stop_baseline(
    target: RolloutTarget,
    new: Sequence[Instance],
    rules: RolloutRules,
    run: str,
    key: str = "",
) -> tuple[str, ...]:
    """Stop what is not new, and keep it stopped: a start of it takes seconds, no registry."""
    others = _others(target, new)
    if target.router is not None:
        for instance in others:
            target.router.retire(instance.name)
    target.orchestrator.stop([i.id for i in others if i.running], rules.stop_grace)
    _say(run, f"stopped and kept: {', '.join(i.name for i in others) or 'nothing'}")
    return tuple(instance.id for instance in others)


@step("Remove baseline", timeout=timedelta(minutes=5), retries=1)
def remove_baseline(
    target: RolloutTarget, new: Sequence[Instance], run: str, key: str = ""
) -> tuple[str, ...]:
    """Remove the stopped containers that are not new."""
    others = _others(target, new)
    target.orchestrator.remove([instance.id for instance in others])
    _say(run, f"removed {', '.join(i.name for i in others) or 'nothing'}")
    return tuple(instance.id for instance in others)


@step("Restart in place", timeout=_LONGEST)
def restart_in_place(
    target: RolloutTarget, image: ImageRef, rules: RolloutRules, run: str, key: str = ""
) -> tuple[Instance, ...]:
    """The runbook's plain restart, for an environment without a router: users notice."""
    began = time.monotonic()
    orchestrator = target.orchestrator
    started = orchestrator.restart_in_place(image, rules.replicas)
    healthy = orchestrator.await_healthy([i.id for i in started], rules.healthy_within)
    _say(run, f"{image.short} restarted in place, healthy after {_since(began)}")
    return healthy


@step("Record instances", timeout=timedelta(minutes=2), retries=1)
def record_instances(
    target: RolloutTarget,
    instances: Sequence[Instance],
    rules: RolloutRules,
    run: str,
    key: str = "",
) -> None:
    """Keep what the runbook looks at in step 4: `ps`, and the new containers' last log lines."""
    _publish(target, _evidence(target, instances, rules))


# ---- back


@step("Restore baseline", timeout=_LONGEST)
def restore_baseline(
    target: RolloutTarget, baseline: Baseline, rules: RolloutRules, run: str, key: str
) -> Restored:
    """Bring the baseline back, whatever was interrupted; nothing to do is a good answer.

    ``key`` names the reason, so that a second restore in the same run, for another reason, is done
    and not taken from the first. Raises RollbackFailed with what was done so far.
    """
    began = time.monotonic()
    evidence = _evidence_of_suspects(target, baseline, rules)  # before they are removed
    moves = _move_until_restored(target, baseline, rules, run)
    serving = target.orchestrator.instances()
    _publish(target, evidence)
    _say(run, f"{target.environment} serves {baseline.version} after {_since(began)}", "Rollback")
    return Restored(serving, moves, _length(began))


def _move_until_restored(
    target: RolloutTarget, baseline: Baseline, rules: RolloutRules, run: str
) -> tuple[str, ...]:
    """Do the first move of the plan, look again, until there is none."""
    done: list[str] = []
    given_up: frozenset[str] = frozenset()
    hiccups = list(_HICCUPS)
    while len(done) < _MOST_MOVES:
        try:
            moves = plan_restore(_look(target, given_up), baseline)
            if not moves:
                return tuple(done)
            _say(run, str(moves[0]), "Rollback")
            given_up |= _perform(target, moves[0], baseline, rules, run)
            done.append(str(moves[0]))
        except Unreachable as error:
            if not hiccups:
                raise _not_restored(baseline, done, str(error.what)) from error
            _say(run, f"{error.what}; trying again in {hiccups[0]} s", "Rollback")
            time.sleep(hiccups.pop(0))
        except RollbackFailed:
            raise
        except DeployError as error:
            raise _not_restored(baseline, done, error.what) from error
    raise _not_restored(baseline, done, f"no end after {_MOST_MOVES} moves")


def _perform(
    target: RolloutTarget, move: Move, baseline: Baseline, rules: RolloutRules, run: str
) -> frozenset[str]:
    """Do one move; returns the ids of baseline containers that would not come back."""
    orchestrator = target.orchestrator
    match move.act:
        case Act.START_BESIDE:
            assert move.image is not None
            if not orchestrator.has_image(move.image):
                orchestrator.pull(move.image)
            orchestrator.start_beside(move.image, move.count, keep=baseline.instances)
        case Act.RESTART:
            assert move.image is not None
            if not orchestrator.has_image(move.image):
                orchestrator.pull(move.image)
            started = orchestrator.restart_in_place(move.image, move.count)
            orchestrator.await_healthy([i.id for i in started], rules.healthy_within)
        case Act.PIN:
            assert move.image is not None
            orchestrator.pin(move.image)
        case Act.DRAIN:
            _drain(_router(target), move.names, rules.drain_timeout)
        case Act.RETIRE:
            for name in move.names:
                _router(target).retire(name)
        case Act.STOP:
            orchestrator.stop(move.ids, rules.stop_grace)
        case Act.REMOVE:
            orchestrator.remove(move.ids)
        case Act.START | Act.AWAIT | Act.ADMIT:
            return _bring_back(target, move, baseline, rules, run)
    return frozenset()


def _bring_back(
    target: RolloutTarget, move: Move, baseline: Baseline, rules: RolloutRules, run: str
) -> frozenset[str]:
    """Start, await or admit each container on its own: one that fails must not stop the others.

    One of the baseline's is given up then, and replaced from its digest. A fresh one that fails
    has no replacement: its RolloutFailed ends the restore.
    """
    failed = set()
    for id in move.ids:
        try:
            if move.act is Act.START:
                target.orchestrator.start([id])
            else:
                # A container that was started again has another address.
                (instance,) = target.orchestrator.await_healthy([id], rules.healthy_within)
                if move.act is Act.ADMIT:
                    _router(target).admit(instance)
        except RolloutFailed as error:
            if id not in baseline.instances or baseline.image is None:
                raise
            _say(run, f"given up, to be replaced: {error.what}", "Rollback")
            failed.add(id)
    return frozenset(failed)


def _look(target: RolloutTarget, given_up: frozenset[str]) -> World:
    orchestrator = target.orchestrator
    slots = target.router.slots() if target.router is not None else None
    return World(orchestrator.instances(), slots, orchestrator.pinned(), given_up)


def _not_restored(baseline: Baseline, done: Sequence[str], why: str) -> RollbackFailed:
    return RollbackFailed(
        f"{baseline.version} is not back on {baseline.environment}: {why}; "
        f"done so far: {'; '.join(done) or 'nothing'}",
        f"ignition status {baseline.environment}",
    )


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


def _evidence(target: RolloutTarget, instances: Sequence[Instance], rules: RolloutRules) -> str:
    logs = {i.name: target.orchestrator.logs(i.id, rules.log_lines) for i in instances}
    return rollout_report(target.environment, target.orchestrator.listing(), logs)


def _evidence_of_suspects(target: RolloutTarget, baseline: Baseline, rules: RolloutRules) -> str:
    """What is left of the containers that are about to go; a restore never waits for it."""
    try:
        found = target.orchestrator.instances()
        return _evidence(target, [i for i in found if i.id not in baseline.instances], rules)
    except DeployError as error:
        return f"no logs were kept: {error.what}\n"


def _publish(target: RolloutTarget, markdown: str) -> None:
    create_markdown_artifact(
        key=f"rollout-{target.environment}",
        markdown=markdown,
        description="containers and their last log lines (runbook, step 4)",
    )


def _say(run: str, text: str, heading: str = "4. Deploy") -> None:
    get_run_logger().info("[%s] %-12s%s", run, heading, text)


def _length(began: float) -> timedelta:
    return timedelta(seconds=time.monotonic() - began)


def _since(began: float) -> str:
    return say_duration(_length(began))
