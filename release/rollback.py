"""How far back a run that failed has to go."""

from collections.abc import Collection
from enum import StrEnum

from release.model import Step

_TOUCHES_NOTHING = frozenset({Step.PLAN, Step.CHECKLIST})
_LEAVES_THINGS = frozenset({Step.PREPARE, Step.BUILD, Step.MIGRATE})


class Undo(StrEnum):
    """What has to be undone."""

    NOTHING = "nothing"
    LEAVE = "leave"
    RESTORE = "restore"

    @property
    def sentence(self) -> str:
        """What it means for the environment, for the report."""
        return _SENTENCES[self]


_SENTENCES = {
    Undo.NOTHING: "nothing was changed, so nothing is undone",
    Undo.LEAVE: (
        "no instance was touched; the tag and the image stay (no environment serves them) and the "
        "schema stays ahead (the old release runs on it)"
    ),
    Undo.RESTORE: (
        "instances were touched, so the baseline is restored; the tag and the image stay and the "
        "schema stays ahead"
    ),
}


def after_failure(begun: Collection[Step]) -> Undo:
    """Decide from the steps that began, finished or not, what a failed run has to undo.

    A step that began counts as done, because it may have changed something before it failed.
    Anything from step 4 on restores the baseline, and so does a rollback that was interrupted.
    """
    steps = set(begun)
    if steps <= _TOUCHES_NOTHING:
        return Undo.NOTHING
    if steps <= _TOUCHES_NOTHING | _LEAVES_THINGS:
        return Undo.LEAVE
    return Undo.RESTORE
