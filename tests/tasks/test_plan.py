"""What the plan asks of a commit, before anything is tagged: a real origin, a real mirror."""

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from prefect import flow

from blocks.repository import Repository
from blocks.service import Service
from release.configuration.layout import ServiceLayout
from release.errors import BadConfiguration
from release.model import ReleaseKind
from release.request import DeployRequest
from tasks.plan import resolve_release

SERVICE = ServiceLayout(name="orders")
GOOD = {
    "app/backend/Dockerfile": "FROM scratch\n",
    "tests/package.json": '{"scripts": {"test:smoke": "x"}}',
}


@dataclass
class Production:
    """As much of a target as the commit is asked of."""

    repository: Repository
    service: Service


@pytest.fixture
def production(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prefect_server: None) -> Production:
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    for role in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{role}_NAME", "Ada")
        monkeypatch.setenv(f"GIT_{role}_EMAIL", "ada@example.com")
    origin = tmp_path / "origin"
    subprocess.run(["git", "init", "--quiet", "--initial-branch=main", origin], check=True)
    repository = Repository(url=str(origin), workspace=tmp_path / "mirror.git")
    return Production(repository, Service(url="http://127.0.0.1:9"))


def commit(production: Production, branch: str, **files: str | None) -> str:
    """A commit with all that SERVICE needs, but for ``files``, as a branch of the origin."""
    origin = Path(production.repository.url)
    for path, text in {**GOOD, **files}.items():
        file = origin / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.unlink(missing_ok=True)
        if text is not None:
            file.write_text(text)

    def git(*arguments: str) -> str:
        done = subprocess.run(
            ["git", "-C", origin, *arguments], check=True, capture_output=True, text=True
        )
        return done.stdout.strip()

    git("add", "--all")
    git("commit", "--quiet", "--allow-empty", "-m", branch)
    git("branch", "--force", "--", branch, "HEAD") if branch != "main" else None
    return git("rev-parse", "HEAD")


@flow
def planning(target: Any, request: DeployRequest, service: ServiceLayout) -> str:
    return resolve_release(target, request, service)


def resolved(production: Production, branch: str, service: ServiceLayout = SERVICE) -> str:
    request = DeployRequest(kind=ReleaseKind.BRANCH, ref=branch)
    return planning(production, request, service)


@pytest.mark.parametrize("branch", ["main", "größe", "hotfix+1", "#123", "@types/x", "issue=5"])
def test_a_branch_is_resolved_whatever_it_is_called(production: Production, branch: str) -> None:
    made = commit(production, branch)

    assert resolved(production, branch) == made


@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        ({"app/backend/Dockerfile": None}, "has no app/backend/Dockerfile to build from"),
        ({"tests/package.json": None}, "has no tests/package.json, so npm finds no script"),
        ({"tests/package.json": "{"}, "is not JSON: "),
        (
            {"tests/package.json": '{"scripts": {"smoke": "x"}}'},
            "has no script 'test:smoke'; did you mean smoke? There is: smoke",
        ),
    ],
)
def test_a_commit_that_cannot_be_built_or_tested_is_refused_in_the_plan(
    production: Production, files: dict[str, str | None], sentence: str
) -> None:
    made = commit(production, "main", **files)

    with pytest.raises(BadConfiguration) as refused:
        resolved(production, "main")

    assert sentence in refused.value.what
    assert made[:12] in refused.value.what


def test_a_worker_without_the_program_of_the_smoke_tests_is_refused_in_the_plan(
    production: Production,
) -> None:
    commit(production, "main")
    service = ServiceLayout(name="orders", smoke=("no-such-runner", "smoke"))

    with pytest.raises(BadConfiguration, match="the worker has no program 'no-such-runner'"):
        resolved(production, "main", service)
