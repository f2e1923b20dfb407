"""The sandbox's two approvers, and the codes that their phones would show."""

import json
import time
from pathlib import Path

import psycopg
import pyotp

from blocks.approvers import STEP, Approvers
from release.gate.checklist import ALL_OPEN, Decision
from sandbox.commands import wait_until
from sandbox.layout import Sandbox

NAMES = {"Ada": ("release-manager",), "Grace": ("on-call",)}
_STEPS = (0, 1, -1, -2)  # of 30 s: codes that the worker still takes when it reads the answer
_LONGEST_WAIT = 120.0  # seconds, for an unused code


def file_of(sandbox: Sandbox) -> Path:
    """Where the approvers are: in the folder ``state`` of the configuration."""
    return sandbox.folder / ".ignition" / "approvers.json"


def enrol(sandbox: Sandbox) -> None:
    """Enrol both, unless they are enrolled already."""
    approvers = Approvers(file_of(sandbox))
    there = {one.name for one in approvers.known()} if file_of(sandbox).exists() else set()
    for name, roles in NAMES.items():
        if name not in there:
            approvers.add(name, roles)


def code(sandbox: Sandbox, name: str) -> str:
    """An approver's code that still counts: an unused one, or else the next one."""
    totp = pyotp.TOTP(_secret(sandbox, name))

    def unused() -> str:
        now = int(time.time() // STEP.total_seconds())
        used = _used(sandbox, name.title())
        found = next((now + s for s in _STEPS if now + s not in used), None)
        return totp.generate_otp(found) if found is not None else ""

    return wait_until(
        unused, what=f"a fresh code of {name}", seconds=_LONGEST_WAIT, hint="wait 30 s"
    )


def approval(sandbox: Sandbox, name: str, item: str = "", comment: str = "") -> dict[str, str]:
    """The form of a gate as an approver fills it in, with a good code."""
    return {
        "decision": Decision.APPROVE.value,
        "signs": item or ALL_OPEN,
        "approver": name.title(),
        "code": code(sandbox, name),
        "comment": comment,
    }


def _secret(sandbox: Sandbox, name: str) -> str:
    return str(json.loads(file_of(sandbox).read_text())[name.title()]["secret"])


def _used(sandbox: Sandbox, name: str) -> set[int]:
    with psycopg.connect(sandbox.ledger_url) as connection:
        rows = connection.execute("SELECT step FROM used_codes WHERE approver = %s", (name,))
        return {row[0] for row in rows}
