"""What is measured while a release is watched: probes, and the router's counts of all traffic."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol

from prefect.blocks.core import Block
from pydantic import Field

from blocks.service import Service
from release.duration import say_duration
from release.errors import DeployError
from release.model import Check, Probe
from release.rollout import Slot
from release.rules import WatchRules
from release.traffic import ALL_RELEASES, PROBES, ROUTER, Times, Traffic
from release.triggers import AUTH_NOT_CONFIGURED, Sample, percentile, probes_needed

_AUTH_REQUESTS = 4  # of one check of the auth flow: the router counts them too


class Counters(Protocol):
    """Something that counts answers: the router."""

    def slots(self) -> Sequence[Slot]:
        """Every slot, with its counters since the router started."""
        ...


class Metrics(Block):
    """How samples are taken."""

    _block_type_name = "Ignition Metrics"

    probe_path: str = Field(
        default="", description="What probes ask for; empty: the service's version path."
    )
    fewest_probes: int = Field(
        default=3, ge=1, description="Probes of each sample, however busy the service is."
    )
    concurrency: int = Field(default=8, ge=1, le=50, description="Probes under way at a time.")
    auth_every: int = Field(
        default=4, ge=1, description="The auth flow is checked with every n-th sample."
    )

    def sampler(
        self,
        service: Service,
        counters: Counters | None,
        rules: WatchRules,
        ask_p0: Callable[[], str | None] | None = None,
    ) -> "Sampler":
        """Begin to sample. ``ask_p0`` returns the reason of a declared P0, or nothing."""
        return Sampler(self, service, counters, rules, ask_p0)


@dataclass(frozen=True, slots=True)
class Counted:
    """Answers, and 5xx among them."""

    requests: int
    errors: int


class Sampler:
    """Takes one sample after the other, and remembers what the next one is measured against.

    Sources are asked side by side, each bounded in time. One that fails or hangs is said in the
    sample and never ends the watch; one that hangs is neither waited for nor asked again until it
    has answered.
    """

    def __init__(
        self,
        metrics: Metrics,
        service: Service,
        counters: Counters | None,
        rules: WatchRules,
        ask_p0: Callable[[], str | None] | None,
    ) -> None:
        self.took: list[timedelta] = []  # of every probe that was answered
        self._metrics = metrics
        self._service = service
        self._counters = counters
        self._ask_p0 = ask_p0
        self._rules = rules
        self._last_at: datetime | None = None
        self._real_requests = 0  # between the last two samples
        self._patience = timedelta(seconds=3 * service.request_timeout_s + 1)
        self._pool = ThreadPoolExecutor(thread_name_prefix="sample")
        self._under_way: dict[str, Future[Any]] = {}
        self._taken = 0
        self._auth_failed = False
        self._counted_before = self._count([])

    def __enter__(self) -> "Sampler":
        return self

    def __exit__(self, *error: object) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)

    def sample(self, at: datetime, probes: int | None = None) -> Sample:
        """Look at everything once. ``at`` is the sample's place in time.

        ``probes`` is how many to send; by default, as many as real traffic leaves missing for a
        window that can be judged, so that they dilute the error rate of real users least.
        """
        unknown: list[str] = []
        count = probes or self._missing_probes(at)
        self._last_at = at
        check_auth = self._auth_failed or self._taken % self._metrics.auth_every == 0
        self._taken += 1
        heard = self._hear(self._questions(count, check_auth), unknown)
        sent: tuple[Probe, ...] | None = heard.get("probes")
        answered = [probe.took for probe in sent or () if probe.status]
        self.took += answered
        own_requests = 1 + count + (_AUTH_REQUESTS if check_auth else 0)
        # Counted after the probes: a probe that failed is then among the errors, if it got there.
        traffic = self._traffic(sent, own_requests, unknown)
        health, health_detail = self._health(heard)
        auth, auth_detail = _auth(heard)
        self._auth_failed = auth is False
        return Sample(
            at=at,
            health=health,
            health_detail=health_detail,
            traffic=self._labelled(traffic),
            times=_times(answered),
            auth=auth,
            auth_detail=auth_detail,
            p0=(heard["p0"] or "") if "p0" in heard else None,
            unknown=tuple(unknown),
        )

    def _missing_probes(self, at: datetime) -> int:
        """How many requests this sample lacks; more, where samples come later than planned."""
        since_last = at - self._last_at if self._last_at else timedelta()
        every = max(self._rules.every, since_last)
        needed = probes_needed(self._rules.model_copy(update={"every": every}))
        return max(self._metrics.fewest_probes, needed - self._real_requests)

    def _questions(self, count: int, check_auth: bool) -> dict[str, Callable[[], Any]]:
        def probe() -> tuple[Probe, ...]:
            path, concurrency = self._metrics.probe_path, self._metrics.concurrency
            return self._service.probe(count, path=path, concurrency=concurrency)

        questions: dict[str, Callable[[], Any]] = {"health": self._service.health, "probes": probe}
        if self._ask_p0:
            questions["p0"] = self._ask_p0
        if check_auth:
            questions["auth flow"] = self._service.auth_flow
        return questions

    def _hear(
        self, questions: Mapping[str, Callable[[], Any]], unknown: list[str]
    ) -> dict[str, Any]:
        """Ask side by side; the answers that came in time, and a sentence for each that did not."""
        hanging = {n: self._under_way.pop(n) for n in questions if n in self._under_way}
        fresh = {n: self._pool.submit(ask) for n, ask in questions.items() if n not in hanging}
        wait(fresh.values(), timeout=self._patience.total_seconds())
        heard: dict[str, Any] = {}
        for name, future in (hanging | fresh).items():
            if not future.done():
                self._under_way[name] = future
                unknown.append(f"{name}: no answer within {say_duration(self._patience)}")
                continue
            error = future.exception()
            if error is None:
                heard[name] = future.result()
            else:
                unknown.append(f"{name}: {_explain(error)}")
        return heard

    def _health(self, heard: Mapping[str, Any]) -> tuple[bool | None, str]:
        probe: Probe | None = heard.get("health")
        if probe:
            return probe.ok, probe.detail
        if "health" in self._under_way:
            return False, f"no answer within {say_duration(self._patience)}"
        return None, ""  # the check itself broke

    def _traffic(
        self, sent: Sequence[Probe] | None, own_requests: int, unknown: list[str]
    ) -> Counted | None:
        """Answers since the last sample: the router's count, or the probes where there is none."""
        failed = sum(1 for probe in sent or () if not probe.status or probe.status >= 500)
        if self._counters is None:
            return Counted(len(sent), failed) if sent is not None else None
        before, now = self._counted_before, self._count(unknown)
        self._counted_before = now
        self._real_requests = 0
        if before is None or now is None:
            return None
        counted = difference(before, now)
        if counted is None:
            unknown.append("router: its counters began again, the traffic until now is unknown")
            return None
        self._real_requests = max(0, counted.requests - own_requests)
        # A router that reaches no server answers by itself, and counts that for no server.
        unseen = max(0, failed - counted.errors)
        return Counted(counted.requests + unseen, counted.errors + unseen)

    def _labelled(self, counted: Counted | None) -> tuple[Traffic, ...]:
        if counted is None:
            return ()
        source = PROBES if self._counters is None else ROUTER
        return (Traffic(source, ALL_RELEASES, counted.requests, counted.errors),)

    def _count(self, unknown: list[str]) -> dict[str, Counted] | None:
        if self._counters is None:
            return None
        slots = self._hear({"router": self._counters.slots}, unknown).get("router")
        if slots is None:
            return None
        return {slot.name: Counted(slot.answered, slot.answered_5xx) for slot in slots}


def difference(before: Mapping[str, Counted], now: Mapping[str, Counted]) -> Counted | None:
    """What was counted between two looks; None if the counting began again in between."""
    if before.keys() != now.keys():
        return None
    grown = [
        Counted(now[name].requests - old.requests, now[name].errors - old.errors)
        for name, old in before.items()
    ]
    if any(traffic.errors < 0 or traffic.requests < traffic.errors for traffic in grown):
        return None
    return Counted(sum(t.requests for t in grown), sum(t.errors for t in grown))


def _times(answered: Sequence[timedelta]) -> tuple[Times, ...]:
    if not answered:
        return ()
    p50, p95, p99 = (percentile(answered, fraction) for fraction in (0.5, 0.95, 0.99))
    return (Times(PROBES, ALL_RELEASES, p50, p95, p99),)


def _auth(heard: Mapping[str, Any]) -> tuple[bool | None, str]:
    if "auth flow" not in heard:
        return None, ""
    check: Check | None = heard["auth flow"]
    if check is None:
        return None, AUTH_NOT_CONFIGURED
    return check.passed, "" if check.passed else check.sentence


def _explain(error: BaseException) -> str:
    """A sentence for a log: text of unknown origin may hold what must not be shown."""
    return error.what if isinstance(error, DeployError) else type(error).__name__
