"""What an outside observer sees of a deployment: answers, containers, the record."""

import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from functools import cache
from itertools import count
from typing import Any

import httpx
import psycopg

from release.ledger import EventKind
from sandbox.commands import run
from sandbox.layout import Environment, Sandbox
from sandbox.parts.environments import containers
from sandbox.traffic import TrafficReport

LOOK_EVERY = 0.05  # seconds between two looks at the served version
PAGE = 200  # what Prefect's API gives at most


class Lookout:
    """Asks the public address for its version all the time and remembers when it changed."""

    def __init__(self, url: str) -> None:
        self.url = f"{url}/api/"
        self.seen: list[tuple[float, str]] = []  # unix time, version
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> "Lookout":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def first(self, version: str, since: float) -> float | None:
        """When ``version`` first answered after ``since``."""
        return next((at for at, seen in self.seen if at >= since and seen == version), None)

    def last(self, version: str) -> float | None:
        """When ``version`` last answered."""
        return next((at for at, seen in reversed(self.seen) if seen == version), None)

    def _look(self) -> None:
        with httpx.Client(timeout=5, headers={"Connection": "close"}) as client:
            while not self._end.wait(LOOK_EVERY):
                try:
                    answer = client.get(self.url)
                    self.seen.append((time.time(), answer.json()["version"]))
                except (httpx.HTTPError, ValueError, KeyError):
                    continue  # the traffic counts failures; this only tells versions apart


def failures(report: TrafficReport) -> list[str]:
    """Which requests failed, by second and outcome: `at 02:14:03 UTC: 3 × 503`."""
    seconds: dict[int, Counter[str]] = {}
    for sample in report.failures:
        seconds.setdefault(int(sample.sent_at), Counter())[sample.outcome] += 1
    return [
        f"at {datetime.fromtimestamp(at, UTC):%H:%M:%S} UTC: "
        + ", ".join(f"{count} × {outcome}" for outcome, count in outcomes.most_common())
        for at, outcomes in sorted(seconds.items())
    ]


# ---- an environment


def instances(environment: Environment) -> tuple[tuple[str, str, str], ...]:
    """The service's containers, running or not: name, image, state."""
    ids = containers(environment.project)
    form = (
        '{{index .Config.Labels "com.docker.compose.service"}} {{slice .Name 1}}'
        " {{.Config.Image}} {{.State.Status}}"
    )
    lines = run(["docker", "inspect", "--format", form, *ids]).splitlines() if ids else []
    found = [line.split() for line in lines]
    return tuple(
        sorted((name, image, state) for service, name, image, state in found if service == "api")
    )


def pinned(environment: Environment) -> str:
    """The image that the host's own `docker compose up` would start."""
    text = (environment.host_folder / ".env").read_text()
    return next(
        line.partition("=")[2] for line in text.splitlines() if line.startswith("API_IMAGE=")
    )


# ---- the record


def lock_holder(sandbox: Sandbox, environment: str) -> str:
    """The run that holds an environment; empty if it is free."""
    query = "SELECT run_id FROM environment_locks WHERE environment = %s"
    with psycopg.connect(sandbox.ledger_url) as connection:
        return "".join(row[0] for row in connection.execute(query, (environment,)))


def events(sandbox: Sandbox, run_id: str, kind: EventKind) -> list[tuple[str, datetime]]:
    """A run's events of one kind in the ledger: the step, and when."""
    query = "SELECT step, at FROM ledger_events WHERE run_id = %s AND kind = %s ORDER BY seq"
    with psycopg.connect(sandbox.ledger_url) as connection:
        return [(step, at) for step, at in connection.execute(query, (run_id, kind.value))]


def verdict_at(sandbox: Sandbox, run_id: str) -> float | None:
    """When a run judged its release, in seconds since 1970. Returns None if it did not roll back.

    The watch says so in a line of the log. Otherwise a failed step is the verdict: the last one
    that failed before the rollback began.
    """
    began = events(sandbox, run_id, EventKind.ROLLBACK_STARTED)
    if not began:
        return None
    rollback = began[0][1].timestamp()
    said = [at for at, line in log(sandbox, run_id) if "watch FAILED" in line]
    failed = [_seconds(task["end_time"]) for task in failed_tasks(sandbox, run_id)]
    return max([at for at in (*said[:1], *(failed if not said else ())) if at <= rollback],
               default=rollback)  # fmt: skip


def failed_tasks(sandbox: Sandbox, run_id: str) -> Iterator[dict[str, Any]]:
    """The steps of a run that failed; not those of its subflows."""
    wanted = {
        "flow_runs": {"id": {"any_": [run_id]}},
        "task_runs": {"state": {"type": {"any_": ["FAILED"]}}},
    }
    return pages(sandbox, "/task_runs/filter", wanted)


def log(sandbox: Sandbox, run_id: str) -> list[tuple[float, str]]:
    """A run's own log lines in order, each with its time (seconds since 1970)."""
    wanted = {"logs": {"flow_run_id": {"any_": [run_id]}}, "sort": "TIMESTAMP_ASC"}
    lines = pages(sandbox, "/logs/filter", wanted)
    return [(_seconds(line["timestamp"]), line["message"]) for line in lines]


def pages(sandbox: Sandbox, path: str, body: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Everything that a filter of Prefect's API finds, page by page."""
    for offset in count(0, PAGE):
        page = {**body, "limit": PAGE, "offset": offset}
        answer = prefect_api(sandbox.prefect_api_url).post(path, json=page)
        answer.raise_for_status()
        yield from answer.json()
        if len(answer.json()) < PAGE:
            return


@cache
def prefect_api(url: str) -> httpx.Client:
    """A client of Prefect's API that keeps no connection: the server may be restarted meanwhile.

    One client serves all requests: making one takes longer than most answers.
    """
    return httpx.Client(base_url=url, timeout=60, limits=httpx.Limits(max_keepalive_connections=0))


def _seconds(timestamp: str) -> float:
    return datetime.fromisoformat(timestamp).timestamp()
