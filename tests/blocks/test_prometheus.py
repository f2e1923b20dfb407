"""The Prometheus block against a real Prometheus that scrapes real exporters."""

import socket
from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest
from pydantic import SecretStr, ValidationError
from pytest_httpserver import HTTPServer

from blocks.prometheus import Prometheus
from release.configuration.prometheus import PrometheusSettings
from release.errors import BadConfiguration, Unreachable
from release.measure.counters import Growth, Look
from sandbox.commands import wait_until
from sandbox.parts.local_prometheus import LocalPrometheus, local_prometheus
from tests.fakes.exporter import Exporter, exporters

pytestmark = pytest.mark.real

SECONDS = 20.0  # that a scrape may take to be seen
PASSWORD = "correct-horse"
# Of that password: Prometheus stores bcrypt.
HASHED = "$2b$04$abcdefghijklmnopqrstuuPoaPXzWjiVz4HaNq2LJXksWbO79E.S6"
QUERIES = PrometheusSettings(url="http://127.0.0.1:9")


ENVIRONMENTS = 30  # more than there are tests that want one of their own
INSTANCES = 2  # of each

Targets = Iterator[tuple[str, list[Exporter]]]


class Scraped:
    """An environment of a test's own, whose instances a Prometheus scrapes."""

    def __init__(self, url: str, environment: str, idle: list[Exporter]) -> None:
        self.block = block(url, environment)
        self._idle = idle
        self._instances: list[Exporter] = []

    def instance(self, version: str, answered: int = 0) -> Exporter:
        """One more instance, scraped from now on."""
        exporter = self._idle.pop()
        self._instances.append(exporter)
        if answered:
            exporter.answer(answered)
        exporter.version = version
        return exporter

    def look(self, requests: float) -> Look:
        """What Prometheus has once it has seen so many requests in all."""

        def seen() -> Look | None:
            found = self.block.look()
            return found if sum(found.requests.values()) == requests else None

        return wait_until(seen, what=f"{requests} requests", seconds=SECONDS, hint="")

    def grown(self, before: Look, requests: float) -> Growth:
        return self.block.growth(before, self.look(requests), {})

    def end(self) -> None:
        """End all instances."""
        for exporter in self._instances:
            exporter.stop()

    def stop(self) -> None:
        """End all instances, and wait until Prometheus has noticed."""
        self.end()
        wait_until(lambda: not self.block.look().requests, what="end", seconds=SECONDS, hint="")


@pytest.fixture(scope="module")
def prepared() -> Iterator[tuple[str, Targets]]:
    """A Prometheus's address, and environments that it scrapes: it takes seconds to find one."""
    names = [f"environment-{number}" for number in range(ENVIRONMENTS)]
    owned = {name: [Exporter() for _ in range(INSTANCES)] for name in names}
    with exporters(owned) as targets, local_prometheus(targets) as server:
        yield server.url, iter(owned.items())


@pytest.fixture
def scraped(prepared: tuple[str, Targets]) -> Iterator[Scraped]:
    url, free = prepared
    environment = Scraped(url, *next(free))
    yield environment
    environment.end()


def block(url: str, environment: str = "production", **changes: object) -> Prometheus:
    """As `ignition setup` makes it from the settings' defaults."""
    settings = QUERIES.model_copy(update={"url": url, **changes})
    return Prometheus(environment=environment, **dict(settings))


def counted(found: Growth) -> dict[str, tuple[int, int]]:
    return {traffic.release: (traffic.requests, traffic.errors) for traffic in found.traffic}


def refused(check: Callable[[], object]) -> str:
    with pytest.raises(BadConfiguration) as error:
        check()
    return f"{error.value.what} | {error.value.hint}"


class TestCounts:
    def test_good_answers_are_requests_without_errors(self, scraped: Scraped) -> None:
        instance = scraped.instance("v1.0.0", answered=1000)
        before = scraped.look(1000)
        assert before.errors == {}  # no series: nothing has failed
        instance.answer(200, seconds=0.3)

        found = scraped.grown(before, 1200)

        assert counted(found) == {"": (200, 0), "v1.0.0": (200, 0)}
        assert {times.release: times.p50 for times in found.times} == {
            "": timedelta(seconds=0.3),
            "v1.0.0": timedelta(seconds=0.3),
        }

    def test_two_versions_side_by_side_are_told_apart(self, scraped: Scraped) -> None:
        old, new = scraped.instance("v1.0.0", answered=5000), scraped.instance("v1.1.0", answered=9)
        before = scraped.look(5009)
        old.answer(300)
        new.answer(80)
        new.answer(20, code=500)

        found = scraped.grown(before, 5409)

        assert counted(found) == {"": (400, 20), "v1.0.0": (300, 0), "v1.1.0": (100, 20)}

    def test_a_restarted_instance_counts_from_zero(self, scraped: Scraped) -> None:
        instance = scraped.instance("v1.0.0", answered=1000)
        before = scraped.look(1000)
        instance.begin_again()
        instance.answer(30)
        instance.answer(10, code=503)

        assert counted(scraped.grown(before, 40)) == {"": (40, 10), "v1.0.0": (40, 10)}

    def test_nothing_scraped_is_no_data_and_no_health(self, scraped: Scraped) -> None:
        before = Look({frozenset({("version", "v1.0.0")}): 1.0}, {})

        found = scraped.block.growth(before, scraped.block.look(), {})

        assert found.traffic == ()
        assert found.unknown == "no data: its query for requests finds nothing"

    def test_an_instance_that_is_gone_leaves_no_count_behind(self, scraped: Scraped) -> None:
        """The last value of a dead release must not look like a release without errors."""
        scraped.instance("v1.0.0", answered=1000)
        before = scraped.look(1000)
        scraped.stop()

        assert counted(scraped.grown(before, 0)) == {}

    def test_or_vector_0_makes_no_data_of_nothing(self, scraped: Scraped) -> None:
        """Errors are zero because requests are counted, not because a query always answers."""
        scraped.block.errors = f"{scraped.block.errors} or vector(0)"
        scraped.block.requests = f"{scraped.block.requests} or vector(0)"
        assert scraped.block.look() == Look({}, {})

        instance = scraped.instance("v1.0.0", answered=10)
        before = scraped.look(10)
        instance.answer(90)

        assert counted(scraped.grown(before, 100)) == {"": (90, 0), "v1.0.0": (90, 0)}

    def test_or_vector_0_does_not_get_a_mistyped_query_past_the_plan(
        self, scraped: Scraped
    ) -> None:
        scraped.block.requests = 'http_request_total{environment="$environment"} or vector(0)'

        assert "has found nothing in 7 days" in refused(lambda: scraped.block.check(serving=True))

    @pytest.mark.parametrize(("value", "said"), [(float("nan"), "NaN"), (float("inf"), "+Inf")])
    def test_what_no_counter_can_be_is_refused(
        self, scraped: Scraped, value: float, said: str
    ) -> None:
        scraped.instance("v1.0.0").say(200, value)

        def refusal() -> str:
            try:
                scraped.block.look()
            except BadConfiguration as error:
                return error.what
            return ""

        sentence = wait_until(refusal, what="a refusal", seconds=SECONDS, hint="")

        assert (
            sentence == f"Prometheus's query for requests answers {said}, which no counter can be"
        )


class TestPlan:
    def test_a_query_with_data_is_good(self, scraped: Scraped) -> None:
        scraped.instance("v1.0.0", answered=10).answer(1, code=500)
        scraped.look(11)

        scraped.block.check(serving=True)

    def test_no_error_at_all_is_good_where_the_names_exist(self, scraped: Scraped) -> None:
        scraped.instance("v1.0.0", answered=10)
        scraped.look(10)

        scraped.block.check(serving=True)

    def test_a_query_that_never_found_anything_is_refused(self, scraped: Scraped) -> None:
        scraped.instance("v1.0.0", answered=10)
        scraped.look(10)
        name = scraped.block.environment
        scraped.block.requests = 'http_request_total{environment="$environment"}'

        assert refused(lambda: scraped.block.check(serving=True)) == (
            "Prometheus's query for requests has found nothing in 7 days: "
            f'http_request_total{{environment="{name}"}} '
            f"| edit environments.{name}.metrics.requests in ignition.toml, then: ignition setup"
        )

    def test_where_nothing_serves_yet_there_is_nothing_to_find(self, scraped: Scraped) -> None:
        scraped.block.check(serving=False)

    def test_data_that_have_ended_are_said_and_refuse_nothing(self, scraped: Scraped) -> None:
        """Only a warning: that nothing is scraped now is not the next release being bad."""
        instance = scraped.instance("v1.0.0", answered=10)
        for requests in range(11, 19):  # a scrape each: they are looked for second by second
            instance.answer(1)
            scraped.look(requests)
        scraped.stop()

        with pytest.raises(Unreachable) as error:
            scraped.block.check(serving=True)
        assert error.value.what == (
            "Prometheus's query for requests finds nothing now, the last data are older"
        )

    def test_a_mistyped_metric_of_errors_is_refused(self, scraped: Scraped) -> None:
        """It finds nothing, as a good one does while nothing fails."""
        scraped.instance("v1.0.0", answered=10)
        scraped.look(10)
        scraped.block.errors = 'http_request_errors_total{environment="$environment"}'

        assert (
            "asks for http_request_errors_total, of which there was nothing in 7 days"
            in refused(lambda: scraped.block.check(serving=True))
        )

    def test_a_mistyped_label_of_errors_is_refused(self, scraped: Scraped) -> None:
        scraped.instance("v1.0.0", answered=10)
        scraped.look(10)
        scraped.block.errors = 'http_requests_total{environment="$environment",status=~"5.."}'

        sentence = refused(lambda: scraped.block.check(serving=True))

        assert "asks for the label status, which http_requests_total does not have" in sentence
        assert "it has: __name__, code, environment" in sentence

    def test_a_syntax_error_is_refused_in_prometheus_own_words(self, scraped: Scraped) -> None:
        scraped.block.errors = 'http_requests_total{code=~"5.."'

        sentence = refused(lambda: scraped.block.check(serving=False))

        assert sentence.startswith("Prometheus's query for errors is refused by Prometheus: ")
        assert "parse error" in sentence
        assert sentence.endswith(".metrics.errors in ignition.toml, then: ignition setup")

    @pytest.mark.parametrize(
        ("query", "said"),
        [
            ("sum(rate(http_requests_total[1m]))", "asks for rate(…); counters are expected"),
            ("http_requests_total[1m]", "answers a matrix, an instant vector is expected"),
            ("scalar(vector(1))", "answers a scalar, an instant vector is expected"),
            ("vector(0) / 0", "answers NaN, which no counter can be"),
            ("vector(-1)", "answers -1, which no counter can be"),
            ("vector(1) / 0", "answers +Inf, which no counter can be"),
        ],
    )
    def test_a_query_for_something_else_is_refused(
        self, scraped: Scraped, query: str, said: str
    ) -> None:
        scraped.block.requests = query

        assert said in refused(lambda: scraped.block.check(serving=False))

    def test_a_histogram_without_buckets_is_refused(self, scraped: Scraped) -> None:
        scraped.instance("v1.0.0", answered=10)
        scraped.look(10)
        scraped.block.durations = scraped.block.requests

        assert "finds series without a label le" in refused(
            lambda: scraped.block.check(serving=True)
        )

    def test_without_a_histogram_none_is_asked_for(self, scraped: Scraped) -> None:
        scraped.block.durations = ""
        scraped.instance("v1.0.0", answered=10)

        assert scraped.look(10).buckets == {}
        scraped.block.check(serving=True)


class TestNotThere:
    def test_nobody_listening(self) -> None:
        with pytest.raises(Unreachable) as error:
            block("http://127.0.0.1:9").look()

        assert error.value.what == (
            "Prometheus at http://127.0.0.1:9 does not answer: Connection refused"
        )

    def test_a_login_in_its_address_makes_no_block_and_is_not_shown(self) -> None:
        with pytest.raises(ValidationError, match="holds a login") as refused:
            block("http://user:hunter2@127.0.0.1:9")

        assert "hunter2" not in str(refused.value)

    def test_a_server_that_hangs_is_given_up_in_time(self) -> None:
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            listener.listen()
            port = listener.getsockname()[1]
            hanging = block(f"http://127.0.0.1:{port}", timeout=timedelta(milliseconds=100))

            with pytest.raises(Unreachable, match="does not answer: no answer within"):
                hanging.look()

    @pytest.mark.parametrize("status", [429, 500, 502, 503])
    def test_a_server_in_trouble_is_unreachable(self, httpserver: HTTPServer, status: int) -> None:
        httpserver.expect_request("/api/v1/query").respond_with_data("sorry", status=status)

        with pytest.raises(Unreachable, match=f"answers HTTP {status}"):
            block(httpserver.url_for("")).look()

    @pytest.mark.parametrize(
        ("body", "status", "said"),
        [
            ("<html>", 200, "answers no Prometheus answer"),
            ("[1]", 200, "answers no Prometheus answer"),
            ('{"status": "success", "data": {}}', 200, "answers in another shape"),
            (
                '{"status": "success", "data": {"resultType": "vector", "result": [{"value": 1}]}}',
                200,
                "answers in another shape",
            ),
            ("not found", 404, "answers HTTP 404"),
            ("", 302, "answers HTTP 302"),
        ],
    )
    def test_something_else_at_its_address_is_refused(
        self, httpserver: HTTPServer, body: str, status: int, said: str
    ) -> None:
        httpserver.expect_request("/api/v1/query").respond_with_data(body, status=status)

        assert said in refused(block(httpserver.url_for("")).look)


@pytest.fixture(scope="module")
def locked() -> Iterator[LocalPrometheus]:
    web = {"basic_auth_users": {"ignition": HASHED}}
    with local_prometheus(web=web, login=("ignition", PASSWORD)) as started:
        yield started


class TestLogin:
    def test_the_right_password_is_let_in(self, locked: LocalPrometheus) -> None:
        known = block(locked.url, username="ignition", password=SecretStr(PASSWORD))

        assert known.look() == Look({}, {})

    def test_a_wrong_one_is_refused_and_not_shown(self, locked: LocalPrometheus) -> None:
        unknown = block(locked.url, username="ignition", password=SecretStr("hunter2"))

        sentence = refused(unknown.look)

        assert "refuses the login: HTTP 401" in sentence
        assert "set IGNITION_ENVIRONMENTS__PRODUCTION__METRICS__TOKEN" in sentence
        assert "hunter2" not in sentence

    def test_a_token_is_sent_and_never_shown(self, httpserver: HTTPServer) -> None:
        httpserver.expect_request(
            "/api/v1/query", headers={"Authorization": "Bearer s3cret-token"}
        ).respond_with_json({"status": "error", "error": "no s3cret-token here"}, status=400)

        sentence = refused(block(httpserver.url_for(""), token=SecretStr("s3cret-token\n")).look)

        assert "is refused by Prometheus: no ******** here" in sentence
        assert "s3cret-token" not in repr(sentence)
