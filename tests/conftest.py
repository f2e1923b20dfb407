"""What tests share: a Prefect server, a PostgreSQL server, a project on the container engine."""

import os
from collections.abc import Callable, Iterator
from itertools import count
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from sandbox.engine import engine_in_use, ensure_engine, release_engine
from sandbox.local_postgres import THROWAWAY, local_postgres

if TYPE_CHECKING:
    from tests.fakes.project import RealProject

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
def engine() -> Iterator[str]:
    """The container engine; without one these tests fail, they are not skipped."""
    with engine_in_use():
        yield ensure_engine()
    release_engine()


@pytest.fixture(scope="session")
def real_project(engine: str) -> Iterator["RealProject"]:
    """Stood up once for all tests of blocks and tasks that need an engine."""
    from tests.fakes.project import standing_project

    with standing_project() as project:
        yield project


@pytest.fixture(params=["fake", pytest.param("real", marks=pytest.mark.engine)])
def project(request: pytest.FixtureRequest) -> Any:
    """Either world; a test that takes this says what both do."""
    from tests.fakes.project import FakeProject

    return request.getfixturevalue("real_project") if request.param == "real" else FakeProject()


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
