"""The example backend's git history."""

import subprocess
from pathlib import Path

import pytest

from sandbox.parts.origin import BRANCHES, branch_off, ensure_origin, export, revision


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A freshly made origin."""
    path = tmp_path_factory.mktemp("backend") / "origin.git"
    ensure_origin(path)
    return path


def changed_files(origin: Path, older: str, newer: str) -> list[str]:
    """The names of the files in which two commits differ."""
    command = ["git", "-C", str(origin), "diff", "--name-only", older, newer]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()


def test_the_same_files_make_the_same_commits(origin: Path, tmp_path: Path) -> None:
    ensure_origin(tmp_path / "origin.git")

    assert revision(tmp_path / "origin.git", "main") == revision(origin, "main")


def test_a_second_call_leaves_pushed_tags_alone(origin: Path) -> None:
    subprocess.run(["git", "-C", str(origin), "tag", "v9.9.9", "main"], check=True)

    assert ensure_origin(origin) == "there already"
    assert revision(origin, "v9.9.9") == revision(origin, "main")


def test_main_is_one_migration_ahead_of_the_baseline(origin: Path) -> None:
    assert "app/backend/migrations/0002_add_note_to_items.sql" in changed_files(
        origin, "v1.0.0", "main"
    )


@pytest.mark.parametrize("branch", BRANCHES, ids=lambda branch: branch.name)
def test_each_branch_is_a_change_to_the_backend_on_top_of_main(origin: Path, branch) -> None:
    changed = changed_files(origin, "main", branch.name)

    assert changed
    assert all(name.startswith("app/backend/") for name in changed)
    assert revision(origin, f"{branch.name}~1") == revision(origin, "main")


def test_a_host_gets_its_own_environments_files(origin: Path, tmp_path: Path) -> None:
    export(origin, "v1.0.0:deploy/production", tmp_path)

    assert sorted(path.name for path in tmp_path.iterdir()) == ["docker-compose.yml", "haproxy.cfg"]


def test_a_branch_can_be_deployed_again_as_another_commit(origin: Path) -> None:
    first = branch_off(origin, "bad/slow", "trial/1", "Trial 1")
    second = branch_off(origin, "bad/slow", "trial/2", "Trial 2")

    assert len({first, second, revision(origin, "bad/slow")}) == 3
    assert revision(origin, "trial/2") == second
    assert changed_files(origin, "bad/slow", "trial/2") == []
