"""The lines of a run's log: one fact each, ``[d-1874ab] 4. Deploy    …``, from any layer."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from prefect import get_run_logger
from prefect.runtime import flow_run

from release.ledger import short_run

_RUN: ContextVar[str] = ContextVar("run", default="")
_HEADING: ContextVar[str] = ContextVar("heading", default="")


def say(text: str, level: int = logging.INFO) -> None:
    """Log a line under the run's label and the heading that it is at."""
    sayer(level)(text)


def sayer(level: int = logging.INFO) -> Callable[[str], None]:
    """:func:`say` as it is here and now, for a thread, which has no context of its own."""
    log, run, heading = get_run_logger(), this_run(), _HEADING.get()
    prefix = f"[{run}] {heading:<12}" if heading else f"[{run}] "
    return lambda text: log.log(level, "%s%s", prefix, text)


def this_run() -> str:
    """The run's label, such as ``d-1874ab``; that of the flow run if none was given."""
    return _RUN.get() or short_run(str(flow_run.id))


def speak_for(run: str) -> None:
    """Say what follows in the name of a run; until the end of :func:`speaking`."""
    _RUN.set(run)


@contextmanager
def speaking(*, run: str = "", heading: str = "") -> Iterator[None]:
    """Say what is within in the name of a run, under a heading. What is not given stays."""
    before = _RUN.set(run or _RUN.get()), _HEADING.set(heading or _HEADING.get())
    try:
        yield
    finally:
        _RUN.reset(before[0])
        _HEADING.reset(before[1])
