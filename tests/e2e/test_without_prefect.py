"""The Prefect server is down at 3 am: what is said then, and the rollback at the host's own hands.

What is printed is what is typed here, in a shell.
"""

import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from sandbox.commands import wait_until
from sandbox.parts import prefect
from tests.e2e.conftest import Deployed
from tests.e2e.driver import Operator

pytestmark = pytest.mark.e2e


@contextmanager
def prefect_down(operator: Operator) -> Iterator[None]:
    """Stop the server for a while; the worker stays."""
    prefect.server_process(operator.sandbox).stop()
    try:
        yield
    finally:
        prefect.start_server(operator.sandbox)
        prefect.wait_for_server(operator.sandbox, threading.Event())


def type_on_the_host(lines: list[str]) -> None:
    own = {k: v for k, v in os.environ.items() if not k.startswith(("IGNITION_", "API_"))}
    subprocess.run(["sh", "-eu"], input="\n".join(lines), text=True, check=True, env=own)


def test_status_and_p0_do_without_the_server_and_what_they_print_brings_the_release_back(
    operator: Operator, staged: Deployed
) -> None:
    """The release that served before serves again, also after a reboot; then it is written down."""
    before = operator.look("staging")
    deployed = operator.deploy_branch("refactor/stack-split")
    assert deployed.ending == "Deployed", deployed

    with prefect_down(operator):
        status = operator.ignition("status", "staging")
        p0 = operator.ignition("p0", "staging", "--reason", "twice", "--as", "Grace", "--yes")
        said = p0.said.splitlines()
        first = said.index(f"on the host of staging, to go back to {before.serves}:") + 1
        *commands, curl = [line.strip() for line in said[first:] if line.startswith("  ")]
        type_on_the_host(commands)
        wait_until(
            lambda: operator.serves("staging") == before.serves,
            what=f"{before.serves} behind HAProxy",
            seconds=60,
            hint="docker ps",
        )
        type_on_the_host([curl])
        after = operator.look("staging")

    assert status.code == 0, status
    assert status.said.startswith(f"staging serves {deployed.serves}, since ")
    assert f"a rollback goes back to {before.serves}: " in status.said
    assert "the Prefect server at " in status.said
    assert p0.code == 1, p0
    assert f"nothing was rolled back yet; staging serves {deployed.serves}" in said
    assert (after.serves, after.pinned) == (before.serves, before.pinned)
    assert [(image, state) for _, image, state in after.containers] == [(before.pinned, "running")]

    written = operator.roll_back("staging", "P0: twice, done by hand", to=before.serves)

    assert written.ending == "RollbackDone", written
    assert operator.serves("staging") == before.serves
    assert "since when" not in operator.ignition("status", "staging").said
