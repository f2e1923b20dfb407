"""`ignition approvers` and `ignition runbook`: in a process of its own, as a person runs them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pyotp
import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    text = (ROOT / "ignition.example.toml").read_text()
    (tmp_path / "ignition.toml").write_text(text)
    (tmp_path / "RUNBOOK.md").write_text((ROOT / "RUNBOOK.md").read_text())
    return tmp_path


def ignition(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    own = {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT_", "IGNITION_"))}
    program = "import sys; from cli.main import main\ntry:\n    main()\nfinally:\n"
    program += "    assert 'prefect' not in sys.modules, 'it took three seconds to import Prefect'"
    return subprocess.run(
        [sys.executable, "-c", program, *arguments],
        cwd=ROOT,
        env={**own, "IGNITION_CONFIG": str(folder / "ignition.toml"), "COLUMNS": "200"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )


def enrolled(folder: Path) -> dict[str, dict[str, object]]:
    found: dict[str, dict[str, object]] = json.loads(
        (folder / ".ignition/approvers.json").read_text()
    )
    return found


def test_somebody_is_enrolled_with_a_qr_code_that_is_shown_once(folder: Path) -> None:
    done = ignition(folder, "approvers", "add", "Ada", "--role", "on-call", "--show-secret")

    assert done.returncode == 0, done.stderr
    entry = enrolled(folder)["Ada"]
    assert f"secret: {entry['secret']}\n" in done.stdout
    assert entry["roles"] == ["on-call"]
    assert done.stdout.count("\n") > 15  # the QR code
    assert pyotp.TOTP(str(entry["secret"])).now().isdigit()
    again = ignition(folder, "approvers", "add", "ada", "--show-secret")
    assert again.returncode == 1
    assert "is enrolled already" in again.stderr


def test_a_secret_is_not_written_into_a_pipe_unasked(folder: Path) -> None:
    done = ignition(folder, "approvers", "add", "Ada")

    assert done.returncode == 1
    assert "so nobody was enrolled" in done.stderr
    assert not (folder / ".ignition/approvers.json").exists()


def test_the_list_says_whether_production_can_be_signed(folder: Path) -> None:
    ignition(folder, "approvers", "add", "Ada", "--role", "on-call", "--show-secret")
    one = ignition(folder, "approvers", "list").stdout
    ignition(folder, "approvers", "add", "Grace", "--show-secret")
    two = ignition(folder, "approvers", "list").stdout

    assert one.splitlines() == [
        "Ada                  on-call",
        "production cannot be signed: 2 different people must sign, enrolled: Ada",
    ]
    assert two.splitlines() == ["Ada                  on-call", "Grace                no role"]
    for entry in enrolled(folder).values():
        assert str(entry["secret"]) not in one + two


def test_somebody_who_is_removed_is_no_approver_any_more(folder: Path) -> None:
    ignition(folder, "approvers", "add", "Ada", "--show-secret")

    assert ignition(folder, "approvers", "remove", "ada").returncode == 0
    assert enrolled(folder) == {}
    gone = ignition(folder, "approvers", "remove", "Ada")
    assert (gone.returncode, "is not enrolled" in gone.stderr) == (1, True)


def test_a_runbook_is_checked_with_the_line_of_each_problem(folder: Path) -> None:
    good = ignition(folder, "runbook", "check")
    text = (folder / "RUNBOOK.md").read_text()
    broken = text.replace("evidence=tests", "evidence=test").replace(
        "gate: on-call", "gat: on-call"
    )
    (folder / "RUNBOOK.md").write_text(broken)
    bad = ignition(folder, "runbook", "check", str(folder / "RUNBOOK.md"))

    assert good.returncode == 0, good.stderr
    assert "5 items that people sign" in good.stdout
    assert bad.returncode == 1
    lines = {n: line for n, line in enumerate(broken.splitlines(), 1) if "est " in line}
    first, second = bad.stdout.splitlines()
    assert first.startswith(f"{folder}/RUNBOOK.md:{min(lines)}: ")
    assert "evidence 'test' is unknown; did you mean tests?" in first
    assert "comment 'gat' is unknown; did you mean gate?" in second
