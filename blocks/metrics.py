"""What is measured while a release is watched, by several sources.

The router counts all that users were answered; Prometheus has what the instances count themselves;
probes are requests of our own, more of them the fewer users there are.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from datetime import datetime, timedelta
from functools import partial
from threading import Lock
from time import monotonic
from typing import Any, Protocol

from pydantic import Field

from blocks.part import Part
from blocks.prober import Prober
from blocks.prometheus import Prometheus
from blocks.service import Service
from release.configuration.rules import WatchProbe, WatchRules
from release.duration import say_duration
from release.errors import DeployError
from release.measure.counters import (
    Growth,
    Look,
    Looks,
    RouterLook,
    growth,
    remember,
    router_growth,
)
from release.measure.sample import Restarts
from release.measure.traffic import ALL_RELEASES, PROBES, PROMETHEUS, ROUTER, Times, Traffic
from release.model import Check, Instance, Probe
from release.watch.probing import TOO_MANY, Asked, mix_of, probes_needed, say_failed
from release.watch.triggers import AUTH_NOT_CONFIGURED, Sample, percentile

_OF_A_GAP = 0.9  # fraction of what two samples may be apart, less the pause between them
_OF_A_SAMPLE = 2 / 3  # for all that is asked side by side; what counts is asked afterwards
_FIRST_LOOK = "counters seen for the first time, the traffic until now is unknown"


class Counters(Protocol):
    """Something that counts answers: the router."""

    def look(self) -> RouterLook:
        """What it has counted since it started, in all and slot by slot."""
        ...


class Metrics(Part):
    """How samples are taken."""

    _block_type_name = "Ignition Metrics"

    prometheus: Prometheus | None = Field(
        default=None, description="What the instances count themselves; none: it is not asked."
    )
    fewest_probes: int = Field(
        default=3, ge=1, description="Probes of each sample, however busy the service is."
    )
    concurrency: int = Field(default=8, ge=1, le=50, description="Probes under way at a time.")
    auth_every: int = Field(
        default=4, ge=1, description="The auth flow is checked with every n-th sample."
    )

    def mix(self, service: Service, rules: WatchRules) -> tuple[WatchProbe, ...]:
        """What probes ask a service for."""
        protected = service.auth.protected_path if service.auth.configured else ""
        return mix_of(rules.probes, service.health_path, service.version_path, protected)

    def counting(self, counters: Counters | None) -> frozenset[str]:
        """The sources that count what others than the probes are answered."""
        found = {ROUTER: counters, PROMETHEUS: self.prometheus}
        return frozenset(source for source, counts in found.items() if counts is not None)

    def misses(self, service: Service, rules: WatchRules) -> tuple[str, ...]:
        """What the listed probes ask for in vain already, a sentence each: it would be taken for
        the fault of the release."""
        if not rules.probes:
            return ()
        prober = Prober(self.mix(service, rules), self.concurrency, service, Lock())
        asked = prober.probe(sum(probe.weight for probe in rules.probes), log_in=True)
        wrong = dict.fromkeys(say_failed(one) for one in asked if one.counts and one.failed)
        fault = "which would be taken for the release's fault"
        return (*prober.left_out, *(f"probes: {each}, {fault}" for each in wrong))

    def sampler(
        self,
        service: Service,
        counters: Counters | None,
        rules: WatchRules,
        ask_p0: Callable[[], str | None] | None = None,
        instances: Callable[[], Iterable[Instance]] | None = None,
        since: Looks | None = None,
    ) -> "Sampler":
        """Begin to sample.

        ``ask_p0`` returns the reason of a declared P0, or nothing. ``instances`` says which release
        each instance is of, so that what the router counts can be told apart by release, and how
        often each was started again. The first sample counts ``since`` an earlier sampler's
        :attr:`~Sampler.looks`; by default, since now.
        """
        return Sampler(self, service, counters, rules, ask_p0, instances, since or Looks())


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
        instances: Callable[[], Iterable[Instance]] | None,
        since: Looks,
    ) -> None:
        self.took: list[timedelta] = []  # of every probe that was answered
        self._account = Lock()
        mix = metrics.mix(service, rules)
        self._prober = Prober(mix, metrics.concurrency, service, self._account)
        self._metrics = metrics
        self._service = service
        self._counters = counters
        self._ask_p0 = ask_p0
        self._instances = instances
        self._versions: dict[str, str] = {}  # of the instances, by name
        self._rules = rules
        self._last_at: datetime | None = None
        self._real_requests = 0  # between the last two samples
        self._patience = timedelta(seconds=3 * service.request_timeout_s + 1)
        # A sample that took longer would leave a gap, which ends a breach: a service that hangs
        # would never be judged.
        self._longest = _OF_A_GAP * (rules.longest_gap - rules.every)
        self._until: float | None = None  # monotonic(): when a sample among others has to be over
        # For what is as good at the next sample: no other source waits for it.
        self._short_patience = rules.every / 2
        self._pool = ThreadPoolExecutor(thread_name_prefix="sample")
        self._under_way: dict[str, Future[Any]] = {}
        self._taken = 0
        self._auth_failed = False
        self._router_before = since.router or self._look_at_router([])
        self._prometheus_before = since.prometheus or self._look_at_prometheus([])

    def __enter__(self) -> "Sampler":
        return self

    def __exit__(self, *error: object) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)

    @property
    def mix(self) -> tuple[WatchProbe, ...]:
        """What probes ask for."""
        return self._prober.mix

    @property
    def looks(self) -> Looks:
        """What the counters stood at last."""
        return Looks(self._router_before, self._prometheus_before)

    def sample(self, at: datetime, probes: int | None = None) -> Sample:
        """Look at everything once. ``at`` is the sample's place in time.

        ``probes`` is how many to send; by default, as many as real traffic leaves missing for a
        window that can be judged, so that they dilute the error rate of real users least. With a
        number it is a sample by itself, which is in no hurry.
        """
        unknown: list[str] = []
        self._until = monotonic() + self._longest.total_seconds() if probes is None else None
        count = probes or self._missing_probes(at)
        self._last_at = at
        check_auth = self._auth_failed or self._taken % self._metrics.auth_every == 0
        self._taken += 1
        patience = self._patience
        if self._until is not None:
            patience = min(patience, self._longest * _OF_A_SAMPLE)
        heard = self._hear(self._questions(count, check_auth), unknown, patience)
        sent: tuple[Asked, ...] = heard.get("probes", ())
        unknown += (*self._prober.left_out, *_not_counted(sent))
        answered = [one.answer.took for one in sent if one.answer.status]
        self.took += answered
        restarts = self._restarts(unknown)
        # Counted after the probes: one that failed is then among the errors, if it got there.
        by_router, by_prometheus = self._by_router(unknown), self._by_prometheus(unknown)
        own_requests = 1 + count + self._prober.logins
        own_requests += self._service.auth_requests if check_auth else 0
        self._real_requests = _real(by_router or by_prometheus.traffic, own_requests)
        health, health_detail = self._health(heard, patience)
        auth, auth_detail = _auth(heard)
        self._auth_failed = auth is False
        return Sample(
            at=at,
            health=health,
            health_detail=health_detail,
            traffic=(*by_router, *_by_probes(sent), *by_prometheus.traffic),
            times=(*_times(answered), *by_prometheus.times),
            auth=auth,
            auth_detail=auth_detail,
            p0=(heard["p0"] or "") if "p0" in heard else None,
            restarts=restarts,
            unknown=tuple(unknown),
        )

    def _missing_probes(self, at: datetime) -> int:
        """How many requests this sample lacks; more, where samples come later than planned."""
        since_last = at - self._last_at if self._last_at else timedelta()
        every = max(self._rules.every, since_last)
        needed = probes_needed(self._rules.model_copy(update={"every": every}))
        return max(self._metrics.fewest_probes, needed - self._real_requests)

    def _questions(self, count: int, check_auth: bool) -> dict[str, Callable[[], Any]]:
        questions: dict[str, Callable[[], Any]] = {
            "health": self._service.health,
            "probes": partial(self._prober.probe, count, log_in=check_auth),
        }
        if self._ask_p0:
            questions["p0"] = self._ask_p0
        if check_auth:
            questions["auth flow"] = self._check_auth
        return questions

    def _check_auth(self) -> Check | None:
        """Go through the auth flow while no probe logs in: it would be blamed on the release."""
        with self._account:
            return self._service.auth_flow()

    def _hear(
        self,
        questions: Mapping[str, Callable[[], Any]],
        unknown: list[str],
        patience: timedelta | None = None,
    ) -> dict[str, Any]:
        """Ask side by side; the answers that came in time, and a sentence for each that did not."""
        patience = self._patience if patience is None else patience
        if self._until is not None:
            patience = max(timedelta(), min(patience, timedelta(seconds=self._until - monotonic())))
        hanging = {n: self._under_way.pop(n) for n in questions if n in self._under_way}
        fresh = {n: self._pool.submit(ask) for n, ask in questions.items() if n not in hanging}
        wait(fresh.values(), timeout=patience.total_seconds())
        heard: dict[str, Any] = {}
        for name, future in (hanging | fresh).items():
            if not future.done():
                self._under_way[name] = future
                unknown.append(f"{name}: no answer within {say_duration(patience)}")
                continue
            error = future.exception()
            if error is None:
                heard[name] = future.result()
            else:
                unknown.append(f"{name}: {_explain(error)}")
        return heard

    def _health(self, heard: Mapping[str, Any], patience: timedelta) -> tuple[bool | None, str]:
        probe: Probe | None = heard.get("health")
        if probe:
            return probe.ok, probe.detail
        if "health" in self._under_way:
            return False, f"no answer within {say_duration(patience)}"
        return None, ""  # the check itself broke

    def _by_router(self, unknown: list[str]) -> tuple[Traffic, ...]:
        """Answers since the last sample, of all releases together and of each."""
        before, now = self._router_before, self._look_at_router(unknown)
        self._router_before = now
        if now is None:
            return ()
        if before is None:
            unknown.append(f"router: {_FIRST_LOOK}")
            return ()
        grown = router_growth(before, now, self._versions)
        if grown is None:
            unknown.append("router: its counters began again, the traffic until now is unknown")
        return grown or ()

    def _by_prometheus(self, unknown: list[str]) -> Growth:
        """The same as the instances count it, as of their last scrapes, with answer times."""
        before, now = self._prometheus_before, self._look_at_prometheus(unknown)
        if now is None or self._metrics.prometheus is None:
            return Growth()
        # What it could not say for a while is not lost: it counts for the sample that hears it.
        self._prometheus_before = remember(before, now)
        if before is None:
            unknown.append(f"prometheus: {_FIRST_LOOK}")
            return Growth()
        grown = growth(before, now, self._metrics.prometheus.release_label)
        if grown.unknown:
            unknown.append(f"prometheus: {grown.unknown}")
        return grown

    def _look_at_router(self, unknown: list[str]) -> RouterLook | None:
        if self._counters is None:
            return None
        return self._hear({"router": self._counters.look}, unknown).get("router")

    def _look_at_prometheus(self, unknown: list[str]) -> Look | None:
        if self._metrics.prometheus is None:
            return None
        question = {"prometheus": self._metrics.prometheus.look}
        return self._hear(question, unknown, self._short_patience).get("prometheus")

    def _restarts(self, unknown: list[str]) -> tuple[Restarts, ...] | None:
        """How often each instance was started again; and what release each is of, for the router's
        counters."""
        if self._instances is None:
            return None
        instances = self._instances
        question = {"orchestrator": lambda: tuple(instances())}
        found = self._hear(question, unknown, self._short_patience).get("orchestrator")
        if found is None:
            return None
        self._versions |= {instance.name: instance.version for instance in found}
        return tuple(Restarts(one.name, one.version, one.restarts) for one in found)


def _not_counted(sent: Sequence[Asked]) -> tuple[str, ...]:
    too_many = f"probes: some are answered HTTP {TOO_MANY}, and are not counted"
    return () if all(one.counts for one in sent) else (too_many,)


def _by_probes(sent: Sequence[Asked]) -> tuple[Traffic, ...]:
    counted = [one for one in sent if one.counts]
    failed = sum(1 for one in counted if one.failed)
    return (Traffic(PROBES, ALL_RELEASES, len(counted), failed),) if counted else ()


def _real(counted: Sequence[Traffic], own_requests: int) -> int:
    """How many of the counted requests were not our own."""
    whole = sum(traffic.requests for traffic in counted if traffic.release == ALL_RELEASES)
    return max(0, whole - own_requests)


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
