"""Samples from a real server and from a router that counts, stands still, or begins again."""

import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from blocks.metrics import Counted, Counters, Metrics, Sampler, difference
from blocks.service import Service
from release.errors import Unreachable
from release.rollout import Slot
from release.rules import WatchRules
from release.triggers import AUTH_NOT_CONFIGURED, Sample, probes_needed

AT = datetime(2026, 1, 8, 2, 14, tzinfo=UTC)
RULES = WatchRules(length=timedelta(minutes=1), every=timedelta(seconds=15))  # 34 probes a tick
NEEDED = probes_needed(RULES)


def counts(sample: Sample) -> tuple[int, int]:
    """Requests and errors of the sample's one source."""
    (traffic,) = sample.traffic
    return traffic.requests, traffic.errors


class Router:
    """A router whose counters a test sets."""

    def __init__(self) -> None:
        self.answered = 1000
        self.errors = 10
        self.down = False

    def slots(self) -> tuple[Slot, ...]:
        if self.down:
            raise Unreachable("HAProxy does not answer at its admin socket")
        busy = Slot("api1", answered=self.answered, answered_5xx=self.errors)
        return (busy, Slot("api2"))


@pytest.fixture
def service(httpserver: HTTPServer) -> Service:
    httpserver.expect_request("/health").respond_with_data("ok")
    httpserver.expect_request("/api/").respond_with_json({"version": "v1.2.3"})
    return Service(url=httpserver.url_for(""), request_timeout_s=2)


@pytest.fixture
def sampler_of(service: Service) -> Iterator[Callable[..., Sampler]]:
    samplers: list[Sampler] = []

    def make(
        counters: Counters | None = None, ask_p0: Callable[[], str | None] | None = None
    ) -> Sampler:
        samplers.append(Metrics().sampler(service, counters, RULES, ask_p0))
        return samplers[-1]

    yield make
    for sampler in samplers:
        sampler.__exit__()


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

    def test_5xx_and_silence_are_errors_and_4xx_are_not(self, httpserver: HTTPServer) -> None:
        statuses = iter([200, 404, 500, 503] * 10)
        lock = threading.Lock()

        def answer(request: Request) -> Response:
            with lock:
                return Response(status=next(statuses))

        httpserver.expect_request("/mixed").respond_with_handler(answer)
        service = Service(url=httpserver.url_for(""))
        with Metrics(probe_path="/mixed").sampler(service, None, RULES) as sampler:
            sample = sampler.sample(AT, probes=8)
        assert counts(sample) == (8, 4)

    def test_a_service_that_is_down_is_unhealthy_and_full_of_errors(self) -> None:
        service = Service(url="http://127.0.0.1:9")
        with Metrics().sampler(service, None, RULES) as sampler:
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


class TestWithRouter:
    def test_its_counters_are_the_traffic(self, sampler_of: Callable[..., Sampler]) -> None:
        router = Router()
        sampler = sampler_of(router)
        router.answered, router.errors = 1500, 12
        sample = sampler.sample(AT)
        assert counts(sample) == (500, 2)
        sample = sampler.sample(AT)
        assert counts(sample) == (0, 0)

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
        own = NEEDED + 5  # probes, the health check, the auth check
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
        assert sample.traffic == ()
        assert sample.unknown == (
            "router: its counters began again, the traffic until now is unknown",
        )
        router.answered = 80
        assert counts(sampler.sample(AT))[0] == 30

    def test_a_router_that_is_down_is_said_and_nothing_else_suffers(
        self, sampler_of: Callable[..., Sampler]
    ) -> None:
        router = Router()
        sampler = sampler_of(router)
        router.down = True
        sample = sampler.sample(AT)
        assert (sample.health, sample.traffic) == (True, ())
        assert sample.unknown == ("router: HAProxy does not answer at its admin socket",)
        router.down = False
        assert sampler.sample(AT).traffic == ()  # nothing to compare with yet
        router.answered += 7
        assert counts(sampler.sample(AT))[0] == 7

    def test_answers_of_the_router_itself_are_errors_too(self) -> None:
        """A router without any server answers 503, and no server counts that."""
        service = Service(url="http://127.0.0.1:9")
        with Metrics().sampler(service, Router(), RULES) as sampler:
            sample = sampler.sample(AT)
        assert counts(sample) == (NEEDED, NEEDED)


@pytest.mark.parametrize(
    ("before", "now", "grown"),
    [
        pytest.param({"a": (10, 1)}, {"a": (15, 2)}, (5, 1), id="grown"),
        pytest.param({"a": (10, 1)}, {"a": (10, 1)}, (0, 0), id="unchanged"),
        pytest.param({"a": (10, 1), "b": (0, 0)}, {"a": (10, 1), "b": (3, 3)}, (3, 3), id="two"),
        pytest.param({"a": (10, 1)}, {"a": (9, 1)}, None, id="fewer requests"),
        pytest.param({"a": (10, 1)}, {"a": (20, 0)}, None, id="fewer errors"),
        pytest.param({"a": (10, 1)}, {"a": (11, 3)}, None, id="more errors than requests"),
        pytest.param(
            {"a": (10, 1), "b": (5, 0)}, {"a": (90, 1), "b": (0, 0)}, None, id="one began again"
        ),
        pytest.param({"a": (10, 1)}, {"b": (20, 1)}, None, id="another slot"),
    ],
)
def test_counters_are_compared_slot_by_slot(
    before: dict[str, tuple[int, int]],
    now: dict[str, tuple[int, int]],
    grown: tuple[int, int] | None,
) -> None:
    found = difference(
        {name: Counted(*counts) for name, counts in before.items()},
        {name: Counted(*counts) for name, counts in now.items()},
    )
    assert found == (Counted(*grown) if grown else None)


class TestAuth:
    def test_is_checked_with_every_fourth_sample(self, httpserver: HTTPServer) -> None:
        service = self._service(httpserver, logs_in=True)
        with Metrics(auth_every=4).sampler(service, None, RULES) as sampler:
            checked = [sampler.sample(AT, probes=1).auth for _ in range(6)]
        assert checked == [True, None, None, None, True, None]

    def test_a_failure_is_looked_at_again_at_once(self, httpserver: HTTPServer) -> None:
        service = self._service(httpserver, logs_in=False)
        with Metrics(auth_every=4).sampler(service, None, RULES) as sampler:
            samples = [sampler.sample(AT, probes=1) for _ in range(3)]
        assert [sample.auth for sample in samples] == [False, False, False]
        assert samples[0].auth_detail == "login: HTTP 500"

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
        return Service(url=httpserver.url_for(""), username="probe", password="p")


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

        with Metrics().sampler(service, None, RULES, ask) as sampler:
            for _ in range(2):
                sample = sampler.sample(AT, probes=1)
                assert sample.p0 is None
                assert sample.unknown == ("p0: no answer within 1.3 s",)
                assert sample.health is True
            answers.set()
            assert sampler.sample(AT, probes=1).p0 == "data loss"
            assert len(calls) == 1
