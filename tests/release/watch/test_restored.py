"""The watch after a rollback: how its rules follow from those of a deployment, and its verdict."""

from datetime import timedelta

import pytest

from release.configuration.rules import RollbackRules, WatchRules
from release.ledger import Event, EventKind
from release.measure.sample import Sample
from release.watch.report import WatchReport
from release.watch.restored import rules_after_rollback, said_after_rollback, verdict_after_rollback
from release.watch.triggers import judge_watch
from release.watch.verdict import Outcome
from release.watch.watched import Watch
from tests.fakes.samples import BASELINE, START, V, at, counted

SECOND = timedelta(seconds=1)
MINUTE = rules_after_rollback(WatchRules(), RollbackRules().watch)


def test_the_times_of_a_minute_are_scaled_down_and_the_other_limits_are_the_same() -> None:
    assert (
        WatchRules().model_copy(
            update={
                "length": 60 * SECOND,
                "every": 3 * SECOND,
                "sustained_for": 15 * SECOND,
                "longest_gap": 15 * SECOND,
                "extend_up_to": 15 * SECOND,
            }
        )
        == MINUTE
    )


@pytest.mark.parametrize("length", [0.2, 1, 3, 10, 60, 600, 3600])
@pytest.mark.parametrize(
    "rules",
    [
        WatchRules(),
        WatchRules(every=SECOND / 2, sustained_for=4 * SECOND, longest_gap=5 * SECOND),
        WatchRules(every=30 * SECOND),
    ],
    ids=["of the runbook", "of the sandbox", "with few samples"],
)
def test_whatever_its_length_it_is_a_watch_that_can_be_judged(
    rules: WatchRules, length: float
) -> None:
    """No time is longer than that of a deployment's watch, or than the watch itself."""
    found = rules_after_rollback(rules, length * SECOND)

    assert WatchRules.model_validate(found.model_dump()) == found
    assert found.every <= rules.every
    assert found.sustained_for <= min(rules.sustained_for, found.length)
    assert found.longest_gap <= rules.longest_gap
    assert found.extend_up_to == found.sustained_for


def sample(
    second: float,
    health: bool | None = True,
    errors: int = 0,
    auth: bool | None = True,
    p0: str = "",
) -> Sample:
    return Sample(at(second), health=health, traffic=counted(100, errors), auth=auth, p0=p0)


def seen(*samples: Sample) -> WatchReport:
    """The report of a watch that ended with the last of these samples."""
    return WatchReport(
        environment="production",
        version=V,
        decision=judge_watch(Watch(V, BASELINE, MINUTE, START), samples),
        samples=len(samples),
        requests=100 * len(samples),
        errors=sum(t.errors for one in samples for t in one.traffic),
        p50=None,
        p95=None,
        lasted=samples[-1].at - START,
    )


def every_3_s(until: int, *ill: range, **how: object) -> list[Sample]:
    bad = {second for one in ill for second in one}
    good = {"health": True, "errors": 0, "auth": True}
    return [
        sample(second, **(good | how if second in bad else good))  # type: ignore[arg-type]
        for second in range(0, until + 1, 3)
    ]


CASES = {
    "it was well": (every_3_s(60), Outcome.HEALTHY, "no trigger in 1 min since then, 0 of 2,100"),
    "it failed for 6 s and is well": (
        every_3_s(60, range(0, 7), errors=50),
        Outcome.HEALTHY,
        "150 of 2,100 requests failed",
    ),
    "its health failed for longer than a quarter": (
        every_3_s(18, range(0, 60), health=False),
        Outcome.UNHEALTHY,
        "health check failed for 18 s",
    ),
    "it answers errors for longer than a quarter": (
        every_3_s(18, range(0, 60), errors=30),
        Outcome.UNHEALTHY,
        "error rate 30.0% > 5.0% for 18 s",
    ),
    "nobody can log in": (
        every_3_s(3, range(0, 60), auth=False),
        Outcome.UNHEALTHY,
        "auth flow broken, 2 times in a row",
    ),
    "it is ill at the end, and a quarter later": (
        every_3_s(75, range(66, 76), health=False),
        Outcome.UNHEALTHY,
        "not proven healthy in 1 min 15 s: health check failed since",
    ),
    "its health could not be seen": (
        every_3_s(75, range(30, 76), health=None),
        Outcome.INCONCLUSIVE,
        "whether it is healthy is unknown: ",
    ),
    "somebody goes further back": (
        [*every_3_s(6), sample(9, p0="orders are charged twice")],
        Outcome.INCONCLUSIVE,
        "its watch was ended after 9 s: P0 declared",
    ),
}


@pytest.mark.parametrize(("samples", "outcome", "sentence"), CASES.values(), ids=CASES)
def test_the_verdict(samples: list[Sample], outcome: Outcome, sentence: str) -> None:
    """What could not be seen is said, and calls nobody."""
    found = verdict_after_rollback(seen(*samples))

    assert (found.outcome, found.ill) == (outcome, outcome is Outcome.UNHEALTHY), found.sentence
    assert sentence in found.sentence


def test_the_newest_verdict_of_a_run_is_said() -> None:
    events = [
        Event(seq, START, "production", "run", EventKind.VERDICT, payload={"sentence": text})
        for seq, text in enumerate(["first", "second"], start=1)
    ]
    assert said_after_rollback(events) == "second"
    assert said_after_rollback([]) == ""
