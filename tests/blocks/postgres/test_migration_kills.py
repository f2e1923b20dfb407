"""A migration runner that is killed, cut off or restarted under, at any moment, leaves no half.

The clients are processes and the server is one of its own that keeps what it commits (fsync is on),
so that a kill is a kill and a crash is a crash. What remains is read in one snapshot.
"""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from sandbox.commands import wait_until
from sandbox.parts.local_postgres import LocalPostgres, local_postgres
from tests.blocks.postgres.migration_clients import Client, start_client
from tests.fakes.lossy_proxy import lossy_proxy

pytestmark = pytest.mark.real

ROOT = Path(__file__).resolve().parents[3]
ROWS = 3000
# Were a file applied twice, it would not fail: its rows would be there twice.
STEP = """\
CREATE TABLE IF NOT EXISTS step_{n} (id int);
INSERT INTO step_{n} SELECT generate_series(1, {rows});
CREATE OR REPLACE FUNCTION step_{n}() RETURNS int LANGUAGE sql AS 'SELECT {n}';
"""
VERSIONS = [f"{n:04}" for n in range(1, 41)]
FILES = [(f"{v}_step.sql", STEP.format(n=int(v), rows=ROWS)) for v in VERSIONS]
_NUMBERS = count(1)


@pytest.fixture(scope="module")
def server() -> Iterator[LocalPostgres]:
    # After a crash each file of the cluster is synchronised by itself, unless by this at once.
    with local_postgres({"recovery_init_sync_method": "syncfs"}) as started:
        yield started


@pytest.fixture(scope="module")
def clients(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The socket of a process that forks a runner for each connection."""
    folder = tmp_path_factory.mktemp("clients")
    path, errors = folder / "socket", folder / "errors"
    command = [sys.executable, "-m", "tests.blocks.postgres.migration_clients", str(path)]
    with (
        errors.open("wb") as stderr,
        subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=stderr) as parent,
    ):
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"ready\n", errors.read_text()
        yield path
        parent.terminate()
    assert errors.read_text() == "", "a runner ended with something other than a DeployError"


@pytest.fixture
def dsn(server: LocalPostgres) -> Iterator[str]:
    with an_empty_database(server) as empty:
        yield empty


@contextmanager
def an_empty_database(server: LocalPostgres) -> Iterator[str]:
    """It goes afterwards: a server that crashed looks at every file of every database."""
    name = f"kills_{next(_NUMBERS)}"
    change(server.dsn, f"CREATE DATABASE {name}")
    yield make_conninfo(server.dsn, dbname=name)
    change(server.dsn, f"DROP DATABASE {name} WITH (FORCE)")


def change(dsn: str, *statements: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement.encode())


def ask(dsn: str, query: str) -> list[int]:
    """The first column of a query's rows."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        return [row[0] for row in connection.execute(query.encode())]


def until(condition: Callable[[], object]) -> None:
    wait_until(condition, what="what the test waits for", seconds=30, hint="")


# ── What is there ────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class State:
    """What one snapshot shows."""

    recorded: list[str]
    rows: dict[str, int]  # of each table that is there, by its file's version
    functions: list[str]

    @property
    def flaws(self) -> list[str]:
        """The files that are not wholly there or wholly absent, with what of them is there."""
        return [
            f"{version}: recorded {self.recorded.count(version)} times, "
            f"{self.rows.get(version, 'no')} rows, {self.functions.count(version)} functions"
            for version in VERSIONS
            if self._of(version) not in ((1, ROWS, 1), (0, None, 0))
        ]

    def _of(self, version: str) -> tuple[int, int | None, int]:
        recorded, functions = self.recorded.count(version), self.functions.count(version)
        return recorded, self.rows.get(version), functions


def state(dsn: str) -> State:
    """Read records, tables, rows and functions in one REPEATABLE READ snapshot."""
    with psycopg.connect(dsn) as connection:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        connection.read_only = True

        def names(query: str) -> list[str]:
            return sorted(row[0] for row in connection.execute(query.encode()))

        tables = names(
            "SELECT relname FROM pg_class"
            " WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"
        )
        functions = names("SELECT proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace")
        # A name is looked up in the newest catalog, but its rows are seen in the snapshot.
        known = "schema_migrations" in tables
        recorded = names("SELECT version FROM schema_migrations") if known else []
        steps = [name for name in tables if name.startswith("step_")]
        counts = " UNION ALL ".join(f"SELECT '{name}', count(*) FROM {name}" for name in steps)
        rows = connection.execute(counts.encode()).fetchall() if steps else []
    return State(
        recorded=recorded,
        rows={version_of(name): number for name, number in rows},
        functions=sorted(version_of(name) for name in functions if name.startswith("step_")),
    )


def version_of(name: str) -> str:
    return f"{int(name.removeprefix('step_')):04}"


# ── At random ────────────────────────────────────────────────────────────────────────────────────

Strike = Callable[[Client, str, LocalPostgres], None]


def kill_the_client(client: Client, dsn: str, server: LocalPostgres) -> None:
    """kill -9: nothing of the runner gets to run any more."""
    client.send(signal.SIGKILL)


def terminate_its_backend(client: Client, dsn: str, server: LocalPostgres) -> None:
    """Every session of the runner, as an operator would who is in a hurry."""
    name = conninfo_to_dict(dsn)["dbname"]
    change(
        server.dsn,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        f" WHERE datname = '{name}'"
        " AND application_name = 'ignition-migrate'",
    )


def crash_the_server(client: Client, dsn: str, server: LocalPostgres) -> None:
    server.stop("immediate")
    server.start()


@pytest.mark.parametrize(
    ("strike", "times"),
    [(kill_the_client, 140), (terminate_its_backend, 50), (crash_the_server, 15)],
    ids=["kill -9", "terminated backend", "immediate restart"],
)
def test_whatever_interrupts_a_run_a_file_is_recorded_if_and_only_if_all_of_it_is_there(
    server: LocalPostgres, clients: Path, strike: Strike, times: int
) -> None:
    """Struck again and again at random moments, and run again until all 40 files are applied."""
    seed = int(os.environ.get("KILLS_SEED") or random.randrange(10**9))
    print(f"KILLS_SEED={seed}")  # shown when the test fails
    chance = random.Random(seed)
    struck = 0

    while struck < times:
        with an_empty_database(server) as dsn:
            done = False
            while not done:
                client = start_client(clients, dsn, FILES)
                struck += interrupt_until_it_ends(client, dsn, server, strike, chance)
                assert (client.failed or "Unreachable").startswith("Unreachable"), client.failed
                done = client.applied is not None

            assert state(dsn) == State(
                recorded=VERSIONS, rows=dict.fromkeys(VERSIONS, ROWS), functions=VERSIONS
            )


def interrupt_until_it_ends(
    client: Client, dsn: str, server: LocalPostgres, strike: Strike, chance: random.Random
) -> int:
    """Strike one runner until it is dead, gives up or is done. Returns how often it was hit."""
    hits = 0
    while not client.ended:
        for _ in range(chance.randrange(4)):  # files that it may finish before
            client.hear()
        # No condition stands for "at any moment": this is what is to be random.
        time.sleep(chance.uniform(0, 0.04))
        before = losses(client)
        strike(client, dsn, server)
        assert state(dsn).flaws == []
        while losses(client) == before and client.hear():
            pass
        hits += losses(client) > before or client.was_killed or client.failed is not None
    return hits


def losses(client: Client) -> int:
    """How often the runner noticed that its connection was gone."""
    return sum("connection lost" in line for line in client.lines)


# ── At the worst moments ─────────────────────────────────────────────────────────────────────────

WHEN_RECORDED = "CREATE TRIGGER stop"
WHEN_COMMITTED = "CREATE CONSTRAINT TRIGGER stop"
PATIENT = 60_000  # ms: the stop itself is a lock, and must not time out


@contextmanager
def stopped(dsn: str, when: str) -> Iterator[psycopg.Connection]:
    """With 0001 applied, every new record waits for the test: in its INSERT, or in COMMIT.

    The test lets it go on by ending the connection's transaction.
    """
    deferred = "DEFERRABLE INITIALLY DEFERRED" if when == WHEN_COMMITTED else ""
    change(
        dsn,
        "CREATE FUNCTION wait_for_the_test() RETURNS trigger LANGUAGE plpgsql AS"
        " 'BEGIN PERFORM pg_advisory_xact_lock(4711); RETURN NULL; END'",
        f"{when} AFTER INSERT ON schema_migrations {deferred}"
        " FOR EACH ROW EXECUTE FUNCTION wait_for_the_test()",
    )
    with psycopg.connect(dsn) as gate:
        gate.execute("SELECT pg_advisory_xact_lock(4711)")
        yield gate


def reaches_the_stop(dsn: str) -> bool:
    return bool(ask(dsn, "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"))


def sessions(dsn: str) -> list[int]:
    """The runners' sessions with this database."""
    return ask(
        dsn,
        "SELECT pid FROM pg_stat_activity WHERE datname = current_database()"
        " AND application_name = 'ignition-migrate'",
    )


@pytest.fixture
def with_one_file(dsn: str, clients: Path) -> str:
    start_client(clients, dsn, FILES[:1]).hear_out()
    assert state(dsn).recorded == ["0001"]
    return dsn


@pytest.mark.parametrize(
    "when", [WHEN_RECORDED, WHEN_COMMITTED], ids=["before COMMIT", "in COMMIT"]
)
def test_a_runner_killed_between_record_and_commit_leaves_nothing_of_the_file(
    with_one_file: str, clients: Path, when: str
) -> None:
    dsn = with_one_file
    with stopped(dsn, when):
        client = start_client(clients, dsn, FILES[:2], lock_timeout_ms=PATIENT)
        until(lambda: reaches_the_stop(dsn))
        client.send(signal.SIGKILL)
        client.hear_out()
        until(lambda: sessions(dsn) == [])

    assert client.was_killed
    assert state(dsn) == State(["0001"], {"0001": ROWS}, ["0001"])

    again = start_client(clients, dsn, FILES[:2])
    again.hear_out()
    assert again.applied == ["0002"]
    assert state(dsn).recorded == ["0001", "0002"]
    assert state(dsn).flaws == []


def test_a_runner_killed_behind_the_commit_before_it_knows_has_applied_the_file_once(
    with_one_file: str, clients: Path
) -> None:
    dsn = with_one_file
    with stopped(dsn, WHEN_COMMITTED) as gate:
        client = start_client(clients, dsn, FILES[:2], lock_timeout_ms=PATIENT)
        until(lambda: reaches_the_stop(dsn))
        client.send(signal.SIGSTOP)  # it will not read the answer to its COMMIT
        gate.rollback()
        until(lambda: state(dsn).recorded == ["0001", "0002"])
        client.send(signal.SIGKILL)
        client.hear_out()

    assert client.was_killed
    again = start_client(clients, dsn, FILES[:2])
    again.hear_out()
    assert again.applied == []
    assert state(dsn) == State(["0001", "0002"], {"0001": ROWS, "0002": ROWS}, ["0001", "0002"])


def test_a_commit_whose_answer_is_lost_is_looked_up_and_counts_as_this_runs_own(
    with_one_file: str, clients: Path, server: LocalPostgres
) -> None:
    """The network drops the answer and then the connection: only the record knows the outcome."""
    dsn = with_one_file
    with (
        lossy_proxy(("127.0.0.1", server.port)) as proxy,
        stopped(dsn, WHEN_COMMITTED) as gate,
    ):
        through = make_conninfo(dsn, port=proxy.port)
        client = start_client(clients, through, FILES[:2], lock_timeout_ms=PATIENT)
        until(lambda: reaches_the_stop(dsn))
        proxy.lose_answers()
        gate.rollback()
        until(lambda: state(dsn).recorded == ["0001", "0002"])
        proxy.cut()
        client.hear_out()

    assert losses(client) == 1
    assert client.applied == ["0002"]
    assert state(dsn) == State(["0001", "0002"], {"0001": ROWS, "0002": ROWS}, ["0001", "0002"])


# ── Several at once ──────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("number", [2, 4])
def test_of_runners_at_once_one_applies_all_and_the_others_find_nothing_to_do(
    dsn: str, clients: Path, number: int
) -> None:
    runners = [start_client(clients, dsn, FILES) for _ in range(number)]
    for runner in runners:
        runner.hear_out()

    assert [runner.failed for runner in runners] == [None] * number
    assert sorted(runner.applied or [] for runner in runners) == [[]] * (number - 1) + [VERSIONS]
    assert state(dsn).recorded == VERSIONS
    assert state(dsn).flaws == []


def test_when_the_runner_at_work_is_killed_one_of_those_that_wait_takes_over(
    with_one_file: str, clients: Path
) -> None:
    dsn = with_one_file
    with stopped(dsn, WHEN_RECORDED):
        first = start_client(clients, dsn, FILES, lock_timeout_ms=PATIENT)
        until(lambda: reaches_the_stop(dsn))
        others = [start_client(clients, dsn, FILES) for _ in range(3)]
        for other in others:
            other.hear()
            assert "waiting for another migration runner" in other.lines[0]
        first.send(signal.SIGKILL)
        first.hear_out()
    for other in others:
        other.hear_out()

    assert first.was_killed
    assert [other.failed for other in others] == [None] * 3
    *idle, busy = sorted(other.applied or [] for other in others)
    assert idle == [[], []]
    # The server has the COMMIT already: it may be faster than its notice that the client is gone.
    assert busy in (VERSIONS[1:], VERSIONS[2:])
    assert state(dsn).recorded == VERSIONS
    assert state(dsn).flaws == []


# ── Without a transaction ────────────────────────────────────────────────────────────────────────

BUILD = [
    ("0001_items.sql", "CREATE TABLE items AS SELECT generate_series(1, 1000) AS id;"),
    (
        "0002_index.sql",
        "-- migrate: no-transaction\n"
        "CREATE INDEX CONCURRENTLY IF NOT EXISTS items_id ON items (id);",
    ),
]
VALID = "SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass('items_id')"


def test_an_index_whose_runner_was_killed_is_built_by_the_next_one(dsn: str, clients: Path) -> None:
    """The killed one leaves it INVALID, which IF NOT EXISTS alone would call a success."""
    start_client(clients, dsn, BUILD[:1]).hear_out()
    with psycopg.connect(dsn) as writer:
        writer.execute("INSERT INTO items VALUES (0)")  # left open: the build waits for it
        killed = start_client(clients, dsn, BUILD)
        until(lambda: ask(dsn, VALID) == [False])
        killed.send(signal.SIGKILL)
        killed.hear_out()
        until(lambda: sessions(dsn) == [])
        assert ask(dsn, VALID) == [False]
    following = start_client(clients, dsn, BUILD)
    following.hear_out()

    assert killed.was_killed
    assert following.failed is None
    assert any("was left INVALID" in line for line in following.lines)
    assert ask(dsn, VALID) == [True]
    assert ask(dsn, "SELECT status FROM schema_migrations WHERE version = '0002'") == ["applied"]


def test_a_runner_that_hangs_in_its_transaction_gives_its_locks_back(
    with_one_file: str, clients: Path
) -> None:
    """Users wait for what it has locked until the server ends its session; nothing of it stays."""
    dsn = with_one_file
    version, sql = FILES[1]
    waits = (version, f"SELECT pg_advisory_xact_lock(4711);\n{sql}")
    with psycopg.connect(dsn) as gate:
        gate.execute("SELECT pg_advisory_xact_lock(4711)")
        hung = start_client(clients, dsn, [FILES[0], waits], lock_timeout_ms=PATIENT)
        until(lambda: reaches_the_stop(dsn))
        hung.send(signal.SIGSTOP)
    try:
        until(lambda: ask(dsn, "SELECT pg_try_advisory_xact_lock(4711)::int") == [0])
        until(lambda: ask(dsn, "SELECT pg_try_advisory_xact_lock(4711)::int") == [1])
        assert state(dsn) == State(["0001"], {"0001": ROWS}, ["0001"])
    finally:
        hung.send(signal.SIGKILL)
        hung.hear_out()
