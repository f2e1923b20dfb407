"""What counts as serving, and so as what a rollback brings back; and how well it does."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from prefect import flow
from pytest_httpserver import HTTPServer

from blocks.metrics import Metrics
from blocks.metrics_source import MetricsSource
from blocks.service import Service
from flows.deploy import measured_until_now
from release.configuration.rules import WatchRules
from release.measure.counters import Growth, RouterLook, router_growth
from release.measure.slot import Admin, Slot
from release.measure.tally import Tally
from release.measure.traffic import ALL_RELEASES, ROUTER, Traffic
from release.model import Baseline, ImageRef, Instance, Release
from release.rollback.baseline import measured
from tasks.baseline import serving
from tasks.watch import seen_since

AT = datetime(2026, 11, 3, 14, 0, tzinfo=UTC)
RULES = WatchRules(fewest_requests=10)
IMAGE = ImageRef("registry/api", "sha256:" + "1" * 64)
ONE = Instance("c1", "api-1", "10.0.0.2", IMAGE, "v1.0.0", "a" * 40, "running", "healthy")


def a_target(*slots: Slot) -> Any:
    return SimpleNamespace(
        router=SimpleNamespace(slots=lambda: slots),
        orchestrator=SimpleNamespace(instances=lambda: (ONE,)),
    )


@pytest.mark.parametrize("up", [True, False], ids=["answers", "too busy to answer"])
def test_an_instance_that_the_router_is_to_send_requests_to_serves(up: bool) -> None:
    """Was nothing, a deployment at a busy moment took itself for the first, with no way back."""
    found = serving(a_target(Slot("api1", "api-1", admin=Admin.READY, up=up)))

    assert found == (ONE,)


@pytest.mark.parametrize("admin", [Admin.DRAIN, Admin.MAINT])
def test_an_instance_that_was_taken_out_does_not(admin: Admin) -> None:
    assert serving(a_target(Slot("api1", "api-1", admin=admin, up=True))) == ()


class Busy(MetricsSource[RouterLook]):
    """A router that counts a hundred answers, one of them an error, from look to look."""

    name = ROUTER
    counts_on = False

    def __init__(self) -> None:
        self.looked = 0

    def look(self) -> RouterLook:
        self.looked += 1
        return RouterLook(Tally(100 * self.looked, self.looked), ())

    def growth(self, before: RouterLook, now: RouterLook, versions: Mapping[str, str]) -> Growth:
        return router_growth(before, now, versions)


class TestTheBaselineIsMeasured:
    @pytest.fixture
    def environment(self, httpserver: HTTPServer, prefect_server: None) -> Any:
        """v1.0.0 serves."""
        for path in ("/health", "/api/"):
            httpserver.expect_request(path).respond_with_data("")
        return SimpleNamespace(
            environment="production",
            service=Service(url=httpserver.url_for(""), request_timeout_s=5),
            metrics=Metrics(),
            router=Busy(),
            orchestrator=SimpleNamespace(instances=lambda: (ONE,)),
        )

    @staticmethod
    def planned(environment: Any) -> Baseline:
        """As the plan has it: seen for a moment."""
        served = Baseline("production", Release("v1.0.0", "a" * 40), (), "", None, None, AT)
        seen = seen_since(environment, RULES, None)
        assert seen is not None
        return measured(served, *seen)

    def test_from_the_plan_until_the_new_release_is_started(self, environment: Any) -> None:
        plan = self.planned(environment)
        environment.router.looked += 300  # a gate and a build later

        found = until_now(environment, plan)

        (router,) = (traffic for traffic in found.traffic if traffic.source == ROUTER)
        assert router == Traffic(ROUTER, ALL_RELEASES, 100 + 30_100, 1 + 301)
        assert found.p95 is not None
        assert found.looks is None

    def test_not_at_all_where_something_else_may_serve_by_now(self, environment: Any) -> None:
        """A run that went on without its results after the cutover."""
        plan = replace(self.planned(environment), looks=None)

        assert until_now(environment, plan) == plan

    def test_in_the_plan_alone_where_nothing_answers_now(self, environment: Any) -> None:
        plan = self.planned(environment)
        environment.service = Service(url="http://127.0.0.1:9", request_timeout_s=1)

        found = until_now(environment, plan)

        assert (found.traffic, found.times) == (plan.traffic, plan.times)

    def test_in_the_plan_alone_where_it_cannot_be_measured(self, environment: Any) -> None:
        """The deployment goes on: it decides nothing yet."""
        plan = self.planned(environment)
        environment.metrics = None

        assert until_now(environment, plan) == plan


def until_now(environment: Any, baseline: Baseline) -> Baseline:
    """What a deployment measures before it starts anything."""

    @flow
    def deploying(run: Any, plan: Any) -> Any:
        return measured_until_now(run, plan)

    run = SimpleNamespace(target=environment, rules=SimpleNamespace(watch=RULES))
    return deploying(run, SimpleNamespace(baseline=baseline))
