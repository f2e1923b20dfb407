"""What was asked for cannot be used: what is typed instead, and that it is taken."""

import pytest

from tests.fakes.shell import Done, Shell
from tests.hints.conftest import Crew


def refused(shell: Shell, crew: Crew, *words: str) -> Done:
    """A command that is refused: it begins nothing."""
    done = shell.ignition(*words)
    assert (done.code, crew.due("deploy"), crew.due("rollback")) == (1, [], [])
    assert crew.left == ("v1.1.0", "")
    return done


@pytest.mark.parametrize(
    ("words", "begins", "asked"),
    [
        pytest.param(
            ["1.2.3"],
            "ignition deploy v1.2.3",
            {"version": "v1.2.3", "kind": "tag", "ref": "main"},
            marks=pytest.mark.hint("parse_version: deploy"),
            id="no version",
        ),
        pytest.param(
            [],
            "ignition deploy v1.2.3",
            {"version": "v1.2.3", "kind": "tag", "ref": "main"},
            marks=pytest.mark.hint("checked: deploy"),
            id="nothing at all, and a release was meant",
        ),
        pytest.param(
            [],
            "ignition deploy --branch",
            {"version": "", "kind": "branch", "ref": "hotfix"},
            marks=pytest.mark.hint("checked: deploy"),
            id="nothing at all, and a branch was meant",
        ),
        pytest.param(
            ["v1.2.3", "--branch", "feature/x"],
            "ignition deploy --branch",
            {"version": "", "kind": "branch", "ref": "feature/x"},
            marks=pytest.mark.hint("checked: deploy"),
            id="a version and a branch",
        ),
    ],
)
def test_a_deployment_is_started_as_the_hint_has_it(
    shell: Shell, crew: Crew, words: list[str], begins: str, asked: dict[str, str]
) -> None:
    hint = refused(shell, crew, "deploy", *words).hint

    assert shell.type(hint, begins, NAME="hotfix").code == 0
    (run,) = crew.due("deploy")
    assert asked.items() <= run.parameters["request"].items()
    assert run.parameters["environment"] == "staging"


@pytest.mark.parametrize(
    "words",
    [
        ["deploy", "v1.2.3", "--to", "prod"],
        ["rollback", "prod", "--reason", "P0"],
        ["status", "prod"],
        ["unlock", "prod", "--as", "Ada", "--reason", "it died"],
        ["p0", "prod", "--reason", "it is charged twice", "--yes"],
    ],
    ids=lambda words: words[0],
)
def test_an_environment_that_there_is_not_is_found_in_status(
    shell: Shell, crew: Crew, words: list[str]
) -> None:
    done = refused(shell, crew, *words)
    assert "did you mean production?" in done.complained

    shown = shell.type(done.hint, "ignition status")
    assert (shown.code, shown.said.startswith("production serves v1.1.0")) == (0, True)
    assert shell.ignition("status", "production").code == 0


def test_a_rejection_without_a_reason_says_where_one_goes(shell: Shell, crew: Crew) -> None:
    """The hint is no command, but an option of the one that was typed."""
    words = ("reject", "d-1874ab", "--as", "Ada", "--reason")
    done = refused(shell, crew, *words, " ")
    assert done.hint == 'add --reason "…"'

    assert "no waiting run matches" in refused(shell, crew, *words, "freeze").complained
