"""When each schedule runs next, and why one does not."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from release.duration import say_duration
from release.readiness.systems import Readiness

_PLANNED_WITHIN = timedelta(seconds=90)  # the server's scheduler looks once a minute
_LATE_AFTER = timedelta(minutes=1)  # a worker asks every 10 s, and needs some more to begin


@dataclass(frozen=True, slots=True)
class Schedule:
    """A schedule of one deployment, and the runs that the server has made for it."""

    deployment: str  # nightly/staging
    id: str
    is_active: bool
    is_paused: bool  # the deployment
    changed: datetime  # the schedule was written then
    next: datetime | None = None  # its first run to come
    due: datetime | None = None  # its first run that was due and that nobody has taken

    @property
    def name(self) -> str:
        """As lines and answers call it."""
        return f"schedule {self.deployment}"


def judge_schedule(schedule: Schedule, now: datetime) -> Readiness:
    """Whether the schedule brings a run, and when. Absence of one is a fault, never silence."""
    name, there = schedule.name, schedule.deployment
    if schedule.is_paused:
        return Readiness(
            name, f"its deployment {there} is paused, so no run starts", "ignition setup"
        )
    if not schedule.is_active:
        resume = f"prefect deployment schedule resume {there} {schedule.id}"
        return Readiness(name, f"{there} is switched off, so no run starts", resume)
    if schedule.due is not None and now - schedule.due > _LATE_AFTER:
        return Readiness(
            name,
            f"the run that was due {_say(schedule.due, now)} has not begun: no worker took it",
            "see worker and work pool here, and the run: prefect flow-run ls --state Late",
        )
    if schedule.next is None:
        if now - schedule.changed < _PLANNED_WITHIN:
            return Readiness(
                name, found="set up just now; the server plans its runs within a minute"
            )
        return Readiness(
            name,
            "active, but no run is scheduled: the Prefect server's scheduler does nothing",
            "look for errors in the server's log, and start it again without --no-services: "
            "prefect server start",
        )
    return Readiness(name, found=f"next {_say(schedule.next, now)}")


def schedule_line(schedule: Schedule, now: datetime) -> str:
    """One line for a person who asks for the state: when it runs next, or that it does not."""
    answer = judge_schedule(schedule, now)
    if answer.ok:
        return f"{answer.name}  {answer.found}"
    return f"WRONG {schedule.deployment}: {answer.problem}: ignition doctor"


def _say(at: datetime, now: datetime) -> str:
    far = abs(at - now)
    if far >= timedelta(hours=1):
        far = timedelta(hours=round(far.total_seconds() / 3600))
    elif far >= timedelta(minutes=1):
        far = timedelta(minutes=round(far.total_seconds() / 60))
    else:
        far = timedelta(seconds=round(far.total_seconds()))
    said = f"in {say_duration(far)}" if at >= now else f"{say_duration(far)} ago"
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M} UTC ({said})"
