"""Whatever ends a program early ends everything that it started."""

import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from blocks.program import follow, run
from sandbox.commands import wait_until

PLENTY = timedelta(seconds=30)
LEAVES_A_CHILD = "sleep 300 & echo $! > child; echo ready; wait"


def is_gone(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return True
    return state == "Z"


def await_end_of_child(folder: Path) -> None:
    pid = int((folder / "child").read_text())
    wait_until(lambda: is_gone(pid), what="the end of what it started", seconds=10, hint="")


# ---- to its end


def test_a_program_is_given_its_input_and_says_what_it_wrote_and_how_it_ended() -> None:
    done = run(["sh", "-c", "cat; echo aside >&2; exit 3"], PLENTY, given=b"in\n")

    assert (done.returncode, done.stdout, done.stderr) == (3, b"in\n", b"aside\n")


def test_errors_stand_among_the_output_where_that_is_asked_for() -> None:
    done = run(["sh", "-c", "echo one; echo two >&2"], PLENTY, merged=True)

    assert done.stdout == b"one\ntwo\n"


def test_a_program_that_is_not_given_anything_reads_nothing_of_this_ones() -> None:
    assert run([sys.executable, "-c", "print(repr(input()))"], PLENTY).returncode == 1


def test_a_program_has_a_session_of_its_own(tmp_path: Path) -> None:
    done = run(["sh", "-c", "ps -o sid= -p $$"], PLENTY)

    assert int(done.stdout) != os.getsid(0)


def test_a_program_that_is_too_slow_ends_with_all_that_it_started(tmp_path: Path) -> None:
    """`docker compose` is `docker` and a program that it starts: both would change production."""
    with pytest.raises(subprocess.TimeoutExpired):
        run(["sh", "-c", LEAVES_A_CHILD], timedelta(seconds=1), cwd=tmp_path)

    await_end_of_child(tmp_path)


# ---- line by line


def test_each_line_is_heard_as_it_comes() -> None:
    heard: list[str] = []

    assert follow(["sh", "-c", "echo one; echo two >&2; exit 4"], heard.append) == 4
    assert heard == ["one\n", "two\n"]


def test_bytes_that_are_no_text_end_nothing() -> None:
    heard: list[str] = []

    assert follow(["printf", r"\377\n"], heard.append) == 0
    assert heard == ["\ufffd\n"]


def test_a_program_that_is_not_done_in_time_has_no_exit_code(tmp_path: Path) -> None:
    code = follow(
        ["sh", "-c", LEAVES_A_CHILD],
        lambda line: None,
        within=timedelta(seconds=1),
        cwd=tmp_path,
    )

    assert code is None
    await_end_of_child(tmp_path)


@pytest.mark.parametrize("who", ["heard", "heed"])
def test_whoever_raises_stops_the_program_and_all_that_it_started(tmp_path: Path, who: str) -> None:
    """A P0 is declared while the smoke tests run: nothing waits for their end."""

    def stop(*line: str) -> None:
        if (tmp_path / "child").exists() and (tmp_path / "child").read_text():
            raise InterruptedError("a P0 was declared")

    callbacks = {"heard": lambda line: None, "heed": lambda: None} | {who: stop}
    with pytest.raises(InterruptedError, match="a P0 was declared"):
        follow(["sh", "-c", LEAVES_A_CHILD], **callbacks, within=PLENTY, cwd=tmp_path)

    await_end_of_child(tmp_path)


def test_what_a_program_leaves_behind_is_not_waited_for_and_ends(tmp_path: Path) -> None:
    assert follow(["sh", "-c", "sleep 300 & echo $! > child"], print, cwd=tmp_path) == 0

    await_end_of_child(tmp_path)
