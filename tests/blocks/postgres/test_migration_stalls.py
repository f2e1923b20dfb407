"""What traffic feels of a migration that waits for a lock: never more than the lock timeout."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field

import psycopg
import pytest
from pydantic import SecretStr

from blocks.postgres.database import Database
from release.migration.files import read_migration
from sandbox.commands import wait_until

LOCK_TIMEOUT = 300.0  # ms
ALLOWANCE = 100.0  # ms, beyond the lock timeout: the promise of the runner
SAMPLING_STEP = 0.005  # seconds
TRAFFIC = 4  # sessions
RUNNER = "application_name = 'ignition-migrate'"
# How long each session has waited for a lock so far, and whether a runner is among those before it.
# The server's own clock says it, so that a slow sampler can miss a wait but never add to it.
WAITS = f"""
    SELECT {RUNNER} AS is_runner, extract(epoch FROM clock_timestamp() - waitstart) * 1000 AS ms,
           EXISTS (SELECT FROM pg_stat_activity b
                   WHERE b.pid = ANY (pg_blocking_pids(a.pid)) AND b.{RUNNER}) AS behind_runner
    FROM pg_locks l JOIN pg_stat_activity a USING (pid)
    WHERE NOT granted AND waitstart IS NOT NULL AND l.locktype = 'relation'
      AND a.datname = current_database()"""


@dataclass
class Waits:
    """What was seen of waits for locks, in milliseconds."""

    runner: list[float] = field(default_factory=list)
    behind_runner: list[float] = field(default_factory=list)  # traffic that queues behind it

    def look(self, connection: psycopg.Connection) -> None:
        for is_runner, ms, behind in connection.execute(WAITS.encode()):
            if is_runner:
                self.runner.append(float(ms))
            elif behind:
                self.behind_runner.append(float(ms))


@contextmanager
def in_background(work: Callable[[threading.Event], None], number: int = 1) -> Iterator[None]:
    """``number`` threads that do ``work`` until the end of the block; their errors are raised."""
    over = threading.Event()
    with ThreadPoolExecutor(number) as pool:
        running = [pool.submit(work, over) for _ in range(number)]
        try:
            yield
        finally:
            over.set()
        for one in running:
            one.result(timeout=30)


@contextmanager
def watched_traffic(dsn: str) -> Iterator[Waits]:
    """Sessions that read and write the table, and one that looks at who waits, all the time."""
    waits = Waits()

    def use_the_table(over: threading.Event) -> None:
        with psycopg.connect(dsn, autocommit=True) as connection:
            while not over.is_set():
                connection.execute("SELECT note FROM orders WHERE id = 7")
                connection.execute("UPDATE orders SET note = 'seen' WHERE id = 7")

    def look(over: threading.Event) -> None:
        with psycopg.connect(dsn, autocommit=True) as connection:
            while not over.is_set():
                waits.look(connection)
                over.wait(SAMPLING_STEP)

    with in_background(look), in_background(use_the_table, TRAFFIC):
        yield waits


@contextmanager
def a_reader_of(dsn: str, table: str) -> Iterator[psycopg.Connection]:
    """A report that reads the table, and stays in its transaction."""
    with psycopg.connect(dsn, application_name="nightly-report") as connection:
        connection.execute(f"SELECT count(*) FROM {table}".encode())
        yield connection


@pytest.fixture
def shop(dsn: str) -> str:
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("CREATE TABLE orders (id int PRIMARY KEY, note text)")
        connection.execute("INSERT INTO orders SELECT generate_series(1, 1000)")
        connection.execute("CREATE TABLE customers (id int)")
    return dsn


@pytest.mark.parametrize(
    ("read", "migration"),
    [
        ("orders", "ALTER TABLE orders ADD COLUMN x int;"),
        (
            "customers",
            "ALTER TABLE orders ADD COLUMN x int; ALTER TABLE customers ADD COLUMN x int;",
        ),
    ],
    ids=["behind its request", "behind a lock that it holds already"],
)
def test_traffic_waits_for_the_lock_timeout_at_most_however_long_a_reader_stays(
    shop: str, read: str, migration: str
) -> None:
    """The reader stays for three tries; both the request and what queues behind it are short."""
    database = Database(dsn=SecretStr(shop), lock_timeout_ms=round(LOCK_TIMEOUT))
    file = read_migration("0001_add_x.sql", migration.encode())
    tries = threading.Semaphore(0)

    with watched_traffic(shop) as waits, ThreadPoolExecutor(1) as pool:
        with a_reader_of(shop, read):
            running = pool.submit(database.apply, [file], on_event=lambda line: tries.release())
            for _ in range(3):
                assert tries.acquire(timeout=30), "the runner says each try"
        (row,) = running.result(timeout=60)

    assert row.attempts > 3
    assert waits.runner, "the runner was seen waiting"
    assert max(waits.runner) <= LOCK_TIMEOUT + ALLOWANCE
    assert waits.behind_runner, "traffic was seen waiting behind it"
    assert max(waits.behind_runner) <= LOCK_TIMEOUT + ALLOWANCE


def test_a_plain_alter_table_keeps_traffic_waiting_as_long_as_the_reader_stays(shop: str) -> None:
    """What the test above would see, did the runner not give up: its measure can fail."""

    def alter(over: threading.Event) -> None:
        with psycopg.connect(
            shop, autocommit=True, application_name="ignition-migrate"
        ) as connection:
            connection.execute("ALTER TABLE orders ADD COLUMN x int")

    with (
        watched_traffic(shop) as waits,
        a_reader_of(shop, "orders") as reader,
        in_background(alter),
    ):
        wait_until(
            lambda: max(waits.behind_runner, default=0) > 2 * (LOCK_TIMEOUT + ALLOWANCE),
            what="a transaction that waits for too long",
            seconds=30,
            hint="",
        )
        reader.rollback()
