"""What makes a runbook step a Prefect task that is done once per run.

After a gate the flow's body runs again from the top. A step is skipped then, because its result is
kept under a key made of the run, the task and the step's own ``key``: Prefect's default key would
also skip a second, deliberate call with the same arguments.
"""

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from datetime import timedelta
from typing import Any, ParamSpec, TypeVar

from prefect import Task, get_run_logger, task
from prefect.context import TaskRunContext

from release.errors import DeployError

_PATIENCE = (1, 3, 10, 20, 30, 30, 60, 60)  # seconds between tries
_JITTER = 0.3  # of a pause between tries: runs that were cut off together do not come back so
P = ParamSpec("P")
R = TypeVar("R")


def step(
    name: str,
    *,
    timeout: timedelta,
    retries: int = 0,
) -> Callable[[Callable[P, R]], Task[P, R]]:
    """Make a function a step called ``name`` in the UI.

    The result has to be picklable and free of secrets: it is written to the result storage.
    ``retries`` is for steps that are safe to repeat; a DeployError is a decision, not a hiccup,
    and is never retried unless it ``may_pass``. ``timeout`` bounds one try. A task that is
    called more than once in a run takes a ``key`` argument that tells the calls apart.
    """
    return task(
        name=name,
        persist_result=True,
        cache_key_fn=_once_per_run,
        timeout_seconds=timeout.total_seconds(),
        retries=retries,
        retry_delay_seconds=list(_PATIENCE[:retries]),
        retry_jitter_factor=_JITTER,
        retry_condition_fn=_worth_repeating,
    )


def _once_per_run(context: TaskRunContext, arguments: dict[str, Any]) -> str:
    run = context.task_run.flow_run_id
    return f"{run}/{context.task.task_key}/{arguments.get('key', '')}"


def _worth_repeating(task: Task[Any, Any], task_run: Any, state: Any) -> bool:
    error = state.result(raise_on_failure=False)
    return not isinstance(error, DeployError) or error.may_pass


_PUT_OFF: ContextVar[list[Callable[[], object]] | None] = ContextVar("put_off", default=None)


def put_off(work: Callable[[], object]) -> None:
    """Do some work that nothing depends on: at once, or, inside :func:`putting_off`, later.

    For what is written about a failure: users wait for the baseline meanwhile. Never raises, as
    :func:`write_report` does not.
    """
    later = _PUT_OFF.get()
    if later is None:
        write_report(work)
    else:
        later.append(work)


def write_report(work: Callable[[], object]) -> None:
    """Write something that people read and nothing depends on. Never raises: a server that is just
    being restarted does not decide whether a release stays.
    """
    try:
        work()
    except Exception as error:  # noqa: BLE001  # whatever it was, it was about a report
        get_run_logger().warning("a report was not written: %s", type(error).__name__)


@contextlib.contextmanager
def putting_off() -> Iterator[Callable[[], None]]:
    """Collect what steps :func:`put_off`: it is done when what this yields is called, and at the
    end at the latest.

    That never raises: what could not be written decides nothing.
    """
    later: list[Callable[[], object]] = []

    def catch_up() -> None:
        _PUT_OFF.set(None)
        while later:
            write_report(later.pop(0))

    before = _PUT_OFF.set(later)
    try:
        yield catch_up
    finally:
        catch_up()
        _PUT_OFF.reset(before)
