"""Every way in which a rollback can end, and what serves then."""

import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId
from prefect.runtime import flow_run
from pytest_httpserver import HTTPServer

import flows.deploy
import flows.rollback
import tasks.hand_over
import tasks.restore
from release.configuration.auth import AuthSettings
from release.configuration.deployed_with import DeployedWith
from release.configuration.layout import ServiceLayout
from release.configuration.rules import WatchRules
from release.errors import TriggerFired
from release.ledger import EventKind
from release.migration.header import Phase
from release.model import ImageRef, Release, Step
from release.request import DeployRequest, RollbackRequest
from sandbox.commands import wait_until
from tasks.step import putting_off
from tests.fakes.ending import ending_of
from tests.fakes.environment import HOUR, MS, Environment, run_on

MINUTE = timedelta(minutes=1)
Told = Callable[[], list[tuple[str, str]]]
P0 = RollbackRequest(reason="P0: orders are charged twice", started_by="Grace")


@pytest.fixture
def restored_for() -> list[timedelta]:
    """How long what was restored is watched: the last one counts."""
    return [200 * MS]


@pytest.fixture
def roll_back(
    production: Environment, monkeypatch: pytest.MonkeyPatch, restored_for: list[timedelta]
) -> Callable[..., Any]:
    """Runs the flow as a person would, on an environment that v1.1.0 serves."""
    production.replace_baseline()

    def begin(environment: str) -> Any:
        root = str(flow_run.root_flow_run_id or flow_run.id)
        run = run_on(production, root, restored_for=restored_for[-1])
        return replace(run, nested=flow_run.parent_flow_run_id is not None)

    monkeypatch.setattr(flows.rollback, "begin", begin)
    monkeypatch.setattr(tasks.restore, "_HICCUPS", (0, 0))

    def start(request: RollbackRequest = P0) -> Any:
        return flows.rollback.rollback(request, "production", return_state=True)

    return start


def shown(ended: Any) -> tuple[str, set[str]]:
    """A run's name and tags, as its page shows them."""
    with get_client(sync_client=True) as client:
        run = client.read_flow_run(ended.state_details.flow_run_id)
    return run.name, set(run.tags)


def deployment(production: Environment, *steps: Step, gate: Step | None = None) -> str:
    """A deployment that holds the environment and has begun these steps."""
    run_id = str(uuid4())
    production.ledger.acquire("production", run_id, "Ada", "v1.2.0")
    for each in (Step.PLAN, *steps):
        production.ledger.record("production", run_id, EventKind.STEP_BEGUN, step=each)
    if gate:
        production.ledger.record("production", run_id, EventKind.GATE_OPENED, step=gate)
    return run_id


def test_the_release_that_served_before_serves_again(
    roll_back: Any, production: Environment, told: Told
) -> None:
    ended = roll_back()

    assert ending_of(ended) == "RollbackDone", ended
    name, tags = shown(ended)
    assert name == "rollback of production to v1.0.0 · RollbackDone", "not by its digest"
    assert tags >= {"env:production", "version:v1.0.0", "ending:RollbackDone"}
    assert ended.message.endswith("production serves v1.0.0")
    assert production.serves == "v1.0.0"
    assert production.held_by() == ""
    assert production.ledger.served("production")[0].version == "v1.0.0"
    (started,) = production.ledger.events(kinds=[EventKind.ROLLBACK_STARTED])
    told_ledger = {key: started.payload[key] for key in ("reason", "to", "by")}
    assert told_ledger == {"reason": P0.reason, "to": "v1.0.0", "by": "Grace"}
    assert "@sha256:" in started.payload["baseline"], "a recovery goes there too"
    assert [who for who, _ in told()] == ["/team"]


THEN = DeployedWith.now(
    ServiceLayout(name="ignition-api", health_path="/up"), AuthSettings(), WatchRules()
)


def test_a_release_is_checked_as_it_was_when_it_was_deployed(
    roll_back: Any, production: Environment
) -> None:
    """The health check has moved with v1.1.0. v1.0.0 is well at its own, and serves again."""
    production.deployed("v1.0.0", 2 * HOUR - MINUTE, plan=THEN.payload())
    production.health_paths["v1.0.0"] = "/up"

    ended = roll_back()

    assert ending_of(ended) == "RollbackDone", ended
    assert (production.serves, production.held_by()) == ("v1.0.0", "")


@pytest.mark.parametrize("plan", [{}, {"deployed_with": "?"}], ids=["none", "not readable"])
def test_without_a_record_of_that_it_is_checked_as_is_configured_now(
    roll_back: Any, production: Environment, plan: dict[str, Any]
) -> None:
    """v1.0.0 serves again."""
    production.deployed("v1.0.0", 2 * HOUR - MINUTE, plan=plan)

    ended = roll_back()

    assert ending_of(ended) == "RollbackDone", ended
    assert production.serves == "v1.0.0"


def test_the_report_says_how_what_was_restored_does(
    roll_back: Any, production: Environment
) -> None:
    ended = roll_back()

    assert ending_of(ended) == "RollbackDone", ended
    assert "orders are charged twice; no trigger in " in ended.message
    (seen,) = production.ledger.events(kinds=[EventKind.VERDICT])
    assert seen.payload["outcome"] == "healthy"
    assert (production.serves, production.held_by()) == ("v1.0.0", "")


def test_a_restored_release_that_is_ill_calls_a_person(
    roll_back: Any, production: Environment, told: Told
) -> None:
    """v1.0.0 serves again, its checks were good, and then it fails: nobody calls that restored."""
    production.metrics.meanwhile = lambda: production.ill.add("v1.0.0")

    ended = roll_back()

    assert ending_of(ended) == "RollbackFailed", ended
    assert "v1.0.0 serves production again, and is not well: health check failed" in ended.message
    assert "to go further back: ignition rollback production --to VERSION" in ended.message
    assert production.serves == "v1.0.0"
    assert production.held_by() != ""  # until somebody has looked
    assert sorted(who for who, _ in told()) == ["/pager", "/team"]


def rolled_back_by_its_deployment(production: Environment, roll_back: Any) -> Any:
    """The ending of a deployment of v1.1.0 that fires a trigger in its watch."""
    endings: list[Any] = []
    plan: Any = SimpleNamespace(baseline=production.base)
    image = production.images["v1.1.0"]
    why = TriggerFired("error rate 7.2% > 5.0% for 6 min")

    @flow(name="deploy")
    def deploy() -> None:
        run = run_on(production, str(flow_run.id))
        production.ledger.acquire("production", run.id, "Ada", "v1.1.0")
        for step in (Step.PLAN, Step.DEPLOY):
            run.record(EventKind.STEP_BEGUN, step=step)
        release = Release("v1.1.0", "b" * 40, image)
        endings.append(
            flows.deploy.roll_back(run, DeployRequest(version="v1.1.0"), plan, release, why)
        )

    deploy()
    return endings[0]


def test_a_deployment_that_was_rolled_back_says_how_the_baseline_does(
    roll_back: Any, production: Environment
) -> None:
    ended = rolled_back_by_its_deployment(production, roll_back)

    assert ending_of(ended) == "RolledBack", ended
    assert "v1.1.0 was rolled back to v1.0.0 (no trigger in " in ended.message
    assert "): error rate 7.2% > 5.0% for 6 min" in ended.message
    assert (production.serves, production.held_by()) == ("v1.0.0", "")


def test_a_deployment_whose_baseline_is_ill_after_the_rollback_calls_a_person(
    roll_back: Any, production: Environment, told: Told
) -> None:
    """v1.0.0 serves; it was said to be good while users got errors of it as well."""
    production.metrics.meanwhile = lambda: production.ill.add("v1.0.0")

    ended = rolled_back_by_its_deployment(production, roll_back)

    assert ending_of(ended) == "RollbackFailed", ended
    assert "v1.0.0 serves production again, and is not well: health check" in ended.message
    assert production.serves == "v1.0.0"
    assert production.held_by() != ""
    assert "/pager" in [who for who, _ in told()]


def kept_by_a_deployment_that_serves_again(production: Environment) -> list[str]:
    """What a deployment of v1.1.0 keeps of it when its watch has failed."""
    plan: Any = SimpleNamespace(baseline=production.base)
    runs: list[UUID] = []

    @flow(name="deploy")
    def deploy() -> None:
        runs.append(UUID(str(flow_run.id)))
        with putting_off() as write_reports:
            flows.deploy.serve_again(run_on(production, str(runs[0])), plan, TriggerFired("ill"))
            write_reports()

    deploy()
    of_run = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=runs))
    with get_client(sync_client=True) as client:
        found = client.read_artifacts(artifact_filter=of_run)
    return [str(one.data) for one in found if one.key == "rollout-production"]


def test_what_is_kept_of_a_failed_release_is_nothing_of_what_was_restored_in_place(
    production: Environment,
) -> None:
    """v1.0.0 serves, in a container that the plan did not know."""
    production.replace_baseline()
    production.router = None

    kept = kept_by_a_deployment_that_serves_again(production)

    assert ["v1.1.0, running" in one for one in kept] == [True]
    assert list(production.containers().values()) == ["v1.0.0 running"]


def test_no_log_is_read_while_the_baseline_does_not_serve_again(
    production: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """v1.1.0 serves still. The rollback tries again at once, and keeps what it removes."""
    monkeypatch.setattr(tasks.restore, "_HICCUPS", ())
    production.replace_baseline()
    assert production.router is not None
    production.router.hang_up(1)

    assert kept_by_a_deployment_that_serves_again(production) == []
    assert production.serves == "v1.1.0"


def test_a_watch_that_cannot_be_made_is_said_and_fails_nothing(
    roll_back: Any, production: Environment
) -> None:
    """v1.0.0 serves again, as well as it is known without a watch."""

    def broken() -> None:
        raise RuntimeError("no thread can be started")

    production.metrics.meanwhile = broken

    ended = roll_back()

    assert ending_of(ended) == "RollbackDone", ended
    assert "it was not watched: unexpected RuntimeError" in ended.message
    assert (production.serves, production.held_by()) == ("v1.0.0", "")


def test_another_p0_ends_the_watch_and_goes_further_back(
    roll_back: Any, production: Environment, restored_for: list[timedelta]
) -> None:
    """What was restored is bad as well, and somebody says so: v0.9.0 serves, nobody waited."""
    ledger, host = production.ledger, production.orchestrator.host
    image = ImageRef("registry/ignition-api", "sha256:" + "9" * 64)
    host.registry[image] = ("v0.9.0", "good")
    production.images["v0.9.0"] = image
    production.deployed("v0.9.0", 9 * HOUR)
    watching = threading.Event()
    production.metrics.meanwhile = watching.set
    endings: list[Any] = []
    restored_for.append(timedelta(minutes=10))
    first = threading.Thread(target=lambda: endings.append(roll_back()))
    first.start()
    assert watching.wait(60)
    restored_for.append(200 * MS)

    ended = roll_back(RollbackRequest(reason="v1.0.0 is bad as well", started_by="Ada"))
    first.join()

    assert ending_of(ended) == "RollbackDone", ended
    assert ending_of(endings[0]) == "RollbackDone", endings
    assert "its watch was ended after " in endings[0].message
    assert "P0 declared, seen at " in endings[0].message
    assert production.serves == "v0.9.0"
    assert production.held_by() == ""
    assert [row.version for row in ledger.served("production")][:2] == ["v0.9.0", "v1.0.0"]


def test_its_message_says_who_asked_for_it_why_and_from_which_release_to_which(
    roll_back: Any, told: Told, httpserver: HTTPServer
) -> None:
    """v1.0.0 serves again."""
    roll_back()

    ((_, subject),) = told()
    assert subject.endswith(
        "production v1.0.0: RollbackDone (started by Grace); production serves v1.0.0"
    )
    body = httpserver.log[-1][0].json["body"].splitlines()
    assert body[0].startswith("v1.1.0 was rolled back to v1.0.0: P0: orders are charged twice; ")
    assert body[-1].startswith("the run: ")


def test_the_message_of_one_that_failed_says_as_well_why_it_was_asked_for(
    roll_back: Any, production: Environment, told: Told, httpserver: HTTPServer
) -> None:
    """v1.1.0 serves still."""
    image = production.images["v1.0.0"]
    production.orchestrator.host.registry[image] = ("v1.0.0", "never-healthy")

    roll_back()

    subjects = {subject for _, subject in told()}
    assert len(subjects) == 1
    assert "RollbackFailed (started by Grace); production serves v1.1.0" in subjects.pop()
    body = httpserver.log[-1][0].json["body"]
    assert "it was to be rolled back because: P0: orders are charged twice" in body
    assert production.serves == "v1.1.0"


def test_a_second_rollback_does_not_bring_the_bad_release_back(
    roll_back: Any, production: Environment
) -> None:
    """Two people type the same at 3 am: v1.0.0 serves after both."""
    roll_back()

    again = roll_back()

    assert ending_of(again) == "Refused"
    assert "served before the present one and that was not rolled back" in again.message
    assert production.serves == "v1.0.0"


def test_a_baseline_that_does_not_come_up_is_a_rollback_that_failed(
    roll_back: Any, production: Environment, told: Told
) -> None:
    """The bad release is all there is. It says what was tried and what to type, and pages."""
    image = production.images["v1.0.0"]
    production.orchestrator.host.registry[image] = ("v1.0.0", "never-healthy")

    ended = roll_back()

    assert ending_of(ended) == "RollbackFailed", ended
    assert "v1.0.0 is not back on production: app-api-3 is running and not yet" in ended.message
    assert "done so far: start beside 1 ×" in ended.message
    assert "; production serves v1.1.0\n" in ended.message
    assert "ignition rollback production --to v1.0.0 --reason …" in ended.message
    assert production.serves == "v1.1.0"
    assert production.held_by() != ""  # until somebody has looked
    assert sorted(who for who, _ in told()) == ["/pager", "/team"]


@pytest.fixture
def undo(production: Environment, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Rolls a deployment back from within it, under rules that ask for two instances."""
    monkeypatch.setattr(tasks.restore, "_HICCUPS", (0, 0))

    def begin(environment: str) -> Any:
        run = replace(run_on(production, str(flow_run.id)), nested=True)
        run.rules.rollout = run.rules.rollout.model_copy(update={"replicas": 2})
        return run

    monkeypatch.setattr(flows.rollback, "begin", begin)

    def start(to: str, **found: object) -> Any:
        payload = {"baseline": to, "to": "", **found}
        production.ledger.record("production", str(uuid4()), EventKind.PLAN_MADE, payload=payload)
        request = RollbackRequest(reason="v1.1.0 does not come up", to=to, started_by="pipeline")
        return flows.rollback.rollback(request, "production", return_state=True)

    return start


def test_a_deployment_is_undone_to_as_many_instances_as_its_plan_found(
    undo: Any, production: Environment
) -> None:
    """A second one may be what the host cannot run: v1.0.0 serves with one, as before."""
    production.replace_baseline()

    undone = undo(str(production.images["v1.0.0"]), instances=1)

    assert ending_of(undone) == "RollbackDone", undone
    assert list(production.containers().values()) == ["v1.0.0 running"]


@pytest.mark.parametrize("before", ["", "api:latest"])
def test_a_first_deployment_that_is_undone_leaves_no_digest_for_the_hosts_own_start(
    undo: Any, production: Environment, before: str
) -> None:
    """Nothing serves, and `docker compose up` starts what it would have started before."""
    production.replace_baseline()

    undone = undo("nothing", instances=0, pin=before)

    assert ending_of(undone) == "RollbackDone", undone
    assert production.containers() == {}
    assert production.orchestrator.pinned() is None
    assert production.orchestrator.pin_text() == before


def test_a_release_that_a_contract_migration_has_left_behind_is_refused(
    roll_back: Any, production: Environment
) -> None:
    """v1.1.0 goes on serving."""
    production.applied = (
        SimpleNamespace(
            phase=Phase.CONTRACT, done=True, min_app="v1.1.0", filename="0003_drop.sql"
        ),
    )

    ended = roll_back()

    assert ending_of(ended) == "Refused", ended
    assert "v1.0.0 < v1.1.0, the oldest release that runs on the schema" in ended.message
    assert production.serves == "v1.1.0"
    assert production.held_by() == ""


@pytest.mark.parametrize("gate", [Step.CHECKLIST, Step.POST])
def test_a_deployment_that_waits_for_people_loses_the_environment(
    roll_back: Any, production: Environment, gate: Step
) -> None:
    """Production is rolled back at once; the deployment ends when it is answered."""
    waiting = deployment(production, Step.CHECKLIST, gate=gate)

    ended = roll_back()

    assert ending_of(ended) == "RollbackDone", ended
    assert production.serves == "v1.0.0"
    assert (
        production.ledger.heartbeat("production", waiting) is False
    )  # what it asks when it goes on
    (broken,) = production.ledger.events(kinds=[EventKind.LOCK_BROKEN])
    assert broken.run_id == waiting
    assert broken.payload["reason"] == "rollback: P0: orders are charged twice"
    assert broken.payload["owner"] == "Grace"


def test_a_deployment_that_died_loses_the_environment(
    roll_back: Any, production: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    deployment(production, Step.CHECKLIST, Step.DEPLOY)
    monkeypatch.setattr(tasks.hand_over, "has_ended", lambda run_id: True)

    ended = roll_back()

    assert ending_of(ended) == "RollbackDone", ended
    assert production.serves == "v1.0.0"


def test_another_rollback_is_not_interrupted(roll_back: Any, production: Environment) -> None:
    other = str(uuid4())
    production.ledger.acquire("production", other, "Ada", "P0")
    production.ledger.record("production", other, EventKind.STEP_BEGUN, step=Step.ROLLBACK)

    ended = roll_back()

    assert ending_of(ended) == "Refused", ended
    assert "production is held by Ada" in ended.message
    assert production.serves == "v1.1.0"
    assert production.held_by() == other


def ends_when_told(production: Environment, run_id: str, ending: str) -> threading.Thread:
    """Plays a deployment: it ends when it reads that a P0 was declared."""

    def play() -> None:
        declared = [EventKind.P0_DECLARED]
        wait_until(
            lambda: production.ledger.events(run_id=run_id, kinds=declared),
            what="a P0",
            seconds=60,
            hint="",
        )
        production.ledger.record(
            "production", run_id, EventKind.DEPLOYMENT_ENDED, payload={"ending": ending}
        )
        production.ledger.release("production", run_id)

    playing = threading.Thread(target=play)
    playing.start()
    return playing


def test_a_deployment_that_users_have_met_rolls_itself_back(
    roll_back: Any, production: Environment
) -> None:
    run_id = deployment(production, Step.CHECKLIST, Step.DEPLOY, Step.POST)
    playing = ends_when_told(production, run_id, "RolledBack")

    ended = roll_back()
    playing.join()

    assert ending_of(ended) == "HandedOver", ended
    (declared,) = production.ledger.events(kinds=[EventKind.P0_DECLARED])
    assert declared.run_id == run_id
    assert declared.payload == {"reason": P0.reason, "by": "Grace"}
    assert production.serves == "v1.1.0"  # nothing was done here: the deployment does it


@pytest.mark.parametrize(
    ("steps", "ending"),
    [
        ((Step.CHECKLIST, Step.MIGRATE), "Rejected"),  # users had not met its release
        ((Step.CHECKLIST, Step.DEPLOY, Step.POST), "Deployed"),  # its watch had just passed
    ],
)
def test_a_deployment_that_does_not_roll_back_itself_is_waited_for(
    roll_back: Any, production: Environment, steps: tuple[Step, ...], ending: str
) -> None:
    playing = ends_when_told(production, deployment(production, *steps), ending)

    ended = roll_back()
    playing.join()

    assert ending_of(ended) == "RollbackDone", ended
    assert production.serves == "v1.0.0"
    assert production.held_by() == ""


def test_what_is_done_while_users_wait_does_not_wait_for_a_slow_ledger(
    production: Environment,
) -> None:
    """The event is written all the same."""
    run_id, slow = str(uuid4()), threading.Event()
    run = run_on(production, run_id)
    real = production.ledger.record

    def record(*given: Any, **more: Any) -> bool:
        slow.wait(60)
        return real(*given, **more)

    object.__setattr__(production.ledger, "record", record)
    run.record_soon((EventKind.STEP_BEGUN, Step.ROLLBACK, {}))
    before = production.ledger.events(run_id=run_id)
    slow.set()
    wait_until(
        lambda: production.ledger.events(run_id=run_id), what="the event", seconds=60, hint=""
    )

    assert before == []


def test_reports_are_written_after_what_users_wait_for() -> None:
    from tasks.step import put_off, putting_off

    done: list[str] = []

    def fail() -> None:
        raise RuntimeError("the server is away")

    @flow
    def deploy() -> None:
        with putting_off() as write:
            put_off(fail)
            put_off(lambda: done.append("report"))
            done.append("served")
            write()
            put_off(lambda: done.append("at once"))
        with putting_off():
            put_off(lambda: done.append("at the end"))
        put_off(lambda: done.append("outside"))

    deploy()

    assert done == ["served", "report", "at once", "at the end", "outside"]
