"""What a person, a script or a broken part can get wrong, before anything is changed.

The command line catches some of it; the API takes anything, so each run checks it again.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import pytest

from sandbox.parts import postgres, registry
from tests.e2e.conftest import Deployed
from tests.e2e.driver import Look, Operator, Outcome

pytestmark = pytest.mark.e2e


MISTAKES = {
    "deploy latest": "'latest' is not a valid version",
    "deploy v9.0.0 --to prod": "environment 'prod' is not configured",
    "deploy v9.0.0 --ref=--upload-pack=x": "is not a branch, tag or commit name",
    "deploy --branch=-rf": "is not a branch, tag or commit name",
    "rollback staging --reason P0 --to=-v1": "is not a branch, tag or commit name",
}


@pytest.mark.parametrize("command", MISTAKES)
def test_a_mistake_on_the_command_line_is_one_sentence_and_starts_no_run(
    operator: Operator, staged: Deployed, command: str
) -> None:
    runs = operator.post("/flow_runs/count", {})

    done = operator.ignition(*command.split())

    assert done.code == 1
    error, *hint = done.complained.strip().splitlines()
    assert error.startswith("error: ")
    assert MISTAKES[command] in error
    assert all(line.startswith("hint: ") for line in hint)
    assert operator.post("/flow_runs/count", {}) == runs


def test_a_run_that_failed_is_exit_code_1_for_the_shell_that_waits(
    operator: Operator, staged: Deployed
) -> None:
    done = operator.ignition("deploy", "v9.0.0", "--ref", "no/such-branch", "--wait", "--json")

    assert done.code == 1
    assert done.json["state"] == "Refused"
    assert "has no branch, tag or commit 'no/such-branch'" in done.json["message"]


@dataclass(frozen=True)
class BadRequest:
    """A request that the API takes and that the run has to refuse."""

    deployment: str
    environment: str
    request: dict[str, str]
    sentence: str
    job_variables: dict[str, Any] = field(default_factory=dict)


BAD_REQUESTS = {
    "no version": BadRequest(
        "staging", "staging", {"version": "latest"}, "'latest' is not a valid version"
    ),
    "an environment that the deployment is not for": BadRequest(
        "staging", "prod", {"version": "v9.0.0"}, "is for staging, but was asked for 'prod'"
    ),
    "an option as environment": BadRequest(
        "staging", "-rf", {"version": "v9.0.0"}, "is for staging, but was asked for '-rf'"
    ),
    "an option as branch": BadRequest(
        "staging",
        "staging",
        {"version": "v9.0.0", "ref": "--upload-pack=x"},
        "is not a branch, tag or commit name",
    ),
    "a tag that stands on another commit": BadRequest(
        "staging", "staging", {"version": "v1.0.0", "ref": "main"}, "tag v1.0.0 stands on"
    ),
    "nothing to build from": BadRequest(
        "production",
        "production",
        {"version": "v9.0.0", "ref": "chore/no-dockerfile"},
        "has no app/backend/Dockerfile to build from",
    ),
    "other people who may sign": BadRequest(
        "staging",
        "staging",
        {"version": "v9.0.0"},
        "was started with job variables of its own (env), and none is allowed",
        {"stream_output": False, "env": {"IGNITION_APPROVERS__FILE": "mine.csv"}},
    ),
}


@dataclass(frozen=True)
class Refusals:
    """All bad requests, made at once: none needs what another one changes."""

    before: tuple[Look, Look]
    outcomes: dict[str, Outcome]
    after: tuple[Look, Look]


@pytest.fixture(scope="module")
def refusals(operator: Operator, staged: Deployed) -> Refusals:
    def look() -> tuple[Look, Look]:
        return operator.look("staging"), operator.look("production")

    def remove_dockerfile(work: Path) -> None:
        (work / "app/backend/Dockerfile").unlink()

    operator.push("chore/no-dockerfile", remove_dockerfile, "Build elsewhere")
    before = look()
    runs = {
        name: operator.create_run(
            f"deploy/{bad.deployment}",
            {"request": bad.request, "environment": bad.environment},
            bad.job_variables,
        )
        for name, bad in BAD_REQUESTS.items()
    }
    return Refusals(before, {name: operator.end_of(run) for name, run in runs.items()}, look())


@pytest.mark.parametrize("name", BAD_REQUESTS)
def test_a_request_that_cannot_be_used_is_refused_with_its_reason(
    refusals: Refusals, name: str
) -> None:
    outcome = refusals.outcomes[name]

    assert outcome.ending == "Refused", outcome
    assert BAD_REQUESTS[name].sentence in outcome.message.splitlines()[0]


def test_requests_that_cannot_be_used_change_nothing(refusals: Refusals) -> None:
    assert refusals.after == refusals.before


def test_smoke_tests_that_are_called_otherwise_are_refused_before_anything_is_tagged(
    operator: Operator, staged: Deployed
) -> None:
    def rename_script(work: Path) -> None:
        manifest = work / "tests/package.json"
        manifest.write_text(manifest.read_text().replace('"test:smoke"', '"smoke"'))

    commit = operator.push("chore/other-script", rename_script, "Call it otherwise")
    before, tags = operator.look("staging"), operator.git_tags()

    outcome = operator.deploy(operator.next_version(), "chore/other-script")

    assert outcome.ending == "Refused", outcome
    assert (
        f"tests/package.json of {commit[:12]} has no script 'test:smoke'; "
        "did you mean smoke? There is: smoke"
    ) in outcome.message
    assert f"staging serves {before.serves}" in outcome.message
    assert (operator.look("staging"), operator.git_tags()) == (before, tags)


@contextmanager
def registry_down(operator: Operator) -> Iterator[None]:
    """The registry's process is gone."""
    registry.registry_process(operator.sandbox).stop()
    try:
        yield
    finally:
        registry.ensure_registry(operator.sandbox)


@contextmanager
def ledger_down(operator: Operator) -> Iterator[None]:
    """The ledger's database takes no connections."""
    superuser = postgres.superuser_url(operator.sandbox)
    with psycopg.connect(superuser, autocommit=True) as connection:
        connection.execute("ALTER DATABASE ledger ALLOW_CONNECTIONS false")
        try:
            yield
        finally:
            connection.execute("ALTER DATABASE ledger ALLOW_CONNECTIONS true")


@contextmanager
def service_renamed(operator: Operator) -> Iterator[None]:
    """The host's Compose file knows the service by another name."""
    file = operator.environment("staging").compose_file
    text = file.read_text()
    file.write_text(text.replace("  api:\n", "  backend:\n"))
    try:
        yield
    finally:
        file.write_text(text)


BROKEN: dict[str, tuple[Callable[[Operator], AbstractContextManager[None]], str]] = {
    "registry": (registry_down, "does not answer"),
    "ledger": (ledger_down, 'database "ledger" is not currently accepting connections'),
    "orchestrator": (service_renamed, "has no service 'api'; there is: backend, proxy"),
}


@pytest.mark.parametrize("system", BROKEN)
def test_a_system_that_is_broken_stops_the_run_before_anything_is_changed(
    operator: Operator, staged: Deployed, system: str
) -> None:
    broken, sentence = BROKEN[system]
    before = operator.look("staging")

    with broken(operator):
        outcome = operator.deploy(operator.next_version(), "main")

    assert outcome.ending == "Refused", outcome
    assert outcome.message.startswith(f"{system}: ")
    assert sentence in outcome.message.splitlines()[0]
    assert f"staging serves {before.serves}" in outcome.message
    assert operator.look("staging") == before
