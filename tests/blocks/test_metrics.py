"""Samples from a real server and from a router that counts, stands still, or begins again."""

import itertools
import json
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import SecretStr
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from blocks.auth import AuthFlow, Session
from blocks.metrics import Metrics, Sampler, Source
from blocks.metrics_source import MetricsSource
from blocks.prometheus import Prometheus
from blocks.service import Service
from release.configuration.rules import WatchProbe, WatchRules
from release.errors import Unreachable
from release.measure.counters import Growth, RouterLook, router_growth
from release.measure.sample import Restarts
from release.measure.sampling import probes_needed
from release.measure.slot import Slot
from release.measure.tally import Tally
from release.measure.traffic import ALL_RELEASES, PROBES, ROUTER
from release.model import Check, Instance
from release.watch.triggers import AUTH_NOT_CONFIGURED, Sample
from tests.fakes.samples import PROMETHEUS

AT = datetime(2026, 1, 8, 2, 14, tzinfo=UTC)
RULES = WatchRules(length=timedelta(minutes=1), every=timedelta(seconds=15))  # 34 probes a tick
NEEDED = probes_needed(RULES)


def counts(sample: Sample, source: str = PROBES, release: str = ALL_RELEASES) -> tuple[int, int]:
    """Requests and errors that a source has counted."""
    (traffic,) = (t for t in sample.traffic if (t.source, t.release) == (source, release))
    return traffic.requests, traffic.errors


def probing(*paths: str) -> WatchRules:
    """Rules that list what probes ask for."""
    return RULES.model_copy(update={"probes": tuple(WatchProbe(path=path) for path in paths)})


def sources(sample: Sample) -> list[tuple[str, str]]:
    return [(traffic.source, traffic.release) for traffic in sample.traffic]


class Router(MetricsSource[RouterLook]):
    """A router whose counters a test sets: what slot 1's instance answered, and all."""

    name = ROUTER
    counts_on = False

    def __init__(self) -> None:
        self.answered = 1000
        self.errors = 10
        self.own_errors = 0  # 503s that no instance gave
        self.instances = ["api-1", ""]
        self.down = False
        self.answers = threading.Event()
        self.answers.set()

    def look(self) -> RouterLook:
        self.answers.wait(30)
        if self.down:
            raise Unreachable("HAProxy does not answer at its admin socket")
        first, second = self.instances
        busy = Slot("api1", first, answered=self.answered, answered_5xx=self.errors)
        whole = Tally(self.answered + self.own_errors, self.errors + self.own_errors)
        return RouterLook(whole, (busy, Slot("api2", second)))

    def growth(self, before: RouterLook, now: RouterLook, versions: Mapping[str, str]) -> Growth:
        return router_growth(before, now, versions)


class Engine:
    """An orchestrator that knows which release an instance is of."""

    def __init__(self, **versions: str) -> None:
        self.versions = versions
        self.restarts = 0
        self.down = False

    def instances(self) -> list[Instance]:
        if self.down:
            raise Unreachable("the engine does not answer")
        return [
            Instance(
                "id",
                name.replace("_", "-"),
                "",
                None,
                version,
                "",
                "running",
                "healthy",
                restarts=self.restarts,
            )
            for name, version in self.versions.items()
        ]


@dataclass
class Place:
    """What samples are taken of."""

    service: Service
    router: Source | None = None
    orchestrator: Any = field(default_factory=lambda: Engine())


@pytest.fixture
def service(httpserver: HTTPServer) -> Service:
    httpserver.expect_request("/health").respond_with_data("ok")
    httpserver.expect_request("/api/").respond_with_json({"version": "v1.2.3"})
    return Service(url=httpserver.url_for(""), request_timeout_s=2)


@pytest.fixture
def sampler_of(service: Service) -> Iterator[Callable[..., Sampler]]:
    samplers: list[Sampler] = []

    def make(
        counters: Source | None = None,
        ask_p0: Callable[[], str | None] | None = None,
        engine: Engine | None = None,
    ) -> Sampler:
        place = Place(service, counters, engine or Engine())
        samplers.append(Metrics().sampler(place, RULES, ask_p0))
        return samplers[-1]

    yield make
    for sampler in samplers:
        sampler.__exit__()


class TestSinceAnEarlierLook:
    """The baseline: what was counted between the plan and the cutover, minutes or hours later."""

    def test_counts_all_that_came_since(self, service: Service) -> None:
        router = Router()
        with Metrics().sampler(Place(service, router), RULES) as plan:
            plan.sample(AT)
            looks = plan.looks
        router.answered, router.errors = 31_000, 40
        with Metrics().sampler(Place(service, router), RULES, since=looks) as cutover:
            sample = cutover.sample(AT)

        assert counts(sample, ROUTER) == (30_000, 30)

    def test_is_unknown_where_the_counters_began_again(self, service: Service) -> None:
        router = Router()
        with Metrics().sampler(Place(service, router), RULES) as plan:
            looks = plan.looks
        router.answered, router.errors = 40, 0
        with Metrics().sampler(Place(service, router), RULES, since=looks) as cutover:
            sample = cutover.sample(AT)

        assert [traffic.source for traffic in sample.traffic] == [PROBES]
        assert sample.unknown == (
            "router: its counters began again, so the traffic until now is unknown",
        )

    def test_is_since_now_for_a_source_that_could_not_be_seen_then(self, service: Service) -> None:
        router = Router()
        router.down = True
        with Metrics().sampler(Place(service, router), RULES) as plan:
            looks = plan.looks
        router.down = False
        with Metrics().sampler(Place(service, router), RULES, since=looks) as cutover:
            router.answered += 7
            sample = cutover.sample(AT)

        assert counts(sample, ROUTER) == (7, 0)


class TestWithoutRouter:
    def test_probes_are_the_traffic(self, sampler_of: Callable[..., Sampler]) -> None:
        sample = sampler_of().sample(AT)
        assert sample.at == AT
        assert sample.health is True
        assert counts(sample) == (NEEDED, 0)
        (times,) = sample.times
        assert times.p95 is not None
        assert times.p95 < timedelta(seconds=2)
        assert sample.unknown == ()

    def test_what_is_not_answered_as_expected_is_an_error(self, httpserver: HTTPServer) -> None:
        """A 404 where a page is expected is none of its users' either."""
        statuses = iter([200, 204, 404, 503] * 10)
        lock = threading.Lock()

        def answer(request: Request) -> Response:
            with lock:
                return Response(status=next(statuses))

        httpserver.expect_request("/mixed").respond_with_handler(answer)
        service = Service(url=httpserver.url_for(""))
        with Metrics().sampler(Place(service), probing("/mixed")) as sampler:
            sample = sampler.sample(AT, probes=8)
        assert counts(sample) == (8, 4)

    def test_too_many_requests_say_nothing_of_a_release(self, httpserver: HTTPServer) -> None:
        """Ours are what is too many: a release is not rolled back for that."""
        statuses = itertools.cycle([200, 429])

        def answer(request: Request) -> Response:
            return Response(status=next(statuses))

        httpserver.expect_request("/limited").respond_with_handler(answer)
        service = Service(url=httpserver.url_for(""))
        with Metrics(concurrency=1).sampler(Place(service), probing("/limited")) as sampler:
            sample = sampler.sample(AT, probes=8)
        assert counts(sample) == (4, 0)
        assert "probes: some are answered HTTP 429, and are not counted" in sample.unknown

    def test_a_service_that_is_down_is_unhealthy_and_full_of_errors(self) -> None:
        service = Service(url="http://127.0.0.1:9")
        with Metrics().sampler(Place(service), RULES) as sampler:
            sample = sampler.sample(AT)
        assert (sample.health, sample.health_detail) == (False, "Connection refused")
        assert counts(sample) == (NEEDED, NEEDED)
        assert sample.times == ()

    def test_a_late_sample_sends_more_so_that_windows_are_filled(
        self, sampler_of: Callable[..., Sampler]
    ) -> None:
        sampler = sampler_of()
        assert counts(sampler.sample(AT))[0] == 34
        assert counts(sampler.sample(AT + timedelta(seconds=15)))[0] == 34
        assert counts(sampler.sample(AT + timedelta(seconds=35)))[0] == 50
        assert counts(sampler.sample(AT + timedelta(seconds=50)))[0] == 34


class Shop:
    """A service with a login, and a page for those who are logged in."""

    def __init__(self, server: HTTPServer) -> None:
        self.good = {"first"}  # tokens
        self.logins = 0
        self.me = itertools.cycle([200])  # what the page answers
        self.login_status = 200
        self.lock = threading.Lock()
        server.expect_request("/health").respond_with_data("ok")
        server.expect_request("/api/").respond_with_json({"version": "v1.2.3"})
        server.expect_request("/api/login").respond_with_handler(self._login)
        server.expect_request("/api/me").respond_with_handler(self._me)
        auth = AuthFlow(username="check", password=SecretStr("correct-horse"))
        self.service = Service(url=server.url_for(""), request_timeout_s=2, auth=auth)

    def _login(self, request: Request) -> Response:
        with self.lock:
            self.logins += 1
            token = {"token": sorted(self.good)[0]} if self.good else {}
        return Response(json.dumps(token), status=self.login_status)

    def _me(self, request: Request) -> Response:
        with self.lock:
            known = request.headers.get("Authorization", "").removeprefix("Bearer ") in self.good
            return Response(status=next(self.me) if known else 401)


@pytest.fixture
def shop(httpserver: HTTPServer) -> Shop:
    return Shop(httpserver)


class TestWhatProbesAskFor:
    def test_a_release_that_fails_a_fifth_of_what_users_do_is_seen(self, shop: Shop) -> None:
        """It was deployed with "0.0% of 357 requests": health and version are always good."""
        shop.me = itertools.cycle([200, 200, 200, 200, 500])
        with Metrics().sampler(Place(shop.service), RULES) as sampler:
            sample = sampler.sample(AT, probes=200)
        requests, errors = counts(sample)
        assert requests == 200
        assert 19 <= errors <= 20  # the auth flow asks for the page as well
        assert sample.health is True
        assert [probe.name for probe in sampler.mix] == ["GET /health", "GET /api/", "GET /api/me"]

    def test_one_session_serves_for_many_samples(self, shop: Shop) -> None:
        """A service that takes only some logins a minute is not asked for more than the flow's."""
        with Metrics(auth_every=100).sampler(Place(shop.service), RULES) as sampler:
            seen = [sampler.sample(AT + timedelta(seconds=15 * n)) for n in range(3)]
        assert [counts(sample)[1] for sample in seen] == [0, 0, 0]
        assert shop.logins == 2  # one of them is the auth flow's

    def test_a_session_that_has_ended_is_renewed_and_no_error(self, shop: Shop) -> None:
        with Metrics(auth_every=100).sampler(Place(shop.service), RULES) as sampler:
            sampler.sample(AT)
            shop.good = {"second"}
            sample = sampler.sample(AT + timedelta(seconds=15))
        assert counts(sample) == (NEEDED, 0)
        assert shop.logins == 3

    def test_no_probe_logs_in_while_the_auth_flow_is_checked(
        self, shop: Shop, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Where an account has one session alone, the release would be blamed for a lost one."""
        checks, log_in = Service.auth_flow, Service.log_in
        begun, another = threading.Event(), threading.Event()
        under_way: list[bool] = []

        def auth_flow(self: Service) -> Check | None:
            begun.set()
            another.wait(0.5)
            found = checks(self)
            begun.clear()
            return found

        def watched(self: Service) -> Session | None:
            begun.wait(0.5)
            under_way.append(begun.is_set())
            another.set()
            return log_in(self)

        monkeypatch.setattr(Service, "auth_flow", auth_flow)
        monkeypatch.setattr(Service, "log_in", watched)
        with Metrics().sampler(Place(shop.service), RULES) as sampler:
            sample = sampler.sample(AT, probes=20)
        assert under_way == [False]
        assert (sample.auth, counts(sample)) == (True, (20, 0))

    def test_a_page_that_refuses_every_session_fails(self, shop: Shop) -> None:
        shop.me = itertools.cycle([403])
        with Metrics().sampler(Place(shop.service), RULES) as sampler:
            sample = sampler.sample(AT, probes=20)
        assert counts(sample) == (20, 10)

    @pytest.mark.parametrize(
        ("status", "why"),
        [
            (500, "because the login gave no session"),
            (429, "because login answers HTTP 429, so the auth flow could not be judged"),
        ],
    )
    def test_without_a_session_the_other_pages_are_asked_and_it_is_said(
        self, shop: Shop, status: int, why: str
    ) -> None:
        """That nobody can log in is the auth flow's to say."""
        shop.login_status = status
        with Metrics().sampler(Place(shop.service), RULES) as sampler:
            sample = sampler.sample(AT, probes=20)
        assert counts(sample) == (20, 0)
        assert f"probes: GET /api/me not asked, {why}" in sample.unknown

    def test_what_is_listed_is_asked_by_method_weight_and_status(
        self, httpserver: HTTPServer
    ) -> None:
        httpserver.expect_request("/search", method="POST").respond_with_data("", status=202)
        httpserver.expect_request("/gone").respond_with_data("", status=410)
        listed = (
            WatchProbe(path="/search", method="POST", weight=3, expect=(202,)),
            WatchProbe(path="/gone", expect=(410,)),
        )
        rules = RULES.model_copy(update={"probes": listed})
        service = Service(url=httpserver.url_for(""))
        with Metrics().sampler(Place(service), rules) as sampler:
            sample = sampler.sample(AT, probes=8)
        assert counts(sample) == (8, 0)
        asked = [(r.method, r.path) for r, _ in httpserver.log if r.path != "/health"]
        assert (asked.count(("POST", "/search")), asked.count(("GET", "/gone"))) == (6, 2)

    def test_what_is_listed_and_not_there_is_said_before_a_release_is_blamed(
        self, httpserver: HTTPServer
    ) -> None:
        httpserver.expect_request("/there").respond_with_data("")
        service = Service(url=httpserver.url_for(""))
        httpserver.expect_request("/typo").respond_with_data("", status=404)
        assert Metrics().misses(service, probing("/there", "/typo")) == (
            "probes: GET /typo answers HTTP 404, expected 200 to 299, which would be taken for the "
            "release's fault",
        )
        assert Metrics().misses(service, probing("/there")) == ()

    def test_who_counts_beside_the_probes_is_known(self) -> None:
        prometheus = Prometheus(
            url="http://127.0.0.1:9", environment="production", requests="r", errors="e"
        )
        assert Metrics().counting(None) == ()
        counting = Metrics(server=prometheus).counting(Router())
        assert [source.name for source in counting] == [ROUTER, PROMETHEUS]


class TestWithRouter:
    def test_its_counters_are_the_traffic(self, sampler_of: Callable[..., Sampler]) -> None:
        router = Router()
        sampler = sampler_of(router)
        router.answered, router.errors = 1500, 12
        sample = sampler.sample(AT)
        assert counts(sample, ROUTER) == (500, 2)
        sample = sampler.sample(AT)
        assert counts(sample, ROUTER) == (0, 0)

    def test_real_traffic_makes_probes_unnecessary(
        self, sampler_of: Callable[..., Sampler], httpserver: HTTPServer
    ) -> None:
        router = Router()
        sampler = sampler_of(router)
        router.answered += 1000
        sampler.sample(AT)
        sent = len(httpserver.log)
        sampler.sample(AT)
        assert len(httpserver.log) - sent == Metrics().fewest_probes + 1  # and the health check

    def test_probes_add_what_is_missing(
        self, sampler_of: Callable[..., Sampler], httpserver: HTTPServer
    ) -> None:
        router = Router()
        sampler = sampler_of(router)
        own = NEEDED + 1  # probes and the health check
        router.answered += own + 10
        sampler.sample(AT)
        sent = len(httpserver.log)
        sampler.sample(AT)
        assert len(httpserver.log) - sent == NEEDED - 10 + 1

    def test_a_router_that_began_again_leaves_the_traffic_unknown_once(
        self, sampler_of: Callable[..., Sampler]
    ) -> None:
        router = Router()
        sampler = sampler_of(router)
        router.answered, router.errors = 50, 0
        sample = sampler.sample(AT)
        assert sources(sample) == [(PROBES, ALL_RELEASES)]
        assert sample.unknown == (
            "router: its counters began again, so the traffic until now is unknown",
        )
        router.answered = 80
        assert counts(sampler.sample(AT), ROUTER)[0] == 30

    def test_a_router_that_is_down_is_said_and_nothing_else_suffers(
        self, sampler_of: Callable[..., Sampler]
    ) -> None:
        router = Router()
        sampler = sampler_of(router)
        router.down = True
        sample = sampler.sample(AT)
        assert (sample.health, sources(sample)) == (True, [(PROBES, ALL_RELEASES)])
        assert sample.unknown == ("router: HAProxy does not answer at its admin socket",)
        router.down = False
        assert sources(sampler.sample(AT)) == [(PROBES, ALL_RELEASES)]  # nothing to compare with
        router.answered += 7
        assert counts(sampler.sample(AT), ROUTER)[0] == 7

    def test_answers_of_the_router_itself_are_errors_too(
        self, sampler_of: Callable[..., Sampler]
    ) -> None:
        """A router without any server that is up answers 503, and no server counts that."""
        router = Router()
        sampler = sampler_of(router)
        router.own_errors = 300
        assert counts(sampler.sample(AT), ROUTER) == (300, 300)

    def test_probes_are_a_source_of_their_own(self) -> None:
        """Users may be answered by a router that the probes do not even reach."""
        service = Service(url="http://127.0.0.1:9")
        with Metrics().sampler(Place(service, Router()), RULES) as sampler:
            sample = sampler.sample(AT)
        assert counts(sample, ROUTER) == (0, 0)
        assert counts(sample, PROBES) == (NEEDED, NEEDED)


class TestByRelease:
    def test_the_router_counts_what_each_release_answers(
        self, sampler_of: Callable[..., Sampler]
    ) -> None:
        router, engine = Router(), Engine(api_1="v1.1.0")
        sampler = sampler_of(router, engine=engine)
        router.answered, router.errors, router.own_errors = 1100, 16, 4
        sample = sampler.sample(AT)
        assert counts(sample, ROUTER) == (104, 10)
        assert counts(sample, ROUTER, "v1.1.0") == (100, 6)

    def test_an_instance_that_is_new_is_counted_from_then_on(
        self, sampler_of: Callable[..., Sampler]
    ) -> None:
        router, engine = Router(), Engine(api_1="v1.0.0", api_2="v1.1.0")
        sampler = sampler_of(router, engine=engine)
        sampler.sample(AT)
        router.instances = ["api-1", "api-2"]
        sampler.sample(AT)
        assert sources(sampler.sample(AT)) == [
            (ROUTER, ALL_RELEASES),
            (ROUTER, "v1.0.0"),
            (ROUTER, "v1.1.0"),
            (PROBES, ALL_RELEASES),
        ]

    def test_each_sample_says_how_often_an_instance_was_started_again(
        self, sampler_of: Callable[..., Sampler]
    ) -> None:
        engine = Engine(api_1="v1.1.0")
        sampler = sampler_of(Router(), engine=engine)
        assert sampler.sample(AT).restarts == (Restarts("api-1", "v1.1.0", 0),)
        engine.restarts = 1
        assert sampler.sample(AT).restarts == (Restarts("api-1", "v1.1.0", 1),)
        engine.down = True
        assert sampler.sample(AT).restarts is None

    def test_an_engine_that_is_down_leaves_the_whole(
        self, sampler_of: Callable[..., Sampler]
    ) -> None:
        engine = Engine(api_1="v1.1.0")
        engine.down = True
        sampler = sampler_of(Router(), engine=engine)
        sample = sampler.sample(AT)
        assert sources(sample) == [(ROUTER, ALL_RELEASES), (PROBES, ALL_RELEASES)]
        assert sample.unknown == ("orchestrator: the engine does not answer",)


class TestWithPrometheus:
    """Its answers are those of a server that speaks its API; tests/blocks/test_prometheus.py has
    the real one."""

    @pytest.fixture
    def prometheus(self) -> Iterator["Answers"]:
        with HTTPServer(threaded=True) as server:
            yield Answers(server)

    def test_what_the_instances_count_is_a_source_with_answer_times(
        self, service: Service, prometheus: "Answers"
    ) -> None:
        prometheus.counts = (1000, 10)
        with Metrics(server=prometheus.block).sampler(Place(service), RULES) as sampler:
            prometheus.counts = (1200, 40)
            sample = sampler.sample(AT)
        assert counts(sample, PROMETHEUS) == (200, 30)
        assert counts(sample, PROMETHEUS, "v1.1.0") == (200, 30)
        assert {times.source for times in sample.times} == {PROBES, PROMETHEUS}

    def test_users_that_only_it_can_see_make_probes_unnecessary(
        self, service: Service, prometheus: "Answers"
    ) -> None:
        with Metrics(server=prometheus.block).sampler(Place(service), RULES) as sampler:
            prometheus.counts = (1000, 0)
            sampler.sample(AT)
            sample = sampler.sample(AT)
        assert counts(sample, PROBES)[0] == Metrics().fewest_probes

    def test_one_that_is_down_is_said_and_nothing_else_suffers(
        self, service: Service, prometheus: "Answers"
    ) -> None:
        prometheus.status = 503
        with Metrics(server=prometheus.block).sampler(Place(service, Router()), RULES) as sampler:
            sample = sampler.sample(AT)
            assert sample.health is True
            assert sources(sample) == [(ROUTER, ALL_RELEASES), (PROBES, ALL_RELEASES)]
            (sentence,) = sample.unknown
            assert sentence.startswith("prometheus: Prometheus at http://")
            assert sentence.endswith(" answers HTTP 503")

    def test_what_was_counted_while_it_was_down_is_not_lost(
        self, service: Service, prometheus: "Answers"
    ) -> None:
        prometheus.counts = (1000, 0)
        with Metrics(server=prometheus.block).sampler(Place(service), RULES) as sampler:
            prometheus.status = 503
            sampler.sample(AT)
            prometheus.status, prometheus.counts = 200, (1100, 50)
            assert counts(sampler.sample(AT), PROMETHEUS) == (100, 50)

    def test_one_that_was_down_at_the_start_says_why_it_counts_nothing_yet(
        self, service: Service, prometheus: "Answers"
    ) -> None:
        prometheus.status = 503
        with Metrics(server=prometheus.block).sampler(Place(service), RULES) as sampler:
            prometheus.status = 200
            sample = sampler.sample(AT)
        assert sources(sample) == [(PROBES, ALL_RELEASES)]
        assert sample.unknown == (
            "prometheus: counters seen for the first time, the traffic until now is unknown",
        )

    def test_one_that_hangs_is_waited_for_once_and_for_no_longer_than_half_a_sample(
        self, service: Service, prometheus: "Answers"
    ) -> None:
        rules = RULES.model_copy(update={"every": timedelta(milliseconds=200)})
        with Metrics(server=prometheus.block).sampler(Place(service), rules) as sampler:
            while PROMETHEUS not in sampler.looks:  # on a busy machine, the first one is late
                sampler.sample(AT, probes=1)
            asked = prometheus.asked
            prometheus.answers.clear()
            for _ in range(2):
                sample = sampler.sample(AT, probes=1)
                assert sample.unknown == ("prometheus: no answer within 100 ms",)
                assert sample.health is True
            prometheus.counts = (30, 3)
            prometheus.answers.set()
            while sample.unknown:
                sample = sampler.sample(AT, probes=1)
            assert counts(sample, PROMETHEUS) == (30, 3)  # the late answer counts
            assert prometheus.asked == asked + 3  # the queries of one look

    def test_no_data_are_no_health(self, service: Service, prometheus: "Answers") -> None:
        prometheus.counts = None
        with Metrics(server=prometheus.block).sampler(Place(service), RULES) as sampler:
            sample = sampler.sample(AT)
        assert sources(sample) == [(PROBES, ALL_RELEASES)]
        assert sample.unknown == ("prometheus: no data: its query for requests finds nothing",)


class Answers:
    """A server that answers as Prometheus does, with the counts of one release."""

    def __init__(self, server: HTTPServer) -> None:
        self.counts: tuple[int, int] | None = (0, 0)
        self.status = 200
        self.asked = 0
        self.answers = threading.Event()
        self.answers.set()
        self.block = Prometheus(
            environment="production",
            url=server.url_for("/prometheus"),
            requests="requests",
            errors="errors",
            durations="durations",
        )
        server.expect_request("/prometheus/api/v1/query").respond_with_handler(self.answer)

    def answer(self, request: Request) -> Response:
        self.asked += 1
        self.answers.wait(10)
        found: dict[str, list[tuple[dict[str, str], int]]] = {}
        if self.counts is not None:
            requests, errors = self.counts
            found["requests"] = [({"code": "200"}, requests - errors), ({"code": "500"}, errors)]
            found["errors"] = [({"code": "500"}, errors)]
            found["durations"] = [({"le": bound}, requests) for bound in ("0.1", "1", "+Inf")]
        result = [
            {"metric": {"__name__": "m", "version": "v1.1.0", **labels}, "value": [1.0, str(value)]}
            for labels, value in found.get(request.args["query"], [])
        ]
        data = {"resultType": "vector", "result": result}
        body = json.dumps({"status": "success", "data": data})
        return Response(body if self.status == 200 else "", self.status)


class TestAuth:
    def test_is_checked_with_every_fourth_sample(self, httpserver: HTTPServer) -> None:
        service = self._service(httpserver, logs_in=True)
        with Metrics(auth_every=4).sampler(Place(service), RULES) as sampler:
            checked = [sampler.sample(AT, probes=1).auth for _ in range(6)]
        assert checked == [True, None, None, None, True, None]

    def test_a_failure_is_looked_at_again_at_once(self, httpserver: HTTPServer) -> None:
        service = self._service(httpserver, logs_in=False)
        with Metrics(auth_every=4).sampler(Place(service), RULES) as sampler:
            samples = [sampler.sample(AT, probes=1) for _ in range(3)]
        assert [sample.auth for sample in samples] == [False, False, False]
        assert samples[0].auth_detail == "login answers HTTP 500"

    def test_without_an_account_it_is_said_to_be_unchecked(
        self, sampler_of: Callable[..., Sampler]
    ) -> None:
        sample = sampler_of().sample(AT)
        assert (sample.auth, sample.auth_detail) == (None, AUTH_NOT_CONFIGURED)

    def _service(self, httpserver: HTTPServer, logs_in: bool) -> Service:
        httpserver.expect_request("/health").respond_with_data("ok")
        httpserver.expect_request("/api/").respond_with_data("ok")
        httpserver.expect_request("/api/login").respond_with_json(
            {"token": "t"}, status=200 if logs_in else 500
        )
        httpserver.expect_request(
            "/api/me", headers={"Authorization": "Bearer t"}
        ).respond_with_data("me")
        httpserver.expect_request("/api/me").respond_with_data("", status=401)
        return Service(url=httpserver.url_for(""), auth=AuthFlow(username="probe", password="p"))


class TestP0:
    @pytest.mark.parametrize(("answer", "p0"), [("data loss", "data loss"), (None, ""), ("", "")])
    def test_is_asked_with_each_sample(
        self, sampler_of: Callable[..., Sampler], answer: str | None, p0: str
    ) -> None:
        assert sampler_of(ask_p0=lambda: answer).sample(AT).p0 == p0

    def test_a_ledger_that_fails_is_said_without_its_text(
        self, sampler_of: Callable[..., Sampler]
    ) -> None:
        def ask() -> str:
            raise RuntimeError("password=hunter2")

        sample = sampler_of(ask_p0=ask).sample(AT)
        assert sample.p0 is None
        assert sample.unknown == ("p0: RuntimeError",)
        assert sample.health is True

    def test_nothing_that_hangs_makes_a_sample_so_long_that_it_leaves_a_gap(
        self, service: Service
    ) -> None:
        """A gap ends a breach: what hangs for longer than one would never be judged."""
        service.request_timeout_s = 30
        millisecond = timedelta(milliseconds=1)
        rules = RULES.model_copy(
            update={"every": 100 * millisecond, "longest_gap": 1100 * millisecond}
        )
        router = Router()

        def ask() -> str:
            router.answers.wait(30)
            return ""

        with Metrics().sampler(Place(service, router), rules, ask) as sampler:
            router.answers.clear()
            try:
                unknown = sampler.sample(AT).unknown
            finally:
                router.answers.set()
        assert "p0: no answer within 600 ms" in unknown
        # Of the 900 ms that a sample may take, what the ledger has left.
        said = re.search(r"router: no answer within (\d+) ms", "; ".join(unknown))
        assert said
        assert int(said[1]) <= 300

    def test_a_ledger_that_hangs_is_waited_for_once_and_its_late_answer_counts(
        self, service: Service
    ) -> None:
        service.request_timeout_s = 0.1  # a source is waited for three times as long, and 1 s
        answers = threading.Event()
        calls = []

        def ask() -> str:
            calls.append(1)
            answers.wait(10)
            return "data loss"

        with Metrics().sampler(Place(service), RULES, ask) as sampler:
            for _ in range(2):
                sample = sampler.sample(AT, probes=1)
                assert sample.p0 is None
                assert sample.unknown == ("p0: no answer within 1.3 s",)
                assert sample.health is True
            answers.set()
            assert sampler.sample(AT, probes=1).p0 == "data loss"
            assert len(calls) == 1
