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
_BEGIN = 80  # characters of an answer that are shown
SMOKE_LINES = 40  # of the output, below the sentence of a failure
# How test runners begin the line that names a failed test: TAP, node's and pytest's own, jest.
# What npm says of itself, around and below what the tests say.
_NPM = re.compile(r"npm (error|ERR!)\s?|npm (notice|warn|WARN)\b.*")
_NPM_HEAD = re.compile(r"> ")
_NPM_FRAME = re.compile(
    r"|(code|errno|syscall|path|workspace|location|command|cwd)\b.*|Lifecycle script .*"
    r"|A complete log of this run .*|To see a list of scripts.*|Did you mean.*|  npm run.*"
)
_FAILED_TEST = re.compile(r"\s*(not ok\b|✖|✕|FAIL(ED)?\b|\w*Error\b)", re.ASCII)


def check_health(probe: Probe, where: str = "") -> Check:
    """Any answer from 200 to 299 is healthy, as for ``curl -f`` without redirects.

    ``where`` is the address that was asked, for the sentence of a failure.
    """
    said = _said(probe, where)
    return Check("health", probe.ok, f"HTTP {probe.status}" if probe.ok else said, probe.took)


def check_version(expected: str, found: str | None, probe: Probe, where: str = "") -> Check:
    """The service must name the version that was deployed; a leading ``v`` makes no difference.

    ``where`` is the address that was asked, for the sentence of a failure.
    """
    if found is None:
        said = f"no version ({_said(probe, where)}), expected {expected}"
        return Check("version", False, said, probe.took)
    if found.removeprefix("v") != expected.removeprefix("v"):
        at = f"{where} " if where else ""
        return Check("version", False, f"{at}answers {found}, expected {expected}", probe.took)
    return Check("version", True, found, probe.took)


def _said(probe: Probe, where: str) -> str:
    said = probe.detail or f"HTTP {probe.status}"
    return f"{where} {said}" if probe.ok and where else f"{where}: {said}" if where else said


def check_smoke(
    exit_code: int | None, output: Sequence[str], took: timedelta = timedelta()
) -> Check:
    """Exit code 0 passes. None means that the tests were stopped when their time was up.

    The sentence of a failure names the first test that failed, or else the last line that is not
    npm's own, or else what npm says; the last lines of the output follow it.
    """
    if exit_code == 0:
        return Check(SMOKE, True, "exit code 0", took)
    what = f"exit code {exit_code}" if exit_code is not None else "stopped: out of time"
    lines = [line for line in output if line.strip()]
    named = [line for line in lines if _FAILED_TEST.match(line)] or _telling(lines)
    first = ": ".join([what, *(line.strip() for line in named[:1])])
    return Check(SMOKE, False, "\n".join([first, *lines[-SMOKE_LINES:]]), took)


def _telling(lines: Sequence[str]) -> Sequence[str]:
    """The line that says most if no test is named: it is not how npm's own lines end."""
    own = [line for line in lines if not _NPM.match(line) and not _NPM_HEAD.match(line)]
    of_npm = [_NPM.sub("", line, count=1) for line in lines if _NPM.match(line)]
    return own[-1:] or [line for line in of_npm if not _NPM_FRAME.fullmatch(line)] or lines[-1:]


def only_smoke_failed(checks: Sequence[Check]) -> bool:
    """Whether the release answers as itself, and it is its smoke tests alone that failed.

    They may have met a database that was being restarted. A new release has to pass them at once; a
    baseline, which has no better alternative, gets another try.
    """
    return [check.name for check in checks if not check.passed] == [SMOKE]


def explain_answer(body: bytes | str, field: str) -> str:
    """What was answered if a version was looked for and not found, as the end of a sentence.

    One line, and no more of the answer than its first characters or the names of its fields.
    """
    text = body.decode("utf-8", "replace") if isinstance(body, bytes) else body
    if not text.strip():
        return "answers nothing"
    try:
        value: Any = json.loads(text)
    except ValueError:
        return f"does not answer JSON, it begins: {_begin(text)}"
    above = "its answer"
    for name in field.strip(".").split("."):
        if not isinstance(value, dict):
            return f"has no field {field!r}; {above} is {_kind_of(value)}"
        if name not in value:
            names = _begin(", ".join(map(str, value))) or "none"
            its = "it" if above == "its answer" else above
            return f"has no field {field!r}; {its} has: {names}"
        value, above = value[name], repr(name)
    return f"has in its field {field!r} {_kind_of(value)}, and no version"


def _kind_of(value: Any) -> str:
    if isinstance(value, dict):
        return f"an object with: {_begin(', '.join(map(str, value))) or 'nothing'}"
    if isinstance(value, list):
        return f"a list of {len(value)}"
    return "an empty text" if value == "" else f"{_begin(json.dumps(value, ensure_ascii=False))}"


def _begin(text: str) -> str:
    """The first characters of a text, on one line that can be read."""
    line = "".join(c if c.isprintable() else " " for c in text[: 4 * _BEGIN])
    line = " ".join(line.split())
    return line if len(line) <= _BEGIN else f"{line[:_BEGIN]}…"


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
