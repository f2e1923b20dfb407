"""What on-call reads: a decision is a line, not a traceback."""

import logging
import re

from prefect import get_run_logger
from prefect.exceptions import FailedRun

from release.errors import DeployError
from release.outcome import ending_in
from tasks.say import this_run

_LOGGERS = ("prefect.flow_runs", "prefect.task_runs", "prefect.engine", "prefect.flow_engine")


# Said after every task, and again at each gate that was passed long ago. Our own lines say more.
_NOISE = ("Finished in state Completed()", "Suspending flow run, execution will be rescheduled")
# Said after a run's own last line, which says as much in fewer words.
_ENDED = re.compile(r"Finished in state \w+\([\"'](.*)", re.DOTALL)


class DecisionsWithoutTraceback(logging.Filter):
    """Takes the traceback off a record about one of our errors.

    They say in their own words what happened; where in the code it was decided helps nobody at
    3 am. Any other error keeps its traceback.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Change the record; drop it only if it says no more than that a run has ended.

        Prefect calls an ending as Failed an "unexpected exception", below our own last line.
        """
        said = record.getMessage()
        ended = _ENDED.match(said)
        if said.startswith(_NOISE) or (ended and ending_in(ended[1])):
            return False
        error = record.exc_info[1] if isinstance(record.exc_info, tuple) else None
        if isinstance(error, FailedRun):
            return False
        if isinstance(error, DeployError):
            record.exc_info = None
            record.exc_text = None
        return True


def say_decisions_in_a_line() -> None:
    """Install the filter on Prefect's loggers, once per process."""
    for name in _LOGGERS:
        logger = logging.getLogger(name)
        if not any(isinstance(each, DecisionsWithoutTraceback) for each in logger.filters):
            logger.addFilter(DecisionsWithoutTraceback())


def say_unexpected(error: Exception) -> None:
    """Log an error that nobody foresaw with its traceback; our own errors speak for themselves."""
    if not isinstance(error, DeployError):
        get_run_logger().error(
            "[%s] unexpected %s", this_run(), type(error).__name__, exc_info=error
        )
