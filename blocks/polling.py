"""Looking at something again and again, until it is as it should be."""

from collections.abc import Callable
from datetime import timedelta
from typing import TypeVar

from tenacity import (
    Retrying,
    retry_if_exception_type,
    retry_if_not_result,
    stop_after_delay,
    stop_never,
    wait_fixed,
)

from release.errors import DeployError

T = TypeVar("T")


def poll(
    look: Callable[[], T],
    good: Callable[[T], bool],
    *,
    every: timedelta,
    within: timedelta | None = None,
    forgiving: type[DeployError] | tuple[()] = (),
) -> T:
    """Look until what is seen is good, ``every`` so often, and return what was seen last.

    That is not good if ``within`` was over first, counted from the first look to the end of the
    last one; with None there is no limit. An error of ``look`` ends it, except for ``forgiving``,
    which is raised only when the time is over.
    """
    looking = Retrying(
        retry=retry_if_not_result(good) | retry_if_exception_type(forgiving),
        stop=stop_never if within is None else stop_after_delay(within),
        wait=wait_fixed(every),
        # Without it, tenacity would raise an error of its own over what was seen last.
        retry_error_callback=lambda state: state.outcome.result() if state.outcome else None,
    )
    seen: T = looking(look)
    return seen
