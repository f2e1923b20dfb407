"""What the plan asks, what it refuses, and what it goes on without."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest
from prefect import flow
from pydantic import SecretStr
from pytest_httpserver import HTTPServer

from blocks.auth import AuthFlow
from blocks.metrics import Metrics
from blocks.prometheus import Prometheus
from blocks.service import Service
from release.configuration.rules import RolloutRules
from release.errors import BadConfiguration, Unreachable
from release.readiness.systems import Readiness, blocking, warnings
from tasks.systems import ask_systems, check_systems

ROLLOUT = RolloutRules(replicas=2)


@dataclass
class Part:
    """A system that is there, or not."""

    problem: Exception | None = None

    asked: list[tuple[object, ...]] = field(default_factory=list)

    def check(self, *of: object) -> None:
        self.asked.append(of)
        if self.problem:
            raise self.problem


@dataclass
class Environment:
    """A target whose systems are well; its service and its metrics are real."""

    service: Service
    metrics: Metrics = field(default_factory=Metrics)
    environment: str = "production"
    repository: Part = field(default_factory=Part)
    builder: Part = field(default_factory=Part)
    registry: Part = field(default_factory=Part)
    database: Part = field(default_factory=Part)
    ledger: Part = field(default_factory=Part)
    orchestrator: Part = field(default_factory=Part)
    router: Part = field(default_factory=Part)


@pytest.fixture
def target(httpserver: HTTPServer) -> Any:
    """An environment that serves."""
    httpserver.expect_request("/health").respond_with_data("ok")
    return Environment(Service(url=httpserver.url_for(""), request_timeout_s=2))


def prometheus(url: str) -> Prometheus:
    return Prometheus(environment="production", url=url, durations="")


def finding(server: HTTPServer, *values: int) -> str:
    """A server that answers every query with these values, as Prometheus does."""
    result = [{"metric": {"__name__": "m"}, "value": [1.0, str(value)]} for value in values]
    for endpoint, kind in (("query", "vector"), ("query_range", "matrix")):
        server.expect_request(f"/prometheus/api/v1/{endpoint}").respond_with_json(
            {"status": "success", "data": {"resultType": kind, "result": result}}
        )
    return server.url_for("/prometheus")


def asked(target: Any, name: str) -> Readiness:
    return next(answer for answer in ask_systems(target, ROLLOUT) if answer.name == name)


def test_without_a_prometheus_and_an_account_neither_is_asked(target: Any) -> None:
    answers = ask_systems(target, ROLLOUT)

    assert not {"metrics", "auth flow"} & {answer.name for answer in answers}
    assert all(answer.ok for answer in answers)


def test_a_system_that_does_not_answer_refuses_the_deployment(target: Any) -> None:
    target.registry.problem = Unreachable("the registry does not answer")

    (answer,) = blocking(ask_systems(target, ROLLOUT))

    assert answer.name == "registry"
    assert warnings(ask_systems(target, ROLLOUT)) == ()


def test_a_system_that_hangs_is_named_while_the_others_are_well(
    target: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    over = threading.Event()
    monkeypatch.setattr(target.registry, "check", over.wait)

    (answer,) = blocking(ask_systems(target, ROLLOUT, timedelta(seconds=2)))

    assert (answer.name, answer.problem) == ("registry", "no answer within 2 s")
    over.set()


def test_the_orchestrator_is_asked_whether_it_can_do_the_rollout(target: Any) -> None:
    """As the flow would: so many instances, behind a router or not. Nothing is deployed yet."""
    ask_systems(target, ROLLOUT)
    target.router = None
    ask_systems(target, ROLLOUT)

    assert target.orchestrator.asked == [(2, True), (2, False)]


def test_a_project_that_cannot_be_rolled_out_refuses_the_deployment(target: Any) -> None:
    target.orchestrator.problem = BadConfiguration("service api publishes port 80", "take it out")

    (answer,) = blocking(ask_systems(target, ROLLOUT))

    assert (answer.configuration, answer.hint) == (True, "take it out")


class TestPrometheus:
    def test_that_answers_is_good(self, target: Any, httpserver: HTTPServer) -> None:
        target.metrics = Metrics(server=prometheus(finding(httpserver, 7)))

        assert asked(target, "metrics").ok

    def test_that_is_down_is_a_warning(self, target: Any) -> None:
        """The metrics being down is not the release being bad."""
        target.metrics = Metrics(server=prometheus("http://127.0.0.1:9"))

        answers = ask_systems(target, ROLLOUT)

        assert blocking(answers) == []
        assert warnings(answers) == (
            "metrics: Prometheus at http://127.0.0.1:9 does not answer: Connection refused",
        )

    def test_whose_query_never_found_anything_refuses_the_deployment(
        self, target: Any, httpserver: HTTPServer
    ) -> None:
        target.metrics = Metrics(server=prometheus(finding(httpserver)))

        (answer,) = blocking(ask_systems(target, ROLLOUT))

        assert answer.configuration
        assert answer.problem == (
            "Prometheus's query for requests has found nothing in 7 days: "
            'http_requests_total{environment="production"}'
        )
        assert answer.hint.startswith("edit environments.production.metrics.requests in ")

    def test_has_nothing_to_find_where_nothing_serves_yet(
        self, target: Any, httpserver: HTTPServer
    ) -> None:
        target.service.health_path = "/not-there-yet"
        target.metrics = Metrics(server=prometheus(finding(httpserver)))

        assert asked(target, "metrics").ok


class TestAuthFlow:
    @pytest.fixture(autouse=True)
    def _account(self, target: Any) -> None:
        target.service.auth = AuthFlow(username="probe", password=SecretStr("hunter2"))

    def test_that_fails_already_is_a_warning(self, target: Any, httpserver: HTTPServer) -> None:
        """The release may be what repairs it; whoever signs has to know."""
        httpserver.expect_request("/api/login").respond_with_data("", status=401)
        httpserver.expect_request("/api/me").respond_with_data("", status=401)

        answers = ask_systems(target, ROLLOUT)

        assert blocking(answers) == []
        assert warnings(answers) == (
            "auth flow: it fails already, and would be taken for the release's fault: "
            "login answers HTTP 401",
        )

    def test_that_is_refused_names_the_variable_of_its_password(
        self, target: Any, httpserver: HTTPServer
    ) -> None:
        httpserver.expect_request("/api/login").respond_with_data("", status=401)

        assert asked(target, "auth flow").hint == (
            "see environments.production.auth in ignition.toml and "
            "IGNITION_ENVIRONMENTS__PRODUCTION__AUTH__PASSWORD, then: ignition setup"
        )

    def test_without_a_password_is_refused_before_anything_is_asked(self, target: Any) -> None:
        """A login without one always fails, and the watch would blame the release."""
        target.service.auth = AuthFlow(username="probe")
        variable = "IGNITION_ENVIRONMENTS__PRODUCTION__AUTH__PASSWORD"

        answer = asked(target, "auth flow")

        assert blocking([answer]) == [answer]
        assert answer.problem == (
            f"environments.production.auth.username is set, and its password is not: {variable}"
        )
        assert answer.hint == f"export {variable}=… and run: ignition setup"

    def test_that_works_is_good(self, target: Any, httpserver: HTTPServer) -> None:
        httpserver.expect_request("/api/login").respond_with_json({"token": "t"})
        httpserver.expect_request(
            "/api/me", headers={"Authorization": "Bearer t"}
        ).respond_with_data("me")
        httpserver.expect_request("/api/me").respond_with_data("", status=401)

        assert asked(target, "auth flow").ok

    def test_is_not_asked_where_nothing_serves_yet(self, target: Any) -> None:
        target.service.health_path = "/not-there-yet"

        assert asked(target, "auth flow").ok


class TestTheStep:
    @pytest.fixture
    def check(self, prefect_server: None) -> Callable[[Any], tuple[Readiness, ...]]:
        @flow
        def plan(target: Any) -> tuple[Readiness, ...]:
            return check_systems.with_options(retries=0)(target, ROLLOUT)

        return lambda target: plan.with_options(validate_parameters=False)(target)

    def test_goes_on_with_a_warning(
        self, target: Any, check: Callable[[Any], tuple[Readiness, ...]]
    ) -> None:
        target.metrics = Metrics(server=prometheus("http://127.0.0.1:9"))

        assert len(warnings(check(target))) == 1

    def test_refuses_a_wrong_query_as_configuration(
        self,
        target: Any,
        httpserver: HTTPServer,
        check: Callable[[Any], tuple[Readiness, ...]],
    ) -> None:
        target.metrics = Metrics(server=prometheus(finding(httpserver)))

        with pytest.raises(BadConfiguration, match="has found nothing in 7 days"):
            check(target)
