"""The last look counts: what is good ends it, and so does the time."""

from collections.abc import Callable
from datetime import timedelta
from time import monotonic

import pytest

from blocks.polling import poll
from release.errors import BadConfiguration, DeployError, Unreachable

SOON = timedelta(milliseconds=1)


def seeing(*things: int | DeployError) -> Callable[[], int]:
    """One look after the other; the last thing stays."""
    left = list(things)

    def look() -> int:
        thing = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(thing, DeployError):
            raise thing
        return thing

    return look


def is_two(seen: int) -> bool:
    return seen == 2


def test_what_is_good_at_once_is_looked_at_once() -> None:
    assert poll(seeing(2, 3), is_two, every=timedelta(hours=1)) == 2


def test_it_is_looked_at_until_it_is_good() -> None:
    assert poll(seeing(0, 1, 2, 3), is_two, every=SOON) == 2


def test_when_the_time_is_over_the_last_look_counts_whatever_it_saw() -> None:
    assert poll(seeing(0, 1), is_two, every=SOON, within=20 * SOON) == 1


def test_without_any_time_there_is_one_look() -> None:
    assert poll(seeing(0, 2), is_two, every=timedelta(hours=1), within=timedelta()) == 0


def test_looks_are_apart_as_they_should_be() -> None:
    began = monotonic()

    poll(seeing(0, 1, 2), is_two, every=timedelta(milliseconds=60))

    assert monotonic() - began >= 0.12


def test_what_a_look_raises_ends_it() -> None:
    with pytest.raises(Unreachable, match="it is away"):
        poll(seeing(Unreachable("it is away"), 2), is_two, every=SOON)


def test_what_is_forgiven_is_looked_past_while_there_is_time() -> None:
    away = Unreachable("it is away")

    assert poll(seeing(away, 1, away, 2), is_two, every=SOON, forgiving=Unreachable) == 2


def test_what_is_forgiven_is_raised_when_the_time_is_over() -> None:
    with pytest.raises(Unreachable, match="it is away"):
        poll(
            seeing(1, Unreachable("it is away")),
            is_two,
            every=SOON,
            within=20 * SOON,
            forgiving=Unreachable,
        )


def test_nothing_else_is_forgiven() -> None:
    with pytest.raises(BadConfiguration):
        poll(seeing(BadConfiguration("it is wrong"), 2), is_two, every=SOON, forgiving=Unreachable)
