"""A run's page in Prefect: the name and the tags by which people find it.

Only a sign for people: if the server is away, a run goes on, and ends, under its old name.
"""

from collections.abc import Callable
from datetime import timedelta
from uuid import UUID

import httpx
from prefect import get_run_logger
from prefect.client.orchestration import get_client
from prefect.exceptions import PrefectException
from prefect.runtime import flow_run
from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, temporary_settings

from release.outcome import Ending, ended_name, ended_tags
from release.request import name_of, tags_of

WAITING_TAG = "awaiting-approval"
"""On a run while it waits for a person, so that one link lists all such runs."""

_PATIENCE = timedelta(seconds=5)  # with a server that does not answer
_RETRIES = 1  # of Prefect's client, which waits ever longer: users may be waiting for a rollback

Tags = Callable[[set[str]], set[str]]


def show_version(environment: str, version: str) -> None:
    """Tag this run with where it goes and, if that is known, with its version."""
    change_run(tags=lambda tags: _with_version(tags, environment, version))


def show_restored(environment: str, version: str) -> None:
    """Name this run, a rollback, by the version that it goes back to, and tag it."""
    change_run(
        name=lambda name: name_of("rollback", version, environment),
        tags=lambda tags: _with_version(tags, environment, version),
    )


def show_ending(ending: Ending, run_id: str = "") -> None:
    """Put a run's ending into its name and its tags; "" is this run.

    To be done before the state is set: an automation tells from the name that a run said how it
    ended, and recovers the others.
    """
    change_run(
        run_id,
        name=lambda name: ended_name(name, ending),
        tags=lambda tags: ended_tags(tags, ending) - {WAITING_TAG},
    )


def change_run(
    run_id: str = "",
    *,
    name: Callable[[str], str] = lambda name: name,
    tags: Tags = lambda tags: tags,
) -> None:
    """Change a run's name and tags; "" is this run. Never raises.

    A tag set by ``with tags()`` inside a flow goes to its tasks, never to the run itself.
    """
    wait = {"timeout": _PATIENCE.total_seconds()}
    retries = temporary_settings({PREFECT_CLIENT_MAX_RETRIES: _RETRIES})
    try:
        with retries, get_client(wait, sync_client=True) as client:
            found = client.read_flow_run(UUID(run_id or str(flow_run.id)))
            there = (found.name, set(found.tags))
            wanted = (name(found.name), tags(set(found.tags)))
            if wanted != there:
                client.update_flow_run(found.id, name=wanted[0], tags=sorted(wanted[1]))
    except (PrefectException, httpx.HTTPError) as error:
        get_run_logger().warning("the run's name and tags were not changed: %s", error)


def _with_version(tags: set[str], environment: str, version: str) -> set[str]:
    kept = {tag for tag in tags if not version or not tag.startswith("version:")}
    return kept | tags_of(environment, version)
