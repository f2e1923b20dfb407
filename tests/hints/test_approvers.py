"""Who may sign: what every text says to type until somebody can, and that they can then."""

from collections.abc import Callable
from typing import Any

import pytest

from blocks.approvers import Approvers
from flows.gate import _refuse_unsignable
from release.errors import BadConfiguration
from release.gate.checklist import Quorum
from settings import load_settings
from tests.fakes.gate import ITEMS, Gate
from tests.fakes.shell import ROLE, Done, Shell
from tests.hints.conftest import Crew


def unsignable(shell: Shell, crew: Crew) -> str:
    """What a run says that nobody could sign."""
    run: Any = Gate(crew.production.ledger, Approvers(load_settings().approvers_file))
    with pytest.raises(BadConfiguration) as refused:
        _refuse_unsignable(run, ITEMS, Quorum())
    return str(refused.value)


def by_doctor(shell: Shell, crew: Crew) -> str:
    said = shell.ignition("doctor").said
    return said[said.index("WRONG all          approvers") :].partition("\nok ")[0]


def unreadable(shell: Shell, crew: Crew) -> str:
    """The approvers are nowhere."""
    with pytest.raises(BadConfiguration) as refused:
        Approvers(load_settings().approvers_file).known()
    return str(refused.value)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(unsignable, marks=pytest.mark.hint("_refuse_unsignable: approvers")),
        pytest.param(by_doctor, marks=pytest.mark.hint("_ask_approvers: approvers")),
        pytest.param(unreadable, marks=pytest.mark.hint("_ADD: approvers")),
    ],
)
def test_where_nobody_can_sign_somebody_is_enrolled_who_can(
    shell: Shell, crew: Crew, text: Callable[[Shell, Crew], str]
) -> None:
    said = text(shell, crew)
    for name, role in (("Ada", "release-manager"), ("Grace", "on-call")):
        typed = shell.words(said, "ignition approvers add", NAME=name, ROLE=role)
        assert shell.ignition(*typed[1:], "--show-secret").code == 0

    assert "cannot be signed" not in shell.ignition("approvers", "list").said


def by_a_pipe(shell: Shell) -> Done:
    return shell.ignition("approvers", "add", "Ada", "--role", ROLE)


def without_a_code(shell: Shell) -> Done:
    return shell.ignition(
        "approvers", "add", "Ada", "--role", ROLE, "--show-secret", answer="", terminal=True
    )


@pytest.mark.hint("_adding: approvers")
@pytest.mark.parametrize("add", [by_a_pipe, without_a_code])
def test_whoever_was_not_enrolled_is_enrolled_in_the_same_role_when_it_is_typed_again(
    shell: Shell, crew: Crew, add: Callable[[Shell], Done]
) -> None:
    refused = add(shell)
    assert refused.code == 1
    assert "Ada" not in shell.ignition("approvers", "list").said

    words = shell.words(refused.hint, "ignition approvers add")
    assert shell.ignition(*words[1:], "--show-secret").code == 0

    assert shell.ignition("approvers", "list").said.startswith(f"{'Ada':20} {ROLE}\n")


@pytest.mark.hint("Approvers.remove: approvers")
def test_whoever_is_to_be_removed_is_looked_up(shell: Shell, approvers: Approvers) -> None:
    refused = shell.ignition("approvers", "remove", "Anne")
    assert refused.code == 1

    listed = shell.type(refused.hint, "ignition approvers list")
    assert [line.split()[0] for line in listed.said.splitlines()] == ["Ann", "Bob", "Cleo"]


@pytest.mark.hint("Approvers._refuse_taken: approvers")
def test_whoever_is_there_is_removed_and_enrolled_anew(shell: Shell, approvers: Approvers) -> None:
    before = approvers.file.read_text()
    refused = shell.ignition("approvers", "add", "Ann", "--show-secret")
    assert (refused.code, approvers.file.read_text()) == (1, before)

    assert shell.type(refused.hint, "ignition approvers remove").code == 0
    assert shell.ignition("approvers", "add", "Ann", "--show-secret").code == 0
    assert approvers.file.read_text() != before
