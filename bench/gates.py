"""How long a gate takes to open: `make bench-gates`.

A deployment's run reaches the runbook's checklist, in the pipeline's own code: on a Prefect
server, with a ledger and a staging database on PostgreSQL. Forge, pager, the service and the
container engine are servers of the benchmark's own: they answer at once, or never.
"""

import argparse
import logging
import os
import re
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from string import Template
from time import perf_counter
from typing import Any

import psycopg
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.exceptions import Pause
from prefect.flow_engine import run_flow
from prefect.settings import PREFECT_SERVER_ANALYTICS_ENABLED, temporary_settings
from prefect.testing.utilities import prefect_test_harness
from pydantic import SecretStr
from pytest_httpserver import HTTPServer

from bench.report import judged, machine, progress, publish, spread, table
from blocks.approvers import Approvers
from blocks.postgres.database import Database
from cli.target import build_target
from flows.deploy import sign_checklist
from flows.run import begin
from release.configuration.key import variable_of
from release.gate.evidence import EvidenceVerdict
from release.ledger import EventKind
from release.migration.files import read_migration
from release.model import Baseline, ImageRef, Release, ReleaseKind
from release.plan import Plan
from release.request import DeployRequest
from sandbox.layout import CHECKOUT, HOST
from sandbox.parts.local_postgres import LocalPostgres, local_postgres
from settings import CONFIG_VARIABLE, load_settings
from tasks.evidence import WITHIN

HEALTHY_AT_MOST = 3.0  # seconds
HANGING_AT_MOST = 10.0
REVISION = "5f2c0d9e" * 5
IMAGE = ImageRef("registry.example.com/api", "sha256:" + "9" * 64)
PENDING = read_migration("0016_add_notes.sql", b"CREATE TABLE notes (id int PRIMARY KEY);\n")
CONFIGURATION = Template(
    """\
runbook = "$checkout/RUNBOOK.md"
state = "state"
service.name = "api"
repository.url = "."
registry.address = "registry.example.com"
forge.url = "$sources/forge"
on_call = { url = "$sources/pager", schedule = "PRIMARY" }

[environments.staging]
url = "$sources"
compose.directory = "."

[environments.production]
url = "$sources"
staging = "staging"
compose.directory = "."
gate.approval = "human"
"""
)


@dataclass(frozen=True)
class World:
    """The addresses of everything that a gate asks."""

    sources: str  # an HTTP server for forge, pager, service and engine
    ledger: str  # connection strings
    staging: str


def main() -> None:
    """Measure, print, and write into docs/benchmarks.md."""
    parser = argparse.ArgumentParser(prog="python -m bench.gates", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--print-only", dest="write", action="store_false", help="leave docs/benchmarks.md alone"
    )
    options = parser.parse_args()
    logging.getLogger("prefect").setLevel(logging.ERROR)
    with local_postgres() as server, prefect_server():
        with psycopg.connect(server.dsn) as connection:
            where = machine(connection, server.data)
        ledger, staging = new_database(server, "ledger"), new_database(server, "staging")
        Database(dsn=SecretStr(staging)).apply([PENDING])
        with answering() as sources:
            world = World(sources.url_for(""), ledger, staging)
            healthy = measure(world, EvidenceVerdict.PASSED, options.rounds)
        with hanging() as address:
            world = World(f"http://{address}", ledger, f"postgresql://owner@{address}/staging")
            hung = measure(world, EvidenceVerdict.UNKNOWN, options.rounds)
    rows = [
        ["all answer at once", f"{HEALTHY_AT_MOST:g}", spread(healthy)],
        ["all hang", f"{HANGING_AT_MOST:g}", spread(hung)],
    ]
    text = [
        f"{where}. Medians [range] of {options.rounds} gates each, five sources per gate; they "
        f"have {WITHIN.total_seconds():g} s.",
        table(["sources", "at most, s", "the form is open after, s"], rows),
        judged("The slowest with all sources healthy", max(healthy), HEALTHY_AT_MOST, " s")
        + "\n"
        + judged("The slowest with all sources hanging", max(hung), HANGING_AT_MOST, " s"),
    ]
    publish("gates", "\n\n".join(text), write=options.write)


# ── Measuring ────────────────────────────────────────────────────────────────────────────────────


def measure(world: World, verdict: EvidenceVerdict, rounds: int) -> list[float]:
    """How many seconds each gate took to open, if all evidence is as expected.

    Raises SystemExit if one did not open, or has other evidence: then something else was measured.
    """
    with configured(world):
        seconds = [open_gate(verdict) for _ in range(rounds)]
    progress(f"{verdict}: " + ", ".join(f"{each:.2f} s" for each in seconds))
    return seconds


def open_gate(verdict: EvidenceVerdict) -> float:
    """Take a run of a deployment to its gate: seconds until it is suspended with its form."""
    reached = 0.0

    @flow(name="deploy")
    def deploy() -> None:
        nonlocal reached
        run = begin("production")
        plan = planned()
        reached = perf_counter()
        sign_checklist(run, DeployRequest(version=plan.version, started_by="Ada"), plan)

    with get_client(sync_client=True) as client:
        deployment = client.create_deployment(client.create_flow(deploy), "production")
        due = client.create_flow_run_from_deployment(deployment)
        with suppress(Pause):  # how a suspended run leaves its process
            run_flow(deploy, due, return_type="state")
        took = perf_counter() - reached
        state = client.read_flow_run(due.id).state
    if state is None or state.name != "Suspended":
        raise SystemExit(f"the gate did not open: {state}")
    refuse_other_evidence(str(due.id), verdict)
    return took


def refuse_other_evidence(run: str, verdict: EvidenceVerdict) -> None:
    """Raise SystemExit unless the evidence of each item is as expected."""
    ledger = build_target(load_settings(), "production").ledger
    (opened,) = ledger.events(run_id=run, kinds=[EventKind.GATE_OPENED])
    said = str(opened.payload["evidence"])
    items = len(opened.payload["items"])
    if said.count(verdict) != items:
        raise SystemExit(f"{verdict} was expected of all {items} items: {said}")


def planned() -> Plan:
    """A plan for a release with one migration, which staging has already."""
    now = datetime.now(UTC)
    serving = Release("v1.0.0", "0" * 40, IMAGE)
    return Plan(
        environment="production",
        kind=ReleaseKind.TAG,
        version="v1.1.0",
        revision=REVISION,
        ref="main",
        baseline=Baseline("production", serving, (), "0015", 0.0, timedelta(), now),
        changes=(),
        expand=(PENDING,),
        contract=(),
        outage=timedelta(),
    )


# ── What is asked ────────────────────────────────────────────────────────────────────────────────


@contextmanager
def prefect_server() -> Iterator[None]:
    """A server of the benchmark's own, on SQLite."""
    without_telemetry = temporary_settings({PREFECT_SERVER_ANALYTICS_ENABLED: False})
    with without_telemetry, prefect_test_harness(server_startup_timeout=180):
        yield


@contextmanager
def configured(world: World) -> Iterator[None]:
    """Configuration, blocks and two approvers, for as long as the block lasts."""
    before = dict(os.environ)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        file = folder / "ignition.toml"
        file.write_text(CONFIGURATION.substitute(checkout=CHECKOUT, sources=world.sources))
        os.environ |= {
            CONFIG_VARIABLE: str(file),
            "DOCKER_HOST": world.sources.replace("http:", "tcp:"),
            variable_of("on_call", "token"): "a token",
            variable_of("ledger", "dsn"): world.ledger,
            variable_of("environments", "staging", "database", "dsn"): world.staging,
            variable_of("environments", "production", "database", "dsn"): world.staging,
        }
        try:
            set_up()
            yield
        finally:
            os.environ.clear()
            os.environ.update(before)


def set_up() -> None:
    """Write what `ignition setup` and `ignition approvers add` would."""
    settings = load_settings()
    for name in settings.environments:
        target = build_target(settings, name)
        target.ledger.install()
        target.save(name, overwrite=True)
    approvers = Approvers(settings.approvers_file)
    for person in ("Ada", "Grace"):
        approvers.add(person, ())


def new_database(server: LocalPostgres, name: str) -> str:
    """An empty database, as a connection string."""
    with psycopg.connect(server.dsn, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
    return server.dsn.replace("/postgres", f"/{name}")


@contextmanager
def answering() -> Iterator[HTTPServer]:
    """A server that is forge, pager, service and container engine, and reports that all is well."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    duty = {"user": {"summary": "Grace"}, "end": None}
    check = {"name": "tests", "status": "completed", "conclusion": "success"}
    answers: dict[str, Any] = {
        "/forge/commits/.*/status": {"statuses": []},
        "/forge/commits/.*/check-runs": {"check_runs": [check]},
        "/forge/issues": [],
        "/pager/oncalls": {"oncalls": [duty]},
        "/pager/incidents": {"incidents": []},
        "/health": {},
        "/api/": {"version": "v1.1.0"},
        "/version": {"ApiVersion": "1.44"},
        "/v1.44/images/.*/json": {"Id": IMAGE.digest},
        "/v1.44/distribution/.*/json": {"Descriptor": {"digest": IMAGE.digest}},
    }
    with HTTPServer(host=HOST, threaded=True) as server:
        for path, answer in answers.items():
            server.expect_request(re.compile(path)).respond_with_json(answer)
        yield server


@contextmanager
def hanging() -> Iterator[str]:
    """The address of a server that takes connections and never answers."""
    with socket.create_server((HOST, 0), backlog=1024) as server:
        yield f"{HOST}:{server.getsockname()[1]}"


if __name__ == "__main__":
    main()
