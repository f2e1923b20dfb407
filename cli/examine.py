"""What the `ignition` command reads: environments, locks, the log."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from blocks.approvers import Approvers
from blocks.ledger.ledger import Ledger
from cli.environments import EnvironmentView, look_at
from cli.runs import RunView, read, unavailable, waiting
from cli.schedule import schedule_lines
from cli.target import build_target
from release.errors import BadRequest, DeployError
from release.ledger import EventKind, Lock, LogRow, short_run
from settings import Settings
from tasks.hand_over import has_ended
from tasks.side_by_side import ask_side_by_side


@dataclass(frozen=True)
class StatusView:
    """All environments that were asked for, and the runs that wait."""

    environments: tuple[EnvironmentView, ...]
    waiting: tuple[RunView, ...]
    schedules: tuple[str, ...] = ()
    away: DeployError | None = None  # why Prefect cannot be asked: the ledger knows of gates, too

    def as_json(self) -> dict[str, Any]:
        return {
            "environments": [environment.as_json() for environment in self.environments],
            "waiting": [run.as_json() for run in self.waiting],
            "prefect": {
                "ok": self.away is None,
                "problem": self.away.what if self.away else "",
                "hint": self.away.hint if self.away else "",
            },
            "schedules": list(self.schedules),
        }

    def lines(self) -> list[str]:
        lines = [line for environment in self.environments for line in environment.lines()]
        return lines + (self._without_prefect(self.away) if self.away else self._waiting())

    def _waiting(self) -> list[str]:
        lines = []
        for run in self.waiting:
            until = f" until {run.waits_until}" if run.waits_until else ""
            lines.append(
                f"waiting: {run.label} {run.name}{until}: ignition approve {run.label} --as NAME"
            )
        return [*(lines or ["no run waits for a signature"]), *self.schedules]

    def _without_prefect(self, away: DeployError) -> list[str]:
        gates = [environment.gate for environment in self.environments if environment.gate]
        return [
            *(f"waiting: {gate.summary}" for gate in gates),
            f"{away.what}; which runs wait is read from the ledger, nothing can be signed, "
            "and when schedules come next is not known",
            f"hint: {away.hint}",
        ]


def look(settings: Settings, environment: str) -> StatusView:
    """Look at one environment, or at all."""
    if environment:
        settings.environment(environment)
    names = [environment] if environment else sorted(settings.environments)
    targets = [build_target(settings, name) for name in names]
    away = unavailable()
    ended = None if away else has_ended

    looks = {
        target.environment: partial(look_at, target, settings.service, ended) for target in targets
    }
    views = tuple(ask_side_by_side(looks).values())
    if away:
        return StatusView(views, (), away=away)
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
        f"{row.ending:14} {' '.join(row.notes.split())}"
    )


def verify_ledger(settings: Settings) -> list[str]:
    """What is wrong with the ledger's chain; empty if it is whole."""
    return [broken.sentence for broken in ledger_of(settings).verify()]


def unlock(settings: Settings, environment: str, by: str, reason: str) -> str:
    """Break the lock of a run that has ended. Raises BadRequest while it has not."""
    settings.environment(environment)
    ledger = ledger_of(settings)
    holder = ledger.holder(environment)
    if holder is None:
        raise BadRequest(f"nobody holds {environment}", "ignition status")
    state = _ended_as(ledger, holder)
    ledger.break_lock(environment, by, reason)
    return f"{environment} is free; it was held by {short_run(holder.run_id)} ({state})"


def _ended_as(ledger: Ledger, holder: Lock) -> str:
    """How the holder of a lock ended. Raises BadRequest while it has not.

    One whose ending is in the ledger is over, whatever Prefect says, or whether it answers.
    """
    events = ledger.events_of_holder(holder)
    written = [event for event in events if event.kind == EventKind.DEPLOYMENT_ENDED]
    if written:
        return str(written[-1].payload.get("ending", ""))
    run = read(holder.run_id)
    if not run.ended:
        raise BadRequest(
            f"{run.label} holds {holder.environment} and is {run.state}, so it keeps its lock",
            f"end it first: {_end_of(run)}",
        )
    return run.state


def _end_of(run: RunView) -> str:
    """What ends a run: a rejection, if it waits at a gate."""
    if run.waiting:
        return f"ignition reject {run.label} --as NAME --reason …"
    return f"prefect flow-run cancel {run.id}"


def ledger_of(settings: Settings) -> Ledger:
    """The ledger, from the settings alone."""
    return build_target(settings, sorted(settings.environments)[0]).ledger


def approvers_of(settings: Settings) -> Approvers:
    """The approvers of this machine."""
    return Approvers(settings.approvers_file, settings.approvers.enrolled)
