"""The way back: which release to go back to, and bringing it back, whatever was interrupted."""

import contextlib
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Protocol, TypeVar

from blocks.router import Router
from blocks.target import Target
from release.configuration.deployed_with import DeployedWith
from release.configuration.layout import ServiceLayout
from release.configuration.rules import RolloutRules
from release.duration import say_duration
from release.errors import (
    BadConfiguration,
    BadRequest,
    DeployError,
    RollbackFailed,
    RolloutFailed,
    Unreachable,
)
from release.image import REVISION_LABEL, VERSION_LABEL
from release.ledger import EventKind
from release.model import Baseline, ImageRef, Instance, Probe, Release
from release.outcome import Ending
from release.rollback.baseline import (
    NOTHING,
    Served,
    instances_to_restore,
    previous_release,
    release_of_image,
)
from release.rollback.recovery import Before, found_before, replaced_release, restored_since
from release.rollback.restore import Act, Move, Restored, World, plan_restore, plan_serving
from tasks.baseline import deployed_with, meant_to_serve
from tasks.remains import what_is_known
from tasks.rollout import RolloutTarget, publish_evidence
from tasks.say import say
from tasks.step import put_off, step

T = TypeVar("T")

_MOST_MOVES = 40  # of one restore; its longest plan has 10
_HICCUPS = (1, 3, 10, 10, 30)  # seconds between tries while a system does not answer
_LONGEST = timedelta(hours=1)  # the rules bound these steps; this bounds a hanging system
_DESTROYS = (Act.START_BESIDE, Act.RESTART, Act.STOP, Act.REMOVE)  # logs may be gone after these

# ---- which


@step("Find baseline", timeout=timedelta(minutes=2), retries=3)
def find_baseline(
    target: Target,
    to: str,
    service: ServiceLayout,
    rules: RolloutRules,
    as_planned: bool = False,
) -> Baseline:
    """The release that ``to`` names: an image by digest, a version, nothing, or (empty) the one
    that served before the present one.

    It is to serve with ``rules.replicas`` instances, or, ``as_planned``, with as many as the
    deployment that is undone found.
    """
    release = release_named(target, to, service)
    before = _found_before(target, release) if as_planned or release is None else Before()
    count = rules.replicas if before.instances is None else max(before.instances, 1)
    say(f"to {release.version if release else NOTHING}")
    return Baseline(
        environment=target.environment,
        release=release,
        instances=instances_to_restore(release, target.orchestrator.instances(), count),
        schema_version="",  # the schema is never taken back
        error_rate=None,
        p95=None,
        taken_at=datetime.now(UTC),
        pin=before.pin,
        deployed_with=deployed_with(target, release),
    )


def _found_before(target: Target, release: Release | None) -> Before:
    """What the last plan found beside the release; nothing is known if the ledger is away."""
    address = str(release.image) if release else NOTHING
    try:
        plans = target.ledger.events(target.environment, kinds=[EventKind.PLAN_MADE])
    except Unreachable:
        return Before()
    return found_before(plans, address)


def previous(target: Target, service: ServiceLayout) -> Release:
    """The release that served before the present one. Raises BadRequest if none is known."""
    now = meant_to_serve(target)
    kinds = [EventKind.PLAN_MADE, EventKind.ROLLBACK_STARTED, EventKind.STEP_DONE]
    events = target.ledger.events(target.environment, kinds=kinds)
    plans = [event for event in events if event.kind == EventKind.PLAN_MADE]
    rows = target.ledger.served(target.environment)
    restored = restored_since(events, rows[0].date if rows else None)
    served = [Served(restored, by_rollback=True)] if restored else []
    unknown = None
    for row in rows:
        try:
            release = _with_image(target, row.release, service)
        except Unreachable as error:  # the registry: it may be of a release that is not wanted
            release, unknown = row.release, error
        replaced = replaced_release([plan for plan in plans if plan.run_id == row.run_id])
        served.append(Served(release, row.ending == Ending.ROLLBACK_DONE, replaced))
    try:
        return previous_release(target.environment, served, now[0].image if now else None)
    except BadRequest:
        if unknown is not None:
            raise unknown from None
        raise


def release_named(target: Target, to: str, service: ServiceLayout) -> Release | None:
    """The release that a rollback to ``to`` restores. Returns None if nothing is to serve."""
    if to == NOTHING:
        return None
    if "@" in to:
        return _by_image(target, ImageRef.parse(to))
    return _by_version(target, to, service) if to else previous(target, service)


def _with_image(target: Target, release: Release, service: ServiceLayout) -> Release:
    """The release with its image, which the registry knows if the ledger does not: a release from
    before the ledger, such as the runbook's own first row."""
    image = release.image or target.registry.find(service.name, release.version)
    return Release(release.version, release.revision, image)


def _by_image(target: Target, image: ImageRef) -> Release:
    # The registry is asked last: a rollback must not depend on it being up.
    for instance in target.orchestrator.instances():
        if instance.image == image:
            return release_of_image(image, instance.version, instance.revision)
    with contextlib.suppress(Unreachable):
        for row in target.ledger.served(target.environment):
            if row.release.image == image:
                return row.release
    labels = target.registry.labels(image)
    return release_of_image(image, labels.get(VERSION_LABEL, ""), labels.get(REVISION_LABEL, ""))


def _by_version(target: Target, version: str, service: ServiceLayout) -> Release:
    image = target.registry.find(service.name, version)
    if image is None:
        raise BadRequest(
            f"the registry has no {service.name}:{version}",
            f"ignition log {target.environment}",
        )
    return _by_image(target, image)


# ---- how


class Answers(Protocol):
    """Something that asks an instance for its health: the service."""

    def health(self) -> Probe:
        """Ask the health path once."""
        ...

    def at(self, address: str) -> "Answers":
        """The same, at an instance's own address."""
        ...

    def as_deployed(self, then: DeployedWith) -> "Answers":
        """The same, as a release knows it that was deployed with other settings."""
        ...


class RestoreTarget(RolloutTarget, Protocol):
    """What the way back needs of an environment."""

    @property
    def service(self) -> Answers: ...


@step("Serve baseline", timeout=_LONGEST)
def serve_baseline(
    target: RestoreTarget,
    baseline: Baseline,
    service: ServiceLayout,
    rules: RolloutRules,
    key: str,
) -> Restored:
    """Send every request to the baseline again, and do nothing else: users wait for it.

    :func:`restore_baseline` does the rest; ``key`` and errors are as there.
    """
    way = _WayBack(target, baseline, service, rules, lambda w: plan_serving(w, baseline))
    return way.take()


@step("Restore baseline", timeout=_LONGEST)
def restore_baseline(
    target: RestoreTarget,
    baseline: Baseline,
    service: ServiceLayout,
    rules: RolloutRules,
    key: str,
) -> Restored:
    """Bring the baseline back, whatever was interrupted; nothing to do is a good answer.

    ``key`` names the reason, so that a second restore in the same run, for another reason, is done
    and not taken from the first. Raises RollbackFailed with what was done so far.
    """
    way = _WayBack(target, baseline, service, rules, lambda w: plan_restore(w, baseline))
    return way.take()


@dataclass
class _WayBack:
    """One restore: the first move of the plan, a fresh look, until there is no move."""

    target: RestoreTarget
    baseline: Baseline
    service: ServiceLayout
    rules: RolloutRules
    plan: Callable[[World], Sequence[Move]]
    done: list[str] = field(default_factory=list)
    given_up: frozenset[str] = frozenset()  # ids of baseline containers that would not come back
    evidence: str = ""
    begun: str = ""  # the move that is under way: it may have changed something when it fails

    def take(self) -> Restored:
        """Go it. Raises RollbackFailed with what was done so far."""
        began = time.monotonic()
        try:
            instances = self._move_until_done()
        finally:
            if self.evidence:
                put_off(partial(publish_evidence, self.target, self.evidence))
        took = timedelta(seconds=time.monotonic() - began)
        there, version = self.target.environment, self.baseline.version
        say(f"{there} serves {version} after {say_duration(took)}")
        return Restored(instances, tuple(self.done), took)

    def _move_until_done(self) -> tuple[Instance, ...]:
        """Move until there is nothing left to do; the instances that were there then."""
        hiccups = list(_HICCUPS)
        while len(self.done) < _MOST_MOVES:
            try:
                world = self._look()
                moves = self.plan(world)
                if not moves:
                    return world.instances
                say(str(moves[0]))
                self._keep_evidence(moves[0])
                self.begun = str(moves[0])
                self._perform(moves[0])
                self.done.append(self.begun)
                self.begun = ""
            except Unreachable as error:
                if not hiccups:
                    raise self._not_restored(error.what) from error
                say(f"{error.what}; trying again in {hiccups[0]} s")
                time.sleep(hiccups.pop(0))
            except RollbackFailed:
                raise
            except DeployError as error:
                raise self._not_restored(error.what) from error
        raise self._not_restored(f"no end after {_MOST_MOVES} moves")

    def _look(self) -> World:
        orchestrator, router = self.target.orchestrator, self.target.router
        slots = router.slots() if router is not None else None
        return World(orchestrator.instances(), slots, orchestrator.pinned(), self.given_up)

    def _perform(self, move: Move) -> None:
        orchestrator, rules = self.target.orchestrator, self.rules
        match move.act:
            case Act.START_BESIDE:
                image = self._image(move)
                orchestrator.start_beside(image, move.count, keep=self.baseline.instances)
            case Act.RESTART:
                started = orchestrator.restart_in_place(self._image(move), move.count)
                self._await([instance.id for instance in started])
            case Act.PIN:
                assert move.image is not None
                orchestrator.pin(move.image)
            case Act.UNPIN:
                orchestrator.unpin(self.baseline.pin)
            case Act.START:
                self._each(move.ids, lambda id: orchestrator.start([id]))
            case Act.AWAIT:
                self._each(move.ids, lambda id: self._await([id]))
            case Act.ADMIT:
                # A container that was started again has another address.
                for (instance,) in self._each(move.ids, lambda id: self._await([id])):
                    self._each([instance.id], partial(self._admit, instance))
            case Act.DRAIN:
                for name in move.names:
                    self._router().drain(name)
            case Act.LEAVE:
                self._leave(move.names)
            case Act.RETIRE:
                for name in move.names:
                    self._router().retire(name)
            case Act.STOP:
                orchestrator.stop(move.ids, rules.stop_grace)
            case Act.REMOVE:
                orchestrator.remove(move.ids)

    def _each(self, ids: Sequence[str], act: Callable[[str], T]) -> list[T]:
        """Do something to each container, side by side: one that fails must not stop the others.

        One of the baseline's is given up then, and replaced from its digest. A fresh one that fails
        has no replacement: its RolloutFailed ends the restore.
        """
        with ThreadPoolExecutor(len(ids)) as pool:
            doing = {id: pool.submit(act, id) for id in ids}
        found = []
        for id, future in doing.items():
            try:
                found.append(future.result())
            except RolloutFailed as error:
                if id not in self.baseline.instances or self.baseline.image is None:
                    raise
                say(f"given up, to be replaced: {error.what}")
                self.given_up |= {id}
        return found

    def _await(self, ids: Sequence[str]) -> tuple[Instance, ...]:
        """Wait until instances can serve, as the engine or their own health path says."""

        def answers(instance: Instance) -> bool:
            try:
                return asked.at(orchestrator.reach(instance, port)).health().ok
            except DeployError:  # it has no address yet
                return False

        then, port = self.baseline.deployed_with, self.baseline.layout(self.service).port
        orchestrator, within = self.target.orchestrator, self.rules.healthy_within
        asked = self.target.service.as_deployed(then) if then else self.target.service
        return orchestrator.await_healthy(ids, within, answers)

    def _admit(self, instance: Instance, id: str) -> None:
        self._router().admit(instance)

    def _leave(self, names: Sequence[str]) -> None:
        """Free the slots of drained instances, once their requests under way are finished."""
        until = time.monotonic() + self.rules.drain_timeout.total_seconds()
        for name in names:
            left = timedelta(seconds=max(0.0, until - time.monotonic()))
            self._router().await_idle(name, left)
            self._router().retire(name)

    def _image(self, move: Move) -> ImageRef:
        """The image of a move, on the engine."""
        assert move.image is not None
        if not self.target.orchestrator.has_image(move.image):
            self.target.orchestrator.pull(move.image)
        return move.image

    def _router(self) -> Router:
        router = self.target.router
        if router is None:
            raise BadConfiguration(f"{self.target.environment} has no router to admit to")
        return router

    def _keep_evidence(self, move: Move) -> None:
        """Keep what is to be seen of the containers that go, before the first move that may remove
        it; no request waits for it, and no restore fails for it."""
        if self.evidence or move.act not in _DESTROYS:
            return
        self.evidence = what_is_known(self.target, self.baseline, self.rules)

    def _left(self) -> str:
        """What there is of the service now, for a person who has to go on by hand."""
        try:
            found = self.target.orchestrator.instances()
        except DeployError as error:
            return error.what
        return ", ".join(f"{i.name} {i.version} {i.state}" for i in found) or "no container"

    def _not_restored(self, why: str) -> RollbackFailed:
        there = self.baseline.environment
        begun = f"; begun: {self.begun}" if self.begun else ""
        glue = "\n" if "\n" in why else "; "  # below the log lines that it may end with
        return RollbackFailed(
            f"{self.baseline.version} is not back on {there}: {why}{glue}"
            f"done so far: {'; '.join(self.done) or 'nothing'}{begun}; there is: {self._left()}",
            "when the cause is fixed: "
            f"ignition rollback {there} --to {self.baseline.typed} --reason …",
        )
