"""The worker's spool: events that the ledger has not accepted yet, one file each.

No process waits for another here. One that hangs, or that a person has stopped in a terminal, would
otherwise keep the recovery of its own run from working, and every run after it.
"""

import json
import re
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from blocks.ledger.events import Entry
from blocks.own_folder import own_folder
from blocks.whole_file import replace_file


@dataclass(frozen=True)
class Kept:
    """An entry and its file."""

    file: Path
    entry: Entry

    @property
    def is_there(self) -> bool:
        """Whether no other process has written it meanwhile."""
        return self.file.exists()

    def drop(self) -> None:
        """Forget it: it is written, or put aside."""
        self.file.unlink(missing_ok=True)


class Spool:
    """A folder of this worker. What it says was kept outlives the process and the machine."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def check(self) -> None:
        """Raise OSError if nothing can be kept."""
        own_folder(self.folder)
        with tempfile.TemporaryFile(dir=self.folder) as file:
            file.write(b"\n")

    def keep(self, entry: Entry) -> None:
        """Keep an entry behind all that are there. Raises OSError."""
        own_folder(self.folder)
        # The clock may have been set back: what is kept later still comes later.
        number = max([time.time_ns(), *(_number(file) + 1 for file in self._files())])
        name = f"{number:020d}-{uuid4().hex[:8]}"
        replace_file(self.folder / f"{name}.json", json.dumps(entry).encode(), new_mode=0o644)

    def kept(self) -> list[Kept]:
        """What is kept, oldest first; what cannot be read is left out."""
        return [
            Kept(file, entry) for file in self._files() if (entry := _read_entry(file)) is not None
        ]

    def put_aside(self, entry: Entry) -> None:
        """Keep apart an entry that the ledger will never accept. Raises OSError."""
        with (self.folder / "refused.jsonl").open("a") as file:
            file.write(json.dumps(entry) + "\n")

    # --- the steps of a run that has not ended ---

    def note_step(self, run_id: str, step: str) -> None:
        """Note that a run begins a step. Raises OSError."""
        own_folder(self.folder)
        with self._steps_file(run_id).open("a") as file:
            file.write(step + "\n")

    def noted_steps(self, run_id: str) -> list[str]:
        """The steps that were noted, in order."""
        try:
            return self._steps_file(run_id).read_text().splitlines()
        except OSError:
            return []

    def forget_steps(self, run_id: str) -> None:
        """The run has ended."""
        self._steps_file(run_id).unlink(missing_ok=True)

    def _steps_file(self, run_id: str) -> Path:
        return self.folder / f"steps-{re.sub(r'[^0-9A-Za-z-]', '_', run_id)}"

    def _files(self) -> list[Path]:
        return sorted(self.folder.glob("[0-9]*.json"))


def _number(file: Path) -> int:
    return int(file.name.partition("-")[0])


def _read_entry(file: Path) -> Entry | None:
    try:
        entry = json.loads(file.read_text())
    except (OSError, ValueError):
        return None
    return entry if isinstance(entry, dict) else None
