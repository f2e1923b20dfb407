"""What people are told, and where they can act on it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from release.evidence import Evidence, say_evidence
from release.ledger import short_run
from release.outcome import Report
from release.recovery import OpenGate


@dataclass(frozen=True, slots=True)
class Notice:
    """A message: its first line, and the rest."""

    subject: str
    body: str


@dataclass(frozen=True, slots=True)
class Page:
    """A run's page in Prefect's two UIs: they differ in where Resume is."""

    run: str  # the run's id
    ui: str  # the UI's address, without /v2

    @property
    def label(self) -> str:
        """The run as log lines name it. Each message begins with it: messages are found by it."""
        return short_run(self.run)

    @property
    def address(self) -> str:
        """The run's page in the UI that the server opens."""
        return f"{self._root}/v2/runs/flow-run/{self.run}"

    def artifact(self, key: str) -> str:
        """The page of all that was kept under an artifact's key."""
        return f"{self._root}/v2/artifacts/key/{key}"

    @property
    def _root(self) -> str:
        return self.ui.rstrip("/").removesuffix("/v2")

    @property
    def lines(self) -> tuple[str, ...]:
        """Where the run can be looked at and answered."""
        return (
            f"sign in the UI (⋮, then Resume): {self.address}",
            f"in the classic UI (Resume): {self._root}/runs/flow-run/{self.run}",
            f"or in a shell: ignition approve {self.label} --as NAME",
        )


def gate_opened(
    environment: str,
    plan_lines: Sequence[str],
    open_items: Sequence[str],
    evidence: Sequence[Evidence],
    until: datetime,
    page: Page,
) -> Notice:
    """A gate has opened."""
    return Notice(
        f"[{page.label}] {environment} waits for signatures: {_plain(plan_lines[0])}",
        "\n".join(
            [
                f"open: {', '.join(open_items)}",
                f"evidence: {say_evidence(evidence)}",
                f"until: {_clock(until)}",
                *page.lines,
            ]
        ),
    )


def gate_waits(
    environment: str, gate: OpenGate, until: datetime | None, passed: str, page: Page
) -> Notice:
    """A gate still waits. ``passed`` is how much of its time is over: "half"."""
    return Notice(
        f"[{page.label}] {environment} still waits for signatures: {passed} of the time has passed",
        "\n".join(
            [
                *([f"what: {_plain(gate.about)}"] if gate.about else []),
                f"open: {', '.join(gate.items) or gate.open}",
                f"signed: {', '.join(gate.signed) or 'nothing'}",
                f"evidence: {gate.evidence or 'unknown'}",
                f"until: {_clock(until) if until else 'unknown'}, then the run ends",
                *page.lines,
            ]
        ),
    )


def run_ended(report: Report, version: str, page: Page) -> Notice:
    """A run has ended."""
    return Notice(
        f"[{page.label}] {report.environment}: {report.ending} ({version}), serves {report.serves}",
        "\n".join(
            [
                report.sentence,
                f"to do: {report.to_do or 'nothing'}",
                f"the run: {page.address}",
            ]
        ),
    )


def breach_alert(
    environment: str, why: str, not_rolled_back: str, serves: str, page: Page
) -> Notice:
    """A trigger fired after the watch, and nothing was rolled back."""
    return Notice(
        f"[{page.label}] {environment} needs somebody to look: {why}",
        "\n".join(
            [
                f"{environment} serves {serves}; it was not rolled back: {not_rolled_back}",
                f"to do: ignition status {environment}; to roll back: "
                f"ignition rollback {environment} --reason …",
                f"the run: {page.address}",
            ]
        ),
    )


def _plain(line: str) -> str:
    return line.replace("**", "").replace("`", "")


def _clock(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
