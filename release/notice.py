"""What people are told, and where they can act on it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from release.evidence import Evidence
from release.outcome import Report


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
    def lines(self) -> tuple[str, ...]:
        """Where the run can be looked at and answered."""
        ui = self.ui.rstrip("/").removesuffix("/v2")
        return (
            f"sign in the UI (⋮, then Resume): {ui}/v2/runs/flow-run/{self.run}",
            f"in the classic UI (Resume): {ui}/runs/flow-run/{self.run}",
            f"or in a shell: ignition approve d-{self.run[:6]} --as NAME",
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
    said = "; ".join(f"{one.item} {one.verdict}" for one in evidence) or "none"
    return Notice(
        f"{environment} waits for signatures: {_plain(plan_lines[0])}",
        "\n".join(
            [
                f"open: {', '.join(open_items)}",
                f"evidence: {said}",
                f"until: {_clock(until)}",
                *page.lines,
            ]
        ),
    )


def gate_waits(
    environment: str,
    open_items: Sequence[str],
    signed: Sequence[str],
    until: datetime | None,
    passed: str,
    page: Page,
) -> Notice:
    """A gate still waits. ``passed`` is how much of its time is over: "half"."""
    return Notice(
        f"{environment} still waits for signatures: {passed} of the time has passed",
        "\n".join(
            [
                f"open: {', '.join(open_items)}",
                f"signed: {', '.join(signed) or 'nothing'}",
                f"until: {_clock(until) if until else 'unknown'}, then the run ends",
                *page.lines,
            ]
        ),
    )


def run_ended(report: Report, version: str, page: Page) -> Notice:
    """A run has ended."""
    return Notice(
        f"{report.environment}: {report.ending} ({version}), serves {report.serves}",
        "\n".join(
            [
                report.sentence,
                f"to do: {report.to_do or 'nothing'}",
                page.lines[0].replace("sign in the UI (⋮, then Resume)", "the run"),
            ]
        ),
    )


def _plain(line: str) -> str:
    return line.replace("**", "").replace("`", "")


def _clock(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
