"""Every error that a person can meet, sorted by what the environment serves afterwards.

DeployError
├── NothingChanged            the environment is exactly as it was
│   ├── BadRequest            a version, ref, name or environment that cannot be used
│   ├── BadConfiguration      ignition.toml, RUNBOOK.md or a block says something impossible
│   ├── EnvironmentLocked     another run holds the environment
│   ├── Unreachable           a system did not answer
│   ├── SourceRefused         the commit, branch or tag is not what was asked for
│   ├── BuildFailed           no image, or not the one that was asked for
│   ├── MigrationRefused      the migration files cannot be applied as they are
│   ├── MigrationFailed       a file failed; what stays is said: the files before it
│   ├── Rejected              a person said no at a gate
│   ├── Unproven              an answer at a gate without a good one-time code
│   ├── GateExpired           a gate's time passed without all its signatures
│   └── SignaturesInvalid     what was signed does not hold, or was never signed
├── ReleaseUnfit              the release must not stay: the baseline is restored
│   ├── RolloutFailed         it did not come up, or not in time
│   ├── VerificationFailed    health, version or smoke said no
│   └── TriggerFired          one of the runbook's rollback triggers fired
└── StateUnknown              page someone
    └── RollbackFailed        the baseline could not be restored
"""

from typing import Any


class DeployError(Exception):
    """One sentence on what happened, and one command or place to turn to.

    ``what`` says what, where, and measured against allowed. ``hint`` says what to type; it may be
    empty. What serves now is added where the error ends a run, because only the run knows.
    """

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
    """The environment serves what it served before."""


class BadRequest(NothingChanged):
    """What was asked for cannot be used."""


class BadConfiguration(NothingChanged):
    """A setting, the runbook or a block is wrong."""


class EnvironmentLocked(NothingChanged):
    """Another run holds the environment."""


class Unreachable(NothingChanged):
    """A system that the deployment needs did not answer."""


class SourceRefused(NothingChanged):
    """The commit, branch or tag is not what was asked for."""


class BuildFailed(NothingChanged):
    """The image could not be built, pushed or found again in the registry."""


class MigrationRefused(NothingChanged):
    """The migration files cannot be applied as they are; none was."""


class MigrationFailed(NothingChanged):
    """A migration failed. Files before it stay applied. Nothing of itself remains, unless it runs
    without a transaction: then its statements before the failing one stay, and are counted."""


class Rejected(NothingChanged):
    """A person said no at a gate."""


class Unproven(NothingChanged):
    """Nobody proved to have given this answer."""


class GateExpired(NothingChanged):
    """A gate's time passed without all its signatures."""


class SignaturesInvalid(NothingChanged):
    """The signatures do not hold, or are not those of this run and plan."""


class ReleaseUnfit(DeployError):
    """The release must not stay: the baseline is restored."""


class RolloutFailed(ReleaseUnfit):
    """The new instances did not come up, or not in time."""


class VerificationFailed(ReleaseUnfit):
    """Health, version or smoke said no."""


class TriggerFired(ReleaseUnfit):
    """One of the runbook's rollback triggers fired."""


class StateUnknown(DeployError):
    """What the environment serves is not known: page someone."""


class RollbackFailed(StateUnknown):
    """The baseline could not be restored."""
