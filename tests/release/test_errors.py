"""The tree of errors: what each says, and that it survives a persisted result."""

import pickle
from collections.abc import Iterator

import cloudpickle
import pytest

from release import errors
from release.errors import DeployError, NothingChanged, ReleaseUnfit, StateUnknown


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
    """Nothing changed, the baseline is restored, or page someone: there is no fourth."""
    assert kind is DeployError or issubclass(kind, NothingChanged | ReleaseUnfit | StateUnknown)


@pytest.mark.parametrize("kind", ALL)
def test_every_error_stands_in_the_tree_at_the_top_of_its_module(kind: type[DeployError]) -> None:
    assert errors.__doc__ is not None
    assert kind.__name__ in errors.__doc__.replace("─", " ").split()
