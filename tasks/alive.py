"""Signs of life of a run that holds an environment.

Prefect's own heartbeats are 30 s apart at least. Two of ours, a few seconds apart: an event, whose
absence starts a recovery within half a minute, and the lock's heartbeat in the ledger, by which
that recovery tells a run that is gone from a server that was.
"""

import contextlib
import threading
from collections.abc import Callable, Iterator
from contextvars import copy_context
from datetime import timedelta
from typing import Protocol

from release.errors import DeployError
from tasks.events import tell_server

ALIVE = "ignition.run.alive"
OVER = "ignition.run.over"
RUN = "ignition.run."
"""Before a run's id: the resource that the events are about."""
EVERY = timedelta(seconds=3)


class Locks(Protocol):
    """The record of which run holds an environment."""

    def heartbeat(self, environment: str, run_id: str) -> bool:
        """Say that the run is alive."""
        ...


@contextlib.contextmanager
def alive(locks: Locks, environment: str, run_id: str, every: timedelta = EVERY) -> Iterator[None]:
    """Say every few seconds that a run is alive; at the end, that there is nothing to wait for.

    Each sign has a thread of its own: neither a server nor a ledger that hangs holds up the other,
    or the run. Never raises by itself.
    """

    def tell() -> None:
        with telling:  # nothing comes after OVER
            if not over.is_set():
                tell_server(ALIVE, environment, run_id, RUN)

    def beat() -> None:
        with contextlib.suppress(DeployError):  # said by the steps that need the ledger
            locks.heartbeat(environment, run_id)

    over, telling = threading.Event(), threading.Lock()
    for sign in (tell, beat):
        repeat = copy_context().run  # the context says which server it is
        threading.Thread(target=repeat, args=(_repeat, sign, every, over), daemon=True).start()
    try:
        yield
    finally:
        over.set()
        with telling:
            tell_server(OVER, environment, run_id, RUN)


def _repeat(sign: Callable[[], None], every: timedelta, over: threading.Event) -> None:
    while True:
        sign()
        if over.wait(every.total_seconds()):
            return
