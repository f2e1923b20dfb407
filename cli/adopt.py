"""`ignition adopt`: a schema that another tool made, taken over up to one of our files."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from blocks.postgres.adoption import adopt, plan_to_adopt, read_histories
from blocks.postgres.database import read_folder
from blocks.target import Target
from cli.target import build_target
from release.errors import BadRequest
from release.migration.adoption import adopt_command, propose_through
from release.migration.files import MigrationFile, read_migrations
from release.wording import count_of
from settings import Settings


@dataclass(frozen=True)
class AdoptRequest:
    """An adoption, as a person asks for it."""

    through: str  # the number of the last file that the schema has; "": propose one
    by: str
    reason: str
    ref: str  # of the commit that has the files
    folder: Path | None  # that has them instead
    dry_run: bool


def adopting(settings: Settings, environment: str, request: AdoptRequest) -> Iterator[str]:
    """Show what adopting would write, then write it: one line for each fact.

    Raises BadRequest, after it has shown what it found, if it was not told up to which file, by
    whom and why. Then, and in a dry run, nothing is written.
    """
    target = build_target(settings, environment)
    files = _files(target, settings.service.migrations, request)
    if not request.through:
        yield from _propose(target, files, environment)
    adoption = plan_to_adopt(target.database, files, request.through)
    yield from adoption.lines()
    if request.dry_run:
        yield "a dry run: nothing was written"
        return
    who, reason = request.by.strip(), request.reason.strip()
    if not (who and reason):
        raise BadRequest(
            "an adoption is recorded with a name and a reason; nothing was written",
            adopt_command(environment, request.through),
        )
    done = adopt(target.database, files, request.through, who, reason)
    if not done.records:
        yield "all of them are recorded already: nothing was written"
        return
    yield f"{count_of(len(done.records), 'file')} recorded as adopted: {done.records[-1].note}"


def _files(target: Target, migrations: str, request: AdoptRequest) -> tuple[MigrationFile, ...]:
    if request.folder is not None:
        return read_folder(request.folder)
    target.repository.fetch()
    revision = target.repository.resolve(request.ref)
    return read_migrations(target.repository.files(revision, migrations, ".sql"))


def _propose(target: Target, files: tuple[MigrationFile, ...], environment: str) -> Iterator[str]:
    histories = read_histories(target.database)
    for history in histories:
        yield history.sentence
    proposals = [propose_through(history, files) for history in histories]
    raise BadRequest(
        "up to which file is the schema complete? Nothing was written",
        adopt_command(environment, next(filter(None, proposals), "")),
    )
