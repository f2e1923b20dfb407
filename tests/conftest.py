"""A Prefect server and a PostgreSQL server of the tests' own."""

import os
from collections.abc import Callable, Iterator
from itertools import count

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from sandbox.local_postgres import THROWAWAY, local_postgres

_NUMBERS = count(1)


@pytest.fixture(scope="session")
def prefect_server() -> Iterator[None]:
    """Started once for all tests of flows and tasks: it takes longer than any of them."""
    # Imported here: the tests of rules run without Prefect, in a few seconds.
    from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings
    from prefect.testing.utilities import prefect_test_harness

    # A flow waits up to a second for its heartbeat's thread; nothing here looks at heartbeats.
    without_heartbeats = temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None})
    with prefect_test_harness(server_startup_timeout=180), without_heartbeats:
        yield


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The connection string of a server's superuser: $TEST_DATABASE_URL, or a server of our own."""
    given = os.environ.get("TEST_DATABASE_URL")
    if given:
        yield given
        return
    with local_postgres(THROWAWAY) as server:
        yield server.dsn


@pytest.fixture
def new_database(postgres: str) -> Iterator[Callable[[], str]]:
    """Makes empty databases; on a server that is not our own they are dropped after the test."""
    made: list[str] = []

    def make() -> str:
        name = f"test_{os.getpid()}_{next(_NUMBERS)}"
        with psycopg.connect(postgres, autocommit=True) as connection:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        made.append(name)
        return make_conninfo(postgres, dbname=name)

    yield make
    if not os.environ.get("TEST_DATABASE_URL"):
        return  # the whole server goes
    with psycopg.connect(postgres, autocommit=True) as connection:
        for name in made:
            drop = sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)")
            connection.execute(drop.format(sql.Identifier(name)))


@pytest.fixture
def dsn(new_database: Callable[[], str]) -> str:
    """An empty database of this test's own."""
    return new_database()
