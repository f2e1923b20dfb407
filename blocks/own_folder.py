"""Folders for this machine's own data, which git ignores wherever they are."""

import contextlib
from pathlib import Path

_IGNORE = ".gitignore"
_ALL = "*\n"
_OURS = frozenset(
    {_IGNORE, "approvers.json", "approvers.json.new", "ledger-spool", "repository.git"}
)


def own_folder(folder: Path) -> None:
    """Make a folder that holds nothing but what is ours, and have git leave it out.

    Raises OSError where there can be no such folder. What git does is no reason to fail.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / _IGNORE).exists():
        with contextlib.suppress(OSError):
            (folder / _IGNORE).write_text(_ALL)


def leave_out_of_git(folder: Path, *also: str) -> None:
    """Have git leave a folder out that exists, if all that it holds is what is kept for us.

    ``also`` are names that are ours in it. In a folder that holds other things, nothing is written:
    it is somebody's.
    """
    with contextlib.suppress(OSError):
        if {entry.name for entry in folder.iterdir()} <= _OURS | set(also):
            own_folder(folder)
