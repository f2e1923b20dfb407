"""The numbers that a team decides on, with their units, defaults and the reason for each.

They are read from ``ignition.toml`` by :mod:`settings`; the pure functions beside this module take
them as arguments. Defaults come from the runbook where it names a number.
"""

from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, ClassVar, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    field_validator,
    model_validator,
)

from release.duration import Duration, say_duration


def _one_or_several(value: object) -> object:
    return (value,) if isinstance(value, int) else value


@dataclass(frozen=True, slots=True)
class Need:
    """A secret of a table without which what the key beside it asks for certainly fails."""

    secret: str
    asked_by: str = ""  # "": it is always needed


class Rules(BaseModel):
    """Base of all rule groups: frozen, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    needs: ClassVar[tuple[Need, ...]] = ()


class RolloutRules(Rules):
    """How the instances of a service are replaced (runbook, step 4)."""

    replicas: int = Field(default=1, ge=1, le=3)
    """Instances that serve. The router needs twice as many slots."""

    healthy_within: Duration = timedelta(seconds=60)
    """How long a new container may take to be healthy before it is given up; no user has met it."""

    bake: Duration = timedelta(seconds=3)
    """Watched time with both releases in service, before the baseline is drained."""

    bake_up_to: Duration = timedelta(seconds=30)
    """How long the bake may take while errors speak against the release and prove nothing yet."""

    bake_alpha: float = Field(default=0.001, gt=0, le=0.1)
    """Highest probability with which the bake throws out a release whose error rate is at most the
    watch's `error_rate_ceiling`, however often it is looked at."""

    drain_timeout: Duration = timedelta(seconds=30)
    """How long requests in flight on a draining container may take to finish: longer than your
    slowest."""

    stop_grace: Duration = timedelta(seconds=15)
    """Between SIGTERM and SIGKILL when a container is stopped."""

    keep_warm: bool = False
    """true: the old containers go on running, without requests, until the watch has passed. A
    rollback during the watch has no container to start then, for the memory of both releases.
    Work that an instance does by itself, not on request, is done by both meanwhile."""

    log_lines: int = Field(default=50, ge=1, le=1000)
    """Last lines of each new container's log that are kept (runbook: `logs api --tail 50`)."""


class VerifyRules(Rules):
    """What the release must show at the public address (runbook, step 5)."""

    health_within: Duration = timedelta(seconds=30)
    """How long the public health check may fail right after cutover before it counts; after a
    rollback, the smoke tests too."""

    smoke_timeout: Duration = timedelta(minutes=5)
    """How long the smoke tests may take."""

    request_timeout: Duration = Field(default=timedelta(seconds=10), gt=timedelta())
    """How long one HTTP answer may take."""


class WatchProbe(Rules):
    """What probes ask for, one table each. Where neither router nor Prometheus counts what users
    are answered, the error rate is that of the probes: list what users do most. Without any: the
    health path (weight 1), the version path (4) and, where `auth` has an account, its protected
    path with a session (5)."""

    path: str = Field(pattern=r"^/[!-~]*$", max_length=2000, examples=["/api/orders?limit=20"])
    """From the public address on, with its query."""

    method: Literal["GET", "HEAD", "OPTIONS", "POST"] = "GET"
    """How it is asked. A POST is sent without a body, many times a minute, to what users use."""

    weight: int = Field(default=1, ge=1, le=100)
    """How often it is asked, against the others."""

    expect: Annotated[tuple[int, ...], BeforeValidator(_one_or_several)] = ()
    """The status that is good, or several; none: any from 200 to 299. Another one is an error, 429
    alone is not counted."""

    session: bool = False
    """true: it is asked as the account of `auth`, logged in."""

    @field_validator("expect")
    @classmethod
    def _statuses(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        for status in value:
            if not 200 <= status <= 599:
                raise ValueError(f"{status} is no status that an answer ends with: 200 to 599")
        return value

    @property
    def name(self) -> str:
        """It as sentences name it: `GET /api/`. A query may hold what is nobody's business."""
        return f"{self.method} {self.path.partition('?')[0]}"

    def failed(self, status: int) -> bool:
        """Whether an answer with this status (0: none at all) counts as an error."""
        return status not in self.expect if self.expect else not 200 <= status <= 299


class WatchRules(Rules):
    """The runbook's rollback triggers and the watch they are judged over."""

    length: Duration = timedelta(minutes=10)
    """How long a new release is watched (runbook: "Monitor error rates (10 min)")."""

    every: Duration = Field(default=timedelta(seconds=15), gt=timedelta())
    """Distance between two samples."""

    sustained_for: Duration = timedelta(minutes=5)
    """A breach must last longer than this (runbook: "for > 5 minutes")."""

    error_rate_ceiling: float = Field(default=0.05, gt=0, lt=1)
    """Fraction, 5xx / all responses (runbook: "Error rate > 5%")."""

    fewest_requests: int = Field(default=100, ge=1)
    """Requests a window must hold to be judged; probes add the missing ones."""

    probes: tuple[WatchProbe, ...] = Field(default=(), max_length=50)
    """What they ask for."""

    error_rate_factor: float = Field(default=2.0, gt=1)
    """An error rate of this many times the baseline's asks a person, if it is no chance."""

    error_rate_alpha: float = Field(default=0.001, gt=0, le=0.1)
    """No chance: at most this probability to see it by chance (Fisher's exact test, one-sided)."""

    p95_factor: float = Field(default=3.0, gt=1)
    """The 95th percentile may be this many times the baseline's, for `sustained_for`."""

    p95_floor: Duration = timedelta(milliseconds=500)
    """A 95th percentile below this is never a breach, whatever the baseline's was."""

    auth_failures: int = Field(default=2, ge=1)
    """Auth checks that must fail in a row before the auth flow counts as broken."""

    restarts: int = Field(default=1, ge=0)
    """How often the same instance may end by itself during a watch, and be started again by the
    engine; once more rolls back. After each, the watch goes on for another `length`, within
    `extend_up_to`. Ends without a good health check in between count as one."""

    longest_gap: Duration = timedelta(seconds=60)
    """Two samples further apart than this leave the time between them unknown."""

    extend_up_to: Duration = timedelta(minutes=10)
    """How much longer the watch may go on while a breach is under way at its end, or where an
    instance ended by itself."""

    rollback_window: Duration = Field(default=timedelta(hours=24), ge=timedelta())
    """How long after its deployment a release is still rolled back by itself, by the scheduled
    `watch/<environment>`; an older one only alerts. "0 s": nothing is watched by schedule."""

    window_run: Duration = Field(default=timedelta(minutes=9), gt=timedelta())
    """How long one run of `watch/<environment>` watches: a minute less than the distance of its
    schedule in `prefect.yaml`, so that runs do not queue up."""

    @model_validator(mode="after")
    def _gap_holds_samples(self) -> Self:
        if self.longest_gap < 2 * self.every:
            raise ValueError(
                f"longest_gap ({say_duration(self.longest_gap)}) must be at least twice every "
                f"({say_duration(self.every)}), or no two samples would count as connected"
            )
        return self


class RollbackRules(Rules):
    """What follows on a rollback, once it serves again what served before."""

    watch: Duration = Field(default=timedelta(minutes=1), ge=timedelta(), le=timedelta(hours=1))
    """How long what was restored is watched. Its limits are those of `watch`, scaled down to this
    time. If it is not well, the rollback has failed, and people are paged. "0 s": not watched."""


class GateRules(Rules):
    """Who answers the checklist, and until when."""

    approval: Literal["human", "evidence"] = "human"
    """human: each item is signed by a person. evidence: an item passes on its own evidence, and
    one that has none is recorded as not required here."""

    deadline: Duration = Field(default=timedelta(hours=8), ge=timedelta(seconds=1))
    """How long a gate waits for all its signatures before the run expires. At half of it
    `notify.blocks` are reminded, at three quarters `notify.escalation` are told. After a change
    type `ignition setup`: the reminders are counted by the server."""

    signers: int = Field(default=2, ge=1, le=9)
    """Different people who must have signed before the run goes on, each with a one-time code of
    their own. Whoever is named as having started the run is never the only one."""

    wrong_codes: int = Field(default=5, ge=1, le=20)
    """Wrong one-time codes that a gate takes before it ends the run."""

    evidence_valid_for: Duration = Field(default=timedelta(minutes=15), gt=timedelta())
    """How old evidence may be before the gate calls it stale. It is collected again whenever the
    run resumes, however old it is."""

    evidence_patience: Duration = Field(
        default=timedelta(seconds=30), ge=timedelta(), le=timedelta(minutes=10)
    )
    """With `approval = "evidence"`: how long a source that does not answer, or whose checks are
    still running, is asked again before its item is rejected. A person decides for themselves."""
