"""Measured figures as Markdown tables, between two markers of a document in docs/."""

from collections.abc import Iterable, Sequence
from pathlib import Path

DOCS = Path(__file__).resolve().parents[1] / "docs"


def table(head: Sequence[str], rows: Iterable[Sequence[str]], right: Iterable[int]) -> str:
    """A Markdown table; the columns in ``right`` are aligned to the right."""
    rules = ["---:" if column in set(right) else "---" for column in range(len(head))]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [head, rules, *rows])


def put(document: Path, section: str, text: str) -> None:
    """Replace the text between a section's markers. Raises ValueError if they are missing."""
    begin, end = f"<!-- {section}: measured -->", f"<!-- {section}: end -->"
    before, found, rest = document.read_text(encoding="utf-8").partition(begin)
    _, found_end, after = rest.partition(end)
    if not (found and found_end):
        raise ValueError(f"{document} has no place for {section}: it needs {begin} and {end}")
    document.write_text(f"{before}{begin}\n{text}\n{end}{after}", encoding="utf-8")
