"""An operator of the sandbox: does what people do in Prefect's UI and a shell, sees what they see.

Runs are started and answered through the API that the UI uses, the rest with the `ignition`
command in a process of its own: this process has another Prefect, that of the other tests.
"""

import json
import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import psycopg

from cli.gates import rejection
from release.ledger import EventKind
from release.model import Step
from release.outcome import ending_in, sentence_in
from release.watch.report import DRAWING
from sandbox import witness
from sandbox.commands import run, wait_until
from sandbox.layout import CHECKOUT, IMAGE_NAME, Environment, Sandbox
from sandbox.parts import approvers, origin, postgres, prefect
from sandbox.parts.configuration import set_values
from sandbox.parts.environments import served_version
from sandbox.traffic import Traffic, TrafficReport
from sandbox.witness import Lookout

RUN_TIMEOUT = 240.0  # seconds; a run takes 20 to 40 on an idle machine
USERS_RATE = 50.0  # requests a second
ENDED = ("COMPLETED", "FAILED", "CANCELLED", "CRASHED")


@dataclass(frozen=True)
class Outcome:
    """How a run ended, and what its environment served right after it."""

    run: str  # Prefect's id
    ending: str
    message: str
    serves: str
    seconds: float  # that it ran, waits at gates not included


@dataclass(frozen=True)
class Look:
    """Everything about an environment that a deployment could change. Two looks compare."""

    serves: str
    containers: tuple[tuple[str, str, str], ...]  # name, image by digest, running or not
    pinned: str  # what the host's own `docker compose up` would start
    schema: tuple[str, ...]  # versions in schema_migrations
    tables: tuple[str, ...]
    git_tags: tuple[str, ...]
    image_tags: tuple[str, ...]
    held_by: str


@dataclass(frozen=True)
class Command:
    """One `ignition` command, done."""

    code: int
    said: str
    complained: str

    @property
    def json(self) -> Any:
        return json.loads(self.said)


@dataclass
class Users:
    """Requests at a fixed rate on the public address, and an eye on which release answers."""

    seen: list[str] = field(default_factory=list)  # the version of each answer to GET /api/
    report: TrafficReport = field(default_factory=lambda: TrafficReport(()))

    @property
    def versions(self) -> list[str]:
        """The releases that answered, in order, each as often as it took over."""
        changes = zip(["", *self.seen], self.seen, strict=False)
        return [now for before, now in changes if now != before]


class Operator:
    """One person with a browser and a shell."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox = sandbox
        self.api = httpx.Client(base_url=sandbox.prefect_api_url, timeout=60)

    # ---- runs

    def deploy(
        self, version: str, ref: str = "main", to: str = "staging", by: str = "Ada", **more: Any
    ) -> Outcome:
        """Deploy where no person has to sign, and wait for the end."""
        return self.end_of(self.start(version, ref, to, by, **more))

    def deploy_branch(self, branch: str, to: str = "staging", by: str = "Ada") -> Outcome:
        """Deploy a branch as it is, without a tag."""
        return self.deploy("", branch, to, by, kind="branch")

    def start(
        self, version: str, ref: str = "main", to: str = "staging", by: str = "Ada", **more: Any
    ) -> str:
        """Start a deployment and return its run."""
        request = {"version": version, "ref": ref, "started_by": by, **more}
        return self.create_run(f"deploy/{to}", {"request": request, "environment": to})

    def roll_back(self, environment: str, reason: str, to: str = "") -> Outcome:
        """Roll an environment back and wait for the end."""
        return self.end_of(self.start_rollback(environment, reason, to))

    def start_rollback(self, environment: str, reason: str, to: str = "") -> str:
        """Start a rollback and return its run."""
        request = {"reason": reason, "to": to, "started_by": "Grace"}
        parameters = {"request": request, "environment": environment}
        return self.create_run(f"rollback/{environment}", parameters)

    def create_run(
        self,
        deployment: str,
        parameters: Mapping[str, Any] | None = None,
        job_variables: Mapping[str, Any] | None = None,
    ) -> str:
        """Create a run of a deployment with the form's own checks switched off."""
        made = self.post(
            f"/deployments/{self.deployment(deployment)}/create_flow_run",
            {
                "parameters": parameters or {},
                "job_variables": job_variables or {},
                "enforce_parameter_schema": False,
            },
        )
        return str(made["id"])

    def scheduled(self, deployment: str) -> list[dict[str, Any]]:
        """The runs that a deployment's schedules made, started or not, by when they are due."""
        flow, _, name = deployment.partition("/")
        made = {
            "flows": {"name": {"any_": [flow]}},
            "deployments": {"name": {"any_": [name]}},
            "sort": "EXPECTED_START_TIME_ASC",
        }
        found = self.pages("/flow_runs/filter", made)
        return [each for each in found if each["auto_scheduled"]]

    def end_of_next_due(self, deployment: str) -> Outcome:
        """Let a schedule of a deployment come due in a moment, and wait for its run's end.

        The server looks for new schedules every 5 s; one that comes due before that waits for its
        next time, a minute later.
        """
        path = f"/deployments/{self.deployment(deployment)}/schedules"
        soon = (datetime.now(UTC) + timedelta(seconds=10)).isoformat()
        minutely = {"schedule": {"interval": 60, "anchor_date": soon}, "active": True}

        def started() -> set[str]:
            return {str(run["id"]) for run in self.scheduled(deployment) if run["start_time"]}

        before = started()
        [added] = self.post(path, [minutely])
        try:
            run, *_ = wait_until(
                lambda: started() - before,
                what=f"a run of {deployment} that starts by its schedule",
                seconds=RUN_TIMEOUT,
                hint=f"read {self.sandbox.logs}",
            )
        finally:  # with it go its runs that have not started
            self.api.delete(f"{path}/{added['id']}").raise_for_status()
        return self.end_of(run)

    def deployment(self, name: str) -> str:
        """The id of a deployment, by its flow and its name: deploy/production."""
        return str(self.get(f"/deployments/name/{name}")["id"])

    def end_of(self, flow_run: str) -> Outcome:
        """Wait until a run has ended."""
        ended = self.wait_for(flow_run, lambda seen: seen["state"]["type"] in ENDED, "end")
        environment = ended["parameters"].get("environment", "staging")
        state = ended["state"]
        known = environment in ("staging", "production")
        return Outcome(
            run=flow_run,
            ending=ending_in(state["message"]) or state["name"],
            message=sentence_in(state["message"]),
            serves=self.serves(environment) if known else "",
            seconds=ended["total_run_time"],
        )

    def wait_at_gate(self, flow_run: str) -> None:
        """Wait until a run waits for a signature."""
        self.wait_for(flow_run, lambda seen: seen["state"]["type"] == "PAUSED", "stop at its gate")

    def wait_for_step(self, flow_run: str, step: Step) -> None:
        """Wait until a run has begun one of the runbook's steps."""
        self.wait_for_event_of(flow_run, EventKind.STEP_BEGUN, step)

    def wait_for_event_of(self, flow_run: str, kind: EventKind, step: str = "") -> None:
        """Wait until the ledger has an event of a run."""
        wait_until(
            lambda: any(
                step in ("", found) for found, _ in witness.events(self.sandbox, flow_run, kind)
            ),
            what=f"{kind.value} {step} of {flow_run}",
            seconds=RUN_TIMEOUT,
            hint=f"read {self.sandbox.logs}",
        )

    def wait_for(
        self, flow_run: str, condition: Callable[[dict[str, Any]], bool], what: str
    ) -> dict[str, Any]:
        """Ask for a run until it is as wanted, and return it."""
        until = time.monotonic() + RUN_TIMEOUT
        while True:
            seen: dict[str, Any] = self.get(f"/flow_runs/{flow_run}")
            if condition(seen):
                return seen
            state = seen["state"]
            assert state["type"] not in ENDED, f"it did not {what}: {state}"
            assert time.monotonic() < until, f"it did not {what}: {state}"
            time.sleep(0.5)

    def wait_for_state(self, flow_run: str, state: str) -> None:
        """Wait until a run is said to be in a state, also after it has ended in another one."""
        wait_until(
            lambda: self.state(flow_run) == state,
            what=f"the state {state} of {flow_run}",
            seconds=RUN_TIMEOUT,
            hint=f"read {self.sandbox.logs}",
        )

    def wait_until_nothing_runs(self) -> None:
        """Wait until no flow run has a process: the worker has no children."""
        worker = prefect.worker_process(self.sandbox).pid
        children = Path(f"/proc/{worker}/task/{worker}/children")
        wait_until(
            lambda: not children.read_text().split(),
            what="the end of all runs' processes",
            seconds=RUN_TIMEOUT,
            hint=f"read {self.sandbox.logs}",
        )

    def connections(self) -> list[str]:
        """The databases to which the pipeline holds a connection."""
        query = (
            "SELECT datname FROM pg_stat_activity"
            " WHERE application_name LIKE 'ignition%%' AND pid <> pg_backend_pid()"
        )
        return [row[0] for row in self.ask(postgres.superuser_url(self.sandbox), query)]

    def state(self, flow_run: str) -> str:
        """How a run says that it ended; until then, the name of its state."""
        state = self.get(f"/flow_runs/{flow_run}")["state"]
        return str(ending_in(state["message"]) or state["name"])

    # ---- gates

    def sign(self, flow_run: str, by: str, item: str = "") -> None:
        """Sign one item, or all that one may sign, once the run waits for it."""
        self.wait_at_gate(flow_run)
        form = approvers.approval(self.sandbox, by, item, "signed by a test")
        self.answer(flow_run, form)

    def sign_in_a_shell(self, flow_run: str, by: str) -> "Command":
        """Sign all that one may with the command, typing the code."""
        code = approvers.code(self.sandbox, by)
        return self.ignition("approve", f"d-{flow_run[:6]}", "--as", by, typed=f"{code}\n")

    def reject(self, flow_run: str, by: str, reason: str) -> None:
        """Say no, once the run waits for an answer."""
        self.wait_at_gate(flow_run)
        self.answer(flow_run, rejection(by, reason))

    def wait_for_refusal(self, flow_run: str, by: str) -> None:
        """Wait until the worker has refused an answer in somebody's name."""
        self.wait_for_event(flow_run, EventKind.ANSWER_REFUSED, by)

    def wait_for_signature(self, flow_run: str, by: str) -> None:
        """Wait until the worker has written down a signature of somebody."""
        self.wait_for_event(flow_run, EventKind.ITEM_SIGNED, by)

    def wait_for_event(self, flow_run: str, kind: EventKind, by: str) -> None:
        """Wait until the ledger has an event of a run about an approver."""
        query = (
            "SELECT count(*) FROM ledger_events"
            " WHERE run_id = %s AND kind = %s AND payload ->> 'approver' = %s"
        )
        wait_until(
            lambda: self.ask(self.sandbox.ledger_url, query, flow_run, kind.value, by)[0][0],
            what=f"{kind.value} of {by} in {flow_run}",
            seconds=RUN_TIMEOUT,
            hint=f"read {self.sandbox.logs}",
        )

    def wait_for_ending(self, flow_run: str, ending: str) -> None:
        """Wait until the ledger has a run's ending and its environment is free."""
        ended = "SELECT payload ->> 'ending' FROM ledger_events WHERE run_id = %s AND kind = %s"
        kind = EventKind.DEPLOYMENT_ENDED.value
        held = "SELECT 1 FROM environment_locks WHERE run_id = %s"
        dsn = self.sandbox.ledger_url
        wait_until(
            lambda: (
                self.ask(dsn, ended, flow_run, kind) == [(ending,)]
                and not self.ask(dsn, held, flow_run)
            ),
            what=f"the ending {ending} of {flow_run}",
            seconds=RUN_TIMEOUT,
            hint=f"read {self.sandbox.logs}",
        )

    def wait_until_free(self, name: str) -> None:
        """Wait until no run holds an environment."""
        wait_until(
            lambda: not self.lock_holder(name),
            what=f"{name} to be given back",
            seconds=RUN_TIMEOUT,
            hint=f"read {self.sandbox.logs}",
        )

    def answer(self, flow_run: str, values: dict[str, Any]) -> None:
        """Send the form that a run waits with."""
        result = self.post(f"/flow_runs/{flow_run}/resume", {"run_input": values})
        assert result["status"] == "ACCEPT", result

    # ---- the shell

    def ignition(self, *arguments: str, typed: str = "") -> Command:
        """Run the `ignition` command in a shell that has sourced the sandbox's `env`."""
        own = {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT_", "IGNITION_"))}
        done = subprocess.run(
            [self.sandbox.programs / "ignition", *arguments],
            cwd=CHECKOUT,
            env=own | prefect.client_variables(self.sandbox) | {"NO_COLOR": "1"},
            input=typed,
            capture_output=True,
            text=True,
            timeout=RUN_TIMEOUT,
        )
        return Command(done.returncode, done.stdout, done.stderr)

    # ---- what is

    def look(self, name: str) -> Look:
        """Look at everything that a deployment could change."""
        return Look(
            serves=self.serves(name),
            containers=self.instances(name),
            pinned=self.pinned(name),
            schema=self.schema(name),
            tables=self.tables(name),
            git_tags=tuple(sorted(self.git_tags())),
            image_tags=self.image_tags(),
            held_by=self.lock_holder(name),
        )

    def environment(self, name: str) -> Environment:
        """One of the sandbox's environments."""
        return {each.name: each for each in self.sandbox.environments}[name]

    def serves(self, name: str) -> str:
        """The version at the public address; empty where none answers."""
        return served_version(self.environment(name)) or ""

    def instances(self, name: str) -> tuple[tuple[str, str, str], ...]:
        """The service's containers, running or not: name, image, state."""
        return witness.instances(self.environment(name))

    def pinned(self, name: str) -> str:
        """The image that the host's own `docker compose up` would start."""
        return witness.pinned(self.environment(name))

    def schema(self, name: str) -> tuple[str, ...]:
        """The versions that schema_migrations has as applied, in order."""
        query = "SELECT version FROM schema_migrations WHERE status = 'applied' ORDER BY version"
        return tuple(row[0] for row in self.ask(self.environment(name).database_url, query))

    def tables(self, name: str) -> tuple[str, ...]:
        """The tables of an environment's database."""
        query = "SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1"
        return tuple(row[0] for row in self.ask(self.environment(name).database_url, query))

    def git_tags(self) -> dict[str, tuple[str, str]]:
        """The origin's tags: kind of object (annotated: `tag`) and commit."""
        form = "%(refname:short) %(objecttype) %(*objectname)"
        listed = self.git("for-each-ref", "--format", form, "refs/tags").splitlines()
        return {line.split()[0]: (line.split()[1], line.split()[-1]) for line in listed}

    def image_tags(self) -> tuple[str, ...]:
        """The versions that the registry has an image of; empty while it does not answer."""
        try:
            answer = httpx.get(f"http://{self.sandbox.registry}/v2/{IMAGE_NAME}/tags/list")
        except httpx.TransportError:
            return ()
        return tuple(sorted(answer.json()["tags"]))

    def lock_holder(self, name: str) -> str:
        """The run that holds an environment; empty where it is free."""
        return witness.lock_holder(self.sandbox, name)

    def steps_begun(self, flow_run: str) -> list[str]:
        """The runbook's steps that a run began, as the ledger has them."""
        return [step for step, _ in witness.events(self.sandbox, flow_run, EventKind.STEP_BEGUN)]

    def next_version(self) -> str:
        """A version that no tag has: v1.1.0 in a new sandbox, then v1.2.0 and so on."""
        taken = self.git_tags()
        return next(v for minor in count(1) if (v := f"v1.{minor}.0") not in taken)

    def artifacts(self, flow_run: str) -> dict[str, Any]:
        """What a run left to read, by its key; the newest of each."""
        one_run = {"artifacts": {"flow_run_id": {"any_": [flow_run]}}, "sort": "UPDATED_DESC"}
        found = list(self.pages("/artifacts/filter", one_run))
        return {each["key"]: each["data"] for each in reversed(found)}

    def watch_report(self, flow_run: str) -> str:
        """The report of a run's watch on staging, once its plots were added."""

        def drawn() -> str | None:
            page = str(self.artifacts(flow_run)["watch-staging"])
            return None if DRAWING in page else page

        return wait_until(drawn, what="plots in the report", seconds=60, hint="read the artifact")

    def wait_for_line(self, flow_run: str, words: str) -> None:
        """Wait until a run's log has a line with these words: lines come after the state does."""
        wait_until(
            lambda: any(words in line for line in self.log(flow_run)),
            what=f"{words!r} in the log of {flow_run}",
            seconds=30,
            hint=f"read {self.sandbox.logs}",
        )

    def log(self, flow_run: str) -> list[str]:
        """A run's own log lines, in order."""
        return [line for _, line in witness.log(self.sandbox, flow_run)]

    # ---- the world

    @contextmanager
    def users(self, name: str, rate: float = USERS_RATE) -> Iterator[Users]:
        """Send requests to an environment; the count is there when the block has ended."""
        found = Users()
        url = self.environment(name).public_url
        with Lookout(url) as lookout, Traffic(url, rate=rate) as traffic:
            yield found
            found.report = traffic.stop()
        found.seen += [version for _, version in lookout.seen]

    @contextmanager
    def configured(self, table: str, **values: str) -> Iterator[None]:
        """Change some settings in `ignition.toml` for a while; the next run reads them."""
        file = self.sandbox.configuration_file
        before = file.read_text()
        file.write_text(set_values(before, table, values))
        try:
            yield
        finally:
            file.write_text(before)

    def push(self, branch: str, changes: Callable[[Path], None], message: str) -> str:
        """Commit a change of main's files on a branch, push it, and return the commit."""
        with tempfile.TemporaryDirectory() as folder:
            work = Path(folder)
            self.git("worktree", "add", "--quiet", "--detach", folder, "main")
            try:
                changes(work)
                origin.commit(work, message, day=28)
                origin.git(
                    work, "push", "--quiet", str(self.sandbox.origin), f"HEAD:refs/heads/{branch}"
                )
            finally:
                self.git("worktree", "remove", "--force", folder)
        return origin.revision(self.sandbox.origin, branch)

    def git(self, *arguments: str) -> str:
        """Run git in the origin."""
        return run(["git", "-C", self.sandbox.origin, *arguments], environment=origin.AUTHOR)

    # ---- Prefect's API

    def get(self, path: str) -> Any:
        answer = self.api.get(path)
        answer.raise_for_status()
        return answer.json()

    def post(self, path: str, body: Mapping[str, Any] | Sequence[Any]) -> Any:
        answer = self.api.post(path, json=body)
        assert answer.is_success, f"{path}: {answer.status_code} {answer.text}"
        return answer.json()

    def pages(self, path: str, body: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """Everything that a filter finds, page by page."""
        return witness.pages(self.sandbox, path, body)

    def ask(self, dsn: str, query: str, *values: str) -> Sequence[Any]:
        """Query a database."""
        with psycopg.connect(dsn) as connection:
            return connection.execute(query.encode(), values).fetchall()
