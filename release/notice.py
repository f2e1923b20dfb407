"""What people are told, and where they can act on it.

Each message begins with the run's label, the environment and the version, because messages are
found by the first and read by the others. It says what serves, and links to the run.
"""

from dataclasses import dataclass
from datetime import UTC, datetime

from release.errors import DeployError
from release.ledger import short_run
from release.nightly import NIGHTLY
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


@dataclass(frozen=True, slots=True)
class Asked:
    """What people are asked for at a gate."""

    environment: str
    about: str  # the plan's first line, in Markdown: where, from which version to which
    open: str  # what is missing
    serves: str
    evidence: str
    until: datetime | None
    signed: tuple[str, ...] = ()

    @property
    def what(self) -> str:
        """Where, and from which version to which."""
        return _plain(self.about) or self.environment

    def lines(self, page: Page) -> list[str]:
        """All that one needs to decide whether to get up."""
        return [
            f"open: {self.open}",
            *([f"signed: {', '.join(self.signed)}"] if self.signed else []),
            f"evidence: {self.evidence or 'unknown'}",
            f"until: {_clock(self.until) if self.until else 'unknown'}, then the run ends",
            f"{self.environment} serves {self.serves}",
            *page.lines,
        ]


def gate_opened(asked: Asked, page: Page) -> Notice:
    """A gate has opened."""
    return Notice(f"[{page.label}] {asked.what} waits for signatures", "\n".join(asked.lines(page)))


def gate_answered(asked: Asked, said: str, page: Page) -> Notice:
    """An answer has left a gate open. ``said``: who signed what, or that nothing was signed."""
    return Notice(
        f"[{page.label}] {asked.what} still waits for signatures: {said}",
        "\n".join(asked.lines(page)),
    )


def gate_waits(asked: Asked, passed: str, page: Page) -> Notice:
    """A gate still waits. ``passed`` is how much of its time is over: "half"."""
    return Notice(
        f"[{page.label}] {asked.what} still waits for signatures: {passed} of the time has passed",
        "\n".join(asked.lines(page)),
    )


def run_ended(report: Report, version: str, by: str, page: Page) -> Notice:
    """A run has ended. ``by``: the person who started it, or what did, such as "nightly"."""
    return Notice(
        f"[{page.label}] {report.environment} {version}: {report.ending} (started by {by}); "
        f"{report.environment} serves {report.serves}",
        "\n".join(
            [
                report.sentence,
                f"to do: {report.to_do or 'nothing'}",
                f"the run: {page.address}",
            ]
        ),
    )


def nightly_refused(
    environment: str, what: str, error: DeployError, serves: str, page: Page
) -> Notice:
    """A nightly deployment has not begun. ``what``: what it was to deploy."""
    return Notice(
        f"[{page.label}] {environment} {what}: Refused (started by {NIGHTLY})"
        + (f"; {environment} serves {serves}" if serves else ""),
        "\n".join(
            [
                f"{error.what}; nothing was changed",
                f"to do: {error.hint or 'nothing'}",
                f"the run: {page.address}",
            ]
        ),
    )


def left_locked(environment: str, why: str, serves: str, to_do: str, page: Page) -> Notice:
    """A run has ended without saying so, and nobody but a person can say what is to be done."""
    return Notice(
        f"[{page.label}] {environment} serves {serves} and needs somebody to look: this run left "
        "it locked",
        "\n".join([why, f"to do: {to_do}", f"the run: {page.address}"]),
    )


def breach_alert(
    environment: str, why: str, not_rolled_back: str, serves: str, page: Page
) -> Notice:
    """A trigger fired after the watch, and nothing was rolled back."""
    return Notice(
        f"[{page.label}] {environment} serves {serves} and needs somebody to look: {why}",
        "\n".join(
            [
                f"it was not rolled back: {not_rolled_back}",
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
