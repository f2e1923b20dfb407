"""Last, when all runs have left their traces: what can be read in them, and what must not be."""

import base64
import json
import re
from collections.abc import Iterator
from dataclasses import asdict

import pytest

from sandbox.parts import approvers
from tests.e2e.conftest import Deployed
from tests.e2e.driver import Operator

pytestmark = pytest.mark.e2e


def places(operator: Operator) -> Iterator[tuple[str, bytes]]:
    """Everything that Prefect keeps, answers or logs: where it is, and what it says."""
    for path in ("artifacts", "logs", "flow_runs", "task_runs", "deployments", "block_documents"):
        for each in operator.pages(f"/{path}/filter", {}):
            yield f"{path} {each.get('name') or each['id']}", json.dumps(each).encode()
    for file in (*operator.sandbox.logs.iterdir(), *operator.sandbox.prefect_home.rglob("*")):
        if file.is_file():
            yield str(file), file.read_bytes()
            yield f"{file}, unpacked", unpacked(file.read_bytes())


def unpacked(content: bytes) -> bytes:
    """What a stored result holds inside its envelope; nothing for other files."""
    try:
        return base64.b64decode(json.loads(content)["result"])
    except (ValueError, KeyError, TypeError):
        return b""


def test_no_secret_is_in_anything_that_can_be_read(operator: Operator, staged: Deployed) -> None:
    people = json.loads(approvers.file_of(operator.sandbox).read_text())
    secrets = [
        *asdict(operator.sandbox.secrets).items(),
        *((f"of {name}'s codes", entry["secret"]) for name, entry in people.items()),
    ]
    read = dict(places(operator))

    found = [
        f"{where} holds the secret {name}"
        for where, text in read.items()
        for name, value in secrets
        if value.encode() in text
    ]

    assert len(read) > 100
    assert found == []


def test_no_run_met_an_error_that_nobody_foresaw(operator: Operator, staged: Deployed) -> None:
    """Every failure here was provoked, so each has to be told as a decision, in its own words."""
    lines = [line["message"] for line in operator.pages("/logs/filter", {})]

    assert len(lines) > 20
    assert [line for line in lines if "unexpected" in line] == []


TROUBLE = re.compile(r"Traceback \(most recent call last\)|\| (ERROR|CRITICAL) ")


def test_the_prefect_server_logged_no_error(operator: Operator, staged: Deployed) -> None:
    """A service that fails says so there, and nowhere else: a scheduler that fails at each turn
    leaves everything but the schedules at work.

    The worker's log is not looked at: tests stop the server under it, and it says so.
    """
    lines = (operator.sandbox.logs / "server.log").read_text().splitlines()

    assert lines
    assert [
        "\n".join(lines[number : number + 30])
        for number, line in enumerate(lines)
        if TROUBLE.search(line)
    ] == []
