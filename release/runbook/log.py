"""The rows of the runbook's own Deployment Log: what was deployed before there was a ledger."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise

from markdown_it import MarkdownIt
from markdown_it.token import Token

from release.runbook.document import LOG_HEADING


@dataclass(frozen=True, slots=True)
class WrittenRow:
    """A row that a person wrote."""

    date: datetime  # midnight, UTC: the runbook has days
    version: str
    deployer: str
    notes: str

    @property
    def key(self) -> str:
        """What tells the rows apart: the same row is one deployment."""
        return f"{self.date:%Y-%m-%d} {self.version}"

    @property
    def payload(self) -> dict[str, str]:
        """The row as an ending in the ledger."""
        fields = {"version": self.version, "deployer": self.deployer, "notes": self.notes}
        return fields | {"ending": "Deployed"}


def written_rows(text: str) -> list[WrittenRow]:
    """The rows of the tables below the runbook's heading "Deployment Log".

    A row without a date (ISO 8601) or a version does not count: it is a template, or a remark.
    """
    found = []
    for cells in _rows(MarkdownIt("commonmark").enable("table").parse(text)):
        date, version, deployer, notes = (*cells, "", "", "", "")[:4]
        try:
            day = datetime.strptime(date, "%Y-%m-%d").replace(tzinfo=UTC)
        except ValueError:
            continue
        if version:
            found.append(WrittenRow(day, version, deployer, notes))
    return found


def _rows(tokens: Sequence[Token]) -> Iterator[list[str]]:
    """The cells of each row of the tables in that section."""
    inside = False
    cells: list[str] = []
    for before, token in pairwise(tokens):
        if before.type == "heading_open" and before.tag in ("h1", "h2"):
            inside = token.content.strip() == LOG_HEADING
        elif before.type == "tr_open":
            cells = []
        elif before.type == "td_open":
            cells.append(" ".join(token.content.split()))
        if token.type == "tr_close" and inside and cells:
            yield cells
