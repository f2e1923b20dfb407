"""A P0 while the Prefect server is down: who still hears of it, and what a person types."""

import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from pydantic import SecretStr

import cli.by_hand
import cli.p0
from blocks.ledger.ledger import Ledger
from release.configuration.layout import ServiceLayout
from release.errors import Unreachable
from release.ledger import EventKind
from release.migration.files import AppliedMigration
from release.migration.header import Phase
from release.model import Step
from release.request import RollbackRequest
from tests.fakes.environment import HOUR, Environment

AWAY = Unreachable("the Prefect server at http://prefect/api does not answer", "make it answer")


@pytest.fixture
def production(dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Environment:
    """v1.1.0 serves, v1.0.0 served before, and Prefect does not answer."""
    ledger = Ledger(dsn=SecretStr(dsn), spool=tmp_path / "spool")
    ledger.install()
    made = Environment(ledger)
    made.replace_baseline(ago=HOUR)
    monkeypatch.setattr(cli.p0, "build_target", lambda settings, name: made)
    monkeypatch.setattr(cli.p0, "unavailable", lambda: AWAY)
    monkeypatch.setattr(cli.by_hand, "_HEARD_WITHIN", timedelta(milliseconds=100))
    for name in ("start", "follow", "read", "prefect"):
        monkeypatch.setattr(cli.p0, name, lambda *_: pytest.fail("Prefect was asked"))
    return made


def p0(to: str = "", yes: bool = True, say: Callable[[str], None] = print) -> Any:
    """Declare one; whether it was rolled back, and what was said."""
    rules = SimpleNamespace(rollout=SimpleNamespace(replicas=1))
    settings: Any = SimpleNamespace(
        environment=lambda name: rules, service=ServiceLayout(name="ignition-api")
    )
    lines: list[str] = []

    def both(line: str) -> None:
        lines.append(line)
        say(line)

    request = RollbackRequest(reason="twice", to=to, started_by="Grace")
    done = cli.p0.roll_back(settings, "production", request, lambda: yes, both)
    return done, lines


def held(production: Environment, *steps: Step) -> str:
    run_id = str(uuid4())
    production.ledger.acquire("production", run_id, "Ada", "")
    for step in steps:
        production.ledger.record("production", run_id, EventKind.STEP_BEGUN, step=step)
    return run_id


def declared(production: Environment) -> list[tuple[str, Any]]:
    events = production.ledger.events(kinds=[EventKind.P0_DECLARED])
    return [(event.run_id, event.payload) for event in events]


def by_hand(production: Environment, version: str, pulled: bool = False) -> list[str]:
    image = production.images[version]
    pull = [] if pulled else [f"  docker pull {image}"]
    return [
        f"on the host of production, to go back to {version}:",
        "  cd /srv/production",
        *pull,
        "  sed -i -E 's|^[[:blank:]]*(export[[:blank:]]+)?API_IMAGE[[:blank:]]*=.*|"
        f"API_IMAGE={image}|' .env",
        "  docker compose --file docker-compose.yml up --detach --no-deps --no-build "
        "--scale api=1 api",
        "  curl -fsS http://production.example.com/health",
    ]


def test_where_nobody_hears_of_it_a_person_is_told_what_to_type_on_the_host(
    production: Environment,
) -> None:
    done, lines = p0()

    assert not done
    assert lines[0] == AWAY.what
    assert lines[1] == "production runs v1.1.0"
    assert lines[2] == "declared in the ledger: twice"
    assert "nothing was rolled back yet; production serves v1.1.0" in lines
    commands = by_hand(production, "v1.0.0", pulled=True)
    at = lines.index(commands[0])
    assert lines[at : at + len(commands)] == commands
    assert lines[-3].startswith("users of production meet errors for some seconds: Compose stops")
    assert lines[-2] == (
        "when Prefect answers again: ignition rollback production --to v1.0.0 --reason …, which "
        "verifies and records it"
    )
    assert lines[-1] == "production serves v1.1.0"
    ((_, said),) = declared(production)
    assert said == {"reason": "twice", "by": "Grace"}


def test_who_says_no_declares_nothing(production: Environment) -> None:
    done, lines = p0(yes=False)

    assert not done
    assert declared(production) == []
    assert lines[-1] == "production serves v1.1.0"


def test_a_deployment_that_users_meet_is_told_and_followed_by_the_ledger(
    production: Environment,
) -> None:
    """Its process goes on without the server, and asks the ledger every second."""
    run = held(production, Step.PLAN, Step.DEPLOY)

    def hear(line: str) -> None:
        if line.startswith("declared"):
            ending = {"ending": "RolledBack", "sentence": "v1.1.0 was rolled back to v1.0.0"}
            kind = EventKind.DEPLOYMENT_ENDED
            threading.Timer(
                0.5, production.ledger.record, ["production", run, kind, "", "", ending]
            ).start()

    done, lines = p0(say=hear)

    assert done
    assert lines[1].startswith(f"production runs v1.1.0; it is held by Ada, run d-{run[:6]}, since")
    assert f"[d-{run[:6]}] RolledBack: v1.1.0 was rolled back to v1.0.0" in lines
    assert not any("on the host" in line for line in lines)
    assert declared(production) == [(run, {"reason": "twice", "by": "Grace"})]


def test_a_deployment_that_is_silent_hears_nothing_and_its_baseline_is_named(
    production: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its worker is gone with the server; what its plan found serving is the way back."""
    run = held(production, Step.PLAN, Step.DEPLOY)
    image = production.images["v1.2.0-errors"]
    plan = {"baseline": str(image), "to": "v1.2.0-errors"}
    production.ledger.record("production", run, EventKind.PLAN_MADE, payload=plan)
    with production.ledger._connect() as connection:
        connection.execute(b"UPDATE environment_locks SET heartbeat_at = now() - interval '1 min'")

    done, lines = p0()

    assert not done
    assert any("it was last heard from at" in line for line in lines)
    commands = by_hand(production, "v1.2.0-errors")
    at = lines.index(commands[0])
    assert lines[at : at + len(commands)] == commands


def test_a_scheduled_watch_that_hears_of_it_carries_it_out(
    production: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli.by_hand, "_HEARD_WITHIN", timedelta(seconds=30))
    watch = str(uuid4())

    def hear(line: str) -> None:
        if line.startswith("declared"):
            ledger = production.ledger
            ledger.record("production", watch, EventKind.ROLLBACK_STARTED)
            ending = {"ending": "RollbackDone", "sentence": "rolled back to v1.0.0"}
            ledger.record("production", watch, EventKind.DEPLOYMENT_ENDED, payload=ending)

    done, lines = p0(say=hear)

    assert done
    assert f"[d-{watch[:6]}] RollbackDone: rolled back to v1.0.0" in lines


def test_a_deployment_before_its_rollout_ends_and_the_host_is_left_to_a_person(
    production: Environment,
) -> None:
    run = held(production, Step.PLAN, Step.BUILD)

    done, lines = p0()

    assert not done
    assert f"run d-{run[:6]} is told, and does not touch what serves" in lines
    assert by_hand(production, "v1.0.0")[0] in lines
    assert declared(production)[0][0] == run


def test_with_the_ledger_down_too_the_host_says_what_it_could_go_back_to(
    production: Environment, tmp_path: Path
) -> None:
    nowhere = SecretStr("postgresql://ledger@127.0.0.1:9/ledger")
    production.ledger = Ledger(dsn=nowhere, spool=tmp_path / "other")

    done, lines = p0()

    assert not done
    assert lines[1].startswith("no run can be told of the P0 either: ")
    assert lines[2] == "nothing was rolled back yet; production serves v1.1.0"
    assert f"  the host has v1.0.0 {production.images['v1.0.0']}" in lines
    assert f"  the host has v1.1.0 {production.images['v1.1.0']} (runs now)" in lines
    assert lines[-2] == "run it again with: ignition p0 production --to VERSION --reason …"

    _, lines = p0(to="v1.0.0")

    commands = by_hand(production, "v1.0.0", pulled=True)
    at = lines.index(commands[0])
    assert lines[at : at + len(commands)] == commands


def test_what_is_typed_later_names_the_image_as_it_was_named_and_no_password(
    production: Environment,
) -> None:
    """An image that is named by its digest may have no version, and `--to` takes no half of it."""
    production.url = "http://ada:s3cret@production.example.com"
    image = str(production.images["v1.0.0"])

    _, lines = p0(to=image)

    assert "  curl -fsS http://production.example.com/health" in lines
    assert f"ignition rollback production --to {image} --reason …" in lines[-2]
    assert not any("s3cret" in line for line in lines)


def test_a_release_that_the_schema_does_not_fit_any_more_is_warned_of(
    production: Environment,
) -> None:
    production.applied = (
        AppliedMigration("0003", "0003_drop.sql", phase=Phase.CONTRACT, min_app="v1.1.0"),
    )

    _, lines = p0()

    assert any(line.startswith("do not go back to v1.0.0: ") for line in lines)
