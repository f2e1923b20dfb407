"""Nobody watches the nightly: what it did not do is said, and is no success."""

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from prefect import flow
from prefect.client.schemas.objects import State
from pytest_httpserver import HTTPServer

import flows.nightly
from flows import outcome
from release.errors import BadConfiguration, DeployError, Unreachable
from release.ledger import EventKind
from release.outcome import Ending
from release.request import DeployRequest
from tests.fakes.ending import ending_of
from tests.fakes.environment import HOUR, Environment, run_on

HEAD, SERVING = "2" * 40, "a" * 40
Told = Callable[[], list[tuple[str, str]]]


@pytest.fixture
def main(production: Environment) -> SimpleNamespace:
    """The main branch, whose head does not serve."""
    production.replace_baseline(ago=HOUR)
    made = SimpleNamespace(main="main", fetch=lambda: None, resolve=lambda ref: HEAD)
    production.repository = made
    return made


@pytest.fixture
def nightly(
    production: Environment, main: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Any]:
    """Runs the flow as its schedule would; its deployment ends as it is told to."""

    def start(
        ends: Ending = Ending.DEPLOYED, says: str = "done", cannot: DeployError | None = None
    ) -> Any:
        @flow(name="deploy")
        def deploy(request: DeployRequest, environment: str) -> State[Any]:
            assert request.started_by == "nightly"
            return outcome.state(ends, says, "type this")

        def begin(environment: str) -> Any:
            if cannot:
                raise cannot
            return run_on(production, str(flows.nightly.flow_run.id))

        monkeypatch.setattr(flows.nightly, "begin", begin)
        monkeypatch.setattr(flows.nightly, "deploy", deploy)
        return flows.nightly.nightly("production", return_state=True)

    return start


def left(production: Environment) -> None:
    """The head of main was rolled back in the night before."""
    payload = {"ending": "RolledBack", "version": "main-2222", "revision": HEAD}
    production.ledger.record(
        "production", str(uuid4()), EventKind.DEPLOYMENT_ENDED, payload=payload
    )


def test_a_bad_main_is_no_success_on_its_second_night_and_people_are_told(
    nightly: Any, production: Environment, told: Told, httpserver: HTTPServer
) -> None:
    left(production)

    for night in (1, 2):
        ended = nightly()

        assert (ending_of(ended), ended.is_failed()) == ("Refused", True), ended
        assert "main has not moved since 222222222222, which was rolled back on " in ended.message
        assert "push to main a commit that fixes or reverts 222222222222" in ended.message
        assert len(told()) == night

    (path, subject) = told()[-1]
    assert path == "/team"
    assert subject.endswith(
        "production main: Refused (started by nightly); production serves v1.1.0"
    )
    assert "/runs/flow-run/" in httpserver.log[-1][0].json["body"]
    assert production.serves == "v1.1.0"


def test_a_main_that_has_moved_since_is_deployed(
    nightly: Any, production: Environment, main: SimpleNamespace, told: Told
) -> None:
    left(production)
    main.resolve = lambda ref: "3" * 40

    assert ending_of(nightly()) == "Deployed"
    assert told() == []  # by the nightly itself: the deployment says how it ended


def test_a_main_that_serves_already_is_well_and_wakes_nobody(
    nightly: Any, production: Environment, main: SimpleNamespace, told: Told
) -> None:
    instances = production.orchestrator.host.containers
    instances[:] = [replace(instance, revision=HEAD) for instance in instances]

    ended = nightly()

    assert (ending_of(ended), ended.is_completed()) == ("NothingToDo", True), ended
    assert "222222222222 serves already" in ended.message
    assert told() == []


def test_a_nightly_whose_deployment_is_refused_is_told(
    nightly: Any, production: Environment, told: Told, httpserver: HTTPServer
) -> None:
    """Somebody's deployment waits at its gate over night, and holds the environment."""
    ended = nightly(Ending.REFUSED, "production is held by Ada; production serves v1.1.0")

    assert (ending_of(ended), ended.is_failed()) == ("Refused", True), ended
    ((path, subject),) = told()
    assert path == "/team"
    assert subject.endswith("Refused (started by nightly); production serves v1.1.0")
    body = httpserver.log[-1][0].json["body"].splitlines()
    assert "production is held by Ada" in body[0]
    assert body[1] == "to do: type this"
    assert production.serves == "v1.1.0"


@pytest.mark.parametrize("ends", [Ending.ROLLED_BACK, Ending.FAILED, Ending.REJECTED])
def test_what_the_deployment_tells_itself_is_not_told_twice(
    nightly: Any, told: Told, ends: Ending
) -> None:
    assert ending_of(nightly(ends)) == ends
    assert told() == []


def test_a_nightly_that_reaches_no_git_is_told(
    nightly: Any, production: Environment, main: SimpleNamespace, told: Told
) -> None:
    def fetch() -> None:
        raise BadConfiguration("the git remote refuses this key", "ignition doctor")

    main.fetch = fetch

    assert ending_of(nightly()) == "Refused"
    ((_, subject),) = told()
    assert "production main: Refused (started by nightly)" in subject
    assert production.serves == "v1.1.0"


def test_a_nightly_that_cannot_even_begin_is_told_to_whom_the_configuration_names(
    nightly: Any, production: Environment, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = SimpleNamespace(notify=SimpleNamespace(blocks=("custom-webhook/team",)))
    monkeypatch.setattr(flows.nightly, "load_settings", lambda: named)

    ended = nightly(cannot=BadConfiguration("Prefect has no block", "ignition setup"))

    assert ending_of(ended) == "Refused"
    ((path, subject),) = told()
    assert path == "/team"
    assert subject.endswith("production nightly: Refused (started by nightly)")
    assert production.serves == "v1.1.0"


def test_without_a_configuration_that_can_be_read_it_is_refused_all_the_same(
    nightly: Any, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreadable() -> None:
        raise BadConfiguration("no configuration", "cp ignition.example.toml ignition.toml")

    monkeypatch.setattr(flows.nightly, "load_settings", unreadable)

    assert ending_of(nightly(cannot=Unreachable("no Prefect", ""))) == "Refused"
    assert told() == []
