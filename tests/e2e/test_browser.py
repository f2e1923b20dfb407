"""The whole way through a gate, by people at Prefect's UI in a real browser."""

import os
from collections.abc import Callable, Iterator
from uuid import uuid4

import pytest
from playwright.sync_api import Browser

from blocks.approvers import Approvers
from release.outcome import Ending, ended_name
from release.request import name_of
from sandbox.parts import approvers
from tests.e2e.browser import Person, chromium
from tests.e2e.conftest import Deployed
from tests.e2e.driver import Operator

pytestmark = [pytest.mark.e2e, pytest.mark.gates]


# How often to go the whole way: IGNITION_BROWSER_TRIES=10 on a sandbox that stands.
TRIES = int(os.environ.get("IGNITION_BROWSER_TRIES", "1"))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if TRIES > 1:
        metafunc.fixturenames.append("attempt")
        metafunc.parametrize("attempt", range(TRIES))


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as program:
        yield program


@pytest.fixture
def person(browser: Browser, operator: Operator) -> Iterator[Person]:
    someone = Person(browser, operator.sandbox)
    yield someone
    someone.close()


@pytest.fixture
def on_call(operator: Operator) -> Iterator[str]:
    """Somebody on call whom no other test knows: ten wrong codes in an hour lock a name."""
    enrolled = Approvers(approvers.file_of(operator.sandbox))
    name = f"Grace {uuid4().hex[:6]}".title()
    enrolled.add(name, ("on-call",))
    yield name
    enrolled.remove(name)


Start = Callable[[str, str], str]


@pytest.fixture
def start(operator: Operator, person: Person) -> Iterator[Start]:
    """Starts a deployment from its form. One that is left waiting is rejected afterwards."""
    started: list[str] = []

    def fill_in(version: str, ref: str) -> str:
        deployment = operator.deployment("deploy/production")
        started.append(person.start_deployment(deployment, version, ref, "Ada"))
        return started[-1]

    yield fill_in
    for run in started:
        if operator.state(run) == "Suspended":
            operator.reject(run, "Ada", "its test has failed")
            operator.end_of(run)


def test_a_deployment_is_started_signed_and_seen_to_end_in_the_ui(
    operator: Operator, staged: Deployed, person: Person, on_call: str, start: Start
) -> None:
    """The release manager starts it; on-call finds it, sends a wrong code, then a right one.

    Each time it waits again, its form says why.
    """
    version = operator.next_version()
    sandbox = operator.sandbox
    run = start(version, "main")
    operator.wait_at_gate(run)

    person.find_waiting(name_of("deploy", version, "production"))
    person.answer("approve", on_call, "000000")
    operator.wait_for_refusal(run, on_call)
    operator.wait_at_gate(run)
    assert operator.serves("production") != version

    wrong, one_more = f"the code for {on_call} is wrong", f"{on_call} has: 1 to go"
    for name, shown in ((on_call, wrong), ("Ada", one_more)):
        person.find_waiting(name_of("deploy", version, "production"))
        person.answer("approve", name, approvers.code(sandbox, name), shown=shown)
        operator.wait_for_signature(run, name)
        if name == on_call:
            operator.wait_at_gate(run)
    ended = ended_name(name_of("deploy", version, "production"), Ending.DEPLOYED)
    person.sees(run, ended)
    person.finds(ended, "Completed", operator.deployment("deploy/production"))

    assert operator.serves("production") == version
    assert operator.lock_holder("production") == ""


def test_a_deployment_is_rejected_in_the_ui_and_nothing_changes(
    operator: Operator, staged: Deployed, person: Person, start: Start
) -> None:
    version, before = operator.next_version(), operator.look("production")
    run = start(version, "refactor/stack-split")
    operator.wait_at_gate(run)

    person.find_waiting(name_of("deploy", version, "production"))
    person.answer("reject", "Grace", comment="freeze until Monday", shown="0 of 5 items signed")
    ended = ended_name(name_of("deploy", version, "production"), Ending.REJECTED)
    person.sees(run, ended)
    person.finds(ended, "Failed", operator.deployment("deploy/production"))

    assert operator.look("production") == before
