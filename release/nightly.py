"""Whether a nightly deployment has anything to do."""

from collections.abc import Sequence

from release.errors import SourceRefused
from release.ledger import LogRow
from release.outcome import Ending

NIGHTLY = "nightly"
"""In whose name it deploys: in the ledger, and in each message."""

_SERVED = (Ending.DEPLOYED, Ending.ROLLBACK_DONE)
_BAD = (Ending.ROLLED_BACK, Ending.ROLLBACK_FAILED)


def skip(branch: str, head: str, serving: str, log: Sequence[LogRow]) -> str:
    """Why there is nothing to deploy although all is well; empty if there is something.

    ``head`` and ``serving`` are full commit hashes, ``log`` is newest first. Raises SourceRefused
    if the head was abandoned already, by its own deployment or by a later rollback: it is not tried
    night after night, because it would fail the same way, and all is not well until the branch
    moves.
    """
    if head == serving:
        return f"{branch} has not moved: {head[:12]} serves already"
    left = _left(head, log)
    if left is None:
        return ""
    how = (
        "whose rollback failed on"
        if left.ending == Ending.ROLLBACK_FAILED
        else ("which was rolled back on")
    )
    raise SourceRefused(
        f"{branch} has not moved since {head[:12]}, {how} {left.date:%Y-%m-%d}",
        f"push to {branch} a commit that fixes or reverts {head[:12]}",
    )


def _left(head: str, log: Sequence[LogRow]) -> LogRow | None:
    """The row in which a commit was left; None if nobody has left it since it served last.

    A rollback leaves what served just before it.
    """
    rollback = None
    for row in log:
        if row.revision == head and row.ending in _BAD:
            return row
        if row.revision == head and row.ending in _SERVED:
            return rollback
        if row.ending in _SERVED:
            rollback = row if row.ending == Ending.ROLLBACK_DONE else None
    return None
