"""A run has ended, or tells people something: what its words say to do, and what serves then."""

import subprocess
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import pytest
from prefect import Flow, flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import StateType
from prefect.runtime import flow_run

import cli.p0
import flows.nightly
import flows.recover
from blocks.repository import Repository
from flows import deploy as deployment
from flows import outcome
from flows.rollback import _handed_over
from flows.window import _alert
from release.errors import DeployError, RolloutFailed, TriggerFired, VerificationFailed
from release.ledger import EventKind, short_run
from release.model import Release, Step
from release.notice import breach_alert
from release.outcome import Ending, what_is_gone
from release.request import DeployRequest, start_again
from release.rollback.hand_over import Way
from tasks.hand_over import Holder
from tasks.notification import page_of
from tasks.step import putting_off
from tasks.watch import watch_release
from tests.fakes.ending import ending_of
from tests.fakes.environment import WATCH, Environment, run_on
from tests.fakes.shell import Shell
from tests.hints.conftest import Crew, done

YES: dict[str, Any] = {"answer": "y\n", "terminal": True}


def message_of(run_id: str) -> str:
    """The last words of a run, as Prefect shows them."""
    with get_client(sync_client=True) as client:
        state = client.read_flow_run(UUID(run_id)).state
    assert state
    return str(state.message)


def artifact(key: str, run_id: str = "") -> str:
    """An artifact as it is now; with ``run_id``, the one that this run has made."""
    wanted = {"key": {"any_": [key]}, **({"flow_run_id": {"any_": [run_id]}} if run_id else {})}
    with get_client(sync_client=True) as client:
        found = client.request(
            "POST", "/artifacts/filter", json={"artifacts": wanted, "sort": "UPDATED_DESC"}
        ).json()
    assert found, f"there is no artifact {key}"
    return str(found[0]["data"])


def to_do() -> str:
    """What the report says to do."""
    line = artifact("report-production").splitlines()[2]
    assert line.startswith("To do: ")
    return line.removeprefix("To do: ")


def is_deployed_to(shell: Shell, crew: Crew, version: str) -> None:
    """The next deployment may be started, and holds the environment."""
    assert shell.ignition("deploy", version, "--to", "production").code == 0
    holds(crew, version)


def holds(crew: Crew, version: str) -> None:
    """The one deployment that is due takes the environment."""
    (due,) = crew.due("deploy")
    assert due.parameters["request"]["version"] == version
    crew.production.ledger.acquire("production", str(due.id), "Ada", version)
    assert crew.left == ("v1.1.0", str(due.id))


# ── A gate whose time is over ────────────────────────────────────────────────────────────────────


@pytest.mark.hint("start_again: deploy")
@pytest.mark.parametrize("said_by", [message_of, lambda run: to_do()], ids=["run", "report"])
def test_a_deployment_whose_gate_expired_is_started_again_as_it_says(
    shell: Shell, crew: Crew, said_by: Callable[[str], str]
) -> None:
    run = crew.begun(Step.PLAN, Step.CHECKLIST)
    opened = {"items": ["tests-passing"]}
    ledger = crew.production.ledger
    ledger.record("production", run, EventKind.GATE_OPENED, step=Step.CHECKLIST, payload=opened)
    crew.ends(run, StateType.FAILED)
    crew.recovers(run)
    assert message_of(run).startswith("Expired: ")
    assert to_do().startswith("when the approvers are available: ")

    assert shell.type(said_by(run), "ignition deploy").code == 0
    holds(crew, "v1.2.0")


# ── A deployment that was rolled back ────────────────────────────────────────────────────────────

NEEDS_NOTHING = "fix the release and deploy a new version; the environment needs no action"


def test_after_a_rollback_by_a_recovery_a_new_version_is_all_that_is_left_to_do(
    shell: Shell, crew: Crew
) -> None:
    """It crashed in its watch."""
    production = crew.production
    planned = {"baseline": str(production.images["v1.1.0"]), "to": "v1.1.0"}
    run = crew.begun(Step.PLAN)
    production.ledger.record("production", run, EventKind.PLAN_MADE, payload=planned)
    for step in (Step.BUILD, Step.DEPLOY, Step.POST):
        production.ledger.record("production", run, EventKind.STEP_BEGUN, step=step)
    production.put_in_service("v1.2.0-errors")
    crew.ends(run, StateType.CRASHED)
    crew.recovers(run)
    assert message_of(run).startswith("RolledBack: ")
    assert message_of(run).endswith(f"\nhint: {NEEDS_NOTHING}")

    assert to_do() == NEEDS_NOTHING
    assert crew.left == ("v1.1.0", "")
    assert "hint: " not in shell.ignition("status", "production").said
    is_deployed_to(shell, crew, "v1.2.1")


@pytest.mark.parametrize(
    "why",
    [
        TriggerFired("error rate 7.2% > 5.0% for 6 min", "ignition status production"),
        RolloutFailed("app-api-2 is unhealthy", "docker logs app-api-2"),
        VerificationFailed("health: HTTP 503", "curl http://production.example.com/health"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_after_a_rollback_what_is_known_of_the_release_is_where_the_report_says(
    shell: Shell, crew: Crew, why: DeployError
) -> None:
    production = crew.production
    before = production.baseline("v1.1.0")
    production.put_in_service("v1.2.0-errors")
    failed = next(i for i in production.orchestrator.instances() if i.version == "v1.2.0-errors")
    runs: list[str] = []

    @flow(name="deploy")
    def deploy() -> Any:
        """A deployment whose new release must not stay."""
        run = run_on(production, str(flow_run.id))
        runs.append(run.id)
        production.ledger.acquire("production", run.id, "Ada", "v1.2.0")
        run.record(EventKind.STEP_BEGUN, step=Step.DEPLOY)
        plan: Any = SimpleNamespace(baseline=before)
        release = Release(failed.version, "b" * 40, failed.image)
        with putting_off() as write_reports:
            deployment.serve_again(run, plan, why)
            write_reports()
            return deployment.roll_back(run, DeployRequest(version="v1.2.0"), plan, release, why)

    assert ending_of(deploy(return_state=True)) == "RolledBack"
    assert crew.left == ("v1.1.0", "")
    assert to_do().startswith(NEEDS_NOTHING)

    named = [word for word in to_do().split() if word.startswith("rollout-")]
    assert named == ["rollout-production"]
    assert failed.name in artifact(named[0], runs[0])
    is_deployed_to(shell, crew, "v1.2.1")


# ── A nightly that is refused ────────────────────────────────────────────────────────────────────


class Main:
    """A main branch, as its developers see it, and its mirror on the worker."""

    def __init__(self, folder: Path) -> None:
        self.tree = folder / "tree"
        self.tree.mkdir()
        self.git("init", "--quiet", "--initial-branch=main")
        self.commit("good")
        self.commit("bad")
        self.mirror = Repository(url=str(self.tree), workspace=folder / "mirror", main="main")

    def git(self, *arguments: str) -> str:
        own = ("-c", "user.name=Ada", "-c", "user.email=ada@example.com")
        done = subprocess.run(
            ["git", *own, *arguments], cwd=self.tree, check=True, capture_output=True, text=True
        )
        return done.stdout.strip()

    def commit(self, text: str) -> None:
        (self.tree / "text").write_text(text)
        self.git("add", "--all")
        self.git("commit", "--quiet", "-m", text)

    def mends(self) -> None:
        self.commit("mended")

    def reverts(self) -> None:
        self.git("revert", "--no-edit", "HEAD")


@pytest.mark.parametrize("follow", [Main.mends, Main.reverts])
def test_a_nightly_that_was_refused_goes_on_once_main_has_what_it_asks_for(
    crew: Crew, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, follow: Callable[[Main], None]
) -> None:
    main, deployed = Main(tmp_path), list[str]()
    bad = main.git("rev-parse", "HEAD")
    production = crew.production
    production.repository = main.mirror
    left = {"ending": "RolledBack", "version": "main", "revision": bad}
    kind = EventKind.DEPLOYMENT_ENDED
    production.ledger.record("production", str(uuid4()), kind, payload=left)

    @flow(name="deploy")
    def deploy(request: DeployRequest, environment: str) -> Any:
        deployed.append(production.repository.resolve(request.ref))
        return outcome.state(Ending.DEPLOYED, "done")

    monkeypatch.setattr(flows.nightly, "deploy", deploy)
    monkeypatch.setattr(flows.nightly, "begin", lambda _: run_on(production, str(flow_run.id)))

    def night() -> Any:
        return flows.nightly.nightly("production", return_state=True)

    refused = night()
    assert ending_of(refused) == "Refused"
    hint = str(refused.message).partition("\nhint: ")[2]
    assert hint == f"push to main a commit that fixes or reverts {bad[:12]}"
    assert (deployed, crew.left) == ([], ("v1.1.0", ""))

    follow(main)

    assert ending_of(night()) == "Deployed"
    assert deployed == [main.git("rev-parse", "HEAD")]


# ── Told by a run ────────────────────────────────────────────────────────────────────────────────


def alert() -> str:
    page = page_of(str(uuid4()))
    return breach_alert("production", "health fails", "it is held", "v1.1.0", page).body


@pytest.mark.hint("breach_alert: status", "breach_alert: rollback")
def test_an_alert_of_the_scheduled_watch_leads_back(shell: Shell, crew: Crew) -> None:
    assert shell.type(alert(), "ignition status").said.startswith("production serves v1.1.0")

    assert done(crew, shell.type(alert(), "ignition rollback")) == "RollbackDone"
    assert crew.left == ("v1.0.0", "")


@flow
def fires(production: Environment) -> None:
    """The watch of a release that is ill."""
    production.ill.add("v1.1.0")
    release = Release("v1.1.0", "b" * 40, production.images["v1.1.0"])
    watch_release(production, release, production.baseline("v1.1.0"), WATCH)


@flow
def alerts(production: Environment) -> Any:
    return _alert(run_on(production, str(uuid4())), "health fails", "it is held")


@flow
def hands_over(production: Environment) -> Any:
    holder = Holder(Way.TELL, str(uuid4()), "Grace")
    return _handed_over(run_on(production, str(uuid4())), holder, Ending.ROLLED_BACK)


@pytest.mark.parametrize(
    "said_by",
    [
        pytest.param(fires, marks=pytest.mark.hint("watch_release: status")),
        pytest.param(alerts, marks=pytest.mark.hint("_alert: status")),
        pytest.param(hands_over, marks=pytest.mark.hint("_handed_over: status")),
    ],
    ids=lambda flow: flow.name,
)
def test_what_serves_at_such_an_end_is_in_status(
    shell: Shell, crew: Crew, said_by: Flow[[Environment], Any]
) -> None:
    ended = said_by(crew.production, return_state=True)
    said = str(ended.result(raise_on_failure=False) if said_by is fires else ended.message)

    assert shell.type(said, "ignition status").said.startswith("production serves v1.1.0")


@pytest.mark.hint("what_is_gone: p0")
def test_a_release_that_is_gone_after_its_watch_is_a_p0(
    shell: Shell, crew: Crew, monkeypatch: pytest.MonkeyPatch
) -> None:
    to_do = what_is_gone(Ending.DEPLOYED, "production", "v1.1.0", "no version (HTTP 503)")
    monkeypatch.setattr(
        cli.p0, "_follow", lambda run, *_: crew.carries_out_the_rollback() and cli.p0.read(run.id)
    )

    typed = shell.type(to_do, "ignition p0", **YES)

    assert typed.code == 0, typed.text
    assert crew.left == ("v1.0.0", "")


@pytest.mark.hint("_tell: status", "_tell: unlock", "_tell: rollback")
def test_a_run_that_a_recovery_leaves_to_people_is_unlocked_and_rolled_back(
    shell: Shell, crew: Crew
) -> None:
    """It crashed in its rollout, and nothing says what served before."""
    run = crew.begun(Step.PLAN, Step.DEPLOY)
    crew.ends(run, StateType.CRASHED)
    ended = crew.recovers(run)
    assert ending_of(ended) == "NeedsAPerson"
    said = str(ended.message)

    assert short_run(run) in shell.type(said, "ignition status").said
    assert shell.type(said, "ignition unlock").code == 0
    assert crew.left == ("v1.1.0", "")
    assert done(crew, shell.type(said, "ignition rollback")) == "RollbackDone"
    assert crew.left == ("v1.0.0", "")


@pytest.mark.hint("_read: gates")
def test_a_recovery_of_a_run_that_goes_on_names_what_waits(shell: Shell, crew: Crew) -> None:
    run = crew.begun(Step.PLAN)
    with pytest.raises(Exception, match="has not ended") as refused:
        flows.recover._read(run)

    assert shell.type(str(refused.value), "ignition gates").said == "no gate waits\n"
    assert crew.left == ("v1.1.0", run)


# ── A run that has ended ─────────────────────────────────────────────────────────────────────────


@pytest.mark.hint("start_again: deploy")
@pytest.mark.parametrize(
    "request_",
    [
        {"version": "v1.2.0"},
        {"kind": "branch", "ref": "main"},
        {"version": "v1.2.0", "ref": "hot", "dry_run": True},
    ],
)
def test_a_deployment_that_has_ended_is_started_again_as_it_was(
    shell: Shell, crew: Crew, request_: dict[str, Any]
) -> None:
    typed = shell.type(start_again("deploy", request_, "production"), "ignition deploy")

    assert typed.code == 0, typed.text
    (run,) = crew.due("deploy")
    assert request_.items() <= run.parameters["request"].items()
    assert run.parameters["environment"] == "production"


@pytest.mark.hint("start_again: rollback")
@pytest.mark.parametrize("to", ["", "v1.0.0"])
def test_a_rollback_that_has_ended_is_started_again(shell: Shell, crew: Crew, to: str) -> None:
    again = start_again("rollback", {"to": to}, "production")

    assert done(crew, shell.type(again, "ignition rollback")) == "RollbackDone"
    assert crew.left == ("v1.0.0", "")


@pytest.mark.hint("start_again: prefect deployment")
@pytest.mark.parametrize("flow", ["watch/production", "nightly/staging"])
def test_a_scheduled_run_that_has_ended_is_started_again(
    shell: Shell, crew: Crew, flow: str
) -> None:
    name, _, environment = flow.partition("/")
    typed = shell.type(start_again(name, {}, environment), "prefect deployment run")

    assert typed.code == 0, typed.text
    assert [run.parameters["environment"] for run in crew.due(name)] == [environment]
