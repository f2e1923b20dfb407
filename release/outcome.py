"""How a run ends, in words that a person reads at 3 am."""

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from release.duration import say_duration
from release.errors import (
    DeployError,
    GateExpired,
    Rejected,
    ReleaseUnfit,
    VerificationFailed,
)
from release.model import Probe, Release, Step

_TOUCHES_NOTHING = frozenset({Step.PLAN, Step.CHECKLIST})
_LEAVES_THINGS = frozenset({Step.PREPARE, Step.BUILD, Step.MIGRATE})
_COLOUR = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


class Undo(StrEnum):
    """What has to be undone."""

    NOTHING = "nothing"
    LEAVE = "leave"
    RESTORE = "restore"

    @property
    def sentence(self) -> str:
        """What it means for the environment, for the report."""
        return _SENTENCES[self]


_SENTENCES = {
    Undo.NOTHING: "nothing was changed, so nothing is undone",
    Undo.LEAVE: (
        "no instance was touched; the tag and the image stay (no environment serves them) and the "
        "schema stays ahead (the old release runs on it)"
    ),
    Undo.RESTORE: (
        "instances were touched, so the baseline is restored; the tag and the image stay and the "
        "schema stays ahead"
    ),
}


def after_failure(begun: Collection[Step]) -> Undo:
    """Decide from the steps that began, finished or not, what a failed run has to undo.

    A step that began counts as done, because it may have changed something before it failed.
    Anything from step 4 on restores the baseline, and so does a rollback that was interrupted.
    """
    steps = set(begun)
    if steps <= _TOUCHES_NOTHING:
        return Undo.NOTHING
    if steps <= _TOUCHES_NOTHING | _LEAVES_THINGS:
        return Undo.LEAVE
    return Undo.RESTORE


class Ending(StrEnum):
    """How a run ended: the first word of its last state's message, in its name, and a tag.

    The state itself has one of Prefect's own names, Completed or Failed: both of its UIs filter by
    those, and show no run under any other.
    """

    DEPLOYED = "Deployed"
    PLANNED = "Planned"
    NOTHING_TO_DO = "NothingToDo"
    ROLLBACK_DONE = "RollbackDone"  # a rollback that a person started, and its subflow
    HANDED_OVER = "HandedOver"  # a rollback that the deployment under way carries out
    REJECTED = "Rejected"
    EXPIRED = "Expired"  # a gate's time passed without all its signatures
    WATCHED = "Watched"  # by schedule, and no trigger fired
    REMINDED = "Reminded"  # people were told of a gate that waits
    RESUMED = "Resumed"  # a run that had crashed goes on where it stopped
    SETTLED = "Settled"  # a run that had ended without saying so was written down
    NEEDS_A_PERSON = "NeedsAPerson"  # nothing was done: what serves has to be looked at
    REFUSED = "Refused"  # nothing was begun
    FAILED = "Failed"  # something was begun, nothing that users meet was changed
    ROLLED_BACK = "RolledBack"
    ROLLBACK_FAILED = "RollbackFailed"

    @property
    def good(self) -> bool:
        """Whether the run did what was asked for. A rolled-back deployment never did."""
        return self in (
            Ending.DEPLOYED,
            Ending.PLANNED,
            Ending.NOTHING_TO_DO,
            Ending.ROLLBACK_DONE,
            Ending.HANDED_OVER,
            Ending.WATCHED,
            Ending.REMINDED,
            Ending.RESUMED,
            Ending.SETTLED,
        )


@dataclass(frozen=True, slots=True)
class Conclusion:
    """What a run comes to: its ending, why, the release that it was about, and what to type."""

    ending: Ending
    sentence: str
    release: Release | None = None
    hint: str = ""


_ENDINGS = frozenset(ending.value for ending in Ending)
_ENDED = " · "  # between a run's name and its ending; no git reference has a blank in it
_TAG = "ending:"

ENDED_NAMES = f"*{_ENDED}[A-Z]*"
"""What the name of a run that has said how it ended looks like, as a shell's pattern."""


def ending_in(message: str | None) -> Ending | None:
    """The ending that a state's message begins with; None if it is not one of ours."""
    word, colon, _ = (message or "").partition(": ")
    return Ending(word) if colon and word in _ENDINGS else None


def message_of(ending: Ending, sentence: str) -> str:
    """The message of a run's last state."""
    return f"{ending}: {sentence}"


def sentence_in(message: str | None) -> str:
    """What a state's message says after its ending; all of it if it has none."""
    text = message or ""
    ending = ending_in(text)
    return text.removeprefix(f"{ending}: ") if ending else text


def ended_name(name: str, ending: Ending) -> str:
    """A run's name after its end: ``v1.1.0 → production · RolledBack``."""
    return name.partition(_ENDED)[0] + _ENDED + ending


def ended_tags(tags: Iterable[str], ending: Ending) -> set[str]:
    """A run's tags after its end."""
    return {tag for tag in tags if not tag.startswith(_TAG)} | {f"{_TAG}{ending}"}


def ended_before(ending: Ending, at: datetime, again: str) -> str:
    """What a run says if it is taken up again after its end; ``again`` is what starts another."""
    return (
        f"this run ended as {ending} at {at:%Y-%m-%d %H:%M:%S} UTC and is not taken up again; "
        f"nothing was changed; start a new one: {again}"
    )


def ending_of_failure(error: Exception, undo: Undo) -> Ending:
    """The ending of a run that failed before, or without, anything being restored."""
    if isinstance(error, Rejected):
        return Ending.REJECTED
    if isinstance(error, GateExpired):
        return Ending.EXPIRED
    return Ending.REFUSED if undo is Undo.NOTHING else Ending.FAILED


def explain(error: Exception) -> str:
    """The failure in one sentence. Errors that are not ours are named by their type."""
    if isinstance(error, DeployError):
        return error.what
    return f"unexpected {type(error).__name__}: {error}"


def one_line(text: str, limit: int = 500) -> str:
    """The first line of ``text`` that says something, as a reason that a rollback accepts.

    What a failed program wrote holds colours, tabs and empty lines: they become blanks, so that
    none of them can stop a rollback. At most ``limit`` characters, and never empty.
    """
    text = text.encode("utf-8", "replace").decode()
    for line in text.splitlines():
        said = "".join(c if c.isprintable() else " " for c in _COLOUR.sub("", line)).strip()
        if said:
            return said[:limit].strip()
    return "no reason was given"


def hint_of(error: Exception) -> str:
    """What to type after this failure; empty if nothing is known."""
    return error.hint if isinstance(error, DeployError) else ""


def hint_after_rollback(error: Exception, environment: str) -> str:
    """Where to look once the baseline serves again.

    What the hint of an unfit release led to is gone by then, or is the baseline. A system that did
    not answer may still not.
    """
    kept = (
        f"what is known of the failed instances, down to their last log lines: artifact "
        f"rollout-{environment} of this run"
    )
    own = "" if isinstance(error, ReleaseUnfit) else hint_of(error)
    if isinstance(error, VerificationFailed):
        own = f"what the checks said: artifact verification-{environment}"
    return f"{own}   ·   {kept}" if own else kept


def log_notes(ending: Ending, sentence: str, notes: str) -> str:
    """The Notes of the deployment log: what a person wrote and, if it did not go well, why."""
    if ending.good:
        return notes or sentence
    return f"{notes}; {sentence}" if notes else sentence


def what_to_do(ending: Ending, environment: str, hint: str) -> str:
    """What is left for a person to do; empty for nothing."""
    if ending is Ending.ROLLBACK_FAILED:
        return (
            f"page on-call now, then: ignition status {environment}; when it serves again: "
            f"ignition unlock {environment} --as NAME --reason …" + (f" · {hint}" if hint else "")
        )
    if ending is Ending.ROLLED_BACK:
        to_do = "fix the release and deploy a new version; the environment needs no action"
        return f"{to_do} · {hint}" if hint else to_do
    if ending is Ending.EXPIRED:
        return f"when the approvers are available: {hint or 'start the deployment again'}"
    return "" if ending.good else hint


def shown_version(version: str | None, probe: Probe, url: str) -> str:
    """What follows "production serves": the version, or why none is known, asked at ``url``.

    A missing answer may be the asker's fault, and then says nothing about what users meet.
    """
    if version:
        return version
    if probe.ok:
        return f"no version ({url} {probe.detail or 'names none'})"
    if not probe.status:
        return f"no version that can be seen from here ({probe.detail} at {url})"
    return f"no version ({probe.detail or f'HTTP {probe.status}'} at {url})"


def what_is_gone(ending: Ending, environment: str, version: str, serves: str) -> str:
    """What to do if a release has passed its watch, and another or none answers a moment later.

    Empty if all is well: that is for a person, because the deployment's own watch is over.
    """
    if ending is not Ending.DEPLOYED or serves == version:
        return ""
    return (
        f"{version} passed its watch and does not answer now: ignition p0 {environment} "
        f"--reason …; if it stays so, watch/{environment} rolls it back when it next runs"
    )


@dataclass(frozen=True, slots=True)
class StepLine:
    """One row of the report's step table."""

    step: Step
    outcome: str  # done, failed, skipped
    took: timedelta | None


@dataclass(frozen=True, slots=True)
class Report:
    """A run's report: line 1 what serves, line 2 what to do, then how it came to that."""

    environment: str
    run: str
    ending: Ending
    sentence: str
    serves: str
    to_do: str
    steps: tuple[StepLine, ...]
    approvals: tuple[tuple[str, str, str], ...]  # item, approver, comment
    ended_at: datetime
    dry_run: bool = False

    @property
    def key(self) -> str:
        """The artifact that holds it. A dry run does not replace the report of a deployment."""
        return f"{'dry-run' if self.dry_run else 'report'}-{self.environment}"

    def markdown(self) -> str:
        """The report as an artifact."""
        return (
            f"**{self.environment} serves {self.serves}** at {self.ended_at:%H:%M:%S} UTC\n\n"
            f"To do: {self.to_do or 'nothing'}\n\n"
            f"## {self.ending}: {self.sentence}\n\n"
            + _table(
                ("Step", "Outcome", "Took"),
                [
                    (line.step, line.outcome, say_duration(line.took) if line.took else "")
                    for line in self.steps
                ],
            )
            + ("\n## Signatures\n\n" if self.approvals else "")
            + _table(("Item", "Approver", "Comment"), self.approvals)
        )


def last_line(report: Report) -> str:
    """The run's last log line: the ending, what serves, what to do."""
    to_do = f"; to do: {report.to_do}" if report.to_do else ""
    return (
        f"[{report.run}] {report.ending}  {report.environment} serves {report.serves} "
        f"at {report.ended_at:%H:%M:%S} UTC; {one_line(report.sentence)}{to_do}"
    )


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    if not rows:
        return ""
    lines = [head, ["---"] * len(head), *rows]
    return (
        "\n".join("| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines) + "\n"
    )


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())
