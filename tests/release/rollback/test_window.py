"""The rollback window: who is rolled back by itself, and who only alerts."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from release.configuration.rules import WatchRules
from release.ledger import Lock, LogRow
from release.model import Check, ImageRef, Probe, Release
from release.request import checked_rollback
from release.rollback.window import (
    Act,
    Facts,
    Mode,
    Window,
    glance,
    patience,
    reaction_to,
    request_of,
    window_of,
)

NOW = datetime(2026, 11, 3, 14, 0, tzinfo=UTC)
DAY = timedelta(hours=24)
RULES = WatchRules(rollback_window=DAY)
OLD = Release("v1.0.0", "a" * 40, ImageRef("localhost:5000/api", "sha256:" + "1" * 64))
NEW = Release("v1.1.0", "b" * 40, ImageRef("localhost:5000/api", "sha256:" + "2" * 64))
LOCK = Lock("production", "1874abcd", "Ada", "release day", 7, NOW, NOW)


def row(release: Release, ending: str = "Deployed", ago: timedelta = timedelta(hours=1)) -> LogRow:
    return LogRow(
        date=NOW - ago,
        version=release.version,
        deployer="Ada",
        notes="",
        environment="production",
        ending=ending,
        run_id="5e57ab00",
        image=str(release.image),
    )


YOUNG = Facts(NOW, NEW, (row(NEW), row(OLD, ago=DAY)), None, OLD)
CASES: dict[str, tuple[Facts, Mode, str]] = {
    "young": (YOUNG, Mode.WATCH, "v1.1.0 may go back to v1.0.0 for another 23 h"),
    "a second younger than the window": (
        replace(YOUNG, log=(row(NEW, ago=DAY - timedelta(seconds=1)),)),
        Mode.WATCH,
        "for another 1 s",
    ),
    "exactly as old as the window": (
        replace(YOUNG, log=(row(NEW, ago=DAY),)),
        Mode.GLANCE,
        "v1.1.0 was deployed 24 h ago, and its rollback window is 24 h",
    ),
    "runs that changed nothing say nothing": (
        replace(YOUNG, log=(row(OLD, "Rejected"), row(OLD, "Failed"), row(NEW))),
        Mode.WATCH,
        "v1.1.0 may go back to v1.0.0",
    ),
    "came by a rollback": (
        Facts(NOW, OLD, (row(OLD, "RollbackDone"), row(NEW), row(OLD)), None, NEW),
        Mode.GLANCE,
        "v1.0.0 came by a rollback (d-5e57ab), so no other follows by itself",
    ),
    "came back when a deployment failed": (
        Facts(NOW, OLD, (row(NEW, "RolledBack"), row(OLD)), None, None),
        Mode.GLANCE,
        "v1.0.0 came by a rollback",
    ),
    "after a rollback that failed": (
        Facts(NOW, NEW, (row(NEW, "RollbackFailed"), row(NEW)), None, OLD),
        Mode.GLANCE,
        "came by a rollback",
    ),
    "not what the ledger says": (
        replace(YOUNG, log=(row(OLD),)),
        Mode.GLANCE,
        "production runs v1.1.0, and the ledger says v1.0.0",
    ),
    "the ledger says nothing": (
        replace(YOUNG, log=()),
        Mode.GLANCE,
        "the ledger has no deployment to production",
    ),
    "nothing to go back to": (
        replace(YOUNG, back_to=None),
        Mode.GLANCE,
        "no release is known that production served before v1.1.0",
    ),
    "a system does not answer": (
        Facts(NOW, NEW, problem="the ledger does not answer"),
        Mode.GLANCE,
        "what to go back to is not known: the ledger does not answer",
    ),
    "held by a deployment": (
        replace(YOUNG, holder=LOCK),
        Mode.SKIP,
        "production is held by Ada, run d-1874ab: release day",
    ),
    "nothing serves": (replace(YOUNG, serving=None), Mode.SKIP, "production serves nothing"),
}


@pytest.mark.parametrize(("facts", "mode", "sentence"), CASES.values(), ids=CASES)
def test_what_is_watched(facts: Facts, mode: Mode, sentence: str) -> None:
    found = window_of("production", facts, RULES)

    assert found.mode is mode
    assert sentence in found.sentence


def test_an_environment_without_a_window_is_not_watched() -> None:
    rules = WatchRules(rollback_window=timedelta())

    assert window_of("production", YOUNG, rules).mode is Mode.SKIP


@pytest.mark.parametrize(
    ("late", "mode"),
    [
        (timedelta(minutes=19), Mode.WATCH),  # the run before it was extended to its last
        (timedelta(minutes=19, seconds=1), Mode.SKIP),
        (timedelta(seconds=-1), Mode.WATCH),
    ],
)
def test_a_run_that_comes_much_too_late_is_left_out(late: timedelta, mode: Mode) -> None:
    assert window_of("production", YOUNG, RULES, NOW - late).mode is mode


@pytest.mark.parametrize(
    ("late", "wait"),
    [
        (timedelta(), timedelta(minutes=19)),
        (timedelta(minutes=18), timedelta(minutes=1)),
        (timedelta(hours=3), timedelta()),  # of many that nobody took, one watches
    ],
)
def test_a_run_waits_for_the_one_before_until_it_is_out_of_date(
    late: timedelta, wait: timedelta
) -> None:
    assert patience(NOW - late, NOW, RULES) == wait


def test_a_run_that_nobody_scheduled_waits_as_long() -> None:
    assert patience(None, NOW, RULES) == timedelta(minutes=19)


OPEN = Window(Mode.WATCH, "v1.1.0 may go back to v1.0.0")
CLOSED = Window(Mode.GLANCE, "v1.1.0 was deployed 26 h ago")
HELD = Window(Mode.SKIP, "production is held by Ada")
ANSWERS: dict[str, tuple[Facts, Window, dict[str, bool], Act, str]] = {
    "a young release": (YOUNG, OPEN, {"fired": True}, Act.ROLL_BACK, ""),
    "health not proven": (YOUNG, OPEN, {"fired": False}, Act.ALERT, "no trigger is certain"),
    "an old release": (YOUNG, CLOSED, {"fired": True}, Act.ALERT, "deployed 26 h ago"),
    "held meanwhile": (
        replace(YOUNG, holder=LOCK), HELD, {"fired": True}, Act.ALERT, "held by Ada"
    ),
    "replaced meanwhile": (
        replace(YOUNG, serving=OLD), OPEN, {"fired": True}, Act.ALERT, "v1.0.0 now, but v1.1.0"
    ),
    "gone meanwhile": (
        replace(YOUNG, serving=None), HELD, {"fired": True}, Act.ALERT, "serves nothing now"
    ),
    "a P0 of a young release": (
        YOUNG, OPEN, {"fired": True, "declared": True}, Act.ROLL_BACK, ""
    ),
    "a P0 of an old release": (
        YOUNG, CLOSED, {"fired": True, "declared": True}, Act.LEAVE, "whoever declared it"
    ),
    "a P0 that a deployment was told": (
        replace(YOUNG, holder=LOCK), HELD, {"fired": True, "declared": True}, Act.LEAVE, "held by"
    ),
}  # fmt: skip


@pytest.mark.parametrize(
    ("facts", "window", "found", "act", "sentence"), ANSWERS.values(), ids=ANSWERS
)
def test_what_follows_on_a_breach(
    facts: Facts, window: Window, found: dict[str, Any], act: Act, sentence: str
) -> None:
    reaction = reaction_to(NEW, facts, window, **{"declared": False, **found})

    assert reaction.act is act
    assert sentence in reaction.sentence


def test_the_rollback_names_the_release_that_was_found_and_can_be_acted_upon() -> None:
    request = checked_rollback(request_of("error rate 7.2% > 5.0%\nfor 6 min", YOUNG), "production")

    assert request.to == str(OLD.image)
    assert request.reason == "error rate 7.2% > 5.0%"


GOOD = Probe(NOW, 200, timedelta(milliseconds=2))
BAD = Probe(NOW, 503, timedelta(milliseconds=2), "HTTP 503")


@pytest.mark.parametrize(
    ("health", "auth", "error_rate", "found"),
    [
        (GOOD, None, 0.0, ()),
        (GOOD, Check("auth flow", True, ""), 0.05, ()),  # exactly the ceiling
        (GOOD, None, None, ()),
        (BAD, None, None, ("health check failed (HTTP 503)",)),
        (GOOD, Check("auth flow", False, "login: HTTP 500"), 0.0,
         ("auth flow failed: login: HTTP 500",)),
        (GOOD, None, 0.072, ("error rate 7.2% > 5.0%",)),
    ],
)  # fmt: skip
def test_one_look_says_what_does_not_look_well(
    health: Probe, auth: Check | None, error_rate: float | None, found: tuple[str, ...]
) -> None:
    assert glance(health, auth, error_rate, WatchRules()) == found
