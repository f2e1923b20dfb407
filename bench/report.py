"""Figures as Markdown, and their place in docs/benchmarks.md."""

import os
import statistics
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import psycopg

DOCUMENT = Path(__file__).resolve().parents[1] / "docs" / "benchmarks.md"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; every column but the first is aligned to the right."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def spread(values: Sequence[float], digits: int = 2) -> str:
    """The median, and the range that it comes from."""
    middle = f"**{statistics.median(values):.{digits}f}**"
    if len(values) == 1:
        return middle
    return f"{middle} [{min(values):.{digits}f}–{max(values):.{digits}f}]"


def judged(what: str, value: float, limit: float, unit: str) -> str:
    """A measured value beside the one that is aimed at."""
    verdict = "met" if value <= limit else "missed"
    return f"- {what}: {value:.2f}{unit}, at most {limit:g}{unit} is aimed at: {verdict}."


def machine(server: psycopg.Connection, data: Path) -> str:
    """Cores, PostgreSQL's version and what its data lie on."""
    version = server.info.server_version
    return (
        f"{os.cpu_count()} cores, PostgreSQL {version // 10000}.{version % 10000}, "
        f"data on {file_system(data)}, load average {os.getloadavg()[0]:.1f} at the start"
    )


def file_system(path: Path) -> str:
    """The kind of file system that a path is on: on tmpfs, a commit costs no disk write."""
    command = ["findmnt", "--noheadings", "--output", "FSTYPE", "--target", str(path)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def progress(line: str) -> None:
    """Say how far it is, beside the figures."""
    print(line, file=sys.stderr, flush=True)


def publish(section: str, text: str, *, write: bool) -> None:
    """Print a section and, with ``write``, put it between its two markers in the document."""
    print(text)
    if not write:
        return
    begin, end = f"<!-- {section}: measured -->", f"<!-- {section}: end -->"
    document = DOCUMENT.read_text(encoding="utf-8")
    before, found, rest = document.partition(begin)
    _, found_end, after = rest.partition(end)
    if not (found and found_end):
        raise SystemExit(f"{DOCUMENT} has no place for {section}: it needs {begin} and {end}")
    DOCUMENT.write_text(f"{before}{begin}\n{text}\n{end}{after}", encoding="utf-8")
