"""When a deployment is at a given moment, and what it has left behind: seen from outside."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import Any, cast

import docker
import httpx
import psycopg

from release.ledger import EventKind
from release.model import Step
from release.outcome import ending_in
from sandbox import witness
from sandbox.chaos.cells import Moment
from sandbox.layout import IMAGE_NAME, Sandbox
from sandbox.runs import AT
from sandbox.witness import Lookout

_ANY_IMAGE = {"Accept": "application/vnd.oci.image.index.v1+json, */*"}
_APART = "ignition.apart"  # as in blocks/compose/orchestrator.py, whose import brings Prefect
_LOOK_EVERY = 0.05  # seconds: what is looked at has the same two cores
SEEN_BY_USERS = (Moment.ADMITTED, Moment.RESTORED)
# Before this step begins, a moment that is seen in the world cannot come, and is not looked for.
_NOT_BEFORE = {
    Moment.TAG: Step.PREPARE,
    Moment.IMAGE: Step.BUILD,
    Moment.MIGRATING: Step.MIGRATE,
    Moment.MIGRATED: Step.MIGRATE,
    Moment.STARTED: Step.DEPLOY,
    Moment.ADMITTED: Step.DEPLOY,
    Moment.PINNED: Step.DEPLOY,
    Moment.STOPPED: Step.VERIFY,
}
_IN_HAND = (EventKind.RESUMED, EventKind.LOCK_TAKEN_OVER, EventKind.DEPLOYMENT_ENDED)


@dataclass(frozen=True)
class Candidate:
    """A release of our own, and what served when it was made."""

    version: str
    commit: str
    file: str  # the version of its migration
    before: str


@dataclass(frozen=True)
class Subject:
    """One run that is to be hit, and how its environment was before."""

    run_id: str
    label: str
    candidate: Candidate  # what is deployed, or what a rollback leaves
    pinned: str
    instances: frozenset[str]  # the service's containers
    since: float = field(default_factory=time.time)


@dataclass(frozen=True)
class World:
    """Staging, its ledger and its Prefect server, as an outside observer sees them."""

    sandbox: Sandbox
    engine: Any = field(default_factory=docker.from_env)

    def await_moment(
        self, moment: Moment, subject: Subject, users: Lookout, within: timedelta
    ) -> bool:
        """Wait for the moment. Returns False if the run ended without it."""
        deadline = time.monotonic() + within.total_seconds()
        with psycopg.connect(self.sandbox.ledger_url, autocommit=True) as ledger:
            is_now = self._condition(moment, subject, users, ledger)
            while not is_now():
                ended = _recorded(ledger, subject.run_id, EventKind.DEPLOYMENT_ENDED)
                if ended or time.monotonic() > deadline:
                    return is_now()
                time.sleep(_LOOK_EVERY)
        return True

    def _condition(
        self,
        moment: Moment,
        subject: Subject,
        users: Lookout,
        ledger: "psycopg.Connection[Any]",
    ) -> Callable[[], bool]:
        """Whether the moment has come, asked of the ledger, the world or a user."""
        run_id, staging, candidate = subject.run_id, self.sandbox.staging, subject.candidate
        tag = self.sandbox.origin / "refs/tags" / candidate.version
        image = f"http://{self.sandbox.registry}/v2/{IMAGE_NAME}/manifests/{candidate.version}"
        others: dict[Moment, Callable[[], bool]] = {
            Moment.WATCH: lambda: _recorded(ledger, run_id, EventKind.STEP_BEGUN, Step.POST),
            Moment.WATCHED: lambda: _recorded(ledger, run_id, EventKind.STEP_DONE, Step.POST),
            Moment.WRITTEN: lambda: _recorded(ledger, run_id, EventKind.DEPLOYMENT_ENDED),
            Moment.SOUGHT: lambda: _recorded(ledger, run_id, EventKind.STEP_BEGUN, Step.ROLLBACK),
            Moment.ROLLBACK: lambda: _recorded(ledger, run_id, EventKind.ROLLBACK_STARTED),
            Moment.TAG: tag.exists,
            Moment.IMAGE: lambda: httpx.head(image, headers=_ANY_IMAGE).status_code == 200,
            Moment.MIGRATING: self._migrating,
            Moment.MIGRATED: lambda: candidate.file in self.recorded_files(),
            Moment.STARTED: lambda: not set(self.instances()) <= subject.instances,
            Moment.RESTARTED: lambda: not set(self.instances()) <= subject.instances,
            Moment.ADMITTED: lambda: users.first(candidate.version, subject.since) is not None,
            Moment.RESTORED: lambda: users.first(candidate.before, subject.since) is not None,
            Moment.PINNED: lambda: witness.pinned(staging) != subject.pinned,
            Moment.STOPPED: lambda: any(
                self.instances().get(one) == "exited" for one in subject.instances
            ),
        }
        if moment not in others:
            return partial(_recorded, ledger, run_id, EventKind.STEP_BEGUN, Step[moment.name])
        is_seen = others[moment]
        if moment not in _NOT_BEFORE:
            return is_seen
        begun = partial(_recorded, ledger, run_id, EventKind.STEP_BEGUN, _NOT_BEFORE[moment])
        return lambda: begun() and is_seen()

    def _migrating(self) -> bool:
        query = (
            "SELECT 1 FROM pg_stat_activity WHERE datname = current_database()"
            " AND query LIKE '%pg_sleep(0.8)%' AND state = 'active' AND pid <> pg_backend_pid()"
        )
        return bool(self.ask(query))

    # ---- runs

    def unfinished(self) -> int:
        """How many flow runs are under way; those that are only scheduled do not count."""
        live = ["PENDING", "RUNNING", "PAUSED", "CANCELLING"]
        wanted = {"flow_runs": {"state": {"type": {"any_": live}}}}
        return len(list(witness.pages(self.sandbox, "/flow_runs/filter", wanted)))

    def recovered(self, run_id: str) -> bool:
        """Whether a recovery of the run has ended."""
        ended = {
            "flows": {"name": {"any_": ["recover"]}},
            "flow_runs": {"state": {"type": {"any_": ["COMPLETED", "FAILED"]}}},
        }
        found = witness.pages(self.sandbox, "/flow_runs/filter", ended)
        return any(run_id in str(each["parameters"].get("run_id")) for each in found)

    def state(self, run_id: str) -> str:
        """The ending that a run shows on its page; until then, the name of its state."""
        api = witness.prefect_api(self.sandbox.prefect_api_url)
        state = api.get(f"/flow_runs/{run_id}").raise_for_status().json()["state"]
        return str(ending_in(state["message"]) or state["name"])

    # ---- the record

    def ending(self, run_id: str) -> str:
        """A run's ending in the ledger; empty if it has none."""
        query = (
            "SELECT payload ->> 'ending' FROM ledger_events"
            " WHERE run_id = %s AND kind = %s ORDER BY seq DESC LIMIT 1"
        )
        with psycopg.connect(self.sandbox.ledger_url) as ledger:
            row = ledger.execute(query, (run_id, EventKind.DEPLOYMENT_ENDED.value)).fetchone()
        return str(row[0]) if row else ""

    def in_hand(self, at: float) -> float | None:
        """Seconds from a moment until something acted on what had happened."""
        query = (
            "SELECT min(at) FROM ledger_events"
            " WHERE environment = %s AND kind = ANY(%s) AND at > to_timestamp(%s)"
        )
        kinds = [kind.value for kind in _IN_HAND]
        with psycopg.connect(self.sandbox.ledger_url) as ledger:
            row = ledger.execute(query, (AT, kinds, at)).fetchone()
        return row[0].timestamp() - at if row and row[0] else None

    # ---- the environment

    def instances(self) -> dict[str, str]:
        """The service's containers by id, running or not, and their states."""
        project = f"com.docker.compose.project={self.sandbox.staging.project}"
        labels = [project, "com.docker.compose.service=api"]
        found = self.engine.api.containers(all=True, filters={"label": labels})
        return {
            str(each["Id"]): str(each["State"])
            for each in found
            if _APART not in each["Labels"]  # a rehearsal's
        }

    def recorded_files(self) -> list[str]:
        """The migrations that are applied, by version."""
        query = "SELECT version FROM schema_migrations WHERE status = 'applied'"
        return [row[0] for row in self.ask(query)]

    def ask(self, query: str) -> list[Any]:
        """Query staging's database."""
        with psycopg.connect(self.sandbox.staging.database_url) as database:
            return cast("list[Any]", database.execute(query.encode()).fetchall())


def _recorded(
    ledger: "psycopg.Connection[Any]", run_id: str, kind: EventKind, step: str = ""
) -> bool:
    """Whether the ledger has an event of a run."""
    query = (
        "SELECT 1 FROM ledger_events"
        " WHERE run_id = %s AND kind = %s AND (%s = '' OR step = %s) LIMIT 1"
    )
    return ledger.execute(query, (run_id, kind.value, step, step)).fetchone() is not None
