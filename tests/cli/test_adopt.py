"""`ignition adopt`, as a person types it, on a real database and a real repository."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from blocks.postgres.database import Database
from cli.main import main

FLYWAY = """
    CREATE TABLE flyway_schema_history (
        installed_rank int PRIMARY KEY, version varchar(50), description varchar(200) NOT NULL,
        type varchar(20) NOT NULL, script varchar(1000) NOT NULL, checksum int,
        installed_by varchar(100) NOT NULL, installed_on timestamp NOT NULL DEFAULT now(),
        execution_time int NOT NULL, success bool NOT NULL);
    INSERT INTO flyway_schema_history VALUES
        (1, '1', 'users', 'SQL', 'V1__users.sql', 1, 'ada', now(), 3, true),
        (2, '2', 'orders', 'SQL', 'V2__orders.sql', 2, 'ada', now(), 3, true);"""
CONFIGURATION = """
[service]
name = "orders"
migrations = "migrations"
[repository]
url = "{folder}/work"
workspace = "{folder}/mirror"
[registry]
address = "127.0.0.1:9"
[environments.production]
url = "http://127.0.0.1:9"
[environments.production.orchestrator]
directory = "production"
"""
Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three migrations, committed on main."""
    folder = tmp_path / "work" / "migrations"
    folder.mkdir(parents=True)
    for number, name in enumerate(("users", "orders", "prices"), start=1):
        (folder / f"000{number}_{name}.sql").write_text(f"CREATE TABLE {name} (id int);\n")
    for arguments in (
        ("init", "--quiet", "--initial-branch=main"),
        ("add", "--all"),
        ("-c", "user.name=Ada", "-c", "user.email=ada@example.com", "commit", "-qm", "First"),
    ):
        subprocess.run(["git", *arguments], cwd=folder.parent, check=True)
    return folder


@pytest.fixture
def ignition(
    dsn: str,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Command:
    """Runs the command in this process: its exit code, what it said, what it complained of."""
    for name in [name for name in os.environ if name.startswith("IGNITION_")]:
        monkeypatch.delenv(name)
    path = tmp_path / "ignition.toml"
    path.write_text(CONFIGURATION.format(folder=tmp_path))
    monkeypatch.setenv("IGNITION_CONFIG", str(path))
    monkeypatch.setenv("IGNITION_LEDGER__DSN", dsn)
    monkeypatch.setenv("IGNITION_ENVIRONMENTS__PRODUCTION__DATABASE__DSN", dsn)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(FLYWAY)

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["ignition", "adopt", "production", *arguments])
        try:
            main()
            code = 0
        except SystemExit as ended:
            code = int(ended.code or 0)
        said, complained = capsys.readouterr()
        return code, said, complained

    return run


def recorded(dsn: str) -> list[tuple[str, str, str]]:
    rows = Database(dsn=dsn).applied()  # type: ignore[arg-type]
    return [(row.filename, row.status, row.note) for row in rows]


def test_a_schema_of_flyway_is_adopted_with_a_name_and_a_reason(ignition: Command, dsn: str):
    code, said, complained = ignition("--through", "0002", "--as", "Ada", "--reason", "was Flyway")

    assert (code, complained) == (0, "")
    assert said.splitlines() == [
        "Flyway made this schema: public.flyway_schema_history stands at 2 (2 rows)",
        "to be recorded, without running them: 2 files, 0001_users.sql to 0002_orders.sql",
        "still to be applied by a deployment: 0003_prices.sql",
        "Flyway must no longer run when the release starts: two tools would change one schema",
        "2 files recorded as adopted: adopted by Ada from Flyway at 2: was Flyway",
    ]
    note = "adopted by Ada from Flyway at 2: was Flyway"
    assert recorded(dsn) == [
        ("0001_users.sql", "adopted", note),
        ("0002_orders.sql", "adopted", note),
    ]


def test_without_a_number_it_says_what_it_found_and_proposes_one(ignition: Command, dsn: str):
    code, said, complained = ignition()

    assert code == 1
    assert said == "Flyway made this schema: public.flyway_schema_history stands at 2 (2 rows)\n"
    assert complained.splitlines() == [
        "error: up to which file is the schema complete? Nothing was written",
        "hint: ignition adopt production --through 0002 --as NAME --reason …",
    ]
    assert recorded(dsn) == []


@pytest.mark.parametrize(
    "arguments", [(), ("--as", "Ada"), ("--reason", "x"), ("--as", " ", "--reason", "x")]
)
def test_without_a_name_and_a_reason_it_shows_and_writes_nothing(
    ignition: Command, dsn: str, arguments: tuple[str, ...]
):
    code, said, complained = ignition("--through", "0002", *arguments)

    assert code == 1
    assert "to be recorded, without running them: 2 files" in said
    assert complained.splitlines() == [
        "error: an adoption is recorded with a name and a reason; nothing was written",
        "hint: ignition adopt production --through 0002 --as NAME --reason …",
    ]
    assert recorded(dsn) == []


def test_a_dry_run_shows_and_writes_nothing(ignition: Command, dsn: str):
    code, said, _ = ignition(
        "--through", "0002", "--as", "Ada", "--reason", "was Flyway", "--dry-run"
    )

    assert code == 0
    assert said.splitlines()[-1] == "a dry run: nothing was written"
    assert recorded(dsn) == []


def test_repeated_it_says_that_there_is_nothing_to_write(ignition: Command, dsn: str):
    arguments = ("--through", "0002", "--as", "Ada", "--reason", "was Flyway")
    ignition(*arguments)
    before = recorded(dsn)

    code, said, _ = ignition(*arguments)

    assert code == 0
    assert said.splitlines()[-1] == "all of them are recorded already: nothing was written"
    assert recorded(dsn) == before


def test_the_files_are_those_of_the_repository_unless_a_folder_is_given(
    ignition: Command, dsn: str, folder: Path
):
    (folder / "0004_stock.sql").write_text("CREATE TABLE stock (id int);\n")  # not committed
    arguments = ("--through", "0004", "--as", "Ada", "--reason", "was Flyway")

    code, _, complained = ignition(*arguments)

    assert code == 1
    assert "no migration file has the number '0004'; the newest is 0003_prices.sql" in complained
    assert recorded(dsn) == []
    code, _, _ = ignition(*arguments, "--folder", str(folder))
    assert code == 0
    assert [filename for filename, _, _ in recorded(dsn)][-1] == "0004_stock.sql"


def test_a_commit_that_is_not_there_is_said_before_anything_is_looked_at(
    ignition: Command, dsn: str
):
    code, said, complained = ignition("--through", "0002", "--ref", "no-such-branch")

    assert (code, said) == (1, "")
    assert "no branch, tag or commit 'no-such-branch'" in complained
    assert recorded(dsn) == []


def test_what_the_other_tool_has_not_finished_is_not_adopted(ignition: Command, dsn: str):
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("UPDATE flyway_schema_history SET success = false WHERE version = '2'")

    code, _, complained = ignition("--through", "0002", "--as", "Ada", "--reason", "was Flyway")

    assert code == 1
    assert complained.splitlines() == [
        "error: Flyway has not finished with this schema: 2 failed "
        "(public.flyway_schema_history); nothing was changed",
        "hint: undo what the failed file left, then: flyway repair",
    ]
    assert recorded(dsn) == []
