"""When a contract migration may run: when no release that needs what it removes can come back.

A contract file comes with the release that no longer needs the old shape. The release before that
one does, and a rollback would bring it back for as long as it is the rollback's target. So the file
runs with the next deployment, after its watch, when the release before it came with the file too;
or once ``min-app`` of its header is reached.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import semver

from release.errors import BadRequest, MigrationRefused
from release.migration.files import AppliedMigration, MigrationFile
from release.migration.header import Phase
from release.model import Instance, Release
from release.wording import count_of


@dataclass(frozen=True, slots=True)
class Contract:
    """The pending contract files of a plan, in order, and why the later ones wait."""

    due: tuple[MigrationFile, ...] = ()
    waiting: tuple[MigrationFile, ...] = ()
    why: str = ""  # why the first of ``waiting`` waits


def due_contract(
    pending: Sequence[MigrationFile],
    rollback_target: Release | None,
    known_to_target: Mapping[str, str] | None,
) -> Contract:
    """Divide the pending contract files into those that may run after this deployment's watch and
    those that wait for a later one; files never overtake each other.

    ``rollback_target`` is the release that this deployment replaces; None if nothing served.
    ``known_to_target`` maps the file names of that release's migrations to their checksums; None if
    its commit is not known.
    """
    for number, file in enumerate(pending):
        why = _waits_for(file, rollback_target, known_to_target)
        if why:
            return Contract(tuple(pending[:number]), tuple(pending[number:]), why)
    return Contract(tuple(pending))


def _waits_for(file: MigrationFile, target: Release | None, known: Mapping[str, str] | None) -> str:
    if target is None:
        return ""
    least = file.header.min_app
    if least:
        reached = reaches(target.version, least)
        if reached is None:
            return f"whether {target.version} is {least} or newer cannot be told"
        return "" if reached else f"a rollback would go to {target.version} < {least}"
    if known is None:
        return f"a rollback would go to {target.version}, and what it came with cannot be read"
    if known.get(file.filename) != file.checksum:
        return f"a rollback would go to {target.version}, which came before this file"
    return ""


def least_release(target: Release | None, release: Release) -> str:
    """What is recorded of a contract file without ``min-app``: the oldest release that is known to
    run on what it leaves, which is the one that a rollback would bring back."""
    return (target or release).version


def refuse_while_older_runs(
    files: Sequence[MigrationFile], instances: Iterable[Instance], release: Release
) -> None:
    """Raise MigrationRefused if an instance of another release still runs: it may need what the
    contract files remove."""
    older = [one for one in instances if one.running and one.image != release.image]
    if files and older:
        names = ", ".join(sorted({f"{one.name} ({one.version or 'no version'})" for one in older}))
        raise MigrationRefused(
            f"{files[0].filename} may not run while {count_of(len(older), 'instance')} of another "
            f"release {'runs' if len(older) == 1 else 'run'}: {names}",
            "stop what should not run, then start the deployment again",
        )


def refuse_contracted(
    release: Release | None, applied: Iterable[AppliedMigration], environment: str
) -> str:
    """Raise BadRequest if a release can no longer run on the schema as it is.

    Returns a warning if a version does not say whether it is old enough to be affected, else "".
    """
    if release is None:
        return ""
    rows = [row for row in applied if row.phase == Phase.CONTRACT and row.done and row.min_app]
    unsure = []
    for row in rows:
        reached = reaches(release.version, row.min_app)
        if reached is None:
            unsure.append(row)
        elif not reached:
            raise BadRequest(
                f"{release.version} < {row.min_app}, the oldest release that runs on the schema of "
                f"{environment} since {row.filename} removed what it needs",
                f"name a newer one: ignition rollback {environment} --to {row.min_app} --reason …; "
                "or deploy forward",
            )
    if not unsure:
        return ""
    names = ", ".join(row.filename for row in unsure)
    return f"whether {release.version} runs on the schema since {names} cannot be told"


def reaches(version: str, least: str) -> bool | None:
    """Whether ``version`` is ``least`` or newer (semver.org 2.0.0, 11); None if that cannot be
    told."""
    if version == least:
        return True
    try:
        return semver.Version.parse(version.removeprefix("v")) >= semver.Version.parse(
            least.removeprefix("v")
        )
    except ValueError:
        return None
