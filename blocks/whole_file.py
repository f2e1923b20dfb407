"""Files that are replaced whole: whoever reads one finds the old text or the new, never half."""

import os
import tempfile
from contextlib import suppress
from pathlib import Path


def replace_file(path: Path, data: bytes, new_mode: int = 0o600) -> None:
    """Put a file in the place of ``path`` in one rename, so that it outlives a power cut.

    The mode of the file that is there is kept, and its owner and group as far as this user may; a
    group that cannot be kept loses its access, and no other group gets it. A new file gets
    ``new_mode``. No other user can read the draft beside it. If two replace the file at once,
    the later one wins. Raises OSError; then the file is as it was.
    """
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".new", dir=path.parent)
    draft = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            _keep_access(handle, path, new_mode)
            os.fsync(handle)
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def _keep_access(handle: int, path: Path, new_mode: int) -> None:
    try:
        there = path.stat()
    except FileNotFoundError:
        os.fchmod(handle, new_mode)
        return
    for owner in ((-1, there.st_gid), (there.st_uid, -1)):
        with suppress(PermissionError):
            os.fchown(handle, *owner)
    mode = there.st_mode & 0o777
    if os.fstat(handle).st_gid != there.st_gid:
        mode &= ~0o070  # what one group may read is not for another one
    os.fchmod(handle, mode)


def _sync_folder(folder: Path) -> None:
    """Write the folder to disk, because the rename is stored in it."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
