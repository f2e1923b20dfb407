"""Runs programs, and waits for what they start to be ready."""

import os
import shlex
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from sandbox.errors import CommandFailed, NotReady

Found = TypeVar("Found")

TAIL = 10  # lines of output in an error
POLL_INTERVAL = 0.1  # seconds


def run(
    arguments: Sequence[str | Path],
    *,
    directory: Path | None = None,
    environment: Mapping[str, str] | None = None,
    stdin: bytes | None = None,
) -> str:
    """Run a program and return what it wrote to standard output.

    ``environment`` is added to this process's own. Raises CommandFailed with the command, its exit
    code and the last lines it wrote.
    """
    command = [str(argument) for argument in arguments]
    try:
        done = subprocess.run(
            command,
            cwd=directory,
            env={**os.environ, **(environment or {})},
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            check=False,
        )
    except FileNotFoundError:
        raise CommandFailed(f"{command[0]} is not installed; type: make setup") from None
    if done.returncode != 0:
        raise CommandFailed(describe_failure(command, done))
    return done.stdout.decode()


def describe_failure(command: Sequence[str], done: subprocess.CompletedProcess[bytes]) -> str:
    """The command, its exit code and the last lines it wrote."""
    lines = (done.stdout + done.stderr).decode(errors="replace").strip().splitlines()
    tail = "".join(f"\n  {line}" for line in lines[-TAIL:])
    return f"exit code {done.returncode} from: {shlex.join(command)}{tail}"


def succeeds(arguments: Sequence[str | Path], *, timeout: float = 15.0) -> bool:
    """Whether a program exits with 0 within ``timeout`` seconds."""
    try:
        done = subprocess.run(
            [str(argument) for argument in arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=timeout,
            check=False,
        )
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def wait_until(
    condition: Callable[[], Found | None],
    *,
    what: str,
    seconds: float,
    hint: str,
    unless: threading.Event | None = None,
    every: float = POLL_INTERVAL,
) -> Found:
    """Ask ``condition`` until its answer is truthy, and return that answer.

    Raises NotReady, saying that ``what`` did not happen within ``seconds``, and ``hint``, what to
    type; or, once ``unless`` is set, that the wait was given up.
    """
    deadline = time.monotonic() + seconds
    while True:
        answer = condition()
        if answer:
            return answer
        if unless and unless.is_set():
            raise NotReady(f"the wait for {what} was given up")
        if time.monotonic() > deadline:
            raise NotReady(f"{what} did not happen within {seconds:.0f} s; {hint}")
        time.sleep(every)
