"""What a release must show before it may stay: healthy, the right version, smoke tests passed.

Source: the runbook, "5. Verify Deployment".
"""

import json
import re
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from release.duration import say_duration
from release.model import Check, Probe

SMOKE = "smoke tests"
SMOKE_LINES = 40  # of the output, below the sentence of a failure
# How test runners begin the line that names a failed test: TAP, node's and pytest's own, jest.
_FAILED_TEST = re.compile(r"\s*(not ok\b|✖|✕|FAIL(ED)?\b|\w*Error\b)", re.ASCII)


def judge_health(probe: Probe) -> Check:
    """Any answer from 200 to 299 is healthy, as for ``curl -f`` without redirects."""
    said = probe.detail or f"HTTP {probe.status}"
    return Check("health", probe.ok, f"HTTP {probe.status}" if probe.ok else said, probe.took)


def judge_version(expected: str, found: str | None, probe: Probe) -> Check:
    """The service must name the version that was deployed; a leading ``v`` makes no difference."""
    if found is None:
        said = probe.detail or f"HTTP {probe.status}"
        return Check("version", False, f"no version ({said}), expected {expected}", probe.took)
    if found.removeprefix("v") != expected.removeprefix("v"):
        return Check("version", False, f"answers {found}, expected {expected}", probe.took)
    return Check("version", True, found, probe.took)


def judge_smoke(
    exit_code: int | None, output: Sequence[str], took: timedelta = timedelta()
) -> Check:
    """Exit code 0 passes. None: the tests were stopped when their time was up.

    The sentence of a failure names the first test that failed, or else the last line; the last
    lines of the output follow it.
    """
    if exit_code == 0:
        return Check(SMOKE, True, "exit code 0", took)
    what = f"exit code {exit_code}" if exit_code is not None else "stopped: out of time"
    lines = [line for line in output if line.strip()]
    named = [line.strip() for line in lines if _FAILED_TEST.match(line)] or lines[-1:]
    first = ": ".join([what, *(line.strip() for line in named[:1])])
    return Check(SMOKE, False, "\n".join([first, *lines[-SMOKE_LINES:]]), took)


def only_smoke_failed(checks: Sequence[Check]) -> bool:
    """Whether the release answers as itself, and it is its smoke tests alone that failed.

    They may have met a database that was being restarted. A new release has to pass them at once;
    a baseline, than which there is nothing better, gets another try.
    """
    return [check.name for check in checks if not check.passed] == [SMOKE]


def read_field(body: bytes | str, field: str) -> str | None:
    """The text or number at ``field`` of a JSON answer; dots go deeper. None if there is none.

    Source: the runbook's ``jq '.version'``.
    """
    try:
        value: Any = json.loads(body)
    except ValueError:
        return None
    for name in field.strip(".").split("."):
        value = value.get(name) if isinstance(value, dict) else None
    is_text = isinstance(value, str | int | float) and not isinstance(value, bool)
    return str(value) if is_text and value != "" else None


def explain_failures(checks: Sequence[Check]) -> str:
    """One sentence over the checks that failed, first lines only; empty if none did."""
    failed = [check for check in checks if not check.passed]
    return "; ".join(f"{check.name}: {_first_line(check)}" for check in failed)


def summary(checks: Sequence[Check]) -> str:
    """The checks as a Markdown table, the output of failed smoke tests below it."""
    rows = [
        f"| {check.name} | {'passed' if check.passed else '**failed**'} "
        f"| {_in_cell(_first_line(check))} | {say_duration(check.took)} |"
        for check in checks
    ]
    table = ["| check | outcome | value | took |", "|---|---|---|---|", *rows]
    outputs = [
        ["", f"{check.name}, last lines:", "", *(f"    {line}" for line in _rest(check))]
        for check in checks
        if not check.passed and _rest(check)
    ]
    return "\n".join([*table, *(line for output in outputs for line in output)])


def _rest(check: Check) -> list[str]:
    return check.sentence.splitlines()[1:]


def _first_line(check: Check) -> str:
    return (check.sentence.splitlines() or [""])[0]


def _in_cell(text: str) -> str:
    return text.replace("\\", "\\\\").replace("|", "\\|")
