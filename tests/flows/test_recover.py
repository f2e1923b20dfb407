"""What the recovery of a run leaves behind, for each way in which it can end."""

from collections.abc import Callable
from typing import Any
from uuid import UUID

import psycopg
import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State, StateType
from prefect.runtime import flow_run

import flows.recover
import flows.rollback
import tasks.restore
from release.ledger import EventKind
from release.model import Step
from release.rollback.baseline import baseline_address
from tests.fakes.ending import ending_of
from tests.fakes.environment import Environment, run_on

Told = Callable[[], list[tuple[str, str]]]
Recover = Callable[[str], Any]


@pytest.fixture
def recover(production: Environment, monkeypatch: pytest.MonkeyPatch) -> Recover:
    """Runs the flow as its automation would."""

    def begin(environment: str) -> Any:
        return run_on(production, str(flow_run.root_flow_run_id or flow_run.id))

    monkeypatch.setattr(flows.recover, "begin", begin)
    monkeypatch.setattr(flows.rollback, "begin", begin)
    monkeypatch.setattr(tasks.restore, "_HICCUPS", (0, 0))

    def start(run_id: str) -> Any:
        return flows.recover.recover(run_id, "production", return_state=True)

    return start


def run_that_ended(
    production: Environment, state: StateType, *steps: Step, gate: bool = False
) -> str:
    """A deployment that had begun these steps, and holds the environment still."""

    @flow(name="deploy")
    def deploy(request: dict[str, str]) -> None: ...

    with get_client(sync_client=True) as client:
        request = {"version": "v1.1.0", "started_by": "Ada"}
        run_id = client.create_flow_run(deploy, parameters={"request": request}).id
        client.set_flow_run_state(run_id, State(type=state), force=True)
    run = str(run_id)
    production.ledger.acquire("production", run, "Ada", "v1.1.0")
    for each in (Step.PLAN, *steps):
        production.ledger.record("production", run, EventKind.STEP_BEGUN, step=each)
    if gate:
        production.ledger.record(
            "production",
            run,
            EventKind.GATE_OPENED,
            step=Step.CHECKLIST,
            payload={"items": ["tests-passing"]},
        )
    return run


def planned(production: Environment, run: str) -> None:
    """What the run had written down before it touched anything: where to go back to."""
    assert production.base
    payload = {"baseline": baseline_address(production.base), "to": production.base.version}
    production.ledger.record("production", run, EventKind.PLAN_MADE, payload=payload)


def state_of(run: str) -> tuple[str, str]:
    with get_client(sync_client=True) as client:
        state = client.read_flow_run(UUID(run)).state
    assert state
    return state.name or "", state.message or ""


def shown(run: str) -> tuple[str, list[str]]:
    """A run's name, without the words before its ending, and its tags."""
    with get_client(sync_client=True) as client:
        found = client.read_flow_run(UUID(run))
    return found.name.partition(" · ")[2], found.tags


def endings(production: Environment, run: str) -> list[str]:
    events = production.ledger.events("production", run, kinds=[EventKind.DEPLOYMENT_ENDED])
    return [str(event.payload["ending"]) for event in events]


def test_a_gate_whose_time_is_over_gives_the_environment_back(
    recover: Recover, production: Environment, told: Told
) -> None:
    """The baseline serves on; whoever is next may deploy."""
    run = run_that_ended(production, StateType.FAILED, Step.CHECKLIST, gate=True)

    ended = recover(run)

    assert ending_of(ended) == "Settled", ended
    assert endings(production, run) == ["Expired"]
    state, message = state_of(run)
    assert state == "Failed"
    assert message.startswith("Expired: ")
    assert "not signed: tests-passing; production serves v1.0.0" in message
    assert shown(run) == ("Expired", ["ending:Expired"])
    assert production.held_by() == "", "its own lock, which it took over from the run"
    assert production.serves == "v1.0.0"
    assert sorted(who for who, _ in told()) == ["/pager", "/team"]


def test_a_run_that_was_cancelled_before_the_cutover_gives_the_environment_back(
    recover: Recover, production: Environment
) -> None:
    """The baseline serves on, and the run stays Cancelled: that is what somebody wanted."""
    run = run_that_ended(production, StateType.CANCELLED, Step.CHECKLIST, Step.BUILD)
    planned(production, run)

    ended = recover(run)

    assert ending_of(ended) == "Settled", ended
    assert endings(production, run) == ["Failed"]
    assert state_of(run)[0] == "Cancelled"
    assert shown(run) == ("Failed", ["ending:Failed"])
    assert production.held_by() == ""
    assert production.serves == "v1.0.0"


def silent(production: Environment, state: StateType, for_seconds: int) -> str:
    """A run in its watch, that last said that it is alive some time ago."""
    run = run_that_ended(production, state, Step.BUILD, Step.DEPLOY, Step.POST)
    planned(production, run)
    with psycopg.connect(production.ledger.dsn.get_secret_value()) as ledger:
        ledger.execute(
            "UPDATE environment_locks"
            " SET heartbeat_at = clock_timestamp() - make_interval(secs => %s)",
            (for_seconds,),
        )
    return run


def test_a_run_that_gives_no_sign_of_life_is_called_crashed_and_left_to_the_next_recovery(
    recover: Recover, production: Environment
) -> None:
    """Its crash starts that: two that decide at once would undo each other's work."""
    run = silent(production, StateType.RUNNING, 20)

    ended = recover(run)

    assert ending_of(ended) == "Settled", ended
    assert state_of(run)[0] == "Crashed"
    assert "it gave no sign of life for 2" in state_of(run)[1]
    assert production.held_by() == run
    assert endings(production, run) == []

    production.replace_baseline()
    assert ending_of(recover(run)) == "Settled"
    assert endings(production, run) == ["RolledBack"]
    assert (production.serves, production.held_by()) == ("v1.0.0", "")


@pytest.mark.parametrize(
    ("state", "seconds"),
    [(StateType.RUNNING, 0), (StateType.PAUSED, 3600), (StateType.SCHEDULED, 3600)],
    ids=["says that it is alive", "waits for people", "waits for a worker"],
)
def test_a_run_that_is_alive_or_waits_is_left_alone(
    recover: Recover, production: Environment, state: StateType, seconds: int
) -> None:
    """An automation that missed its events is wrong: the server was away, and not the run."""
    run = silent(production, state, seconds)
    before = state_of(run)

    ended = recover(run)

    assert ending_of(ended) == "NothingToDo", ended
    assert "has not ended, and nothing says that it is gone" in ended.message
    assert state_of(run) == before
    assert production.held_by() == run
    assert endings(production, run) == []


def test_a_run_that_crashed_in_its_watch_is_rolled_back(
    recover: Recover, production: Environment
) -> None:
    """v1.0.0 serves again."""
    run = run_that_ended(production, StateType.CRASHED, Step.BUILD, Step.DEPLOY, Step.POST)
    planned(production, run)
    production.replace_baseline()

    ended = recover(run)

    assert ending_of(ended) == "Settled", ended
    assert endings(production, run) == ["RolledBack"]
    assert state_of(run)[0] == "Failed"
    assert shown(run) == ("RolledBack", ["ending:RolledBack"])
    assert "no trigger in " in state_of(run)[1], "how what was restored does"
    assert production.serves == "v1.0.0"
    assert production.held_by() == ""


def test_a_baseline_that_does_not_come_up_stays_locked_and_calls_somebody(
    recover: Recover, production: Environment, told: Told
) -> None:
    """v1.1.0 is all there is: nobody deploys onto it until a person has looked."""
    run = run_that_ended(production, StateType.CRASHED, Step.BUILD, Step.DEPLOY, Step.POST)
    planned(production, run)
    production.replace_baseline()
    image = production.images["v1.0.0"]
    production.orchestrator.host.registry[image] = ("v1.0.0", "never-healthy")

    ended = recover(run)

    assert ending_of(ended) == "NeedsAPerson", ended
    assert endings(production, run) == ["RollbackFailed"]
    assert production.serves == "v1.1.0"
    assert production.held_by() != ""
    assert "/pager" in [who for who, _ in told()]


def test_a_run_that_crashed_before_the_cutover_goes_on_once(
    recover: Recover, production: Environment
) -> None:
    """The baseline serves meanwhile, and the run keeps its environment; the second time, not."""
    run = run_that_ended(production, StateType.CRASHED, Step.CHECKLIST, Step.BUILD)
    planned(production, run)

    first = recover(run)
    again = state_of(run)[0]
    held = production.held_by()
    with get_client(sync_client=True) as client:
        for state in (StateType.PENDING, StateType.RUNNING, StateType.CRASHED):
            client.set_flow_run_state(UUID(run), State(type=state), force=True)
    second = recover(run)

    assert (ending_of(first), again, held) == ("Resumed", "AwaitingRetry", run)
    assert ending_of(second) == "Settled"
    assert production.held_by() == ""
    assert production.serves == "v1.0.0"


def test_a_run_that_ended_by_itself_is_left_alone(
    recover: Recover, production: Environment, told: Told
) -> None:
    """Its automation cannot know; nothing is written, nobody is told."""
    run = run_that_ended(production, StateType.FAILED, Step.CHECKLIST)
    production.ledger.release("production", run)

    ended = recover(run)

    assert ending_of(ended) == "NothingToDo", ended
    assert endings(production, run) == []
    assert told() == []


def test_a_run_that_was_killed_after_its_ending_was_written_gives_its_lock_back(
    recover: Recover, production: Environment, told: Told
) -> None:
    """v1.1.0 serves, and the run says so; a rollback that failed stays locked."""
    run = run_that_ended(production, StateType.CRASHED, Step.BUILD, Step.DEPLOY, Step.POST)
    production.replace_baseline()
    kind = EventKind.DEPLOYMENT_ENDED
    payload = {"ending": "Deployed", "sentence": "v1.1.0 replaced v1.0.0", "serves": "v1.1.0"}
    production.ledger.record("production", run, kind, payload=payload)

    ended = recover(run)

    assert ending_of(ended) == "NothingToDo", ended
    said = "Deployed: v1.1.0 replaced v1.0.0; production serves v1.1.0"
    assert state_of(run) == ("Completed", said)
    assert shown(run) == ("Deployed", ["ending:Deployed"])
    assert production.held_by() == ""
    assert production.serves == "v1.1.0"
    assert told() == []


def test_a_run_that_said_its_ending_while_its_name_could_not_be_changed_is_named_by_it(
    recover: Recover, production: Environment
) -> None:
    """Its automation takes it for one that said nothing; what it said, and what serves, stays."""
    run = run_that_ended(production, StateType.FAILED, Step.CHECKLIST)
    with get_client(sync_client=True) as client:
        said: State[Any] = State(type=StateType.FAILED, message="Rejected: freeze until Monday")
        client.set_flow_run_state(UUID(run), said, force=True)
    payload = {"ending": "Rejected", "sentence": "freeze until Monday", "serves": "v1.0.0"}
    production.ledger.record("production", run, EventKind.DEPLOYMENT_ENDED, payload=payload)
    production.ledger.release("production", run)

    ended = recover(run)

    assert ending_of(ended) == "NothingToDo", ended
    assert shown(run) == ("Rejected", ["ending:Rejected"])
    assert state_of(run) == ("Failed", "Rejected: freeze until Monday")
    assert endings(production, run) == ["Rejected"]
    assert production.serves == "v1.0.0"


def test_an_environment_whose_rollback_failed_stays_locked(
    recover: Recover, production: Environment
) -> None:
    run = run_that_ended(production, StateType.CRASHED, Step.BUILD, Step.DEPLOY, Step.ROLLBACK)
    payload = {"ending": "RollbackFailed", "sentence": "v1.0.0 is not back", "serves": "v1.1.0"}
    production.ledger.record("production", run, EventKind.DEPLOYMENT_ENDED, payload=payload)

    ended = recover(run)

    assert ending_of(ended) == "NothingToDo", ended
    assert production.held_by() == run


def test_a_recovery_that_stopped_is_taken_up_by_the_next_one(
    recover: Recover, production: Environment
) -> None:
    """The first one had taken the environment over and was killed: the second one ends both."""
    run = run_that_ended(production, StateType.CANCELLED, Step.CHECKLIST, Step.BUILD)

    @flow(name="recover")
    def died(run_id: str, environment: str) -> None: ...

    with get_client(sync_client=True) as client:
        parameters = {"run_id": run, "environment": "production"}
        first = str(client.create_flow_run(died, parameters=parameters).id)
        client.set_flow_run_state(UUID(first), State(type=StateType.CRASHED), force=True)
    production.ledger.take_over("production", (run,), first, "recover", "it was cancelled")

    ended = recover(first)

    assert ending_of(ended) == "Settled", ended
    assert endings(production, run) == ["Failed"]
    assert production.held_by() == ""
    assert production.serves == "v1.0.0"
