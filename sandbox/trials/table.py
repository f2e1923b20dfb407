"""Releases, good and bad, and how the deployment of each must end: the table of `make trials`.

No I/O and no clock: what happened is a value, and whether it is right is a function of it.
"""

import re
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sandbox.errors import SandboxError

RATE = 300.0  # requests a second
SUSTAINED = 4.0  # seconds that a breach must last: the runbook's 5 min, shortened
WATCH = "12 s"  # the runbook's 10 min, shortened
LONG_WATCH = "20 s"  # for releases that fail 20 s after their start
P0_WATCH = "60 s"  # long enough for a person to declare it
# From the end of SUSTAINED to the last bad answer: the wait for a sample, the verdict, the rollback
# on a machine that is as busy as this one.
RESTORE = 8.0  # seconds
DEPLOYED, ROLLED_BACK = "Deployed", "RolledBack"


@dataclass(frozen=True)
class Harm:
    """The most that users may notice of a release."""

    share: float = 0.0  # of the requests that the release answered, those that failed
    outage: float = 0.0  # seconds without any answer

    def __str__(self) -> str:
        parts = [f"{self.share:.0%} of its answers"] if self.share else []
        parts += [f"{self.outage:.0f} s without an answer"] if self.outage else []
        return ", ".join(parts) or "none"


NO_HARM = Harm()


@dataclass(frozen=True)
class Scenario:
    """One kind of release, and what must come of it."""

    name: str  # ONLY=…
    title: str
    branch: str
    ending: str
    why: str
    may_meet: bool = True  # whether a user may reach the release at all
    harm: Harm = NO_HARM
    says: str = ""  # a pattern in what the run says at its end
    rate: float = RATE
    watch: str = WATCH
    p0: bool = False  # a person declares one during the watch
    metrics: bool = True  # whether Prometheus runs

    @property
    def stays(self) -> bool:
        """Whether the release serves afterwards."""
        return self.ending == DEPLOYED


SCENARIOS = (
    Scenario(
        "good",
        "a good release",
        "main",
        DEPLOYED,
        "no trigger is met",
    ),
    Scenario(
        "never-healthy",
        "never healthy",
        "bad/never-healthy",
        ROLLED_BACK,
        "it is given up before it is admitted, so no user reaches it",
        may_meet=False,
        says="healthy",
    ),
    Scenario(
        "wrong-version",
        "reports another version",
        "bad/wrong-version",
        ROLLED_BACK,
        "each new instance is asked before it is admitted (step 5, version check)",
        may_meet=False,
        says=r"answers v1\.0\.9",
    ),
    Scenario(
        "dies",
        "dies after 20 s, and again at each start",
        "bad/dies",
        ROLLED_BACK,
        "the health check fails for longer than allowed",
        harm=Harm(outage=SUSTAINED + RESTORE),
        watch=LONG_WATCH,
    ),
    Scenario(
        "errors-20",
        "20 % errors",
        "bad/errors-20",
        ROLLED_BACK,
        "error rate above 5 %; seconds are enough while the baseline serves beside it",
        harm=Harm(share=0.22),
        says="5xx|error rate",
    ),
    Scenario(
        "errors-6",
        "6 % errors",
        "bad/errors-6",
        ROLLED_BACK,
        "error rate above 5 % for longer than allowed",
        harm=Harm(share=0.08),
        says="5xx|error rate",
    ),
    Scenario(
        "errors-6-late",
        "6 % errors, from 20 s after its start",
        "bad/errors-6-late",
        ROLLED_BACK,
        "the same, and only the watch can see it",
        harm=Harm(share=0.08),
        says="error rate",
        watch=LONG_WATCH,
    ),
    Scenario(
        "errors-4",
        "4 % errors",
        "bad/errors-4",
        DEPLOYED,
        "not above 5 %, so it stays; the baseline had none, so a person is asked to look",
        harm=Harm(share=0.05),
        says="error rate",
    ),
    Scenario(
        "errors-on-writes",
        "errors on one route, which is 10 % of the requests",
        "bad/errors-on-writes",
        ROLLED_BACK,
        "the rate is that of all requests: 10 %; the smoke tests write once, which succeeds",
        harm=Harm(share=0.14),
        says="5xx|error rate",
    ),
    Scenario(
        "slow",
        "slow: 95 % of answers within 1.5 s",
        "bad/slow",
        DEPLOYED,
        "response times are not a rollback trigger in the runbook: a person is asked to look",
        says="95% of answers",
    ),
    Scenario(
        "broken-login",
        "login broken from 20 s after the first login",
        "bad/broken-login",
        ROLLED_BACK,
        "auth flow broken; the traffic does not log in, so none of its requests fails",
        says="auth flow broken",
        watch=LONG_WATCH,
    ),
    Scenario(
        "leak",
        "a memory leak, killed by its limit again and again",
        "bad/leak",
        ROLLED_BACK,
        "its instance ends by itself, starts again, becomes healthy, and ends again",
        harm=Harm(outage=SUSTAINED + RESTORE),
        says="ended by itself|error rate|health check",
        watch=LONG_WATCH,
    ),
    Scenario(
        "p0",
        "a good release, and a P0 in the middle of its watch",
        "main",
        ROLLED_BACK,
        "a P0 is declared, whatever the figures say",
        says="P0 declared",
        watch=P0_WATCH,
        p0=True,
    ),
    Scenario(
        "metrics-down-good",
        "a good release, and the metrics server is down",
        "main",
        DEPLOYED,
        "a missing measurement is not the release's fault; router and probes are judged",
        metrics=False,
    ),
    Scenario(
        "metrics-down-bad",
        "6 % errors, and the metrics server is down",
        "bad/errors-6",
        ROLLED_BACK,
        "the router counts the same errors",
        harm=Harm(share=0.08),
        says="5xx|error rate",
        metrics=False,
    ),
    Scenario(
        "idle-good",
        "a good release, and no traffic at all",
        "main",
        DEPLOYED,
        "the pipeline's own probes are judged; a lack of data does not mean unhealthy",
        rate=0.0,
    ),
    Scenario(
        "idle-bad",
        "20 % errors from its 200th request on, and no traffic at all",
        "bad/errors-under-traffic",
        ROLLED_BACK,
        "the probes are the traffic, and get the errors: as a rate, or as a failed auth flow",
        rate=0.0,
    ),
)


def chosen(names: str) -> tuple[Scenario, ...]:
    """The scenarios in ``names`` (with commas); all for "". SandboxError for an unknown one."""
    known = {scenario.name: scenario for scenario in SCENARIOS}
    wanted = [name.strip() for name in names.split(",") if name.strip()] or list(known)
    missing = [name for name in wanted if name not in known]
    if missing:
        raise SandboxError(f"no trial is called {missing[0]!r}; there are: {', '.join(known)}")
    return tuple(scenario for name, scenario in known.items() if name in wanted)


@dataclass(frozen=True)
class Observed:
    """What happened in one trial."""

    version: str
    before: str  # the version that served before
    ending: str
    message: str
    serves: str  # at the public address, when the run had ended
    answered_after: Mapping[str, int] = field(default_factory=dict)  # by version, "": by none
    requests: int = 0
    failed: int = 0
    met: int = 0  # requests that the release answered
    failed_by_it: int = 0
    failed_before: int = 0  # before the release was started: that is the machine's doing
    held_by: str = ""  # the run that still holds the environment
    containers: Sequence[Sequence[str]] = ()  # of the service: name, image, state
    pinned: str = ""  # the image that a reboot would bring back
    took: float = 0.0  # seconds from the run's start to its end
    to_restore: float | None = None  # seconds from the verdict to the release's last answer
    p0_ending: str = ""  # of the rollback that was asked for in the middle
    cleaned_up: str = ""  # ending of the rollback that got rid of a bad release that stayed


def wrongs(scenario: Scenario, seen: Observed) -> tuple[str, ...]:
    """What is not as it must be, one sentence each; none for a trial that passed."""
    return tuple(_wrongs(scenario, seen))


def _wrongs(scenario: Scenario, seen: Observed) -> Iterable[str]:
    if seen.ending != scenario.ending:
        yield f"ended as {seen.ending}, not {scenario.ending}: {_first_line(seen.message)}"
    elif scenario.says and not re.search(scenario.says, seen.message):
        yield f"does not say {scenario.says!r}: {_first_line(seen.message)}"
    yield from _what_serves(scenario, seen)
    yield from _what_is_left(seen)
    yield from _what_users_felt(scenario, seen)
    if scenario.p0 and seen.p0_ending != "HandedOver":
        yield f"the P0's own run ended as {seen.p0_ending or 'nothing'}, not HandedOver"
    if seen.cleaned_up not in ("", "RollbackDone"):
        yield f"the rollback afterwards ended as {seen.cleaned_up}, not RollbackDone"


def _what_serves(scenario: Scenario, seen: Observed) -> Iterable[str]:
    wanted = seen.version if scenario.stays else seen.before
    if seen.serves != wanted:
        yield f"serves {seen.serves or 'nothing'} afterwards, not {wanted}"
    if scenario.rate and not seen.answered_after:
        yield "no request was sent after the run had ended"
    for version, count in sorted(seen.answered_after.items()):
        if version != wanted:
            yield f"{count} requests after the end were answered by {version or 'no release'}"
    if not scenario.may_meet and seen.met:
        yield f"{seen.met} requests reached the release"
    if scenario.stays and scenario.rate and not seen.met:
        yield "no request reached the release"


def _what_is_left(seen: Observed) -> Iterable[str]:
    if seen.held_by:
        yield f"the environment is still held by {seen.held_by}"
    if [(image, state) for _, image, state in seen.containers] != [(seen.pinned, "running")]:
        there = ", ".join(f"{name} {state}" for name, _, state in seen.containers) or "none"
        yield f"not one running container of the pinned image is left, but: {there}"


def _what_users_felt(scenario: Scenario, seen: Observed) -> Iterable[str]:
    harm = scenario.harm
    if seen.failed_before:
        yield (
            f"{seen.failed_before} requests failed before the release was started: "
            "this machine does not carry the load just now, so the trial proves nothing"
        )
    if scenario.rate and not seen.requests:
        yield "no request was sent"
    if harm.outage:
        allowed = int(harm.outage * scenario.rate)
        if seen.failed > allowed:
            yield f"{seen.failed} requests failed, {allowed} are allowed"
        return
    if seen.failed_by_it > harm.share * seen.met:
        yield f"the release failed {seen.failed_by_it} of {seen.met} requests, allowed: {harm}"
    others = seen.failed - seen.failed_by_it - seen.failed_before
    if others > 0:
        yield f"{others} requests failed that the release did not answer"


def _first_line(message: str) -> str:
    return message.partition("\n")[0] or "no message"


# ---- the table


@dataclass(frozen=True)
class Trial:
    """One trial as it is kept in a file."""

    scenario: str
    wrongs: tuple[str, ...]
    requests: int
    failed: int
    met: int
    took: float
    to_restore: float | None
    message: str

    @classmethod
    def of(cls, scenario: Scenario, seen: Observed) -> "Trial":
        """What is kept of an observation."""
        return cls(
            scenario.name,
            wrongs(scenario, seen),
            seen.requests,
            seen.failed,
            seen.met,
            round(seen.took, 1),
            None if seen.to_restore is None else round(seen.to_restore, 1),
            _first_line(seen.message),
        )

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Trial":
        """A trial as it was kept."""
        return cls(**{**values, "wrongs": tuple(values["wrongs"])})


HEAD = (
    "release",
    "must end as",
    "right",
    "failed requests",
    "allowed",
    "seconds to restore",
    "run, s",
    "why",
)


def rows(trials: Sequence[Trial]) -> list[tuple[str, ...]]:
    """One row for each scenario, in the table's order."""
    return [_row(scenario, [t for t in trials if t.scenario == scenario.name])
            for scenario in SCENARIOS]  # fmt: skip


def _row(scenario: Scenario, trials: Sequence[Trial]) -> tuple[str, ...]:
    right = sum(not trial.wrongs for trial in trials)
    restores = [trial.to_restore for trial in trials if trial.to_restore is not None]
    return (
        scenario.title,
        scenario.ending,
        f"{right} of {len(trials)}" if trials else "not run",
        _failed(scenario, trials),
        str(scenario.harm) if scenario.may_meet else "none; no user reaches it",
        _spread(restores) if restores else "–",
        f"{statistics.median(trial.took for trial in trials):.0f}" if trials else "–",
        scenario.why,
    )


def _failed(scenario: Scenario, trials: Sequence[Trial]) -> str:
    if not trials or not scenario.rate:
        return "–"
    failed = sorted({trial.failed for trial in trials})
    least, most = failed[0], failed[-1]
    sent = statistics.median(trial.requests for trial in trials)
    return f"{least:,}" + (f" to {most:,}" if most > least else "") + f" of {sent:,.0f}"


def _spread(values: Sequence[float]) -> str:
    middle = f"{statistics.median(values):.1f}"
    return middle if len(values) == 1 else f"{middle} [{min(values):.1f}–{max(values):.1f}]"
