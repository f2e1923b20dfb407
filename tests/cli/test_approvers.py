"""`ignition approvers` and `ignition runbook`: in a process of its own, as a person runs them."""

import json
import os
import pty
import select
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

import pyotp
import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    text = (ROOT / "ignition.example.toml").read_text()
    (tmp_path / "ignition.toml").write_text(text)
    (tmp_path / "RUNBOOK.md").write_text((ROOT / "RUNBOOK.md").read_text())
    return tmp_path


PROGRAM = """\
import sys
from cli.main import main
try:
    main()
finally:
    assert 'prefect' not in sys.modules, 'it took three seconds to import Prefect'
"""


def surroundings(folder: Path) -> dict[str, str]:
    own = {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT_", "IGNITION_"))}
    own |= {"IGNITION_CONFIG": str(folder / "ignition.toml"), "COLUMNS": "200"}
    return own | {"XDG_STATE_HOME": str(folder / "state")}


def ignition(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments],
        cwd=ROOT,
        env=surroundings(folder),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )


def approvers_file(folder: Path) -> Path | None:
    """The only one that there is in the user's state directory."""
    found = list((folder / "state").rglob("approvers.json*"))
    assert len(found) <= 1
    return found[0] if found else None


def enrolled(folder: Path) -> dict[str, dict[str, object]]:
    file = approvers_file(folder)
    assert file is not None
    found: dict[str, dict[str, object]] = json.loads(file.read_text())
    return found


@dataclass
class Terminal:
    """The command in a terminal of its own, as a person sees it."""

    process: "subprocess.Popen[bytes]"
    screen: int
    seen: str = ""

    def until(self, text: str) -> str:
        """Read until the screen shows ``text`` (again), and return all that was new."""
        new, by = "", monotonic() + 60
        while text not in new:
            assert monotonic() < by, f"{text!r} did not come: {self.seen}"
            if select.select([self.screen], [], [], 0.2)[0]:
                new += os.read(self.screen, 65536).decode("utf-8", "replace")
        self.seen += new
        return new

    def type(self, text: str) -> None:
        os.write(self.screen, text.encode())

    def stopped_by(self, key: str) -> int:
        """Its exit code, after a key that stops it. It is pressed again while nothing happens:
        readline loses a signal that comes between its last look for one and its wait for a key.
        """
        by = monotonic() + 60
        while self.process.poll() is None and monotonic() < by:
            self.type(key)
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(timeout=5)
        return self.end()

    def end(self) -> int:
        """Its exit code, with the rest of what it says read."""
        by = monotonic() + 60
        while self.process.poll() is None or select.select([self.screen], [], [], 0)[0]:
            assert monotonic() < by, self.seen
            if select.select([self.screen], [], [], 0.2)[0]:
                try:
                    self.seen += os.read(self.screen, 65536).decode("utf-8", "replace")
                except OSError:  # nobody has the other side open any more
                    break
        return self.process.wait(timeout=60)


@contextmanager
def in_a_terminal(folder: Path, *arguments: str, **variables: str) -> Iterator[Terminal]:
    screen, other = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *arguments],
        cwd=ROOT,
        env={**surroundings(folder), "TERM": "xterm-256color", **variables},
        stdin=other,
        stdout=other,
        stderr=other,
        start_new_session=True,
        preexec_fn=_own_terminal,
    )
    os.close(other)
    try:
        yield Terminal(process, screen)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        os.close(screen)


def _own_terminal() -> None:
    """Make the terminal the one that Ctrl-C comes from, and heed it.

    What a script has started in the background ignores it, and so do its children.
    """
    import fcntl
    import termios

    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    signal.signal(signal.SIGINT, signal.SIG_DFL)


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
    assert approvers_file(folder) is None


PROMPT = "The six digits that it shows now"


@pytest.mark.parametrize("key", ["\x03", "\x04"], ids=["Ctrl-C", "Ctrl-D"])
def test_whoever_stops_at_the_code_has_enrolled_nobody(folder: Path, key: str) -> None:
    with in_a_terminal(folder, "approvers", "add", "Ada") as terminal:
        terminal.until(PROMPT)
        assert approvers_file(folder) is None
        code = terminal.stopped_by(key)

    assert code == 1
    assert "error: no code was given, so Ada was not enrolled" in terminal.seen
    assert "hint: ignition approvers add Ada" in terminal.seen
    assert "Traceback" not in terminal.seen
    assert approvers_file(folder) is None


def test_a_terminal_that_goes_away_enrols_nobody(folder: Path) -> None:
    with in_a_terminal(folder, "approvers", "add", "Ada") as terminal:
        terminal.until(PROMPT)
        terminal.process.send_signal(signal.SIGHUP)
        terminal.process.wait(timeout=60)

    assert approvers_file(folder) is None


def test_wrong_codes_enrol_nobody_and_those_who_were_there_stay(folder: Path) -> None:
    ignition(folder, "approvers", "add", "Grace", "--show-secret")
    before = enrolled(folder)
    with in_a_terminal(folder, "approvers", "add", "Ada") as terminal:
        for _ in range(3):
            terminal.until(PROMPT)
            terminal.type("12345\n")
        code = terminal.end()

    assert code == 1
    assert "3 wrong codes, so Ada was not enrolled" in terminal.seen
    assert enrolled(folder) == before


def test_a_confirmed_code_enrols_with_the_secret_that_was_shown(folder: Path) -> None:
    with in_a_terminal(folder, "approvers", "add", "Ada", "--role", "on-call") as terminal:
        shown = terminal.until(PROMPT)
        secret = shown.partition("secret: ")[2].split()[0]
        terminal.type(f"{pyotp.TOTP(secret).now()}\n")
        code = terminal.end()

    assert code == 0, terminal.seen
    assert enrolled(folder) == {"Ada": {"secret": secret, "roles": ["on-call"]}}
    assert "Ada is enrolled in " in terminal.seen


def test_the_approvers_are_outside_of_the_checkout_and_for_nobody_else(folder: Path) -> None:
    ignition(folder, "approvers", "add", "Ada", "--show-secret")
    file = approvers_file(folder)

    assert file is not None
    assert not (folder / ".ignition").exists()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_folder_from_before_keeps_its_approvers_and_git_leaves_it_out(folder: Path) -> None:
    subprocess.run(["git", "init", "--quiet", str(folder)], check=True)
    old = folder / ".ignition"
    old.mkdir()
    entry = {"secret": pyotp.random_base32(), "roles": ["on-call"]}
    (old / "approvers.json").touch(mode=0o600)
    (old / "approvers.json").write_text(json.dumps({"Ada": entry}))

    done = ignition(folder, "approvers", "add", "Grace", "--show-secret")
    untracked = subprocess.run(
        ["git", "-C", str(folder), "status", "--porcelain", "--untracked-files=all"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout

    assert done.returncode == 0, done.stderr
    there = json.loads((old / "approvers.json").read_text())
    assert there["Ada"] == entry
    assert sorted(there) == ["Ada", "Grace"]
    assert approvers_file(folder) is None
    assert ".ignition" not in untracked


def test_a_folder_that_holds_other_things_gets_no_gitignore(folder: Path) -> None:
    text = (folder / "ignition.toml").read_text()
    own = text.replace("#[approvers]", "[approvers]").replace('#file = ""', 'file = "people.json"')
    (folder / "ignition.toml").write_text(own)

    done = ignition(folder, "approvers", "add", "Ada", "--show-secret")

    assert done.returncode == 0, done.stderr
    assert (folder / "people.json").exists()
    assert not (folder / ".gitignore").exists()


# ── Colours ──────────────────────────────────────────────────────────────────────────────────────

COLOUR = "\x1b[3"


@pytest.mark.parametrize(
    ("variables", "coloured"),
    [
        ({}, True),
        ({"NO_COLOR": "1"}, False),
        ({"NO_COLOR": ""}, True),  # no-color.org: "and not an empty string"
        ({"TERM": "dumb"}, False),
    ],
)
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("approvers", "remove", "Ada"), "no approver is enrolled"),
        (("approvers", "no-such-command"), "No such command"),
    ],
)
def test_an_error_is_coloured_only_where_colours_are_wanted(
    folder: Path, arguments: tuple[str, ...], said: str, variables: dict[str, str], coloured: bool
) -> None:
    with in_a_terminal(folder, *arguments, **variables) as terminal:
        assert terminal.end() != 0

    assert said in terminal.seen
    assert (COLOUR in terminal.seen) is coloured


def test_an_error_that_goes_into_a_file_has_no_colour(folder: Path) -> None:
    assert COLOUR not in ignition(folder, "approvers", "remove", "Ada").stderr


# ── A name at a gate ─────────────────────────────────────────────────────────────────────────────


def test_a_name_that_is_not_enrolled_is_told_before_a_code_is_asked_for(folder: Path) -> None:
    ignition(folder, "approvers", "add", "Grace", "--show-secret")
    done = ignition(folder, "approve", "d-1874ab", "--as", "Grce")

    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "error: 'Grce' is not enrolled as an approver; did you mean Grace? There is: Grace; "
        "nothing was sent",
        "hint: ignition approvers list",
    ]


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
