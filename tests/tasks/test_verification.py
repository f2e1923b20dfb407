"""Verification against a real server, with real smoke tests in a real folder."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from logging import INFO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from prefect import flow
from pytest_httpserver import HTTPServer

from blocks.service import Service, SmokeTests
from release.configuration.auth import AuthSettings
from release.configuration.deployed_with import DeployedWith
from release.configuration.layout import ServiceLayout
from release.configuration.rules import VerifyRules, WatchRules
from release.errors import TriggerFired, Unreachable, VerificationFailed
from release.model import Baseline, Check, Instance, Release
from tasks.alarm import listening
from tasks.verification import look, verify_baseline, verify_instances, verify_public
from tests.fakes.orchestrator import FakeOrchestrator

Artifact = Callable[[str], Any]
RELEASE = Release("v1.1.0", "b" * 40)
RULES = VerifyRules(health_within=timedelta(milliseconds=200), smoke_timeout=timedelta(seconds=20))
GOOD_SMOKE = (
    "import os, pathlib; print(os.environ['BASE_URL'], os.environ['EXPECT_VERSION'], "
    "pathlib.Path('smoke').read_text())"
)


def layout(script: str = GOOD_SMOKE, port: int = 8000) -> ServiceLayout:
    return ServiceLayout(name="ignition-api", smoke=(sys.executable, "-c", script), port=port)


@dataclass
class Source:
    """A repository with one release."""

    tree: Path
    exported: list[str] = field(default_factory=list)
    away: bool = False

    @contextlib.contextmanager
    def export(self, revision: str) -> Iterator[Path]:
        if self.away:
            raise Unreachable("the git remote does not answer")
        self.exported.append(revision)
        yield self.tree


@dataclass
class Production:
    service: Service
    repository: Source
    environment: str = "production"
    orchestrator: FakeOrchestrator = field(default_factory=FakeOrchestrator)


@pytest.fixture
def production(httpserver: HTTPServer, tmp_path: Path) -> Production:
    (tmp_path / "smoke").write_text("of this release")
    return Production(Service(url=httpserver.url_for(""), request_timeout_s=5), Source(tmp_path))


def answers(server: HTTPServer, health: int = 200, version: str = "v1.1.0") -> None:
    server.expect_request("/health").respond_with_data("", status=health)
    server.expect_request("/api/").respond_with_json({"version": version})


def looked(
    production: Production, script: str = GOOD_SMOKE, base_url: str | None = None
) -> tuple[tuple[Check, ...], list[str]]:
    lines: list[str] = []
    service = production.service.at(base_url) if base_url else production.service
    smoke = SmokeTests(
        layout(script).smoke, production.repository.tree, RELEASE.version, RULES.smoke_timeout
    )
    checks = look(service, RELEASE, smoke, RULES, lambda line, level=INFO: lines.append(line))
    return checks, lines


def deployed_with(script: str = GOOD_SMOKE, **how: Any) -> DeployedWith:
    """How v1.1.0 was checked when it was deployed."""
    then = layout(script).model_copy(update=how)
    return DeployedWith.now(then, AuthSettings(), WatchRules())


class TestALook:
    def test_at_a_good_release_is_three_checks(
        self, production: Production, httpserver: HTTPServer
    ) -> None:
        answers(httpserver)
        checks, lines = looked(production)
        assert [(check.name, check.passed) for check in checks] == [
            ("health", True),
            ("version", True),
            ("smoke tests", True),
        ]
        url = httpserver.url_for("")
        assert f"smoke | {url.rstrip('/')} v1.1.0 of this release" in lines

    def test_waits_for_a_service_that_is_not_healthy_yet(
        self, production: Production, httpserver: HTTPServer
    ) -> None:
        httpserver.expect_oneshot_request("/health").respond_with_data("", status=503)
        answers(httpserver)
        rules = RULES.model_copy(update={"health_within": timedelta(seconds=5)})
        checks = look(production.service, RELEASE, None, rules, lambda line, level=INFO: None)
        assert [check.passed for check in checks] == [True, True]
        assert timedelta(milliseconds=500) <= checks[0].took < timedelta(seconds=5)

    def test_does_not_wait_for_ever(self, production: Production, httpserver: HTTPServer) -> None:
        answers(httpserver, health=503)
        began = time.monotonic()
        checks, lines = looked(production)
        assert time.monotonic() - began < 5
        assert [check.name for check in checks] == ["health"]
        asked = f"{production.service.shown_url}/health"
        assert checks[0].sentence.startswith(f"{asked}: HTTP 503, tried for ")
        assert lines[0].startswith(f"health FAILED: {asked}: HTTP 503, tried for ")

    def test_a_wrong_version_is_not_smoke_tested(
        self, production: Production, httpserver: HTTPServer
    ) -> None:
        answers(httpserver, version="v1.0.0")
        checks, _ = looked(production)
        assert [check.name for check in checks] == ["health", "version"]
        asked = f"{production.service.shown_url}/api/"
        assert checks[1].sentence.startswith(f"{asked} answers v1.0.0, expected v1.1.0")

    @pytest.mark.parametrize(
        ("body", "said"),
        [
            (
                '{"name": "orders", "build": 7}',
                "has no field 'version'; it has: name, build",
            ),
            ("<html>\n<p>Welcome", "does not answer JSON, it begins: <html> <p>Welcome"),
        ],
    )
    def test_where_there_is_no_version_it_says_what_was_answered_and_where(
        self, production: Production, httpserver: HTTPServer, body: str, said: str
    ) -> None:
        httpserver.expect_request("/health").respond_with_data("")
        httpserver.expect_request("/api/").respond_with_data(body)
        checks, _ = looked(production)
        asked = f"{production.service.shown_url}/api/"
        assert checks[1].sentence.startswith(f"no version ({asked} {said}), expected v1.1.0")

    def test_an_instance_is_asked_and_smoke_tested_at_its_own_address(
        self, production: Production, httpserver: HTTPServer
    ) -> None:
        answers(httpserver)
        own = httpserver.url_for("").rstrip("/")
        production.service.url = "http://127.0.0.1:9"
        checks, lines = looked(production, base_url=own)
        assert all(check.passed for check in checks)
        assert f"smoke | {own} v1.1.0 of this release" in lines


@flow
def verifying_public(target: Any, script: str) -> Any:
    return verify_public(target, RELEASE, layout(script), RULES)


@flow
def verifying_instances(target: Any, instances: Any, port: int) -> Any:
    return verify_instances(target, instances, RELEASE, layout(port=port), RULES)


@flow
def verifying_baseline(
    target: Any, baseline: Any, script: str = GOOD_SMOKE, rules: VerifyRules = RULES
) -> Any:
    return verify_baseline(target, baseline, layout(script), rules)


def instance(name: str, address: str) -> Instance:
    return Instance(name, name, address, None, "v1.1.0", "b" * 40, "running", "healthy")


def baseline(release: Release | None) -> Baseline:
    return Baseline("production", release, (), "", None, None, datetime(2026, 1, 8, tzinfo=UTC))


class TestABaselineThatWasDeployedWithOtherSettings:
    """v1.1.0 serves again; its successor brought other smoke tests, and moved the health check."""

    def test_passes_the_checks_that_it_was_deployed_with(
        self, production: Production, httpserver: HTTPServer
    ) -> None:
        httpserver.expect_request("/up").respond_with_data("")
        httpserver.expect_request("/about").respond_with_json({"is": {"version": "v1.1.0"}})
        then = deployed_with(
            "print('those of then')",
            health_path="/up",
            version_path="/about",
            version_field="is.version",
        )
        before = replace(baseline(RELEASE), deployed_with=then)

        checks = verifying_baseline(production, before, "raise SystemExit('those of now')")

        assert [(check.name, check.passed) for check in checks] == [
            ("health", True),
            ("version", True),
            ("smoke tests", True),
        ]
        assert production.repository.exported == [RELEASE.revision]

    def test_fails_by_those_checks_with_a_hint_that_it_answers(
        self, production: Production, httpserver: HTTPServer
    ) -> None:
        answers(httpserver)
        httpserver.expect_request("/up").respond_with_data("", status=503)
        before = replace(baseline(RELEASE), deployed_with=deployed_with(health_path="/up"))

        with pytest.raises(VerificationFailed, match=r"health: .*/up: HTTP 503") as failed:
            verifying_baseline(production, before)

        assert failed.value.hint.endswith("/up")

    def test_without_a_record_passes_the_present_ones(
        self, production: Production, httpserver: HTTPServer
    ) -> None:
        answers(httpserver)
        with pytest.raises(VerificationFailed, match="exit code 7"):
            verifying_baseline(production, baseline(RELEASE), "raise SystemExit(7)")


class TestTheSteps:
    def test_failed_smoke_tests_fail_the_release_with_their_last_line(
        self, production: Production, httpserver: HTTPServer, artifact: Artifact
    ) -> None:
        answers(httpserver)
        with pytest.raises(VerificationFailed) as failed:
            verifying_public(production, "print('not ok 2 login'); raise SystemExit(1)")
        assert failed.value.what == (
            "v1.1.0 on production failed verification: smoke tests: exit code 1: not ok 2 login"
        )
        assert failed.value.hint == "artifact verification-production of this run"
        assert production.repository.exported == [RELEASE.revision]
        shown = artifact("verification-production")
        assert "| version | passed | v1.1.0 |" in shown
        assert "| smoke tests | **failed** | exit code 1: not ok 2 login |" in shown

    def test_each_instance_is_verified_and_the_bad_one_is_named(
        self, production: Production, httpserver: HTTPServer, artifact: Artifact
    ) -> None:
        answers(httpserver)
        two = (instance("api-2", "127.0.0.1"), instance("api-3", "127.0.0.9"))
        if httpserver.host != "127.0.0.1":
            two = (instance("api-2", httpserver.host), instance("api-3", "127.0.0.9"))
        with pytest.raises(VerificationFailed) as failed:
            verifying_instances(production, two, httpserver.port)
        assert (
            f"health, api-3: http://127.0.0.9:{httpserver.port}/health: Connection refused"
            in failed.value.what
        )
        assert "api-2" not in failed.value.what
        shown = artifact("verification-production")
        assert "| smoke tests, api-2 | passed | exit code 0 |" in shown

    def test_a_baseline_is_verified_by_the_checks_that_it_was_deployed_with(
        self, production: Production, httpserver: HTTPServer, artifact: Artifact
    ) -> None:
        answers(httpserver, version="v1.0.0")
        checks: Any = verifying_baseline(production, baseline(Release("v1.0.0", "a" * 40)))
        assert [check.name for check in checks] == ["health", "version", "smoke tests"]
        assert production.repository.exported == ["a" * 40]

    def test_a_baseline_whose_smoke_tests_cannot_be_had_is_verified_without(
        self, production: Production, httpserver: HTTPServer, artifact: Artifact
    ) -> None:
        """A rollback does not wait for git; the baseline serves."""
        answers(httpserver, version="v1.0.0")
        production.repository.away = True
        checks: Any = verifying_baseline(production, baseline(Release("v1.0.0", "a" * 40)))
        assert [check.name for check in checks] == ["health", "version"]

        unknown: Any = verifying_baseline(production, baseline(Release("v1.0.0", "")))
        assert [check.name for check in unknown] == ["health", "version"]

    def test_a_baseline_whose_smoke_tests_fail_is_not_verified(
        self, production: Production, httpserver: HTTPServer, artifact: Artifact
    ) -> None:
        """It serves, but not as it did: the schema is ahead of it."""
        answers(httpserver, version="v1.0.0")
        with pytest.raises(VerificationFailed, match=r"v1\.0\.0 on production failed verification"):
            verifying_baseline(
                production, baseline(Release("v1.0.0", "a" * 40)), "import sys; sys.exit(1)"
            )

    def test_a_baseline_whose_smoke_tests_met_an_outage_is_tested_again(
        self, production: Production, httpserver: HTTPServer, artifact: Artifact
    ) -> None:
        """There is nothing better to go back to, and nobody is to be woken for a restart."""
        answers(httpserver, version="v1.0.0")
        script = (
            "import pathlib, sys; first = not pathlib.Path('tried').exists();"
            "pathlib.Path('tried').touch(); sys.exit(first)"
        )
        within = RULES.model_copy(update={"health_within": timedelta(seconds=20)})
        checks: Any = verifying_baseline(
            production, baseline(Release("v1.0.0", "a" * 40)), script, within
        )
        assert [check.passed for check in checks] == [True, True, True]
        assert "| smoke tests | passed | exit code 0 |" in artifact("verification-production")

    def test_a_p0_ends_smoke_tests_that_are_under_way(
        self, production: Production, httpserver: HTTPServer
    ) -> None:
        """They would have gone on for a minute; the process is gone."""
        answers(httpserver)
        script = (
            "import os, pathlib, time; pathlib.Path('pid').write_text(str(os.getpid()));"
            "time.sleep(60)"
        )
        declared = SimpleNamespace(payload={"reason": "it is charged twice"})
        started = production.repository.tree / "pid"

        def p0_declared(environment: str, since: datetime) -> Any:
            return declared if started.exists() and started.read_text() else None

        reports: Any = SimpleNamespace(p0_declared=p0_declared)
        with (
            listening(reports, "production", datetime.now(UTC)),
            pytest.raises(TriggerFired, match="P0 declared: it is charged twice"),
        ):
            looked(production, script)
        assert not Path(f"/proc/{started.read_text()}").exists()

    def test_nothing_is_verified_where_nothing_served(
        self, production: Production, artifact: Artifact
    ) -> None:
        assert verifying_baseline(production, baseline(None)) == ()
