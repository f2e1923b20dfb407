"""Figures as Markdown, and their place in docs/benchmarks.md."""

import os
import statistics
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import psycopg

from sandbox import markdown

DOCUMENT = markdown.DOCS / "benchmarks.md"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; every column but the first is aligned to the right."""
    return markdown.table(head, rows, right=range(1, len(head)))


def spread(values: Sequence[float], digits: int = 2) -> str:
    """The median, and the range that it comes from."""
    middle = f"**{statistics.median(values):.{digits}f}**"
    if len(values) == 1:
        return middle
    return f"{middle} [{min(values):.{digits}f}–{max(values):.{digits}f}]"


def judged(what: str, value: float, limit: float, unit: str) -> str:
    """A measured value beside its target."""
    verdict = "met" if value <= limit else "missed"
    return f"- {what}: {value:.2f}{unit}, target at most {limit:g}{unit}: {verdict}."


def machine(server: psycopg.Connection, data: Path) -> str:
    """Cores, PostgreSQL's version and the file system of its data."""
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
    """Report progress, apart from the figures."""
    print(line, file=sys.stderr, flush=True)


def publish(section: str, text: str, *, write: bool) -> None:
    """Print a section and, with ``write``, put it between its two markers in the document."""
    print(text)
    if write:
        markdown.put(DOCUMENT, section, text)
