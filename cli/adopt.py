"""`ignition adopt`: a schema that another tool made, taken over up to one of our files."""

from collections.abc import Iterator
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


def adopting(
    settings: Settings,
    environment: str,
    through: str,
    who: str,
    reason: str,
    ref: str = "main",
    folder: Path | None = None,
    dry_run: bool = False,
) -> Iterator[str]:
    """Show what adopting would write, then write it: one line for each fact.

    Raises BadRequest, after it has shown what it found, where it was not told up to which file,
    by whom and why; nothing is written then, nor in a dry run.
    """
    target = build_target(settings, environment)
    files = _files(target, settings.service.migrations, ref, folder)
    if not through:
        yield from _propose(target, files, environment)
    adoption = plan_to_adopt(target.database, files, through)
    yield from adoption.lines()
    if dry_run:
        yield "a dry run: nothing was written"
        return
    if not (who.strip() and reason.strip()):
        raise BadRequest(
            "an adoption is recorded with a name and a reason; nothing was written",
            adopt_command(environment, through),
        )
    done = adopt(target.database, files, through, who.strip(), reason.strip())
    if not done.records:
        yield "all of them are recorded already: nothing was written"
        return
    yield f"{count_of(len(done.records), 'file')} recorded as adopted: {done.records[-1].note}"


def _files(
    target: Target, migrations: str, ref: str, folder: Path | None
) -> tuple[MigrationFile, ...]:
    if folder is not None:
        return read_folder(folder)
    target.repository.fetch()
    revision = target.repository.resolve(ref)
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
