"""Questions to many systems at once: none holds up the answers of the others."""

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future, wait
from contextvars import copy_context
from datetime import timedelta
from typing import TypeVar

Name = TypeVar("Name")
Found = TypeVar("Found")


def ask_side_by_side(
    questions: Mapping[Name, Callable[[], Found]], within: timedelta | None = None
) -> dict[Name, Found]:
    """Ask all questions at once; the answers that came in time, in the questions' order.

    A question that is not answered ``within`` that time is missing; None sets no limit. Its thread
    is left behind, as a daemon: unlike an executor's, it does not keep the process from ending.
    Each question is asked in the caller's context, which says whose run it is and which server is
    Prefect's. Raises what a question raises.
    """
    asked = {name: _ask(question) for name, question in questions.items()}
    answered, _ = wait(asked.values(), timeout=within.total_seconds() if within else None)
    return {name: answer.result() for name, answer in asked.items() if answer in answered}


def _ask(question: Callable[[], Found]) -> Future[Found]:
    answer: Future[Found] = Future()

    def settle() -> None:
        try:
            answer.set_result(question())
        except BaseException as error:  # noqa: BLE001  # it is raised where the answer is read
            answer.set_exception(error)

    threading.Thread(target=copy_context().run, args=(settle,), daemon=True).start()
    return answer
