"""GitHub as the forge: check runs of a commit and open issues, by its REST API.

GitHub Enterprise and Gitea answer to the same addresses; Gitea has no check runs.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import httpx

from blocks.forge import Forge
from release.configuration.github import GithubForgeSettings
from release.errors import Unreachable
from release.gate.evidence import CheckResult, Issue

_PAGE = 100  # what the API gives at most
_PAGES = 10  # a commit with a thousand checks is looked at no further
_REQUEST_TIMEOUT = 5.0  # seconds; all evidence together has six


class GithubForge(GithubForgeSettings, Forge):
    """Asks a forge of GitHub's shape, or a program, what it knows of a commit."""

    _block_type_name = "Ignition Forge"

    def checks(self, revision: str) -> tuple[CheckResult, ...]:
        """What ran on a commit: commit statuses, newest of each context, and check runs.

        Raises Unreachable, also for an answer of another shape. Source: docs.github.com, REST API:
        "Get the combined status for a specific reference", "List check runs for a Git reference".
        """
        with self._client() as client:
            try:
                return (
                    *_statuses(self._pages(client, f"commits/{revision}/status", "statuses")),
                    *_check_runs(
                        self._pages(client, f"commits/{revision}/check-runs", "check_runs")
                    ),
                )
            except (KeyError, TypeError, AttributeError):
                raise Unreachable(f"{self.url} answers in another shape than GitHub's") from None

    def critical_issues(self) -> tuple[Issue, ...]:
        """The open issues with the critical label, without pull requests. Raises Unreachable."""
        query = {"state": "open", "labels": self.critical_label}
        with self._client() as client:
            try:
                return tuple(
                    Issue(str(found["number"]), str(found["title"]), str(found.get("html_url", "")))
                    for found in self._pages(client, "issues", "", **query)
                    if not found.get("pull_request")
                )
            except (KeyError, TypeError, AttributeError):
                raise Unreachable(f"{self.url} answers in another shape than GitHub's") from None

    def _client(self) -> httpx.Client:
        headers = {"Accept": "application/vnd.github+json"}
        token = self.token.get_secret_value().strip()  # a pasted one ends with a line break
        if token:
            headers["Authorization"] = f"Bearer {token}"
        # A redirect could carry the token to another host, so none is followed.
        return httpx.Client(headers=headers, timeout=_REQUEST_TIMEOUT, follow_redirects=False)

    def _pages(
        self, client: httpx.Client, path: str, member: str, **query: str
    ) -> Iterator[Mapping[str, Any]]:
        """Everything that an address lists; nothing if there is no such address."""
        for page in range(1, _PAGES + 1):
            found = self._get(client, path, {**query, "per_page": _PAGE, "page": page})
            entries = found if found is None or not member else found[member]
            if entries is None:
                return
            yield from entries
            if len(entries) < _PAGE:
                return

    def _get(self, client: httpx.Client, path: str, query: Mapping[str, Any]) -> Any:
        address = f"{self.url.rstrip('/')}/{path}"
        try:
            answer = client.get(address, params=query)
        except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:
            # Only the kind of error: a message may quote a header.
            raise Unreachable(f"{address} does not answer: {type(error).__name__}") from None
        if answer.status_code == 404 and path.endswith("/check-runs"):
            return None  # Gitea
        if answer.status_code != 200:
            raise Unreachable(f"{address} answers {answer.status_code}")
        try:
            return answer.json()
        except ValueError:
            raise Unreachable(f"{address} answers no JSON") from None


def _statuses(found: Iterator[Mapping[str, Any]]) -> Iterator[CheckResult]:
    seen = set()
    for status in found:  # the newest of a context comes first
        if status["context"] not in seen:
            seen.add(status["context"])
            # Gitea says `status` where GitHub says `state`.
            state = str(status.get("state") or status["status"])
            yield CheckResult(status["context"], state, str(status.get("target_url") or ""))


def _check_runs(found: Iterator[Mapping[str, Any]]) -> Iterator[CheckResult]:
    for run in found:
        done = run["status"] == "completed"
        state = str(run["conclusion"]) if done else "pending"
        yield CheckResult(str(run["name"]), state, str(run.get("html_url") or ""))
