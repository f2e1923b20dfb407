"""A run that holds an environment says that it is alive, to the server and to the ledger."""

import threading
from collections.abc import Callable
from datetime import timedelta

import pytest

import tasks.alive
from release.errors import Unreachable
from sandbox.commands import wait_until
from tasks.alive import ALIVE, OVER, alive

EVERY = timedelta(milliseconds=10)


class Locks:
    """A ledger that counts heartbeats, and can be away or hang."""

    def __init__(self) -> None:
        self.beats = 0
        self.away = False
        self.answers = threading.Event()
        self.answers.set()

    def heartbeat(self, environment: str, run_id: str) -> bool:
        self.beats += 1
        self.answers.wait(30)
        if self.away:
            raise Unreachable("the ledger does not answer")
        return True


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The events that the server was told."""
    found: list[str] = []

    def tell(event: str, environment: str, run_id: str, about: str) -> None:
        assert (environment, run_id, about) == ("production", "run", "ignition.run.")
        found.append(event)

    monkeypatch.setattr(tasks.alive, "tell_server", tell)
    return found


def soon(condition: Callable[[], bool]) -> None:
    wait_until(condition, what="a sign of life", seconds=10, hint="")


def test_both_signs_are_repeated_until_it_is_over(told: list[str]) -> None:
    locks = Locks()

    with alive(locks, "production", "run", EVERY):
        soon(lambda: locks.beats >= 3 and told.count(ALIVE) >= 3)

    assert told[-1] == OVER


def test_nothing_is_said_after_the_end(told: list[str]) -> None:
    """An automation would wait for more, and start a recovery of a run that has ended."""
    before = set(threading.enumerate())
    with alive(Locks(), "production", "run", EVERY):
        signs = set(threading.enumerate()) - before
    for sign in signs:
        sign.join(10)

    assert (told.count(OVER), told[-1]) == (1, OVER)


def test_it_is_over_as_well_when_the_run_fails(told: list[str]) -> None:
    with pytest.raises(ZeroDivisionError), alive(Locks(), "production", "run", EVERY):
        raise ZeroDivisionError

    assert told[-1] == OVER


def test_a_ledger_that_is_away_is_asked_again(told: list[str]) -> None:
    locks = Locks()
    locks.away = True

    with alive(locks, "production", "run", EVERY):
        soon(lambda: locks.beats >= 3)


def test_a_ledger_that_hangs_holds_up_neither_the_server_nor_the_run(told: list[str]) -> None:
    locks = Locks()
    locks.answers.clear()

    with alive(locks, "production", "run", EVERY):
        soon(lambda: told.count(ALIVE) >= 3)

    assert locks.beats == 1
    locks.answers.set()
