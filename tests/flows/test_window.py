"""The scheduled watch: a young release is rolled back by itself, an old one only alerts."""

from collections.abc import Callable
from datetime import timedelta
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from prefect.runtime import flow_run

import flows.window
import tasks.restore
from release.errors import Unreachable
from release.ledger import EventKind
from release.migration.header import Phase
from tests.fakes.ending import ending_of
from tests.fakes.environment import HOUR, WATCH, Environment, run_on

Told = Callable[[], list[tuple[str, str]]]
DAY = 24 * HOUR


@pytest.fixture
def watch(production: Environment, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Runs the flow as its schedule would."""
    monkeypatch.setattr(tasks.restore, "_HICCUPS", (0, 0))

    def start(window: timedelta = DAY, **changed: timedelta) -> Any:
        rules = WATCH.model_copy(update={"rollback_window": window, **changed})
        monkeypatch.setattr(
            flows.window, "begin", lambda _: run_on(production, str(flow_run.id), watch=rules)
        )
        return flows.window.watch("production", return_state=True)

    return start


def test_a_young_release_that_is_well_is_watched(
    watch: Any, production: Environment, told: Told
) -> None:
    production.replace_baseline(ago=HOUR)

    ended = watch()

    assert (ending_of(ended), ended.is_completed()) == ("Watched", True), ended
    assert production.metrics.taken > 1  # one is a glance
    assert production.serves == "v1.1.0"
    assert told() == []


def test_a_young_release_that_breaks_a_rule_is_rolled_back(
    watch: Any, production: Environment, told: Told
) -> None:
    production.replace_baseline(ago=HOUR)
    production.ill = {"v1.1.0"}

    ended = watch()

    assert (ending_of(ended), ended.is_failed()) == ("RolledBack", True), ended
    assert "rolled back to v1.0.0: health check failed (HTTP 503) for " in ended.message
    assert ended.message.endswith("production serves v1.0.0")
    assert production.serves == "v1.0.0"
    assert list(production.containers().values()) == ["v1.0.0 running"]
    assert production.held_by() == ""
    served = production.ledger.served("production")[0]
    assert (served.version, served.ending) == ("v1.0.0", "RollbackDone")
    assert served.deployer == "the scheduled watch"
    assert [who for who, _ in told()] == ["/team"]


def test_no_rollback_follows_on_a_rollback(watch: Any, production: Environment, told: Told) -> None:
    """v0.9.0 served before v1.0.0, and is not gone back to by itself."""
    production.deployed("v1.1.0", 3 * HOUR)
    production.replace_baseline(ago=HOUR)
    production.ill = {"v1.1.0"}
    watch()
    production.ill = {"v1.1.0", "v1.0.0"}

    ended = watch()

    assert ending_of(ended) == "NeedsAPerson", ended
    assert "v1.0.0 came by a rollback" in ended.message
    assert production.serves == "v1.0.0"
    assert sorted(who for who, _ in told()[-2:]) == ["/pager", "/team"]


def test_an_old_release_that_breaks_a_rule_alerts(
    watch: Any, production: Environment, told: Told
) -> None:
    production.replace_baseline(ago=26 * HOUR)
    production.ill = {"v1.1.0"}

    ended = watch()

    assert (ending_of(ended), ended.is_failed()) == ("NeedsAPerson", True), ended
    assert "health check failed (HTTP 503) for " in ended.message
    assert "v1.1.0 was deployed 26 h ago, and its rollback window is 24 h" in ended.message
    assert ended.message.endswith("production serves v1.1.0\nhint: ignition status production")
    assert production.serves == "v1.1.0"
    assert sorted(who for who, _ in told()) == ["/pager", "/team"]
    assert "production serves v1.1.0 and needs somebody to look: health check" in told()[0][1]


def test_an_old_release_that_is_well_is_looked_at_once(
    watch: Any, production: Environment, told: Told
) -> None:
    production.replace_baseline(ago=26 * HOUR)

    ended = watch()

    assert ending_of(ended) == "NothingToDo", ended
    assert "v1.1.0 was deployed 26 h ago" in ended.message
    assert production.metrics.taken == 1
    assert told() == []


def test_an_environment_that_a_deployment_holds_is_left_to_it(
    watch: Any, production: Environment
) -> None:
    production.replace_baseline()
    production.ledger.acquire("production", str(uuid4()), "Ada", "release day")
    production.ill = {"v1.1.0"}

    ended = watch()

    assert ending_of(ended) == "NothingToDo", ended
    assert "production is held by Ada" in ended.message
    assert production.metrics.taken == 0
    assert production.serves == "v1.1.0"


def test_of_two_that_watch_the_second_leaves_it_to_the_first(
    watch: Any, production: Environment, told: Told
) -> None:
    """It would probe twice and alert twice. It waits for as long as it is not out of date."""
    production.replace_baseline()
    production.ill = {"v1.1.0"}

    with production.ledger.turn("production", timedelta()):
        ended = watch(extend_up_to=timedelta())
        assert ended.message == "NothingToDo: another run still watches production"
        assert production.metrics.taken == 0
        assert production.serves == "v1.1.0"
        assert told() == []

    assert ending_of(watch()) == "RolledBack"
    assert production.serves == "v1.0.0"


def test_without_a_window_nothing_is_asked(watch: Any, production: Environment) -> None:
    production.replace_baseline()
    production.ill = {"v1.1.0"}

    ended = watch(window=timedelta())

    assert ended.message == "NothingToDo: production has no rollback window"
    assert production.serves == "v1.1.0"


def test_a_deployment_that_takes_the_environment_meanwhile_is_not_interfered_with(
    watch: Any, production: Environment
) -> None:
    production.replace_baseline()
    production.ill = {"v1.1.0"}
    other = str(uuid4())
    production.metrics.meanwhile = lambda: production.ledger.acquire(
        "production", other, "Ada", "release day"
    )

    ended = watch()

    assert ending_of(ended) == "NeedsAPerson", ended
    assert "it was not rolled back: production is held by Ada" in ended.message
    assert production.held_by() == other
    assert production.serves == "v1.1.0"


def test_a_release_that_a_contract_migration_has_left_behind_is_not_gone_back_to(
    watch: Any, production: Environment, told: Told
) -> None:
    production.replace_baseline()
    production.ill = {"v1.1.0"}
    production.applied = (
        SimpleNamespace(
            phase=Phase.CONTRACT, done=True, min_app="v1.1.0", filename="0003_drop.sql"
        ),
    )

    ended = watch()

    assert ending_of(ended) == "NeedsAPerson", ended
    assert "v1.0.0 < v1.1.0, the oldest release that runs on the schema" in ended.message
    assert production.serves == "v1.1.0"
    assert production.held_by() == ""
    assert sorted(who for who, _ in told()) == ["/pager", "/team"]


def test_a_ledger_that_is_away_leaves_it_to_people(
    watch: Any, production: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody knows how old the release is, or who holds the environment."""
    production.replace_baseline()
    production.ill = {"v1.1.0"}

    def away(environment: str) -> Any:
        raise Unreachable("the ledger does not answer")

    object.__setattr__(production.ledger, "holder", away)

    ended = watch()

    assert ending_of(ended) == "NeedsAPerson", ended
    assert "the ledger does not answer" in ended.message
    assert production.serves == "v1.1.0"


def test_a_rollback_that_fails_pages(watch: Any, production: Environment, told: Told) -> None:
    production.replace_baseline()
    production.ill = {"v1.1.0"}
    image = production.images["v1.0.0"]
    production.orchestrator.host.registry[image] = ("v1.0.0", "never-healthy")

    ended = watch()

    assert ending_of(ended) == "RollbackFailed", ended
    assert production.serves == "v1.1.0"
    assert sorted(who for who, _ in told()) == ["/pager", "/team"]


def test_a_p0_rolls_a_young_release_back_at_once(watch: Any, production: Environment) -> None:
    """Nothing else is wrong with it."""
    production.replace_baseline()
    production.metrics.meanwhile = lambda: production.ledger.record(
        "production",
        str(uuid4()),
        EventKind.P0_DECLARED,
        payload={"reason": "it is charged twice", "by": "Grace"},
    )

    ended = watch(window_run=HOUR)

    assert ending_of(ended) == "RolledBack", ended
    assert "v1.1.0 was rolled back to v1.0.0: P0 declared" in ended.message
    assert "it is charged twice (declared by Grace)" in ended.message
    assert production.serves == "v1.0.0"
