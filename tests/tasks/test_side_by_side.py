"""Systems are asked at once; one that hangs holds up neither the others nor the process."""

import subprocess
import sys
import threading
from contextvars import ContextVar
from datetime import timedelta
from pathlib import Path

import pytest

from tasks.side_by_side import ask_side_by_side

ROOT = Path(__file__).resolve().parents[2]
PLENTY = timedelta(seconds=30)
RUN: ContextVar[str] = ContextVar("run")


def test_questions_are_asked_at_once_and_answered_in_their_own_order() -> None:
    both_are_asked = threading.Barrier(2, timeout=30)

    def first() -> str:
        both_are_asked.wait()
        return "one"

    def second() -> str:
        both_are_asked.wait()
        return "two"

    assert list(ask_side_by_side({"a": first, "b": second}, PLENTY).items()) == [
        ("a", "one"),
        ("b", "two"),
    ]


def test_what_is_not_answered_in_time_is_missing_and_the_others_are_there() -> None:
    over = threading.Event()

    found = ask_side_by_side({"hangs": over.wait, "b": lambda: True}, timedelta(milliseconds=200))

    assert found == {"b": True}
    over.set()


def test_no_question_is_no_answer() -> None:
    assert ask_side_by_side({}, PLENTY) == {}


def test_what_a_question_raises_is_raised() -> None:
    def breaks() -> str:
        raise ZeroDivisionError("by nothing")

    with pytest.raises(ZeroDivisionError, match="by nothing"):
        ask_side_by_side({"a": breaks, "b": lambda: "fine"}, PLENTY)


def test_a_question_knows_whose_run_it_is_asked_for() -> None:
    RUN.set("d-1874ab")

    assert ask_side_by_side({"a": RUN.get}, PLENTY) == {"a": "d-1874ab"}


def test_a_process_ends_though_a_system_still_hangs() -> None:
    program = (
        "import threading; from datetime import timedelta\n"
        "from tasks.side_by_side import ask_side_by_side\n"
        "ask_side_by_side({1: threading.Event().wait}, timedelta(milliseconds=10))"
    )

    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT, timeout=60).returncode == 0
