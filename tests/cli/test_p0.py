"""A P0, declared in a shell: who is told, who acts, what it says, what serves."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from pydantic import SecretStr

import cli.p0
import cli.runs
import tasks.hand_over
from blocks.ledger.ledger import Ledger
from cli.runs import RunView
from release.configuration.layout import ServiceLayout
from release.errors import BadRequest, Unreachable
from release.ledger import EventKind
from release.model import Step
from release.request import RollbackRequest
from tests.fakes.environment import Environment

HOUR = timedelta(hours=1)


def seen(id: str, state: str, kind: str = "COMPLETED") -> RunView:
    return RunView(id, f"d-{id[:6]}", "a run", state, kind, "", f"http://ui/{id}", "")


class Prefect:
    """Runs that end as they are told to."""

    def __init__(self) -> None:
        self.ends: dict[str, RunView] = {}
        self.started: list[tuple[str, dict[str, Any]]] = []
        self.watch: RunView | None = None
        self.not_taken: list[str] = []  # why nobody takes a run, while it is followed
        self.rollback = seen(str(uuid4()), "RollbackDone")

    def start(self, deployment: str, parameters: dict[str, Any], *_: Any) -> RunView:
        self.started.append((deployment, parameters["request"]))
        self.ends[self.rollback.id] = self.rollback
        return self.rollback

    def read(self, run_id: str) -> RunView:
        return self.ends[run_id]

    def follow(
        self,
        run: RunView,
        say: Callable[[RunView], None],
        within: timedelta,
        complain: Callable[[str], None],
    ) -> RunView:
        for why in self.not_taken:
            complain(why)
        say(self.ends[run.id])
        return self.ends[run.id]


@pytest.fixture
def prefect(monkeypatch: pytest.MonkeyPatch) -> Prefect:
    made = Prefect()
    for name in ("start", "read", "follow"):
        monkeypatch.setattr(cli.p0, name, getattr(made, name))
    monkeypatch.setattr(cli.p0, "unavailable", lambda: None)
    monkeypatch.setattr(cli.p0, "_scheduled_watch", lambda environment: made.watch)
    monkeypatch.setattr(tasks.hand_over, "has_ended", lambda run_id: False)
    return made


@pytest.fixture
def production(dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Environment:
    """v1.1.0 serves; v1.0.0 served before."""
    ledger = Ledger(dsn=SecretStr(dsn), spool=tmp_path / "spool")
    ledger.install()
    made = Environment(ledger)
    made.replace_baseline()
    monkeypatch.setattr(cli.p0, "build_target", lambda settings, name: made)
    return made


def p0(*, reason: str = "it is charged twice", to: str = "", yes: bool = True) -> Any:
    """Declare one; whether it was rolled back, and what was said."""
    settings: Any = SimpleNamespace(
        environment=lambda name: None, service=ServiceLayout(name="ignition-api")
    )
    lines: list[str] = []
    request = RollbackRequest(reason=reason, to=to, started_by="Grace")
    done = cli.p0.roll_back(settings, "production", request, lambda: yes, lines.append)
    return done, lines


def declared(production: Environment) -> list[tuple[str, Any]]:
    events = production.ledger.events(kinds=[EventKind.P0_DECLARED])
    return [(event.run_id, event.payload) for event in events]


def holder(production: Environment, *steps: Step) -> str:
    run_id = str(uuid4())
    production.ledger.acquire("production", run_id, "Ada", "")
    for each in steps:
        production.ledger.record("production", run_id, EventKind.STEP_BEGUN, step=each)
    return run_id


SAID = {"reason": "it is charged twice", "by": "Grace"}


def test_with_nobody_in_the_way_a_rollback_to_what_was_shown_is_started(
    production: Environment, prefect: Prefect
) -> None:
    done, lines = p0()

    assert done
    assert lines[0] == "production runs v1.1.0; it goes back to v1.0.0"
    ((deployment, request),) = prefect.started
    assert deployment == "rollback/production"
    assert request["to"] == str(production.images["v1.0.0"])  # no other, whatever happens meanwhile
    assert request["reason"] == "it is charged twice"
    assert declared(production) == [(prefect.rollback.id, SAID)]
    assert lines[-1] == "production serves v1.1.0"  # what the address says: nothing ran here


def test_a_rollback_that_nobody_takes_says_why_while_it_waits(
    production: Environment, prefect: Prefect
) -> None:
    """At 3 am, with the worker gone too."""
    prefect.not_taken = ["no worker has asked for 40 s; start one: …"]

    done, lines = p0()

    assert done
    label = prefect.rollback.label
    assert f"[{label}] no worker has asked for 40 s; start one: …" in lines


def test_a_rollback_that_fails_is_no_success(production: Environment, prefect: Prefect) -> None:
    prefect.rollback = seen(str(uuid4()), "RollbackFailed", "FAILED")

    done, lines = p0()

    assert not done
    assert lines[-1] == "production serves v1.1.0"


def test_who_says_no_changes_nothing(production: Environment, prefect: Prefect) -> None:
    done, lines = p0(yes=False)

    assert not done
    assert (prefect.started, declared(production)) == ([], [])
    assert lines[-1] == "production serves v1.1.0"


def test_a_deployment_that_users_have_met_is_told_and_does_it_itself(
    production: Environment, prefect: Prefect
) -> None:
    """It goes back to what its plan found serving, whatever the log of deployments has last."""
    run_id = holder(production, Step.PLAN, Step.DEPLOY)
    plan = {"baseline": str(production.images["v1.0.0"]), "to": "v1.0.0"}
    production.ledger.record("production", run_id, EventKind.PLAN_MADE, payload=plan)
    prefect.ends[run_id] = seen(run_id, "RolledBack", "FAILED")

    done, lines = p0()

    assert done
    assert lines[:2] == [
        "production runs v1.1.0; it goes back to v1.0.0",
        f"deployment d-{run_id[:6]} is interrupted, and rolls itself back",
    ]
    assert prefect.started == []
    assert declared(production) == [(run_id, SAID)]


def test_a_deployment_whose_watch_had_just_passed_is_followed_by_a_rollback(
    production: Environment, prefect: Prefect
) -> None:
    run_id = holder(production, Step.PLAN, Step.DEPLOY)
    prefect.ends[run_id] = seen(run_id, "Deployed")

    done, _ = p0()

    assert done
    assert [deployment for deployment, _ in prefect.started] == ["rollback/production"]


def test_a_scheduled_watch_that_runs_is_told_because_it_is_there_already(
    production: Environment, prefect: Prefect
) -> None:
    prefect.watch = seen(str(uuid4()), "Running", "RUNNING")
    prefect.ends[prefect.watch.id] = seen(prefect.watch.id, "RolledBack", "FAILED")

    done, _ = p0()

    assert done
    assert prefect.started == []
    assert declared(production) == [(prefect.watch.id, SAID)]


def test_a_scheduled_watch_that_leaves_it_is_followed_by_a_rollback(
    production: Environment, prefect: Prefect
) -> None:
    prefect.watch = seen(str(uuid4()), "Running", "RUNNING")
    prefect.ends[prefect.watch.id] = seen(prefect.watch.id, "NothingToDo")

    done, _ = p0()

    assert done
    assert [request["to"] for _, request in prefect.started] == [str(production.images["v1.0.0"])]


def test_a_run_that_waits_loses_the_environment_to_the_rollback(
    production: Environment, prefect: Prefect
) -> None:
    run_id = holder(production, Step.PLAN, Step.CHECKLIST)
    production.ledger.record("production", run_id, EventKind.GATE_OPENED, step=Step.CHECKLIST)

    done, lines = p0()

    assert done
    assert lines[1] == (
        f"production is taken from run d-{run_id[:6]}, which waits for people or is over"
    )
    assert len(prefect.started) == 1


def test_a_ledger_that_takes_no_events_tells_nobody_and_says_so(
    production: Environment, prefect: Prefect
) -> None:
    holder(production, Step.PLAN, Step.DEPLOY)
    object.__setattr__(production.ledger, "record", lambda *given, **more: False)

    with pytest.raises(Unreachable, match="no run hears of the P0") as away:
        p0()

    assert away.value.hint == "ignition rollback production --to v1.1.0 --reason …"
    assert production.serves == "v1.1.0"


def test_with_the_ledger_down_it_is_said_how_to_roll_back_without_it(
    production: Environment, prefect: Prefect, tmp_path: Path
) -> None:
    nowhere = SecretStr("postgresql://ledger@127.0.0.1:9/ledger")
    production.ledger = Ledger(dsn=nowhere, spool=tmp_path / "other")

    with pytest.raises(Unreachable, match="no run can be told of the P0: ") as away:
        p0()

    assert away.value.hint == (
        "ignition rollback production --to VERSION --reason …, which works without the ledger"
    )
    assert prefect.started == []
    assert production.serves == "v1.1.0"


def test_without_a_reason_nothing_is_asked(production: Environment, prefect: Prefect) -> None:
    with pytest.raises(BadRequest, match="one line that says why"):
        p0(reason=" ")

    assert (prefect.started, declared(production)) == ([], [])
    assert production.serves == "v1.1.0"
