"""An environment and a Prefect server as a person at a shell finds them.

Real: the command line, the configuration, the ledger, the Prefect server with what `ignition setup`
registers, and the flows. In memory: the containers and the router. The tests play the worker.
"""

import os
import re
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import psycopg
import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    FlowFilter,
    FlowFilterName,
    FlowRunFilter,
    FlowRunFilterDeploymentId,
    FlowRunFilterState,
    FlowRunFilterStateType,
    Operator,
)
from prefect.client.schemas.objects import TERMINAL_STATES, FlowRun, State, StateType
from prefect.flow_engine import run_flow
from prefect.runtime import flow_run
from prefect.settings import get_current_settings
from pydantic import SecretStr

import cli.examine
import cli.p0
import flows.recover
import flows.rollback
import tasks.restore
from blocks.approvers import Approvers
from blocks.ledger.ledger import Ledger
from cli import automations, install, runs
from cli.runs import prefect
from release.errors import DeployError
from release.ledger import EventKind
from release.model import Step
from settings import Settings, load_settings
from tests.fakes.commands import ROOT, Typed, typed
from tests.fakes.ending import ending_of
from tests.fakes.environment import Environment, run_on
from tests.fakes.gate import ROLES
from tests.fakes.shell import Done, Shell, exported

CONFIGURATION = f"""
runbook = "{ROOT / "RUNBOOK.md"}"
[service]
name = "ignition-api"
[repository]
url = "/srv/orders.git"
[registry]
address = "127.0.0.1:9"
[environments.production]
url = "http://127.0.0.1:9"
staging = "staging"
[environments.production.orchestrator]
directory = "production"
[environments.staging]
url = "http://127.0.0.1:9"
[environments.staging.orchestrator]
directory = "staging"
[environments.staging.gate]
approval = "evidence"
"""
PRODUCT = ("release/", "tasks/", "flows/", "blocks/", "cli/")
DATABASES = [f"IGNITION_ENVIRONMENTS__{name}__DATABASE__DSN" for name in ("PRODUCTION", "STAGING")]


@cache
def hints() -> list[Typed]:
    """Every command that a text of the product itself tells somebody to type."""
    found = dict.fromkeys(typed())
    return [one for one in found if one.function and one.place.startswith(PRODUCT)]


def key_of(one: Typed) -> str:
    """Which hint it is: the function that gives it, and its first words that are no person's."""
    program, command, *_ = one.text.split()
    return f"{one.function}: {command if program == 'ignition' else f'{program} {command}'}"


@pytest.fixture
def configuration(tmp_path: Path, dsn: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two environments, whose databases and ledger are there."""
    for name in [name for name in os.environ if name.startswith("IGNITION_")]:
        monkeypatch.delenv(name)
    path = tmp_path / "ignition.toml"
    path.write_text(CONFIGURATION)
    monkeypatch.setenv("IGNITION_CONFIG", str(path))
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "200")
    for variable in ("IGNITION_LEDGER__DSN", *DATABASES):
        monkeypatch.setenv(variable, dsn)
    return path


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """A test that is marked with a hint has to have typed it."""
    yield
    shell = getattr(item, "funcargs", {}).get("shell")
    for key in {key for mark in item.iter_markers("hint") for key in mark.args}:
        texts = [one.text for one in hints() if key_of(one) == key]
        done = shell.typed if shell else []
        assert any(_is_of(text, one) for text in texts for one in done), f"{key}: {texts}, {done}"


@pytest.fixture
def shell(configuration: Path) -> Shell:
    """A person's shell."""
    return Shell()


def _is_of(text: str, typed: str) -> bool:
    """Whether a command was made by filling in an f-string."""
    return re.fullmatch(re.escape(text).replace("NAME", ".*"), typed) is not None


@pytest.fixture
def settings(configuration: Path) -> Settings:
    return load_settings()


@pytest.fixture(scope="session")
def registered(prefect_server: None, tmp_path_factory: pytest.TempPathFactory) -> None:
    """What `ignition setup` registers, once for all: it takes seconds."""
    path = tmp_path_factory.mktemp("registered") / "ignition.toml"
    path.write_text(CONFIGURATION)
    with exported(IGNITION_CONFIG=str(path), PREFECT_API_URL=str(get_current_settings().api.url)):
        install._ensure_work_pool()
        install._apply_prefect_yaml()
        with prefect() as client:
            automations.apply(client, load_settings())
        forget_runs()


# Not the hundreds of others that have ended: the server takes half a second to delete one.
_IN_THE_WAY = FlowRunFilter(
    operator=Operator.or_,
    deployment_id=FlowRunFilterDeploymentId(is_null_=False),
    state=FlowRunFilterState(
        type=FlowRunFilterStateType(any_=[*(set(StateType) - TERMINAL_STATES)])
    ),
)


def forget_runs() -> None:
    """Delete what people would see: the runs of a deployment, and whatever has not ended."""
    with prefect() as client:
        for run in client.read_flow_runs(flow_run_filter=_IN_THE_WAY):
            client.delete_flow_run(run.id)


@pytest.fixture
def server(
    registered: None, configuration: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Settings]:
    """A Prefect server with the work pool, the deployments and the automations, and no run."""
    monkeypatch.setattr(runs, "_KNOWN", set())
    monkeypatch.setenv("PREFECT_API_URL", str(get_current_settings().api.url))
    yield load_settings()
    forget_runs()


@pytest.fixture
def ledger(dsn: str, tmp_path: Path) -> Ledger:
    made = Ledger(dsn=SecretStr(dsn), spool=tmp_path / "spool")
    made.install()
    return made


@pytest.fixture
def production(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> Environment:
    """v1.1.0 serves since an hour ago; v1.0.0 served before."""
    made = Environment(ledger)
    made.replace_baseline()
    made.database = SimpleNamespace(schema_version=lambda: "0002", applied=lambda: made.applied)
    for command in (cli.examine, cli.p0):
        monkeypatch.setattr(command, "build_target", lambda settings, name: made)
    return made


@dataclass
class Crew:
    """What a worker would do, and what runs are there for it."""

    production: Environment

    def begun(self, *steps: Step) -> str:
        """A deployment that is under way and holds production, having begun these steps."""
        with get_client(sync_client=True) as client:
            found = client.read_deployment_by_name("deploy/production")
            parameters = {"request": {"version": "v1.2.0"}, "environment": "production"}
            run = client.create_flow_run_from_deployment(found.id, parameters=parameters)
        run_id = str(run.id)
        self.ends(run_id, StateType.RUNNING)
        ledger = self.production.ledger
        ledger.acquire("production", run_id, "Grace", "deploy v1.2.0")
        for step in steps:
            ledger.record("production", run_id, EventKind.STEP_BEGUN, step=step)
        return run_id

    def ends(self, run_id: str, state: StateType, message: str = "") -> None:
        """Bring a run into a state, whatever it was in."""
        with get_client(sync_client=True) as client:
            told: State[Any] = State(type=state, message=message)
            client.set_flow_run_state(UUID(run_id), told, force=True)

    def gives_back(self, run_id: str) -> None:
        self.production.ledger.release("production", run_id)

    def is_silent(self) -> None:
        """The holder was heard of last a minute ago."""
        with psycopg.connect(self.production.ledger.dsn.get_secret_value()) as connection:
            connection.execute("UPDATE environment_locks SET heartbeat_at = now() - interval '60s'")

    def due(self, flow: str) -> list[FlowRun]:
        """The runs of a flow that wait for a worker."""
        with get_client(sync_client=True) as client:
            found = client.read_flow_runs(flow_filter=FlowFilter(name=FlowFilterName(any_=[flow])))
        return [run for run in found if run.state and run.state.is_scheduled()]

    def carries_out_the_rollback(self) -> State[Any]:
        """Carry out the one rollback that is due."""
        (due,) = self.due("rollback")
        ended: Any = run_flow(flows.rollback.rollback, due, return_type="state")
        return ended  # type: ignore[no-any-return]

    def recovers(self, run_id: str) -> State[Any]:
        """Bring a run that has stopped to its end, as its automation does."""
        ended: Any = flows.recover.recover(run_id, "production", return_state=True)
        return ended  # type: ignore[no-any-return]

    @property
    def left(self) -> tuple[str, str]:
        """What production serves, and which run holds it ("" for none)."""
        return self.production.serves, self.production.held_by()


@pytest.fixture
def crew(server: Settings, production: Environment, monkeypatch: pytest.MonkeyPatch) -> Crew:
    def begin(environment: str) -> Any:
        return run_on(production, str(flow_run.root_flow_run_id or flow_run.id))

    for flow in (flows.rollback, flows.recover):
        monkeypatch.setattr(flow, "begin", begin)
    monkeypatch.setattr(tasks.restore, "_HICCUPS", (0, 0))
    return Crew(production)


def done(crew: Crew, typed: Done) -> str:
    """How the rollback ended that was typed, once a worker has carried it out."""
    assert typed.code == 0, typed.text
    return ending_of(crew.carries_out_the_rollback())


def said_by(crew: Crew, typed: Done) -> str:
    """… and what it said at its end."""
    assert typed.code == 0, typed.text
    return str(crew.carries_out_the_rollback().message)


def edit(path: Path, old: str, new: str) -> None:
    """Edit the file that a hint names."""
    text = path.read_text()
    assert text.count(old) == 1, text
    path.write_text(text.replace(old, new))


def hint_of(call: Callable[[], object]) -> str:
    with pytest.raises(DeployError) as refused:
        call()
    return str(refused.value)


@pytest.fixture
def repository(configuration: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three migrations, committed on main."""
    folder = tmp_path / "work" / "app" / "backend" / "migrations"
    folder.mkdir(parents=True)
    for number, name in enumerate(("users", "orders", "prices"), start=1):
        (folder / f"000{number}_{name}.sql").write_text(f"CREATE TABLE {name} (id int);\n")
    for arguments in (
        ("init", "--quiet", "--initial-branch=main"),
        ("add", "--all"),
        ("-c", "user.name=Ada", "-c", "user.email=ada@example.com", "commit", "-qm", "First"),
    ):
        subprocess.run(["git", *arguments], cwd=tmp_path / "work", check=True)
    edit(configuration, "/srv/orders.git", str(tmp_path / "work"))


def set_up(shell: Shell, said: str) -> None:
    done = shell.type(said, "ignition setup")
    assert done.code == 0, done.text


@pytest.fixture
def approvers(shell: Shell) -> Approvers:
    """Ann, Bob and Cleo are enrolled, by what people type."""
    for name, roles in ROLES.items():
        words = [word for role in roles for word in ("--role", role)]
        assert shell.ignition("approvers", "add", name, *words, "--show-secret").code == 0
    settings = load_settings()
    return Approvers(settings.approvers_file)
