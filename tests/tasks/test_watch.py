"""The watch: real servers and real clocks, with durations of milliseconds."""

import itertools
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from prefect import flow
from pydantic import SecretStr
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from blocks.auth import AuthFlow
from blocks.metrics import Metrics
from blocks.service import Service
from release.configuration.auth import AuthSettings
from release.configuration.deployed_with import DeployedWith
from release.configuration.layout import ServiceLayout
from release.configuration.rules import WatchProbe, WatchRules
from release.errors import TriggerFired, Unreachable
from release.ledger import Event
from release.measure.traffic import ALL_RELEASES, ROUTER, Traffic
from release.model import Baseline, Release
from release.watch.report import DRAWING, WatchReport
from release.watch.triggers import AUTH_FLOW, AUTH_NOT_CONFIGURED, Action, Sample
from release.watch.verdict import Outcome
from release.watch.watched import Watch
from sandbox.commands import wait_until
from tasks.watch import seen_now, ticks, watch, watch_release, watch_restored

Artifact = Callable[[str], Any]
MS = timedelta(milliseconds=1)
RULES = WatchRules(
    length=400 * MS,
    every=40 * MS,
    sustained_for=160 * MS,
    fewest_requests=3,  # as many as each sample sends: a slow machine changes nothing
    p95_floor=timedelta(seconds=30),
    longest_gap=timedelta(seconds=5),
    extend_up_to=timedelta(seconds=2),
)
RELEASE = Release("v1.1.0", "b" * 40)
BASELINE = Baseline(
    "production",
    Release("v1.0.0", "a" * 40),
    (),
    "",
    0.0,
    20 * MS,
    datetime(2026, 1, 8, tzinfo=UTC),
)


@dataclass
class Reports:
    """A ledger in which a P0 can be declared, and which can be down."""

    reason: str = ""
    down: bool = False
    asked: list[tuple[str, datetime]] = field(default_factory=list)

    def p0_declared(self, environment: str, since: datetime) -> Event | None:
        self.asked.append((environment, since))
        if self.down:
            raise Unreachable("the ledger does not answer")
        if not self.reason:
            return None
        payload = {"reason": self.reason, "by": "ada"}
        return Event(1, since, environment, "run", "p0_declared", payload=payload)


@dataclass
class Production:
    """An environment that answers at a real address."""

    service: Service
    metrics: Any = field(default_factory=Metrics)
    ledger: Reports = field(default_factory=Reports)
    orchestrator: Any = field(default_factory=lambda: SimpleNamespace(instances=tuple))
    environment: str = "production"
    router: None = None


@pytest.fixture
def production(httpserver: HTTPServer) -> Production:
    return Production(Service(url=httpserver.url_for(""), request_timeout_s=5))


def answers(server: HTTPServer, health: int = 200, api: int = 200) -> None:
    server.expect_request("/health").respond_with_data("", status=health)
    server.expect_request("/api/").respond_with_data("", status=api)


def watched(production: Production, rules: WatchRules = RULES) -> tuple[WatchReport, list[str]]:
    lines: list[str] = []
    this = Watch(RELEASE.version, BASELINE, rules, datetime.now(UTC))
    return watch(production, this, lines.append, lambda percent: None), lines


class TestAWatchedRelease:
    def test_stays_when_nothing_fires(self, production: Production, httpserver: HTTPServer) -> None:
        answers(httpserver)
        report, lines = watched(production)
        assert report.passed
        assert report.lasted >= RULES.length
        assert report.samples >= 2
        assert report.requests == 3 * report.samples
        assert report.errors == 0
        assert report.p50 is not None
        assert report.p95 is not None
        assert report.p50 <= report.p95
        assert report.notes == (
            f"auth flow not judged: {AUTH_NOT_CONFIGURED}",
            "error rate not compared: the baseline's was not counted",
            "error rate measured on: our own probes of GET /health, GET /api/; not measured: all "
            "other requests, because neither a router nor a metrics server counts them",
        )
        assert report.moments == ()
        assert lines[0] == "watching v1.1.0 for 400 ms, a sample every 40 ms"
        assert lines[-1].startswith("watch passed: no trigger in ")
        assert len(lines) == 2

    def test_goes_when_its_health_check_fails_for_too_long(
        self, production: Production, httpserver: HTTPServer
    ) -> None:
        answers(httpserver, health=503)
        report, lines = watched(production)
        assert report.decision.action is Action.FAIL
        assert "health check failed (HTTP 503) for " in report.decision.sentence
        assert RULES.sustained_for < report.lasted
        assert lines[1].startswith("health check failed (HTTP 503) since ")

    def test_goes_when_its_error_rate_is_too_high_for_too_long(
        self, production: Production, httpserver: HTTPServer
    ) -> None:
        answers(httpserver, api=500)
        asked = RULES.model_copy(update={"probes": (WatchProbe(path="/api/"),)})
        report, _ = watched(production, asked)
        assert report.decision.action is Action.FAIL
        assert report.decision.sentence.startswith("error rate 100.0% > 5.0% for ")
        assert report.errors == report.requests

    def test_goes_when_a_fifth_of_what_users_do_fails_and_nobody_else_counts(
        self, httpserver: HTTPServer
    ) -> None:
        """Health, version and the auth flow's check were good, and its error rate 0.0%."""
        pages = itertools.cycle([200, 200, 200, 200, 500])
        one_at_a_time = threading.Lock()

        def page(request: Request) -> Response:
            with one_at_a_time:
                return Response(status=next(pages))

        answers(httpserver)
        httpserver.expect_request("/api/login").respond_with_json({"token": "good"})
        known = {"Authorization": "Bearer good"}
        httpserver.expect_request("/api/me", headers=known).respond_with_handler(page)
        httpserver.expect_request("/api/me").respond_with_data("", status=401)
        auth = AuthFlow(username="check", password=SecretStr("correct-horse"))
        service = Service(url=httpserver.url_for(""), request_timeout_s=5, auth=auth)
        production = Production(service, metrics=Metrics(auth_every=1000))

        report, _ = watched(production, RULES.model_copy(update={"fewest_requests": 20}))

        assert report.decision.action is Action.FAIL
        assert re.match(r"error rate [0-9.]+% > 5.0% for .* probes\)", report.decision.sentence)

    def test_goes_with_the_next_sample_after_a_p0(
        self, production: Production, httpserver: HTTPServer
    ) -> None:
        answers(httpserver)
        production.ledger.reason = "orders are charged twice"
        report, _ = watched(production)
        assert report.decision.action is Action.FAIL
        assert report.samples == 1
        assert report.decision.sentence.endswith(": orders are charged twice (declared by ada)")
        assert production.ledger.asked == [("production", BASELINE.taken_at)]

    def test_goes_between_two_samples_when_a_p0_is_declared(
        self, production: Production, httpserver: HTTPServer
    ) -> None:
        """The next sample is an hour away: nobody waits for it."""
        answers(httpserver)
        rules = RULES.model_copy(update={"every": timedelta(hours=1), "length": timedelta(hours=2)})
        declaring = threading.Timer(
            0.5, setattr, (production.ledger, "reason", "it is charged twice")
        )
        declaring.start()
        report, _ = watched(production, rules)
        assert report.decision.action is Action.FAIL
        assert report.samples == 2
        assert report.decision.sentence.endswith(": it is charged twice (declared by ada)")

    def test_goes_when_a_p0_is_declared_while_it_hangs(self, production: Production) -> None:
        """A sample that is under way is left to itself."""
        over = threading.Event()
        production.metrics = Hanging(over)
        declaring = threading.Timer(0.5, setattr, (production.ledger, "reason", "nothing answers"))
        declaring.start()
        try:
            report, _ = watched(production)
        finally:
            over.set()
        assert report.decision.action is Action.FAIL
        assert report.decision.sentence.endswith(": nothing answers (declared by ada)")

    def test_stays_when_only_the_ledger_is_down(
        self, production: Production, httpserver: HTTPServer
    ) -> None:
        answers(httpserver)
        production.ledger.down = True
        report, lines = watched(production)
        assert report.passed
        assert "P0 reports not judged: the ledger could not be asked" in report.notes
        assert [line for line in lines if "ledger" in line] == [
            "not seen: p0: the ledger does not answer"
        ]

    def test_goes_when_its_logins_fail(
        self, production: Production, httpserver: HTTPServer
    ) -> None:
        answers(httpserver)
        httpserver.expect_request("/api/login").respond_with_data("", status=500)
        httpserver.expect_request("/api/me").respond_with_data("", status=401)
        production.service.auth = AuthFlow(username="probe")
        report, lines = watched(production)
        assert report.decision.action is Action.FAIL
        assert report.samples == 2
        assert report.decision.sentence.endswith(": login answers HTTP 500")
        assert lines[1] == "auth flow failed once (2 in a row count): login answers HTTP 500"

    def test_is_unproven_while_its_login_hangs(self, httpserver: HTTPServer) -> None:
        """What a sample says then begins with the name by which the rule knows it."""
        answers(httpserver)
        answered = threading.Event()
        service = Service(url=httpserver.url_for(""), request_timeout_s=0.1)
        object.__setattr__(service, "auth_flow", lambda: answered.wait(10))
        with Metrics().sampler(Production(service), RULES) as sampler:
            sample = sampler.sample(datetime.now(UTC), probes=1)
            answered.set()
        assert sample.auth is None
        (said,) = sample.unknown
        assert said.startswith(f"{AUTH_FLOW}: no answer within ")


class Script:
    """Metrics whose samples are written down, one for each tick; the last one is repeated."""

    def __init__(self, *samples: dict[str, Any]) -> None:
        self.samples = samples
        self.took: list[timedelta] = []
        self.mix = (WatchProbe(path="/health"),)
        self.tick = 0

    def sampler(self, *_: object) -> "Script":
        return self

    def __enter__(self) -> "Script":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def sample(self, at: datetime) -> Sample:
        values = self.samples[min(self.tick, len(self.samples) - 1)]
        self.tick += 1
        good: dict[str, Any] = {
            "health": True,
            "auth": True,
            "p0": "",
            "traffic": (Traffic(ROUTER, ALL_RELEASES, 100, 0),),
        }
        return Sample(at, **(good | values))


class Hanging(Script):
    """Metrics whose sample does not come."""

    def __init__(self, over: threading.Event) -> None:
        super().__init__({})
        self.over = over

    def sample(self, at: datetime) -> Sample:
        self.over.wait(60)
        return super().sample(at)


def punctual(started_at: datetime, every: timedelta, wait: object) -> Iterator[datetime]:
    """A clock that nothing delays: which sample is the last depends on the rules alone."""
    return (started_at + number * every for number in itertools.count())


class TestTheLog:
    RULES = RULES.model_copy(
        update={
            "every": 10 * MS,
            "length": 60 * MS,
            "sustained_for": MS * 999,
            "error_rate_ceiling": 0.5,  # two ill samples do not make it longer
        }
    )

    @pytest.fixture(autouse=True)
    def _clock(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("tasks.watch.ticks", punctual)

    def lines(self, production: Production, *samples: dict[str, Any]) -> Sequence[str]:
        production.metrics = Script(*samples)
        return watched(production, self.RULES)[1][1:-1]

    def test_says_what_begins_and_what_is_over(self, production: Production) -> None:
        ill = {"health": False, "health_detail": "HTTP 503"}
        began, over = self.lines(production, {}, ill, ill, {})
        assert began.startswith("health check failed (HTTP 503) since ")
        assert over.startswith("over: health check good in ")

    def test_says_once_that_a_source_is_silent(self, production: Production) -> None:
        silent = {"unknown": ("router: no answer",), "traffic": ()}
        assert self.lines(production, {}, silent, silent, {}) == ["not seen: router: no answer"]

    def test_says_why_the_watch_goes_on(self, production: Production) -> None:
        ill = {"health": False}
        lines = self.lines(production, *[{}] * 4, *[ill] * 20, {})
        assert [line.split(" ")[0] for line in lines] == ["health", "watched", "over:"]
        assert "health check failed since" in lines[1]


def nap(length: timedelta) -> None:
    time.sleep(max(0.0, length.total_seconds()))


class TestTicks:
    def test_do_not_drift(self) -> None:
        start = datetime.now(UTC)
        found = list(itertools.islice(ticks(start, 20 * MS, nap), 6))
        for number, at in enumerate(found):
            assert number * 20 * MS <= at - start
        assert found[-1] - start < 100 * MS + timedelta(seconds=1)

    def test_that_were_missed_are_left_out(self) -> None:
        start = datetime.now(UTC)
        moments = ticks(start, 20 * MS, nap)
        next(moments)
        time.sleep(0.05)
        assert next(moments) - start >= 60 * MS


class TestALookByItself:
    def test_sends_enough_requests(self, production: Production, httpserver: HTTPServer) -> None:
        answers(httpserver)
        seen = seen_now(production, RULES)
        assert seen is not None
        assert [traffic.rate for traffic in seen.traffic] == [0.0]
        assert [times.p95 is not None for times in seen.times] == [True]
        assert len(httpserver.log) == RULES.fewest_requests + 2  # and two health checks

    def test_at_nothing_is_unknown(self) -> None:
        nobody = Production(Service(url="http://127.0.0.1:9"))
        assert seen_now(nobody, RULES) is None


@flow
def watching(target: Any) -> Any:
    return watch_release(target, RELEASE, BASELINE, RULES)


def drawn(artifact: Artifact) -> str:
    """The report, once its plots were added, or why there are none."""
    return wait_until(
        lambda: None if DRAWING in (page := artifact("watch-production")) else page,
        what="the picture in the report",
        seconds=90,
        hint="read the artifact",
    )


@flow
def watching_restored(target: Any, before: Baseline, length: timedelta, rules: WatchRules) -> Any:
    return watch_restored(target, before, length, rules)


class TestWhatWasRestored:
    """v1.0.0 serves again, whatever is seen of it now."""

    def test_is_said_to_be_well(
        self, production: Production, httpserver: HTTPServer, artifact: Artifact
    ) -> None:
        answers(httpserver)
        found = watching_restored(production, BASELINE, 400 * MS, RULES)
        assert found.outcome is Outcome.HEALTHY
        assert found.sentence.startswith("no trigger in ")
        assert artifact("rollback-watch-production").startswith(
            "**v1.0.0 passed its watch on production: "
        )

    def test_is_said_to_be_ill(self, production: Production, httpserver: HTTPServer) -> None:
        answers(httpserver, health=503, api=500)
        found = watching_restored(production, BASELINE, 400 * MS, RULES)
        assert found.ill
        assert "health check failed (HTTP 503) for " in found.sentence

    def test_is_asked_what_it_was_deployed_with(
        self, production: Production, httpserver: HTTPServer
    ) -> None:
        """The release that was rolled back moved its health check and brought pages of its own."""
        httpserver.expect_request("/up").respond_with_data("")
        httpserver.expect_request("/old").respond_with_data("")
        then = DeployedWith.now(
            ServiceLayout(name="api", health_path="/up"),
            AuthSettings(),
            WatchRules(probes=(WatchProbe(path="/old"),)),
        )
        now = RULES.model_copy(update={"probes": (WatchProbe(path="/new"),)})
        before = replace(BASELINE, deployed_with=then)
        found = watching_restored(production, before, 400 * MS, now)
        assert found.outcome is Outcome.HEALTHY, found.sentence
        assert {request.path for request, _ in httpserver.log} == {"/up", "/old"}

    @pytest.mark.parametrize(
        ("before", "length"),
        [(BASELINE, timedelta()), (replace(BASELINE, release=None), timedelta(minutes=1))],
        ids=["switched off", "nothing served before"],
    )
    def test_is_not_watched(
        self,
        production: Production,
        httpserver: HTTPServer,
        before: Baseline,
        length: timedelta,
        prefect_server: None,
    ) -> None:
        assert watching_restored(production, before, length, RULES) is None
        assert httpserver.log == []


class TestTheStep:
    def test_a_bad_release_fires_with_its_sentence_and_leaves_a_report(
        self, production: Production, httpserver: HTTPServer, artifact: Artifact
    ) -> None:
        """The rollback begins before the plots are drawn; they come into the report by and by."""
        answers(httpserver, health=503)
        with pytest.raises(TriggerFired) as fired:
            watching(production)
        assert fired.value.what.startswith(
            "v1.1.0 on production: health check failed (HTTP 503) for "
        )
        assert fired.value.hint.startswith("ignition status production")
        report = artifact("watch-production")
        assert report.startswith("**v1.1.0 failed its watch on production: health check failed")
        assert "| health | **unhealthy** | 0 of " in report
        assert "data:image" in drawn(artifact)

    def test_a_good_release_stays_with_a_report(
        self, production: Production, httpserver: HTTPServer, artifact: Artifact
    ) -> None:
        answers(httpserver)
        report: Any = watching(production)
        assert report.passed
        shown = drawn(artifact)
        assert "| error-rate | healthy | 0.0% of " in shown
        assert f"- auth flow not judged: {AUTH_NOT_CONFIGURED}" in shown
        assert "![v1.1.0 on production, watched from " in shown
        assert len(shown) < 200_000
        assert artifact("watch-progress-production") == 100.0

    def test_a_report_without_plots_says_why(
        self,
        production: Production,
        httpserver: HTTPServer,
        artifact: Artifact,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """The release stays: it has passed, whoever can draw it."""
        monkeypatch.setattr("tasks.watch._DRAWN_WITHIN", timedelta(milliseconds=1))
        answers(httpserver)
        report: Any = watching(production)
        assert report.passed
        shown = drawn(artifact)
        assert "No plots: the plots could not be drawn: not within 1 ms." in shown
        assert "| error-rate | healthy | 0.0% of " in shown
