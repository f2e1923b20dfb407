"""The tree of errors: what each says, and that it survives a persisted result."""

import pickle
import re
from collections.abc import Iterator

import cloudpickle
import pytest

from release import errors
from release.errors import (
    DeployError,
    HalfDone,
    MigrationFailed,
    NothingChanged,
    ReleaseUnfit,
    StateUnknown,
    Unreachable,
)


def descendants(kind: type[DeployError]) -> Iterator[type[DeployError]]:
    yield kind
    for child in kind.__subclasses__():
        if child.__module__ == errors.__name__:
            yield from descendants(child)


ALL = list(descendants(DeployError))


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("dumps", [pickle.dumps, cloudpickle.dumps])
def test_an_error_survives_pickling_with_its_hint(kind: type[DeployError], dumps: object) -> None:
    again = pickle.loads(dumps(kind("it broke", "mend it")))  # type: ignore[operator]

    assert type(again) is kind
    assert (again.what, again.hint) == ("it broke", "mend it")
    assert str(again) == "it broke\nhint: mend it"


def test_an_error_without_a_hint_is_one_sentence() -> None:
    assert str(DeployError("it broke")) == "it broke"


@pytest.mark.parametrize("kind", ALL)
def test_every_error_says_what_serves_afterwards(kind: type[DeployError]) -> None:
    """Nothing changed, something may have, the baseline is restored, or page someone."""
    assert kind is DeployError or issubclass(
        kind, NothingChanged | HalfDone | ReleaseUnfit | StateUnknown
    )


@pytest.mark.parametrize("kind", [Unreachable, MigrationFailed])
def test_what_may_have_changed_something_does_not_say_that_nothing_changed(
    kind: type[DeployError],
) -> None:
    """A connection is lost after the command was sent, too; files before a failed one stay."""
    assert not issubclass(kind, NothingChanged)


@pytest.mark.parametrize("kind", ALL)
def test_only_a_system_that_gives_no_answer_is_worth_another_try(kind: type[DeployError]) -> None:
    assert kind.may_pass == issubclass(kind, Unreachable)


def test_the_tree_at_the_top_of_the_module_is_the_tree_of_its_classes() -> None:
    drawn, above = {}, ["DeployError"]
    for line in (errors.__doc__ or "").splitlines():
        if branch := re.match(r"([│├└─ ]{4,8})(\w+)", line):
            depth = len(branch[1]) // 4
            above[depth:] = [branch[2]]
            drawn[branch[2]] = above[depth - 1]

    assert drawn == {
        kind.__name__: parent.__name__ for kind in ALL[1:] for parent in kind.__bases__
    }
