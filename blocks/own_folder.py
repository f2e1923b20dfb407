"""Folders for this machine's own data, which git ignores wherever they are."""

import contextlib
from pathlib import Path

_IGNORE = ".gitignore"
_ALL = "*\n"
_OURS = frozenset({_IGNORE, "approvers.json", "ledger-spool", "repository.git"})


def own_folder(folder: Path) -> None:
    """Make a folder that holds nothing but what is ours, and have git ignore it.

    Raises OSError if the folder cannot be made. A failure to tell git is ignored.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / _IGNORE).exists():
        with contextlib.suppress(OSError):
            (folder / _IGNORE).write_text(_ALL)


def leave_out_of_git(folder: Path, *also: str) -> None:
    """Have git ignore an existing folder, if it holds nothing but what is kept for us.

    ``also`` are names in it that are ours. Nothing is written to a folder that holds other things:
    it belongs to somebody.
    """
    with contextlib.suppress(OSError):
        if {entry.name for entry in folder.iterdir()} <= _OURS | set(also):
            own_folder(folder)
