"""What the `ignition` command reads: environments, locks, the log."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

from blocks.approvers import Approvers
from blocks.ledger import Ledger
from blocks.target import Target
from cli.install import build_target
from cli.runs import RunView, read, waiting
from cli.schedule import schedule_lines
from release.duration import say_duration
from release.errors import BadRequest, DeployError
from release.ledger import LogRow
from release.wording import count_of
from settings import Settings
from tasks.baseline import serving
from tasks.serving import what_serves


@dataclass(frozen=True)
class EnvironmentView:
    """What is known of one environment at this moment."""

    name: str
    url: str
    serves: str
    instances: tuple[str, ...]
    image: str
    schema: str
    holder: str
    problem: str = ""

    def lines(self) -> list[str]:
        instances = count_of(len(self.instances), "instance")
        lines = [
            f"{self.name} serves {self.serves}",
            f"  {self.url}  {instances}  {self.image or 'no image known'}"
            f"  schema {self.schema or 'unknown'}",
            f"  {self.holder or 'free'}",
        ]
        return [*lines, f"  {self.problem}"] if self.problem else lines


@dataclass(frozen=True)
class StatusView:
    """All environments that were asked for, and the runs that wait."""

    environments: tuple[EnvironmentView, ...]
    waiting: tuple[RunView, ...]
    schedules: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        return {
            "environments": [asdict(environment) for environment in self.environments],
            "waiting": [run.as_json() for run in self.waiting],
            "schedules": list(self.schedules),
        }

    def lines(self) -> list[str]:
        lines = [line for environment in self.environments for line in environment.lines()]
        for run in self.waiting:
            until = f" until {run.waits_until}" if run.waits_until else ""
            lines.append(
                f"waiting: {run.label} {run.name}{until}: ignition approve {run.label} --as NAME"
            )
        if not self.waiting:
            lines.append("no run waits for a signature")
        return [*lines, *self.schedules]


def look(settings: Settings, environment: str) -> StatusView:
    """Look at one environment, or at all."""
    if environment:
        settings.environment(environment)
    names = [environment] if environment else sorted(settings.environments)
    targets = [build_target(settings, name) for name in names]
    with ThreadPoolExecutor(len(targets)) as pool:
        views = tuple(pool.map(_look_at, targets))
    return StatusView(views, tuple(waiting()), tuple(schedule_lines(environment)))


def read_log(settings: Settings, environment: str, limit: int) -> Sequence[LogRow]:
    """The deployment log, newest first."""
    if environment:
        settings.environment(environment)
    return ledger_of(settings).log(environment or None, limit=limit)


def log_line(row: LogRow) -> str:
    """A row of the log, as the command line shows it: the runbook's columns, then the ending."""
    return (
        f"{row.date:%Y-%m-%d}  {row.version:16} {row.deployer:16} {row.environment:12} "
        f"{row.ending:14} {row.notes}"
    )


def verify_ledger(settings: Settings) -> list[str]:
    """What is wrong with the ledger's chain; empty where it is whole."""
    return [broken.sentence for broken in ledger_of(settings).verify()]


def unlock(settings: Settings, environment: str, by: str, reason: str) -> str:
    """Break the lock of a run that has ended. Raises BadRequest while it has not."""
    settings.environment(environment)
    ledger = ledger_of(settings)
    holder = ledger.holder(environment)
    if holder is None:
        raise BadRequest(f"nobody holds {environment}", "ignition status")
    run = read(holder.run_id)
    if not run.ended:
        raise BadRequest(
            f"{run.label} holds {environment} and is {run.state}, so its lock is not taken away",
            f"end it first: ignition reject {run.label} --as NAME --reason …, or Cancel in the UI",
        )
    ledger.break_lock(environment, by, reason)
    return f"{environment} is free; it was held by {run.label} ({run.state})"


def ledger_of(settings: Settings) -> Ledger:
    """The ledger, from the settings alone."""
    return build_target(settings, sorted(settings.environments)[0]).ledger


def _look_at(target: Target) -> EnvironmentView:
    try:
        instances = serving(target)
        image = str(instances[0].image or "") if instances else ""
        problem = ""
    except DeployError as error:
        instances, image, problem = (), "", error.what
    return EnvironmentView(
        name=target.environment,
        url=target.url,
        serves=what_serves(target),
        instances=tuple(instance.name for instance in instances),
        image=image,
        schema=_or_problem(target.database.schema_version),
        holder=_or_problem(lambda: _holder(target)),
        problem=problem,
    )


def _holder(target: Target) -> str:
    lock = target.ledger.holder(target.environment)
    if lock is None:
        return ""
    return (
        f"held by {lock.owner}, d-{lock.run_id[:6]}, since {lock.acquired_at:%H:%M} UTC, "
        f"last at work {say_duration(lock.silent)} ago"
    )


def _or_problem(read: Any) -> str:
    try:
        return str(read())
    except DeployError as error:
        return error.what


def approvers_of(settings: Settings) -> Approvers:
    """The approvers of this machine."""
    return Approvers(settings.approvers_file, settings.approvers.enrolled)
