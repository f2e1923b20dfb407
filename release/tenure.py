"""Since when an environment has served what it serves, and by whom: from the deployment log."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from release.hold import clock
from release.ledger import LogRow, short_run
from release.model import ImageRef
from release.outcome import Ending

_BROUGHT = (Ending.DEPLOYED, Ending.ROLLBACK_DONE)
_LEFT = (Ending.ROLLED_BACK, Ending.ROLLBACK_FAILED)


@dataclass(frozen=True, slots=True)
class Tenure:
    """Since when something serves, and by whom: a sentence, and what it is made of."""

    sentence: str
    at: datetime | None = None  # None: the ledger does not know
    by: str = ""
    run_id: str = ""


def tenure_of(log: Sequence[LogRow], image: ImageRef | None, version: str) -> Tenure:
    """Decide since when ``image`` serves, which calls itself ``version``.

    ``log`` is newest first. A deployment that failed after its watch brought its release as well;
    one that was rolled back, and its baseline served on, is mentioned beside it. If an image is not
    known (the row is from before the ledger, or the engine does not answer), the version has to do.
    """
    brought = next((row for row in log if _brought(row)), None)
    if brought is None:
        return Tenure(
            f"how long {version} has served is not known: the log has no deployment of it"
        )
    by = f"by {brought.deployer} ({short_run(brought.run_id)})"
    if not _is(brought, image, version):
        return Tenure(
            f"how long {version} has served is not known: by the log it is {brought.version}, "
            f"since {clock(brought.date)} {by}"
        )
    how = "brought back " if brought.ending == Ending.ROLLBACK_DONE else ""
    later = [row for row in log[: log.index(brought)] if row.ending in _LEFT]
    tried = (
        f"; then {later[0].version}: {later[0].ending} at {clock(later[0].date)}" if later else ""
    )
    sentence = f"since {clock(brought.date)}, {how}{by}{tried}"
    return Tenure(sentence, brought.date, brought.deployer, brought.run_id)


def _brought(row: LogRow) -> bool:
    """Whether its release served from then on."""
    return row.ending in _BROUGHT or (row.ending == Ending.FAILED and bool(row.image))


def _is(row: LogRow, image: ImageRef | None, version: str) -> bool:
    return row.release.image == image if row.image and image else row.version == version
