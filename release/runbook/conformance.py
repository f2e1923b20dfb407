"""Whether a runbook and the pipeline agree: every line has a counterpart, on both sides."""

import re
from collections.abc import Iterable, Iterator, Sequence

from release.errors import BadConfiguration
from release.model import Step
from release.runbook.document import (
    HEADINGS,
    PROSE,
    SECTIONS,
    STEPS_HEADING,
    ChecklistItem,
    Heading,
    Kind,
    PostStep,
    Problem,
    Runbook,
    Trigger,
    TriggerId,
    parse,
    read,
)


def problems_of(text: str) -> tuple[Problem, ...]:
    """Everything that keeps the pipeline from carrying a runbook out, in the order of its lines."""
    runbook, unreadable = read(text)
    # What cannot be read would be missed a second time, as something that is not there.
    found = unreadable or tuple(conformance(runbook))
    return tuple(sorted(found, key=lambda problem: problem.line))


def conforming(text: str) -> Runbook:
    """Read a runbook that the pipeline can carry out.

    Raises BadConfiguration with every reason why it cannot.
    """
    runbook = parse(text)
    problems = conformance(runbook)
    if problems:
        raise BadConfiguration("; ".join(map(str, problems)), "edit RUNBOOK.md")
    return runbook


def conformance(runbook: Runbook) -> list[Problem]:
    """Where the runbook and the pipeline disagree, a sentence each; empty if they agree."""
    return [
        *_heading_problems(runbook.headings),
        *_item_problems(runbook.items),
        *_counterparts("trigger", runbook.triggers, list(TriggerId)),
    ]


def _heading_problems(headings: Sequence[Heading]) -> Iterator[Problem]:
    known = [step.value for step in HEADINGS]
    titles = [heading for heading in headings if heading.level == 1]
    steps = list(_step_headings(headings))
    for heading in headings:
        if heading.text in (*known, *SECTIONS) or heading.prose or heading in titles[:1]:
            continue
        if heading in steps:
            yield Problem(heading.line, f"the pipeline has no step {heading.text!r}")
        else:
            yield Problem(
                heading.line,
                f"the pipeline does nothing for the heading {heading.text!r}; if it is for people "
                f"only, end it with <!-- {PROSE} -->",
            )
    for text in (*known, *SECTIONS):
        count = sum(heading.text == text for heading in headings)
        if count != 1:
            yield Problem(0, f"the runbook has the heading {text!r} {count} times, expected once")
    order = [heading.text for heading in headings if heading.text in known]
    if sorted(order, key=known.index) != order:
        said = ", ".join(order)
        yield Problem(0, f"the runbook's steps are in another order than the pipeline's: {said}")


def _step_headings(headings: Iterable[Heading]) -> Iterator[Heading]:
    """The headings that claim to be a step: numbered ones, and those under the steps' heading."""
    section = ""
    for heading in headings:
        section = heading.text if heading.level <= 2 else section
        if re.match(r"\d+[.)]", heading.text) or (section == STEPS_HEADING and heading.level == 3):
            yield heading


def _item_problems(items: Sequence[ChecklistItem]) -> Iterator[Problem]:
    gates = [item for item in items if item.kind is Kind.GATE]
    steps = [item for item in items if item.kind is Kind.STEP]
    if not any(gate.section == Step.CHECKLIST for gate in gates):
        yield Problem(0, f"nobody would be asked: '## {Step.CHECKLIST}' has no item that is signed")
    for gate in gates:
        if gate.section not in (Step.CHECKLIST, Step.POST):
            yield Problem(
                gate.line,
                f"nobody is asked for {gate.text!r}: a person signs under '## {Step.CHECKLIST}' "
                f"or '## {Step.POST}'",
            )
        elif gate.section == Step.POST and gate.evidence:
            yield Problem(
                gate.line,
                f"evidence={gate.evidence} is asked under '## {Step.CHECKLIST}' alone: after the "
                "watch nothing is collected",
            )
    for step in steps:
        if step.section != Step.POST:
            yield Problem(
                step.line,
                f"{step.id} is done under '## {Step.POST}', not under {step.section!r}",
            )
    yield from _counterparts("step", steps, list(PostStep))


def _counterparts(
    what: str, entries: Sequence[ChecklistItem | Trigger], known: Sequence[str]
) -> Iterator[Problem]:
    for entry in entries:
        if entry.id not in known:
            yield Problem(
                entry.line,
                f"the pipeline has no {what} {entry.id!r} for {entry.text!r}; it has: "
                f"{', '.join(known)}",
            )
    for name in known:
        if name not in [entry.id for entry in entries]:
            yield Problem(
                0, f"no line of the runbook is bound to the pipeline's {what} {str(name)!r}"
            )
