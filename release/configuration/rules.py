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
    """A secret that a table needs: without it, what the key ``asked_by`` turns on must fail."""

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
    """How long a new container may take to become healthy. One that takes longer is given up; no
    user has reached it."""

    bake: Duration = timedelta(seconds=3)
    """How long both releases serve side by side and are watched, before the baseline is drained."""

    bake_up_to: Duration = timedelta(seconds=30)
    """How long the bake may take while errors count against the release but prove nothing yet."""

    bake_alpha: float = Field(default=0.001, gt=0, le=0.1)
    """Highest probability that the bake rejects a release whose error rate is at most the watch's
    `error_rate_ceiling`, however often it looks."""

    drain_timeout: Duration = timedelta(seconds=30)
    """How long requests in flight on a draining container may take to finish: longer than your
    slowest."""

    stop_grace: Duration = timedelta(seconds=15)
    """Time between SIGTERM and SIGKILL when a container is stopped."""

    keep_warm: bool = False
    """true: the old containers keep running, without requests, until the watch has passed. A
    rollback during the watch then has no container to start, at the cost of memory for both
    releases. Work that an instance does on its own, not on request, is done by both meanwhile."""

    log_lines: int = Field(default=50, ge=1, le=1000)
    """How many of the last lines of each new container's log are kept (runbook: `logs api --tail
    50`)."""


class VerifyRules(Rules):
    """What the release must show at the public address (runbook, step 5)."""

    health_within: Duration = timedelta(seconds=30)
    """How long the public health check may fail right after cutover before that counts. After a
    rollback this applies to the smoke tests too."""

    smoke_timeout: Duration = timedelta(minutes=5)
    """How long the smoke tests may take."""

    request_timeout: Duration = Field(default=timedelta(seconds=10), gt=timedelta())
    """How long one HTTP answer may take."""


class WatchProbe(Rules):
    """What probes ask for, one table for each. If neither a router nor a metrics server counts what
    users are answered, the error rate is that of the probes: list what users do most. Without any,
    they ask for the health path (weight 1), the version path (4) and, if `auth` has an account, its
    protected path with a session (5)."""

    path: str = Field(pattern=r"^/[!-~]*$", max_length=2000, examples=["/api/orders?limit=20"])
    """The path after the public address, with its query."""

    method: Literal["GET", "HEAD", "OPTIONS", "POST"] = "GET"
    """The request's method. A POST is sent without a body, many times a minute, to the system that
    users use."""

    weight: int = Field(default=1, ge=1, le=100)
    """How often it is asked, relative to the others."""

    expect: Annotated[tuple[int, ...], BeforeValidator(_one_or_several)] = ()
    """The expected status, or several; none: any from 200 to 299. Any other is an error, except
    429, which is not counted."""

    session: bool = False
    """true: the request is made with the account of `auth`, logged in."""

    @field_validator("expect")
    @classmethod
    def _statuses(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        for status in value:
            if not 200 <= status <= 599:
                raise ValueError(f"{status} is not a status that an answer ends with: 200 to 599")
        return value

    @property
    def name(self) -> str:
        """Its name in messages: `GET /api/`, without the query, which may hold private data."""
        return f"{self.method} {self.path.partition('?')[0]}"

    def failed(self, status: int) -> bool:
        """Whether an answer with this status (0: none at all) counts as an error."""
        return status not in self.expect if self.expect else not 200 <= status <= 299


class WatchRules(Rules):
    """The runbook's rollback triggers, and the watch over which they are judged."""

    length: Duration = timedelta(minutes=10)
    """How long a new release is watched (runbook: "Monitor error rates (10 min)")."""

    every: Duration = Field(default=timedelta(seconds=15), gt=timedelta())
    """Time between two samples."""

    sustained_for: Duration = timedelta(minutes=5)
    """A breach must last longer than this (runbook: "for > 5 minutes")."""

    error_rate_ceiling: float = Field(default=0.05, gt=0, lt=1)
    """The highest error rate allowed, as a fraction: 5xx / all responses (runbook: "Error rate >
    5%")."""

    fewest_requests: int = Field(default=100, ge=1)
    """How many requests a window must hold to be judged; probes make up for missing ones."""

    probes: tuple[WatchProbe, ...] = Field(default=(), max_length=50)
    """What probes ask for."""

    error_rate_factor: float = Field(default=2.0, gt=1)
    """A person is asked to look if the error rate is this many times the baseline's, and not by
    chance."""

    error_rate_alpha: float = Field(default=0.001, gt=0, le=0.1)
    """An increase counts as not by chance if its probability by chance is at most this (Fisher's
    exact test, one-sided)."""

    p95_factor: float = Field(default=3.0, gt=1)
    """A person is asked to look if the 95th percentile of answer times is more than this many times
    the baseline's for longer than `sustained_for`."""

    p95_floor: Duration = timedelta(milliseconds=500)
    """A 95th percentile below this is never a breach, whatever the baseline's was."""

    auth_failures: int = Field(default=2, ge=1)
    """How many auth checks must fail in a row before the auth flow counts as broken."""

    restarts: int = Field(default=1, ge=0)
    """How often the same instance may end by itself during a watch and be restarted by the engine;
    one more causes a rollback. After each, the watch goes on for another `length`, within
    `extend_up_to`. Ends without a good health check in between count as one."""

    longest_gap: Duration = timedelta(seconds=60)
    """If two samples are further apart than this, the time between them counts as unknown."""

    extend_up_to: Duration = timedelta(minutes=10)
    """How much longer the watch may go on if a breach is under way at its end, or if an instance
    ended by itself."""

    rollback_window: Duration = Field(default=timedelta(hours=24), ge=timedelta())
    """How long after its deployment the scheduled `watch/<environment>` still rolls a release back
    automatically; for an older one it only alerts. "0 s": nothing is watched by schedule."""

    window_run: Duration = Field(default=timedelta(minutes=9), gt=timedelta())
    """How long one run of `watch/<environment>` watches. Set it to a minute less than the interval
    of its schedule in `prefect.yaml`, so that runs do not queue up."""

    @model_validator(mode="after")
    def _gap_holds_samples(self) -> Self:
        if self.longest_gap < 2 * self.every:
            raise ValueError(
                f"longest_gap ({say_duration(self.longest_gap)}) must be at least twice every "
                f"({say_duration(self.every)}), or no two samples would count as connected"
            )
        return self


class RollbackRules(Rules):
    """What follows a rollback, once the baseline serves again."""

    watch: Duration = Field(default=timedelta(minutes=1), ge=timedelta(), le=timedelta(hours=1))
    """How long a restored release is watched. The limits are those of `watch`, scaled down to this
    time. If it is unhealthy, the rollback has failed, and people are paged. "0 s": it is not
    watched."""


class GateRules(Rules):
    """Who answers the checklist, and until when."""

    approval: Literal["human", "evidence"] = "human"
    """human: a person signs each item. evidence: an item passes on its own evidence, and an item
    without evidence is recorded as not required here."""

    deadline: Duration = Field(default=timedelta(hours=8), ge=timedelta(seconds=1))
    """How long a gate waits for all its signatures before the run expires. At half of this time
    `notify.blocks` are reminded; at three quarters `notify.escalation` are told too. After a
    change type `ignition setup`, because the server times the reminders."""

    signers: int = Field(default=2, ge=1, le=9)
    """How many different people must sign before the run goes on, each with a one-time code of
    their own. Whoever is named as having started the run is never the only one."""

    wrong_codes: int = Field(default=5, ge=1, le=20)
    """How many wrong one-time codes a gate takes before it ends the run."""

    evidence_valid_for: Duration = Field(default=timedelta(minutes=15), gt=timedelta())
    """How old evidence may be before the gate calls it stale. It is collected again whenever the
    run resumes, whatever its age."""

    evidence_patience: Duration = Field(
        default=timedelta(seconds=30), ge=timedelta(), le=timedelta(minutes=10)
    )
    """With `approval = "evidence"`: how long a source that does not answer, or whose checks are
    still running, is asked again before its item is rejected. With "human", the person decides."""

    @property
    def patience(self) -> timedelta:
        """How long a source is asked again that has not decided.

        A person sees that a source is silent and decides; without one, silence ends the run.
        """
        return self.evidence_patience if self.approval == "evidence" else timedelta()
