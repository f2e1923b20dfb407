"""The `ignition` command, as a person types it."""

import os
import re
import socket
import subprocess
import sys
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest
import typer
from prefect.settings import PREFECT_API_URL, temporary_settings
from typer.testing import CliRunner

import cli.main
from cli import runs
from cli.main import app, main

ROOT = Path(cli.main.__file__).resolve().parents[1]
COMMANDS = sorted(
    command.name or command.callback.__name__  # type: ignore[union-attr]
    for command in app.registered_commands
)
SECRET = "correct-horse-battery"
CONFIGURATION = """
[service]
name = "orders"
[repository]
url = "/srv/orders.git"
[registry]
address = "127.0.0.1:9"
[environments.production]
url = "http://127.0.0.1:9"
[environments.production.orchestrator]
directory = "production"
[environments.staging]
url = "http://127.0.0.1:9"
[environments.staging.orchestrator]
directory = "staging"
"""


@pytest.fixture(autouse=True)
def _configured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two environments, and no Prefect server."""
    for name in [name for name in os.environ if name.startswith(("IGNITION_", "PREFECT_"))]:
        monkeypatch.delenv(name)
    path = tmp_path / "ignition.toml"
    path.write_text(CONFIGURATION)
    monkeypatch.setenv("IGNITION_CONFIG", str(path))
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "prefect"))
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "200")


def ignition(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str
) -> tuple[int, str, str]:
    """Run the command in this process: its exit code, what it said, and what it complained of."""
    monkeypatch.setattr(sys, "argv", ["ignition", *arguments])
    try:
        main()
        code = 0
    except SystemExit as ended:
        code = int(ended.code or 0)
    said, complained = capsys.readouterr()
    return code, said, complained


# ── Help ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_every_command_shows_an_example(command: str) -> None:
    shown = CliRunner().invoke(app, [command, "--help"])

    assert shown.exit_code == 0
    assert re.search(rf"Example:\s+ignition {command}\b", shown.output), shown.output


@pytest.mark.parametrize("command", COMMANDS)
def test_an_example_has_only_options_that_the_command_knows(command: str) -> None:
    shown = CliRunner().invoke(app, [command, "--help"]).output
    example = re.search(rf"ignition {command}\b[^│\n]*", shown)

    assert example is not None
    options = set(re.findall(r"--[a-z-]+", example[0]))
    assert options <= set(re.findall(r"--[a-z-]+", shown.replace(example[0], "")))


def test_the_command_alone_shows_what_it_can_do() -> None:
    shown = CliRunner().invoke(app, [])

    for command in COMMANDS:
        assert command in shown.output


def test_help_is_there_at_once() -> None:
    """Prefect takes seconds to import; whoever asks for help at 3 am does not wait for it."""
    program = "import sys\nfrom cli.main import app\nsys.exit('prefect' in sys.modules)"

    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT)

    assert done.returncode == 0


# ── What goes wrong ──────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("arguments", "sentence", "hint"),
    [
        (
            ["deploy", "1.2.3"],
            "'1.2.3' is not a valid version: expected vMAJOR.MINOR.PATCH, such as v1.2.3",
            "ignition deploy v1.2.3 --to staging",
        ),
        (
            ["deploy"],
            "version: a release needs one, such as v1.2.3, unless it is a branch deployment",
            "ignition deploy v1.2.3 --to staging, or: ignition deploy --branch NAME --to staging",
        ),
        (
            ["deploy", "v1.2.3", "--branch", "main"],
            "version: a branch deployment takes no version, but got 'v1.2.3'",
            "ignition deploy --branch main --to staging",
        ),
        (
            ["deploy", "v1.2.3", "--to", "prod"],
            "environment 'prod' is not configured",
            "ignition status",
        ),
        (
            ["deploy", "v1.2.3", "--ref=--upload-pack=x"],
            "'--upload-pack=x' is not a branch",
            "no blank, no '..', none of ~ ^ : ? * [ \\, no '-' first, no '.' or '/' last",
        ),
        (
            ["rollback", "production"],
            "reason: a rollback needs one line that says why",
            'ignition rollback production --reason "P0: …"',
        ),
        (
            ["rollback", "production", "--reason", " "],
            "reason: a rollback needs one line that says why",
            'ignition rollback production --reason "P0: …"',
        ),
        (
            ["rollback", "prod", "--reason", "P0"],
            "environment 'prod' is not configured",
            "ignition status",
        ),
        *(
            (command, "; did you mean production? There is: production, staging", "ignition status")
            for command in (
                ["status", "prod"],
                ["log", "prod"],
                ["plan", "--to", "prod"],
                ["adopt", "prod", "--through", "0001", "--as", "Ada", "--reason", "was Flyway"],
                ["unlock", "prod", "--as", "Ada", "--reason", "it died"],
                ["p0", "prod", "--reason", "it is charged twice", "--yes"],
            )
        ),
        (
            ["status"],
            "needs a secret that is not set: IGNITION_ENVIRONMENTS__PRODUCTION__DATABASE__DSN",
            "export IGNITION_ENVIRONMENTS__PRODUCTION__DATABASE__DSN=… and run: ignition setup",
        ),
        (
            ["deploy", "v1.2.3"],
            "PREFECT_API_URL is not set, so there is no Prefect server to ask",
            "export PREFECT_API_URL=http://127.0.0.1:4200/api; "
            "if no server runs yet: prefect server start",
        ),
        (
            ["reject", "d-1874ab", "--as", "Ada", "--reason", " "],
            "a rejection has no reason",
            'add --reason "…"',
        ),
        (
            ["approve", "d-1874ab", "--as", "Ada"],
            "PREFECT_API_URL is not set",
            "export PREFECT_API_URL=http://127.0.0.1:4200/api; "
            "if no server runs yet: prefect server start",
        ),
    ],
)
def test_a_mistake_is_one_sentence_and_a_hint_and_exit_code_1(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    sentence: str,
    hint: str,
) -> None:
    # Other tests of this process may have a server.
    with temporary_settings(restore_defaults={PREFECT_API_URL}):
        code, said, complained = ignition(monkeypatch, capsys, *arguments)

    assert code == 1
    assert said == ""
    error, *hints = complained.strip().splitlines()
    assert error.startswith("error: ")
    assert sentence in error
    assert hints == ([f"hint: {hint}"] if hint else [])


def test_a_missing_configuration_says_how_to_make_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("IGNITION_CONFIG", str(tmp_path / "none.toml"))

    code, _, complained = ignition(monkeypatch, capsys, "doctor")

    assert code == 1
    assert complained.splitlines()[0] == f"error: no configuration at {tmp_path / 'none.toml'}"
    assert "cp ignition.example.toml ignition.toml" in complained


def test_a_prefect_server_that_is_down_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """In a process of its own, as a person runs it: no traceback, nothing but the two lines."""
    done = subprocess.run(
        [sys.executable, "-c", "from cli.main import main; main()", "deploy", "v1.2.3"],
        cwd=ROOT,
        env={**os.environ, "PREFECT_API_URL": "http://127.0.0.1:9/api"},
        capture_output=True,
        text=True,
    )

    assert done.returncode == 1
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    error, hint = done.stderr.strip().splitlines()
    assert error.startswith("error: the Prefect server at http://127.0.0.1:9/api does not answer")
    assert hint == "hint: prefect server start --port 9"


@pytest.mark.parametrize(
    "arguments",
    [
        ["reject", "d-1874ab", "--as", "Ada"],  # no reason
        ["approve", "d-1874ab"],  # nobody's name
        ["unlock", "production", "--as", "Ada"],
        ["log", "--limit", "0"],
        ["no-such-command"],
        ["deploy", "v1.2.3", "--force"],
    ],
)
def test_a_command_line_that_is_incomplete_is_refused_before_anything_is_asked(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    code, said, complained = ignition(monkeypatch, capsys, *arguments)

    assert code == 2
    assert said == ""
    assert "Traceback" not in complained
    assert "Usage: " in complained


@pytest.mark.parametrize("answers", [False, True])
@pytest.mark.parametrize(
    ("arguments", "instead"),
    [
        (
            ["rollback", "production", "--reason", "x", "--as", "Ada"],
            "ignition p0 production --reason …",
        ),
        (["gates"], "ignition status"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_what_needs_the_prefect_server_names_the_way_without_it(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    instead: str,
    answers: bool,
) -> None:
    """A server that is gone, and one that takes connections and says nothing. Nothing is begun."""
    patient = partial(runs.unavailable, timedelta(seconds=1))
    monkeypatch.setattr(runs, "unavailable", patient)
    with socket.create_server(("127.0.0.1", 0)) as hangs:
        port = hangs.getsockname()[1] if answers else 9
        with temporary_settings({PREFECT_API_URL: f"http://127.0.0.1:{port}/api"}):
            code, _, complained = ignition(monkeypatch, capsys, *arguments)

    assert code == 1
    assert f"the Prefect server at http://127.0.0.1:{port}/api" in complained
    assert complained.rstrip().endswith(
        f"hint: prefect server start --port {port}; without it: {instead}"
    )


def test_no_error_of_the_command_line_shows_a_secret(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    dsn = f"postgresql://ada:{SECRET}@127.0.0.1:9/orders"
    for variable in (
        "IGNITION_LEDGER__DSN",
        "IGNITION_ENVIRONMENTS__PRODUCTION__DATABASE__DSN",
        "IGNITION_ENVIRONMENTS__STAGING__DATABASE__DSN",
    ):
        monkeypatch.setenv(variable, dsn)
    monkeypatch.setenv("IGNITION_REGISTRY__PASSWORD", SECRET)

    unlock = ["unlock", "staging", "--reason", "x", "--as", "Ada"]

    for command in (["log"], ["verify"], ["doctor"], unlock):
        code, said, complained = ignition(monkeypatch, capsys, *command)
        assert code == 1, command
        assert SECRET not in said + complained


def test_only_errors_of_ours_are_made_into_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mistake in the program keeps its traceback: it has to be reported, not typed around."""

    def broken() -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(cli.main, "app", broken)

    with pytest.raises(ZeroDivisionError):
        main()


def test_the_command_is_a_typer_application() -> None:
    assert isinstance(app, typer.Typer)
    assert {"setup", "doctor", "status", "deploy", "rollback", "approve", "reject", "log"} <= set(
        COMMANDS
    )
