"""What is measured while a release is watched, by several sources.

The router counts every answer to users; a metrics server has what the instances count themselves;
probes are requests of our own, more of them the fewer users there are.
"""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from datetime import datetime, timedelta
from functools import partial
from threading import Lock
from time import monotonic
from typing import TYPE_CHECKING, Any, Protocol

from pydantic import Field

from blocks import kinds
from blocks.metrics_source import MetricsSource
from blocks.part import Part
from blocks.prober import Prober
from blocks.service import Service
from release.configuration.rules import WatchProbe, WatchRules
from release.duration import say_duration
from release.errors import DeployError
from release.measure.counters import Growth, Looks
from release.measure.sample import Restarts
from release.measure.sampling import (
    Patience,
    compared_next,
    counted_since,
    patience_of,
    probes_missing,
    real_requests,
)
from release.model import Check, Instance, Probe
from release.watch.probing import mix_of, say_failed
from release.watch.triggers import AUTH_NOT_CONFIGURED, Sample

if TYPE_CHECKING:
    from blocks.metrics_source import MetricsServer
else:
    MetricsServer = kinds.METRICS.blocks()

Source = MetricsSource[Any]


class Engine(Protocol):
    """What knows which release each instance is of."""

    def instances(self) -> Sequence[Instance]:
        """Every instance of the service, running or not."""
        ...


class Sampled(Protocol):
    """What samples are taken of."""

    @property
    def service(self) -> Service: ...
    @property
    def router(self) -> Source | None: ...
    @property
    def orchestrator(self) -> Engine: ...


class Metrics(Part):
    """How samples are taken."""

    _block_type_name = "Ignition Metrics"

    server: MetricsServer | None = None
    """The system that keeps the instances' own counts; none: they are not read."""

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

    def counting(self, router: Source | None) -> tuple[Source, ...]:
        """The sources that count answers to others than the probes, the best one first."""
        return tuple(source for source in (router, self.server) if source is not None)

    def misses(self, service: Service, rules: WatchRules) -> tuple[str, ...]:
        """The listed probes that fail already, a sentence each: the failures would be taken for the
        release's fault."""
        if not rules.probes:
            return ()
        prober = Prober(self.mix(service, rules), self.concurrency, service, Lock())
        asked = prober.probe(sum(probe.weight for probe in rules.probes), log_in=True)
        wrong = dict.fromkeys(say_failed(one) for one in asked if one.counts and one.failed)
        fault = "which would be taken for the release's fault"
        return (*prober.left_out, *(f"probes: {each}, {fault}" for each in wrong))

    def sampler(
        self,
        target: Sampled,
        rules: WatchRules,
        ask_p0: Callable[[], str | None] | None = None,
        since: Looks | None = None,
    ) -> "Sampler":
        """Begin to sample.

        ``ask_p0`` returns the reason of a declared P0, or nothing. The orchestrator says which
        release each instance is of, so that what the router counts can be told apart by release,
        and how often each was started again. The first sample counts ``since`` an earlier sampler's
        :attr:`~Sampler.looks`; by default, since now.
        """
        return Sampler(self, target, rules, ask_p0, since or {})


class Sampler:
    """Takes one sample after the other, and remembers what the next one is measured against.

    Sources are asked side by side, each bounded in time. One that fails or hangs is named in the
    sample and never ends the watch; one that hangs is neither waited for nor asked again until it
    has answered.
    """

    def __init__(
        self,
        metrics: Metrics,
        target: Sampled,
        rules: WatchRules,
        ask_p0: Callable[[], str | None] | None,
        since: Looks,
    ) -> None:
        self._account = Lock()
        self._service, self._orchestrator = target.service, target.orchestrator
        mix = metrics.mix(self._service, rules)
        self._prober = Prober(mix, metrics.concurrency, self._service, self._account)
        self._counting = metrics.counting(target.router)
        self._metrics = metrics
        self._ask_p0 = ask_p0
        self._versions: dict[str, str] = {}  # of the instances, by name
        self._rules = rules
        self._last_at: datetime | None = None
        self._real_requests = 0  # between the last two samples
        self._until: float | None = None  # monotonic(): when a sample among others must be over
        self._patience = self._patient(in_a_hurry=False)
        self._pool = ThreadPoolExecutor(thread_name_prefix="sample")
        self._under_way: dict[str, Future[Any]] = {}
        self._taken = 0
        self._auth_failed = False
        self._before: dict[str, Any] = {self._prober.name: self._prober.look()}  # by source
        for source in self._counting:
            self._before[source.name] = since.get(source.name) or self._look_at(source, [])

    def __enter__(self) -> "Sampler":
        return self

    def __exit__(self, *error: object) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)

    @property
    def mix(self) -> tuple[WatchProbe, ...]:
        """What probes ask for."""
        return self._prober.mix

    @property
    def took(self) -> tuple[timedelta, ...]:
        """How long each answered probe took."""
        return self._prober.look().took

    @property
    def looks(self) -> Looks:
        """What the counters stood at last, for another sampler: its probes are its own."""
        stood = {source.name: self._before[source.name] for source in self._counting}
        return {name: look for name, look in stood.items() if look is not None}

    def sample(self, at: datetime, probes: int | None = None) -> Sample:
        """Look at everything once. ``at`` is the sample's place in time.

        ``probes`` is how many to send; by default, as many as real traffic leaves missing for a
        window that can be judged. With a number it is a sample by itself, which is in no hurry.
        """
        unknown: list[str] = []
        self._patience = self._patient(in_a_hurry=probes is None)
        in_all = self._patience.in_all
        self._until = monotonic() + in_all.total_seconds() if in_all is not None else None
        count = probes or self._missing_probes(at)
        self._last_at = at
        check_auth = self._auth_failed or self._taken % self._metrics.auth_every == 0
        self._taken += 1
        together = self._patience.together
        heard = self._hear(self._questions(count, check_auth), unknown, together)
        unknown += self._prober.left_out
        restarts = self._restarts(unknown)
        # Counted after the probes: one that failed is then among the errors, if it got there.
        grown = [self._count(source, unknown) for source in (*self._counting, self._prober)]
        traffic = tuple(one for growth in grown for one in growth.traffic)
        own_requests = 1 + count + self._prober.logins
        own_requests += self._service.auth_requests if check_auth else 0
        users = [source.name for source in self._counting]
        self._real_requests = real_requests(traffic, users, own_requests)
        health, health_detail = self._health(heard, together)
        auth, auth_detail = _auth(heard)
        self._auth_failed = auth is False
        return Sample(
            at=at,
            health=health,
            health_detail=health_detail,
            traffic=traffic,
            times=tuple(one for growth in grown for one in growth.times),
            auth=auth,
            auth_detail=auth_detail,
            p0=(heard["p0"] or "") if "p0" in heard else None,
            restarts=restarts,
            unknown=tuple(unknown),
        )

    def _missing_probes(self, at: datetime) -> int:
        since_last = at - self._last_at if self._last_at else timedelta()
        fewest = self._metrics.fewest_probes
        return probes_missing(self._rules, since_last, self._real_requests, fewest)

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
        patience: timedelta,
    ) -> dict[str, Any]:
        """Ask side by side; the answers that came in time, and a sentence for each that did not."""
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

    def _count(self, source: Source, unknown: list[str]) -> Growth:
        """What a source has counted since the last sample."""
        before, now = self._before[source.name], self._look_at(source, unknown)
        seen = source.remember(before, now) if now is not None else None
        self._before[source.name] = compared_next(before, seen, counts_on=source.counts_on)
        grown = counted_since(before, now, partial(source.growth, versions=self._versions))
        if grown.unknown:
            unknown.append(f"{source.name}: {grown.unknown}")
        return grown

    def _look_at(self, source: Source, unknown: list[str]) -> Any:
        """What a source has counted until now. If it cannot be seen, returns None and says so in
        ``unknown``."""
        if source is self._prober:  # they were just asked, and their count is here
            return source.look()
        patience = self._patience.kept if source.counts_on else self._patience.lost
        return self._hear({source.name: source.look}, unknown, patience).get(source.name)

    def _patient(self, *, in_a_hurry: bool) -> Patience:
        timeout = timedelta(seconds=self._service.request_timeout_s)
        return patience_of(self._rules, timeout, in_a_hurry=in_a_hurry)

    def _restarts(self, unknown: list[str]) -> tuple[Restarts, ...] | None:
        """How often each instance was started again; and what release each is of, for the router's
        counters."""
        question = {"orchestrator": self._orchestrator.instances}
        found = self._hear(question, unknown, self._patience.kept).get("orchestrator")
        if found is None:
            return None
        self._versions |= {instance.name: instance.version for instance in found}
        return tuple(Restarts(one.name, one.version, one.restarts) for one in found)


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
