"""One environment, read from itself and from the ledger, so that no Prefect server is needed."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from blocks.http_client import shown
from blocks.target import Target
from cli.gates import GateView, gate_view
from cli.runs import RunView
from release.configuration.layout import ServiceLayout
from release.errors import DeployError
from release.hold import Doing, Hold, clock, hold_of
from release.ledger import Event, Lock, short_run
from release.model import Instance
from release.rollback.baseline import NOTHING
from release.rollback.hand_over import Way
from release.rollback.recovery import last_gate_of, replaced_release
from release.tenure import Tenure, tenure_of
from release.wording import count_of
from tasks.baseline import meant_to_serve, serving
from tasks.hand_over import Holder, holder_of
from tasks.restore import previous
from tasks.serving import what_serves

Ended = Callable[[str], bool]
"""Whether Prefect says that a run is over."""


_NOBODY = Holder(Way.GO)


@dataclass(frozen=True)
class EnvironmentView:
    """What is known of one environment at this moment."""

    name: str
    url: str
    serves: str
    instances: tuple[str, ...]
    image: str
    schema: str
    holder: str  # who holds it, and what that run does; "" if it is free
    hint: str = ""  # what to type about the holder
    since: str = ""  # since when it serves that, and by whom, in a sentence
    since_at: str = ""  # ISO 8601; "" if it is not known
    by: str = ""
    run: str = ""  # that brought it: d-1874ab
    back_to: str = ""  # the version that a rollback would go back to; "" if none is known
    back: str = ""  # … in a sentence, with what to type
    problem: str = ""  # what does not answer
    gate: GateView | None = None  # at which the holder waits, by the ledger

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    def lines(self) -> list[str]:
        instances = count_of(len(self.instances), "instance")
        return [
            f"{self.name} serves {self.serves}" + (f", {self.since}" if self.since else ""),
            f"  {self.url}  {instances}  {self.image or 'no image known'}"
            f"  schema {self.schema or 'unknown'}",
            *([f"  {self.back}"] if self.back else []),
            f"  {self.holder or 'free'}",
            *([f"  hint: {self.hint}"] if self.hint else []),
            *([f"  {self.problem}"] if self.problem else []),
        ]


@dataclass(frozen=True)
class Recorded:
    """What the ledger knows of an environment."""

    tenure: Tenure
    lock: Lock | None = None
    events: tuple[Event, ...] = ()  # of the holder
    holder: Holder = _NOBODY
    hold: Hold | None = None

    @property
    def gate(self) -> GateView | None:
        """At which the holder waits; None if it does not."""
        waits = self.hold is not None and self.hold.doing is Doing.WAITS
        return gate_of(self.lock, self.events) if self.lock and waits else None


def look_at(target: Target, service: ServiceLayout, ended: Ended | None) -> EnvironmentView:
    """Look at an environment. ``ended`` None: Prefect does not answer. Never raises for a system
    that does not answer: the view says so."""
    problems = []
    try:
        instances = serving(target)
    except DeployError as error:
        instances = ()
        problems.append(error.what)
    version = what_serves(target)
    try:
        found = recorded(target, instances, version, ended)
        back_to, back = way_back(target, service, found.holder)
    except DeployError as error:
        found, back_to = None, ""
        back = _kept(target, without_prefect=ended is None)
        problems.append(error.what)
    hold = found.hold if found else None
    tenure = found.tenure if found and (instances or problems) else Tenure("")
    return EnvironmentView(
        name=target.environment,
        url=shown(target.url),
        serves=version,
        instances=tuple(instance.name for instance in instances),
        image=str(instances[0].image or "") if instances else "",
        schema=_or_problem(target.database.schema_version),
        holder=hold.sentence if hold else "" if found else "who holds it is not known",
        hint=hold.hint if hold else "",
        since=tenure.sentence,
        since_at=tenure.at.isoformat() if tenure.at else "",
        by=tenure.by,
        run=short_run(tenure.run_id) if tenure.run_id else "",
        back_to=back_to,
        back=back,
        problem="; ".join(dict.fromkeys(problems)),
        gate=found.gate if found else None,
    )


def recorded(
    target: Target, instances: tuple[Instance, ...], version: str, ended: Ended | None
) -> Recorded:
    """What the ledger says of an environment that runs ``instances``. Raises Unreachable."""
    ledger, there = target.ledger, target.environment
    image = instances[0].image if instances else None
    tenure = tenure_of(ledger.log(there), image, version)
    lock = ledger.holder(there)
    if lock is None:
        return Recorded(tenure)
    events, over = ledger.events_of_holder(lock), ended(lock.run_id) if ended else False
    return Recorded(
        tenure, lock, tuple(events), holder_of(target, lock, over), hold_of(lock, events, over)
    )


def way_back(target: Target, service: ServiceLayout, holder: Holder) -> tuple[str, str]:
    """The version that a rollback would go back to, and a sentence that says what to type; if none
    is known, no version, and why. Raises Unreachable if the ledger does not answer."""
    there = target.environment
    if holder.way is Way.TELL:
        version = replaced_by(target, holder.run_id)
        return version, f"a rollback goes back to {version}: ignition p0 {there} --reason …"
    try:
        version = previous(target, service).version
    except DeployError as error:
        target.ledger.holder(there)  # that the registry is away hides nothing else
        return "", f"no release to go back to is known: {error.what}"
    return version, f"a rollback goes back to {version}: ignition rollback {there} --reason …"


def replaced_by(target: Target, deployment: str) -> str:
    """The version that a deployment goes back to: what its plan found serving or, if the ledger has
    no plan of it, what served last. Raises Unreachable."""
    if replaced := replaced_release(target.ledger.run_events(deployment)):
        return replaced.version
    served = target.ledger.served(target.environment, limit=1)
    return served[0].version if served else NOTHING


def gate_of(lock: Lock, events: tuple[Event, ...]) -> GateView:
    """The gate at which a holder waits, as far as the ledger knows it."""
    gate = last_gate_of(events)
    run = RunView(
        id=lock.run_id,
        label=short_run(lock.run_id),
        name=f"{lock.owner}'s run to {lock.environment}",
        state="",
        state_type="PAUSED",
        message="",
        url="",
        started_at="",
        waits_until=clock(gate.ends) if gate and gate.ends else "",
    )
    return gate_view(run, events)


def _kept(target: Target, without_prefect: bool) -> str:
    """What the host could go back to, if the ledger cannot be asked: a P0 needs the ledger to tell
    other runs and, if Prefect is away too, says what to type on the host."""
    try:
        serves = {instance.image for instance in meant_to_serve(target)}
        kept = target.orchestrator.kept_releases()
    except DeployError:
        return ""
    others = [release for release in kept if release.image not in serves]
    if not others:
        return "no release to go back to is known, and the host has no other image"
    there = target.environment
    names = ", ".join(release.version for release in others)
    known = f"which release served before is not known; the host has {names}"
    if without_prefect:
        return f"{known}: ignition p0 {there} --to {others[0].typed} --reason …"
    return f"{known}: ignition rollback {there} --to {others[0].typed} --reason …"


def _or_problem(read: Callable[[], object]) -> str:
    try:
        return str(read())
    except DeployError as error:
        return error.what
