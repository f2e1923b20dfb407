"""A P0 without Prefect: a run that still listens is told; otherwise a person acts on the host."""

import contextlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from secrets import token_hex

from blocks.http_client import shown
from blocks.polling import poll
from blocks.target import Target
from release.configuration.layout import ServiceLayout
from release.duration import say_duration
from release.errors import BadRequest, DeployError, Unreachable
from release.hold import Doing, Hold, hold_of
from release.ledger import EventKind, short_run
from release.migration.contract import refuse_contracted
from release.model import ImageRef, Release
from release.outcome import Ending
from release.request import RollbackRequest
from release.rollback.baseline import NOTHING
from release.rollback.hand_over import Way
from release.rollback.recovery import replaced_release
from tasks.baseline import meant_to_serve
from tasks.hand_over import Holder, holder_of
from tasks.restore import previous, release_named
from tasks.serving import what_serves

Say = Callable[[str], None]

_EVERY = timedelta(seconds=1)
_HEARD_WITHIN = timedelta(seconds=10)  # by a run that asks the ledger every second, and begins then
_DONE_WITHIN = timedelta(minutes=15)  # of a run that has heard of it


@dataclass(frozen=True)
class Heard:
    """Who is asked to carry out a P0 if Prefect does not answer."""

    target: Target
    service: ServiceLayout
    replicas: int
    request: RollbackRequest

    def carry_out(self, ask: Callable[[], bool], say: Say) -> bool:
        """Declare the P0 in the ledger and follow the run that hears of it. If none does, say what
        to type on the host. Returns whether it was rolled back."""
        there = self.target.environment
        try:
            lock = self.target.ledger.holder(there)
            holder = holder_of(self.target, lock, ended=False)
            hold = hold_of(lock, self.target.ledger.events_of_holder(lock)) if lock else None
        except DeployError as error:
            say(f"no run can be told of the P0 either: {error.what}")
            return self._leave_to_hands(Way.GO, "", say)
        say(f"{there} runs {self._runs()}" + (f"; it is {hold.sentence}" if hold else ""))
        if not ask():
            return False
        since = datetime.now(UTC)
        if not self._declare(lock.run_id if lock else ""):
            say("the ledger takes no events, so no run hears of the P0")
            return self._leave_to_hands(holder.way, holder.run_id, say)
        say(f"declared in the ledger: {self.request.reason}")
        run = self._who_does_it(holder, hold, since, say)
        if run and self._ending(run, say) in (Ending.ROLLED_BACK, Ending.ROLLBACK_DONE):
            return True
        return self._leave_to_hands(holder.way, holder.run_id, say)

    def _declare(self, run_id: str) -> bool:
        key = f"p0-{token_hex(4)}"
        return self.target.ledger.record(
            self.target.environment,
            run_id or key,
            EventKind.P0_DECLARED,
            key=key,
            payload={"reason": self.request.reason, "by": self.request.started_by or "unnamed"},
        )

    def _who_does_it(self, holder: Holder, hold: Hold | None, since: datetime, say: Say) -> str:
        """The run that carries it out; "" for none."""
        if hold is not None and hold.doing is Doing.RUNS:
            if holder.way is Way.WAIT:
                say(f"run {holder.label} is told, and does not touch what serves")
                return ""
            does = "is already rolling back" if holder.way is Way.GO else "is told, and rolls back"
            say(f"run {holder.label} {does}: a run goes on without Prefect")
            return holder.run_id
        say(f"a scheduled watch, if one runs, hears of it within {say_duration(_HEARD_WITHIN)}")
        return self._begun(since)

    def _begun(self, since: datetime) -> str:
        """The run that began a rollback since then; "" if none does in time."""
        ledger, there = self.target.ledger, self.target.environment

        def look() -> str:
            with contextlib.suppress(DeployError):
                begun = ledger.events(there, kinds=[EventKind.ROLLBACK_STARTED])
                if begun and begun[-1].at >= since:
                    return begun[-1].run_id
            return ""

        return poll(look, bool, every=_EVERY, within=_HEARD_WITHIN)

    def _ending(self, run_id: str, say: Say) -> str:
        """How a run ends, by the ledger; "" if it does not, or is no longer heard from."""
        ledger, there = self.target.ledger, self.target.environment

        def look() -> str | None:
            with contextlib.suppress(DeployError):  # asked again
                ended = ledger.events(run_id=run_id, kinds=[EventKind.DEPLOYMENT_ENDED])
                if ended:
                    ending = str(ended[-1].payload.get("ending", ""))
                    say(f"[{short_run(run_id)}] {ending}: {ended[-1].payload.get('sentence', '')}")
                    return ending
                lock = ledger.holder(there)
                if lock is None or lock.run_id != run_id:
                    return ""
                if hold_of(lock, ledger.events_of_holder(lock)).doing is not Doing.RUNS:
                    say(f"[{short_run(run_id)}] is no longer heard from")
                    return ""
            return None

        ending = poll(look, lambda seen: seen is not None, every=_EVERY, within=_DONE_WITHIN)
        return ending or ""

    # ---- the host's own hands

    def _leave_to_hands(self, way: Way, deployment: str, say: Say) -> bool:
        for line in self._hands(way, deployment):
            say(line)
        return False

    def _hands(self, way: Way, deployment: str) -> Iterable[str]:
        there = self.target.environment
        serves = what_serves(self.target)
        yield f"nothing was rolled back yet; {there} serves {serves}"
        try:
            release = self._release(way, deployment)
        except DeployError as error:
            yield f"which release to go back to is not known: {error.what}"
            yield from self._kept()
            return
        version, typed = (release.version, release.typed) if release else (NOTHING, NOTHING)
        if serves == version:
            yield f"that is what {there} goes back to: check that it is healthy"
        if release and (removed := self._removed(release)):
            yield removed
        yield f"on the host of {there}, to go back to {version}:"
        by_hand = self.target.orchestrator.by_hand(
            release.image if release else None, self.replicas, self.target.router is not None
        )
        for command in by_hand.commands:
            yield f"  {command}"
        yield f"  curl -fsS {shown(self.target.url)}{self.service.health_path}"
        yield f"users of {there} {by_hand.meanwhile}"
        back = self.request.to or typed
        yield (
            f"when Prefect answers again: ignition rollback {there} --to {back} "
            "--reason …, which verifies and records it"
        )

    def _release(self, way: Way, deployment: str) -> Release | None:
        """The release to go back to, with its image. Returns None if nothing is to serve. Raises
        DeployError if it is not known."""
        if to := self.request.to:
            return self._on_the_host(to) or release_named(self.target, to, self.service)
        if way is Way.TELL:
            replaced = replaced_release(self.target.ledger.run_events(deployment))
            if replaced is not None:
                return replaced
        return previous(self.target, self.service)

    def _on_the_host(self, to: str) -> Release | None:
        """The release that is asked for, if the host has it: then no registry is needed."""
        if to == NOTHING:
            return None
        if "@" in to:
            image = ImageRef.parse(to)
            return Release(image.short, "", image)
        with contextlib.suppress(DeployError):
            kept = self.target.orchestrator.kept_releases()
            return next((release for release in kept if release.version == to), None)
        return None

    def _removed(self, release: Release) -> str:
        """Why the release cannot run on the schema; "" if it can."""
        try:
            refuse_contracted(release, self.target.database.applied(), self.target.environment)
        except BadRequest as error:
            return f"do not go back to {release.version}: {error.what}"
        except Unreachable as error:
            return f"whether the schema still fits {release.version} is not known: {error.what}"
        return ""

    def _kept(self) -> Iterable[str]:
        try:
            kept = self.target.orchestrator.kept_releases()
            serves = {instance.image for instance in meant_to_serve(self.target)}
        except DeployError as error:
            yield error.what
            return
        for release in kept:
            here = " (runs now)" if release.image in serves else ""
            yield f"  the host has {release.version} {release.image}{here}"
        yield f"run it again with: ignition p0 {self.target.environment} --to VERSION --reason …"

    def _runs(self) -> str:
        with contextlib.suppress(DeployError):
            now = meant_to_serve(self.target)
            return now[0].version if now else NOTHING
        return "what the engine does not say"
