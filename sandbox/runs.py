"""Deployments to staging that a harness starts and follows, and what it keeps of them.

Prefect is imported when it is needed: it reads the server's address once.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from sandbox import markdown
from sandbox.commands import run
from sandbox.layout import Sandbox

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    from cli.runs import RunView

AT = "staging"
RUN_TIMEOUT = timedelta(minutes=4)
R = TypeVar("R", bound="DataclassInstance")


def next_version(sandbox: Sandbox, least: int = 1) -> str:
    """A version that no tag has, from v1.``least``.0 on."""
    taken = run(["git", "-C", sandbox.origin, "tag", "--list"]).split()
    return next(v for minor in count(least) if (v := f"v1.{minor}.0") not in taken)


def start(flow: str, request: Mapping[str, str], name: str) -> "RunView":
    """Start a run of ``flow`` on staging."""
    from cli.runs import start

    return start(f"{flow}/{AT}", {"request": request, "environment": AT}, name, [f"env:{AT}"])


def roll_back(reason: str, by: str) -> "RunView":
    """Start a rollback to what served before."""
    return start("rollback", {"reason": reason, "to": "", "started_by": by}, reason)


def follow(started: "RunView") -> "RunView":
    """Wait for a run's end, and return the run in its last state."""
    from cli.runs import follow

    return follow(started, lambda seen: None, within=RUN_TIMEOUT)


@dataclass(frozen=True)
class Kept(Generic[R]):
    """Results, including those of earlier calls, and their table in a document.

    Both are part of the project: on a fresh clone a call adds to what was measured before.
    """

    section: str  # docs/SECTION.md, the markers in it, and docs/results/SECTION.json
    head: Sequence[str]
    right: Sequence[int]  # columns of figures
    rows: Callable[[Sequence[R]], Iterable[Sequence[str]]]
    name: Callable[[R], str]  # of the thing that was measured
    read: Callable[[Mapping[str, Any]], R]

    def keep(self, done: Sequence[R]) -> None:
        """Replace what is kept of the same things, and show everything that is kept."""
        again = {self.name(result) for result in done}
        others = [result for result in self.earlier() if self.name(result) not in again]
        everything = [*others, *done]
        self._file.parent.mkdir(exist_ok=True)
        lines = ",\n".join(json.dumps(asdict(result)) for result in everything)
        self._file.write_text(f"[\n{lines}\n]\n")
        text = markdown.table(self.head, self.rows(everything), right=self.right)
        markdown.put(markdown.DOCS / f"{self.section}.md", self.section, text)

    def earlier(self) -> list[R]:
        """The results that are kept."""
        found = json.loads(self._file.read_text()) if self._file.exists() else []
        return [self.read(values) for values in found]

    @property
    def _file(self) -> Path:
        return markdown.DOCS / "results" / f"{self.section}.json"


def show(head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table."""
    from rich.console import Console
    from rich.table import Table

    table = Table(*head)
    for row in rows:
        table.add_row(*row)
    Console(width=160).print(table)


def say_wrongs(found: Sequence[tuple[str, Sequence[str]]]) -> None:
    """Say what is wrong with each one that failed, and how many passed."""
    wrong = [(name, wrongs) for name, wrongs in found if wrongs]
    for name, wrongs in wrong:
        say(f"{name}: {'; '.join(wrongs)}")
    say(f"{len(found) - len(wrong)} of {len(found)} passed")


def say(line: str) -> None:
    """One line of progress."""
    print(line, flush=True)
