"""Every error that a person can meet, sorted by what the environment serves afterwards.

DeployError
├── NothingChanged            what raised it changed nothing
│   ├── BadRequest            a version, ref, name or environment that cannot be used
│   ├── BadConfiguration      ignition.toml, RUNBOOK.md or a block says something impossible
│   ├── EnvironmentLocked     another run holds the environment
│   ├── SourceRefused         the commit, branch or tag is not what was asked for
│   ├── BuildFailed           no image, or not the one that was asked for
│   ├── MigrationRefused      the migration files cannot be applied as they are
│   ├── Rejected              a person said no at a gate
│   ├── Unproven              an answer at a gate without a good one-time code
│   ├── GateExpired           a gate's time passed without all its signatures
│   └── SignaturesInvalid     what was signed does not hold, or was never signed
├── HalfDone                  what raised it may have changed something: the run knows what
│   ├── Unreachable           a system gave no answer; it may pass
│   └── MigrationFailed       a file failed; what stays applied is said
├── ReleaseUnfit              the release must not stay: the baseline is restored
│   ├── RolloutFailed         it did not come up in time, or could not be rolled out
│   ├── VerificationFailed    health, version or smoke said no
│   └── TriggerFired          one of the runbook's rollback triggers fired
└── StateUnknown              page someone
    └── RollbackFailed        the baseline could not be restored

A run that fails before anything of it has reached users leaves what served in service, whichever
of these ended it; after that the baseline is restored (release.outcome.after_failure).
"""

from typing import Any, ClassVar


class DeployError(Exception):
    """One sentence on what happened, and one command or place to turn to.

    ``what`` says what, where, and measured against allowed. ``hint`` says what to type; it may be
    empty. What serves now is added where the error ends a run, because only the run knows.
    """

    may_pass: ClassVar[bool] = False
    """Whether the same call may succeed a moment later. Otherwise it is a decision: no retry."""

    def __init__(self, what: str, hint: str = "") -> None:
        # Both go to ``args``, so that the exception survives pickling in a persisted result.
        super().__init__(what, hint)
        self.what = what
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.what}\nhint: {self.hint}" if self.hint else self.what

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.what, self.hint)


class NothingChanged(DeployError):
    """What raised it changed nothing: the environment is as the run had made it until then."""


class BadRequest(NothingChanged):
    """What was asked for cannot be used."""


class BadConfiguration(NothingChanged):
    """A setting, the runbook or a block is wrong."""


class EnvironmentLocked(NothingChanged):
    """Another run holds the environment."""


class SourceRefused(NothingChanged):
    """The commit, branch or tag is not what was asked for."""


class BuildFailed(NothingChanged):
    """The image could not be built, pushed or found again in the registry."""


class MigrationRefused(NothingChanged):
    """The migration files cannot be applied as they are; none was."""


class Rejected(NothingChanged):
    """A person said no at a gate."""


class Unproven(NothingChanged):
    """Nobody has proved that they gave this answer."""


class GateExpired(NothingChanged):
    """A gate's time passed without all its signatures."""


class SignaturesInvalid(NothingChanged):
    """The signatures do not hold, or are not those of this run and plan."""


class HalfDone(DeployError):
    """What raised it may have changed something: the run knows what, and says or undoes it."""


class Unreachable(HalfDone):
    """A system gave no answer, or none that says anything. What it was told, it may have done."""

    may_pass = True


class MigrationFailed(HalfDone):
    """A migration failed. Files before it stay applied. Nothing of itself remains, unless it runs
    without a transaction: then its statements before the failing one stay, and are counted."""


class ReleaseUnfit(DeployError):
    """The release must not stay: the baseline is restored."""


class RolloutFailed(ReleaseUnfit):
    """The new instances did not come up, or an engine or router refused what it was told."""


class VerificationFailed(ReleaseUnfit):
    """Health, version or smoke said no."""


class TriggerFired(ReleaseUnfit):
    """One of the runbook's rollback triggers fired."""


class StateUnknown(DeployError):
    """What the environment serves is not known: page someone."""


class RollbackFailed(StateUnknown):
    """The baseline could not be restored."""
