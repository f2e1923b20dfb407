"""What tests share: a Prefect server, a PostgreSQL server, a project on the container engine.

`make test` runs several processes side by side. By hand, without -n, there is one.
"""

import os
import signal
from collections.abc import Callable, Iterator
from fnmatch import fnmatch
from itertools import count
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from sandbox.parts.engine import engine_in_use, ensure_engine, release_engine
from sandbox.parts.local_postgres import THROWAWAY, local_postgres

if TYPE_CHECKING:
    from tests.fakes.project import RealProject

# What takes long to start or to do, and the tests that share it: with several processes those of a
# group run in one of them, by this order. Any other file is a group of its own. There is one
# sandbox: two of them, each with its users, are more than two cores do.
GROUPS = {
    "sandbox": ("tests/e2e/*",),
    "containers": (
        *("tests/blocks/contract/*", "tests/blocks/compose/*", "tests/blocks/haproxy/*"),
        *("tests/blocks/test_builder.py*", "tests/blocks/test_registry.py*"),
        *("tests/tasks/test_rollout.py*", "tests/tasks/test_rehearsal.py*"),
    ),
    "prefect": ("tests/flows/*", "tests/tasks/*"),
    "hints": ("tests/hints/*",),
    "kills": ("tests/blocks/postgres/test_migration_kills.py*",),
}
WITH_CONTAINERS = ("sandbox", "containers")
# What stands for a real part: a test that asks for one of these is left out of `make check`.
REAL_PARTS = frozenset({"engine", "postgres", "prefect_server", "sandbox"})
_NUMBERS = count(1)


def group_of(test: str) -> str:
    """The group of a test, by its id."""
    return next(
        (name for name, tests in GROUPS.items() if any(fnmatch(test, each) for each in tests)),
        test.partition("::")[0],
    )


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Give each process one group after the other."""
    from xdist.scheduler import LoadScopeScheduling

    class GroupScheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return group_of(nodeid)

    config.option.loadscopereorder = False  # by the order of the tests
    return GroupScheduling(config, log)


@pytest.hookimpl(tryfirst=True)  # -m looks at the marks after this
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark what needs a real part. In one of several processes, put what takes long first."""
    for item in items:
        if REAL_PARTS & set(getattr(item, "fixturenames", ())) or item.get_closest_marker("engine"):
            item.add_marker("real")
    if is_one_of_several(config):
        places = {name: place for place, name in enumerate(GROUPS)}
        items.sort(key=lambda item: places.get(group_of(item.nodeid), len(places)))


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Let the tests beside a sandbox give way to it as its pipeline does to its containers."""
    if is_one_of_several(item.config) and group_of(item.nodeid) not in WITH_CONTAINERS:
        os.nice(max(0, 10 - os.nice(0)))


def pytest_keyboard_interrupt(excinfo: pytest.ExceptionInfo[BaseException]) -> None:
    """In one of several processes, take away what was started: pytest-xdist interrupts again."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def is_one_of_several(config: pytest.Config) -> bool:
    """Whether this process runs a part of the tests."""
    return hasattr(config, "workerinput")


@pytest.fixture(autouse=True, scope="session")
def _state_of_tests(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What a configuration's state folder would be is not that of whoever runs the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        yield


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


@pytest.fixture
def fake_project() -> Any:
    """The same in memory."""
    from tests.fakes.project import FakeProject

    return FakeProject()


# Every pair of an orchestrator and a router, by the fixture that stands it up: the contracts run
# over each, so a new adapter is one line here.
PROJECTS = (
    pytest.param("fake_project", id="in memory"),
    pytest.param("real_project", id="Compose and HAProxy", marks=pytest.mark.engine),
)


@pytest.fixture(params=PROJECTS)
def project(request: pytest.FixtureRequest) -> Any:
    """Each world in turn; a test that takes this says what all of them do."""
    return request.getfixturevalue(request.param)


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
