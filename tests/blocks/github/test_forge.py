"""A forge over HTTP: pages, other shapes, no answer; and the token, which is never said."""

from typing import Any

import pytest
from pydantic import SecretStr
from pytest_httpserver import HTTPServer

from blocks.github.forge import GithubForge
from release.errors import Unreachable
from release.gate.evidence import CheckResult, Issue

TOKEN = "ghp_Tr0ub4dor"
SHA = "0123456789abcdef0123456789abcdef01234567"
STATUS = f"/repos/team/backend/commits/{SHA}/status"
RUNS = f"/repos/team/backend/commits/{SHA}/check-runs"
ISSUES = "/repos/team/backend/issues"


@pytest.fixture
def forge(httpserver: HTTPServer) -> GithubForge:
    return GithubForge(url=httpserver.url_for("/repos/team/backend"), token=SecretStr(f"{TOKEN}\n"))


def status(context: str, state: str = "success") -> dict[str, str]:
    return {"context": context, "state": state, "target_url": f"https://ci/{context}"}


def run(name: str, conclusion: str | None = "success") -> dict[str, Any]:
    done = "completed" if conclusion else "in_progress"
    return {
        "name": name,
        "status": done,
        "conclusion": conclusion,
        "html_url": f"https://ci/{name}",
    }


def test_statuses_and_check_runs_of_a_commit_are_read_with_the_token(
    httpserver: HTTPServer, forge: GithubForge
) -> None:
    bearer = {"Authorization": f"Bearer {TOKEN}"}
    statuses = {"statuses": [status("lint"), status("lint", "failure"), status("unit", "pending")]}
    httpserver.expect_request(STATUS, headers=bearer).respond_with_json(statuses)
    runs = {"check_runs": [run("build"), run("slow", None), run("scan", "neutral")]}
    httpserver.expect_request(RUNS, headers=bearer).respond_with_json(runs)

    assert forge.checks(SHA) == (
        CheckResult("lint", "success", "https://ci/lint"),  # the newest of a context comes first
        CheckResult("unit", "pending", "https://ci/unit"),
        CheckResult("build", "success", "https://ci/build"),
        CheckResult("slow", "pending", "https://ci/slow"),
        CheckResult("scan", "neutral", "https://ci/scan"),
    )


def test_gitea_has_no_check_runs_and_another_word_for_a_state(
    httpserver: HTTPServer, forge: GithubForge
) -> None:
    statuses = {"statuses": [{"context": "ci", "status": "success", "target_url": ""}]}
    httpserver.expect_request(STATUS).respond_with_json(statuses)
    httpserver.expect_request(RUNS).respond_with_json({"message": "Not Found"}, status=404)

    assert forge.checks(SHA) == (CheckResult("ci", "success"),)


def test_all_pages_are_read(httpserver: HTTPServer, forge: GithubForge) -> None:
    httpserver.expect_request(STATUS).respond_with_json({"statuses": []})
    for page, count in ((1, 100), (2, 100), (3, 7)):
        runs = {"check_runs": [run(f"r{page}-{n}") for n in range(count)]}
        query = {"per_page": "100", "page": str(page)}
        httpserver.expect_request(RUNS, query_string=query).respond_with_json(runs)

    assert len(forge.checks(SHA)) == 207


def test_open_issues_with_the_label_are_critical_and_pull_requests_are_none(
    httpserver: HTTPServer, forge: GithubForge
) -> None:
    query = {"state": "open", "labels": "critical", "per_page": "100", "page": "1"}
    issue = {"number": 7, "title": "orders are lost", "html_url": "https://forge/7"}
    pull = {"number": 8, "title": "mend it", "pull_request": {}}
    pull["pull_request"] = {"url": "https://forge/8"}
    httpserver.expect_request(ISSUES, query_string=query).respond_with_json([issue, pull])

    assert forge.critical_issues() == (Issue("7", "orders are lost", "https://forge/7"),)


@pytest.mark.parametrize(
    ("body", "code", "says"),
    [
        ("{}", 200, "another shape"),
        ("[]", 200, "another shape"),
        ('{"statuses": [{}]}', 200, "another shape"),
        ('{"statuses": 1}', 200, "another shape"),
        ("<html>", 200, "answers no JSON"),
        ("{}", 500, "answers 500"),
        ("{}", 401, "answers 401"),
        ("{}", 404, "answers 404"),
    ],
)
def test_an_answer_that_cannot_be_trusted_is_none(
    httpserver: HTTPServer, forge: GithubForge, body: str, code: int, says: str
) -> None:
    httpserver.expect_request(STATUS).respond_with_data(body, status=code)
    httpserver.expect_request(RUNS).respond_with_json({"check_runs": []})

    with pytest.raises(Unreachable, match=says) as refused:
        forge.checks(SHA)
    assert TOKEN not in str(refused.value)


def test_the_token_is_carried_to_no_other_host(httpserver: HTTPServer, forge: GithubForge) -> None:
    elsewhere = httpserver.url_for("/elsewhere")
    moved = {"Location": elsewhere}
    httpserver.expect_request(STATUS).respond_with_data("", status=302, headers=moved)

    with pytest.raises(Unreachable, match="answers 302"):
        forge.checks(SHA)
    assert [request.path for request, _ in httpserver.log] == [STATUS]
