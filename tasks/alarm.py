"""Hears of a declared P0 within seconds, whatever the run is doing.

The ledger is asked every second, by a thread of its own, because a ledger that hangs must not hold
up the run. Samples are further apart, and one may take half a minute if a release hangs.
"""

import contextlib
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextvars import ContextVar
from datetime import datetime, timedelta
from typing import Any, Protocol, TypeVar

from release.errors import DeployError, TriggerFired
from release.ledger import Event

T = TypeVar("T")

ASK_EVERY = timedelta(seconds=1)


class Reports(Protocol):
    """Where people declare a P0."""

    def p0_declared(self, environment: str, since: datetime) -> Event | None:
        """The newest P0 that was declared since then."""
        ...


class Alarm:
    """Whether a P0 was declared since the run began to listen for one."""

    def __init__(self, ask: Callable[[], str | None], every: timedelta = ASK_EVERY) -> None:
        self._ask = ask
        self._every = every.total_seconds()
        self._heard: Future[str] = Future()
        self._over = threading.Event()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="interruptible")

    def __enter__(self) -> "Alarm":
        threading.Thread(target=self._listen, name="p0", daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._pool.shutdown(wait=False, cancel_futures=True)

    @property
    def reason(self) -> str | None:
        """Why a P0 was declared; None as long as none was."""
        return self._heard.result() if self._heard.done() else None

    def wait(self, length: timedelta) -> None:
        """Sleep, but no longer than until a P0 is declared."""
        wait([self._heard], timeout=max(0.0, length.total_seconds()))

    def unless_declared(self, work: Callable[[], T]) -> T | None:
        """Do some work; None as soon as a P0 is declared, while the work is left to itself."""
        if self._heard.done():
            return None
        doing = self._pool.submit(work)
        either: list[Future[Any]] = [self._heard, doing]
        wait(either, return_when=FIRST_COMPLETED)
        return None if self._heard.done() else doing.result()

    def _listen(self) -> None:
        while not self._over.wait(self._every):
            try:
                reason = self._ask()
            except DeployError:
                continue  # the samples say that the ledger does not answer
            if reason is not None:
                self._heard.set_result(reason)
                return


_LISTENING: ContextVar[Alarm | None] = ContextVar("listening", default=None)


@contextlib.contextmanager
def listening(reports: Reports, environment: str, since: datetime) -> Iterator[Alarm]:
    """Let :func:`heed` in the steps that follow hear of a P0 that was declared since then."""
    with Alarm(lambda: reason_of(reports.p0_declared(environment, since))) as alarm:
        before = _LISTENING.set(alarm)
        try:
            yield alarm
        finally:
            _LISTENING.reset(before)


def heed() -> None:
    """Raise TriggerFired if a P0 was declared while :func:`listening`; does nothing elsewhere."""
    alarm = _LISTENING.get()
    if alarm is not None and alarm.reason is not None:
        raise TriggerFired(f"P0 declared: {alarm.reason}", 'runbook, "Rollback Trigger Conditions"')


def reason_of(declared: Event | None) -> str | None:
    """Why a P0 was declared, and by whom. Returns None if none was."""
    if declared is None:
        return None
    reason, by = declared.payload.get("reason") or "no reason given", declared.payload.get("by")
    return f"{reason} (declared by {by})" if by else str(reason)
