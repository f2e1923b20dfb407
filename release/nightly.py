"""Whether a nightly deployment has anything to do."""

from collections.abc import Sequence

from release.ledger import LogRow
from release.outcome import Ending


def skip(branch: str, head: str, serving: str, log: Sequence[LogRow]) -> str:
    """Why there is nothing to deploy; empty where there is.

    ``head`` and ``serving`` are full commit hashes, ``log`` is newest first. A commit that was
    rolled back is not tried again night after night: it would fail the same way.
    """
    if head == serving:
        return f"{branch} has not moved: {head[:12]} serves already"
    for row in log:
        if row.revision == head and row.ending == Ending.ROLLED_BACK:
            return (
                f"{branch} has not moved since {head[:12]}, which was rolled back on "
                f"{row.date:%Y-%m-%d}"
            )
    return ""
