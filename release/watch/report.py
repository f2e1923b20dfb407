"""What a watch has seen, and the page that shows it.

Source: the runbook, "Post-Deployment"; style.md's report: the verdict first, then what to do.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from release.duration import say_duration
from release.watch.chart import Chart, Moment
from release.watch.triggers import Action, Decision, Sample
from release.watch.verdict import Outcome, Trigger, Verdict, clock

DRAWING = (
    "The plots are being drawn: load this page again in a moment. If it still says this 2 min "
    "later, the run's process ended while it drew them, and there are none."
)


@dataclass(frozen=True, slots=True)
class WatchReport:
    """What the watch saw, and what it means."""

    environment: str
    version: str
    decision: Decision
    samples: int
    requests: int
    errors: int  # 5xx; of probes, not as expected
    p50: timedelta | None  # of the probes' answers
    p95: timedelta | None
    lasted: timedelta
    moments: tuple[Moment, ...] = ()  # when a rule changed its mind, in order
    chart: Chart | None = None
    measured_on: str = ""  # what the error rate is of, in a sentence
    unmeasured: tuple[str, ...] = ()  # the same, where something is left out

    @property
    def passed(self) -> bool:
        return self.decision.action is Action.PASS

    @property
    def verdicts(self) -> tuple[Verdict, ...]:
        return self.decision.verdicts

    @property
    def notes(self) -> tuple[str, ...]:
        """What could not be judged, and what a person should look at."""
        return (*self.decision.notes, *self.unmeasured)


def markdown(report: WatchReport, picture: str = "") -> str:
    """The report as the artifact shows it; ``picture`` is Markdown, or why there is none."""
    decision = report.decision
    headline = f"{report.version} {'passed' if report.passed else 'failed'} its watch on "
    rows = [
        f"| {verdict.trigger} | {_shown(verdict.outcome)} | {verdict.value} | {verdict.limit} "
        f"| {verdict.window} | {_cell(verdict.sentence)} |"
        for verdict in report.verdicts
    ]
    times = " · ".join(
        f"{name} {say_duration(value)}"
        for name, value in (("p50", report.p50), ("p95", report.p95))
        if value is not None
    )
    lines = [f"**{headline}{report.environment}: {decision.sentence}.**", ""]
    if report.passed and report.notes:
        lines += ["To look at:", "", *(f"- {note}" for note in report.notes), ""]
    lines += [
        "| trigger | verdict | value | limit | window | why |",
        "|---|---|---|---|---|---|",
        *rows,
        "",
        f"{report.requests:,} requests, {report.errors:,} of them failed, in {report.samples} "
        f"samples over {say_duration(report.lasted)}; probes: {times or 'none was answered'}.",
    ]
    if report.measured_on:
        lines += ["", f"{report.measured_on[0].upper()}{report.measured_on[1:]}."]
    if picture:
        lines += ["", picture]
    if report.moments:
        lines += ["", "| mark | at | what happened |", "|---|---|---|"]
        lines += [
            f"| {'**' + moment.label + '**' if moment.fired else moment.label} "
            f"| {clock(moment.at)} | {_cell(moment.sentence)} |"
            for moment in report.moments
        ]
    return "\n".join(lines)


def _shown(outcome: Outcome) -> str:
    return f"**{outcome}**" if outcome is Outcome.UNHEALTHY else str(outcome)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def turns(before: Decision | None, now: Decision) -> Iterator[tuple[Verdict, str]]:
    """The verdicts that have changed since the sample before, with a line for each."""
    were_bad = _bad(before) if before else {}
    are_bad = _bad(now)
    for trigger, verdict in are_bad.items():
        if trigger not in were_bad or were_bad[trigger].outcome is not verdict.outcome:
            yield verdict, verdict.sentence
    for verdict in now.verdicts:
        if verdict.trigger in were_bad and verdict.trigger not in are_bad:
            yield verdict, f"over: {verdict.sentence}"


def changes(before: Decision | None, now: Decision, samples: Sequence[Sample]) -> Iterator[str]:
    """What is different since the sample before, one line each."""
    for _, line in turns(before, now):
        yield line
    unknown_before = samples[-2].unknown if len(samples) > 1 else ()
    for sentence in samples[-1].unknown:
        if sentence not in unknown_before:
            yield f"not seen: {sentence}"
    extended = before and now.action is Action.CONTINUE and now.until != before.until
    if extended:
        yield now.sentence


def moments_of(
    before: Decision | None, now: Decision, sample: Sample, seen: Sequence[Moment]
) -> tuple[Moment, ...]:
    """The changes at a sample, numbered on from those ``seen``, as the picture marks them."""
    return tuple(
        Moment(sample.at, str(number), line, verdict.fires)
        for number, (verdict, line) in enumerate(turns(before, now), len(seen) + 1)
    )


def _bad(decision: Decision) -> Mapping[Trigger, Verdict]:
    return {
        verdict.trigger: verdict
        for verdict in decision.verdicts
        if verdict.under_way or verdict.outcome is Outcome.UNHEALTHY
    }
