"""A P0: what serves must not stay. Declared at once, carried out by whatever can act first."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from secrets import token_hex

from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterName,
    FlowFilter,
    FlowFilterName,
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import StateType

from blocks.target import Target
from cli.by_hand import Heard
from cli.environments import replaced_by
from cli.runs import RunView, follow, prefect, read, start, unavailable, view
from cli.target import build_target
from release.errors import Unreachable
from release.ledger import EventKind
from release.outcome import Ending
from release.request import RollbackRequest, checked_rollback, name_of, tags_of
from release.rollback.baseline import NOTHING
from release.rollback.hand_over import Way
from settings import Settings
from tasks.baseline import meant_to_serve
from tasks.hand_over import Holder, holder_of
from tasks.restore import previous
from tasks.serving import what_serves

_WITHIN = timedelta(minutes=15)  # of a deployment or a rollback that carries it out
_WATCH_WITHIN = timedelta(minutes=5)  # of a scheduled watch, which has nothing else to do

Say = Callable[[str], None]


@dataclass(frozen=True)
class P0:
    """What a P0 in an environment does, as things stand."""

    target: Target
    serves: str
    back_to: str  # version
    address: str  # … as a rollback is told it
    holder: Holder

    def lines(self) -> list[str]:
        """What will happen, for the person who is asked."""
        there, run = self.target.environment, self.holder.label
        lines = [f"{there} runs {self.serves}; it goes back to {self.back_to}"]
        match self.holder.way:
            case Way.TELL:
                lines.append(f"deployment {run} is interrupted, and rolls itself back")
            case Way.WAIT:
                lines.append(f"run {run} holds {there}: it is told, and this command waits for it")
            case Way.TAKE:
                lines.append(f"{there} is taken from run {run}, which waits for people or is over")
        return lines


def roll_back(
    settings: Settings,
    environment: str,
    request: RollbackRequest,
    ask: Callable[[], bool],
    say: Say,
) -> bool:
    """Say what a P0 does, ask, do it, and return whether it was rolled back.

    Without Prefect, a run that hears of it by the ledger does it, or a person on the host, who is
    told what to type. Raises BadRequest if it cannot be, and Unreachable if Prefect answers but the
    ledger cannot be asked.
    """
    settings.environment(environment)
    checked_rollback(request, environment)
    if away := unavailable():
        say(away.what)
        return _without_prefect(settings, environment, request, ask, say)
    p0 = p0_of(settings, environment, request.to)
    for line in p0.lines():
        say(line)
    done = ask() and carry_out(p0, request, say)
    say(f"{environment} serves {what_serves(p0.target)}")
    return done


def p0_of(settings: Settings, environment: str, to: str) -> P0:
    """What a P0 would do. Raises BadRequest if no release to go back to is known, and Unreachable
    if the ledger cannot be asked."""
    target = build_target(settings, environment)
    try:
        holder = holder_of(target, target.ledger.holder(environment))
    except Unreachable as error:
        raise Unreachable(
            f"no run can be told of the P0: {error.what}",
            f"ignition rollback {environment} --to {to or 'VERSION'} --reason …, which works "
            "without the ledger",
        ) from None
    now = meant_to_serve(target)
    back_to = address = to
    if holder.way is Way.TELL:
        back_to = replaced_by(target, holder.run_id)
    elif not to:
        release = previous(target, settings.service)
        back_to, address = release.version, str(release.image)
    return P0(
        target=target,
        serves=now[0].version if now else "nothing",
        back_to=back_to,
        address=address,
        holder=holder,
    )


def _without_prefect(
    settings: Settings,
    environment: str,
    request: RollbackRequest,
    ask: Callable[[], bool],
    say: Say,
) -> bool:
    target = build_target(settings, environment)
    replicas = settings.environment(environment).rollout.replicas
    done = Heard(target, settings.service, replicas, request).carry_out(ask, say)
    say(f"{environment} serves {what_serves(target)}")
    return done


def carry_out(p0: P0, request: RollbackRequest, say: Say) -> bool:
    """Declare the P0, follow whoever carries it out, and return whether it was rolled back."""
    there, holder = p0.target.environment, p0.holder
    if holder.way is Way.TELL:
        _declare(p0, holder.run_id, request, say)
        if _follow(read(holder.run_id), _WITHIN, say).state == Ending.ROLLED_BACK:
            return True
        say(f"{holder.label} did not roll back: a rollback is started")
    elif holder.way is Way.GO and (watch := _scheduled_watch(there)):
        _declare(p0, watch.id, request, say)
        if _follow(watch, _WATCH_WITHIN, say).state == Ending.ROLLED_BACK:
            return True
    back = checked_rollback(request.model_copy(update={"to": p0.address}), there)
    parameters = {"request": back.model_dump(mode="json"), "environment": there}
    version = p0.back_to if p0.back_to != NOTHING else ""
    name, tags = name_of("rollback", version, there), sorted(tags_of(there, version))
    run = start(f"rollback/{there}", parameters, name, tags)
    say(f"[{run.label}] started: {run.name}\n{run.url}")
    _note(p0, run.id, request)
    return _follow(run, _WITHIN, say).state_type == StateType.COMPLETED.value


def _declare(p0: P0, run_id: str, request: RollbackRequest, say: Say) -> None:
    """Record it in the ledger, which the run that is to hear of it asks every second."""
    if not _note(p0, run_id, request):
        raise Unreachable(
            "the ledger takes no events, so no run hears of the P0",
            f"ignition rollback {p0.target.environment} --to {p0.back_to} --reason …",
        )
    say(f"declared: {request.reason}")


def _note(p0: P0, run_id: str, request: RollbackRequest) -> bool:
    return p0.target.ledger.record(
        p0.target.environment,
        run_id,
        EventKind.P0_DECLARED,
        key=f"p0-{token_hex(4)}",
        payload={"reason": request.reason, "by": request.started_by or "unnamed"},
    )


def _follow(run: RunView, within: timedelta, say: Say) -> RunView:
    def seen(run: RunView) -> None:
        say(f"[{run.label}] {run.state}" + (f": {run.message}" if run.message else ""))

    try:
        return follow(run, seen, within, lambda why: say(f"[{run.label}] {why}"))
    except Unreachable:
        return read(run.id)


def _scheduled_watch(environment: str) -> RunView | None:
    """The run of watch/<environment> that watches now."""
    running = FlowRunFilterStateType(any_=[StateType.RUNNING])
    with prefect() as client:
        found = client.read_flow_runs(
            flow_filter=FlowFilter(name=FlowFilterName(any_=["watch"])),
            deployment_filter=DeploymentFilter(name=DeploymentFilterName(any_=[environment])),
            flow_run_filter=FlowRunFilter(state=FlowRunFilterState(type=running)),
            limit=1,
        )
    return view(found[0]) if found else None
