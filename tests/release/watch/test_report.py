"""The page that says what a watch has seen."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from release.measure.sample import Sample
from release.watch.chart import Moment
from release.watch.report import WatchReport, markdown, moments_of
from release.watch.triggers import Action, Decision
from release.watch.verdict import Outcome, Trigger, Verdict

START = datetime(2026, 1, 8, 2, 14, tzinfo=UTC)
BREACH = Verdict(
    Trigger.ERROR_RATE, Outcome.UNHEALTHY, "error rate 7.2% > 5.0% | router", "7.2%", "5.0%"
)
BEGUN = Verdict(Trigger.ERROR_RATE, Outcome.INCONCLUSIVE, "error rate 7.2% so far", under_way=True)
GOOD = Verdict(Trigger.ERROR_RATE, Outcome.HEALTHY, "error rate 0.0%")


def decision(verdict: Verdict, action: Action = Action.CONTINUE) -> Decision:
    return Decision(action, verdict.sentence, START, (verdict,), ("look at this",))


def report(action: Action, verdict: Verdict, moments: tuple[Moment, ...] = ()) -> WatchReport:
    return WatchReport(
        "production", "v1.1.0", decision(verdict, action), 41, 4100, 295,
        timedelta(milliseconds=9), timedelta(milliseconds=30), timedelta(minutes=10), moments,
    )  # fmt: skip


def test_a_failed_watch_says_first_why_and_marks_when() -> None:
    moments = (Moment(START, "1", "error rate 7.2% | so far"), Moment(START, "2", "fired", True))
    page = markdown(report(Action.FAIL, BREACH, moments), "![plots](data:,)")
    lines = page.splitlines()
    assert lines[0] == (
        "**v1.1.0 failed its watch on production: error rate 7.2% > 5.0% | router.**"
    )
    assert (
        "| error-rate | **unhealthy** | 7.2% | 5.0% | – | error rate 7.2% > 5.0% \\| router |"
        in (lines)
    )
    assert "![plots](data:,)" in lines
    assert "| 1 | 02:14:00 UTC | error rate 7.2% \\| so far |" in lines
    assert "| **2** | 02:14:00 UTC | fired |" in lines
    assert "To look at:" not in page


def test_a_watch_that_passed_says_what_to_look_at_before_its_figures() -> None:
    lines = markdown(report(Action.PASS, GOOD)).splitlines()
    assert lines[0] == "**v1.1.0 passed its watch on production: error rate 0.0%.**"
    assert lines[2:5] == ["To look at:", "", "- look at this"]
    assert "4,100 requests, 295 of them failed, in 41 samples over 10 min" in lines[-1]


def test_a_rule_that_five_sources_could_not_judge_takes_one_clause_of_the_last_line() -> None:
    """The page has them all."""
    few = "error rate not judged: 15 requests counted, a window needs 100"
    quiet = Verdict(Trigger.ERROR_RATE, Outcome.INCONCLUSIVE, few)
    notes = (
        f"{few} (probes); {few} (router)",
        "restarts not judged: the engine could not be asked",
    )
    watched = replace(
        report(Action.PASS, quiet),
        decision=replace(decision(quiet, Action.PASS), notes=notes),
        unmeasured=("writes are left out",),
    )

    assert watched.gist == (f"{few} (probes), and more like it", unasked, "writes are left out")
    assert f"- {notes[0]}" in markdown(watched).splitlines()


def test_moments_are_numbered_on_as_verdicts_turn() -> None:
    seen: tuple[Moment, ...] = ()
    before = None
    for number, verdict in enumerate([GOOD, BEGUN, BEGUN, BREACH, BREACH, GOOD]):
        now, sample = decision(verdict), Sample(START + timedelta(seconds=number))
        seen += moments_of(before, now, sample, seen)
        before = now
    assert [(moment.at.second, moment.label, moment.fired) for moment in seen] == [
        (1, "1", False),
        (3, "2", True),
        (5, "3", False),
    ]
    assert seen[2].sentence == "over: error rate 0.0%"
