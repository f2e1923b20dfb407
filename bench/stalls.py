"""How traffic fares while a table that a long report reads gets a column: `make bench-stalls`.

pgbench reads and writes the table at a fixed rate and logs each transaction; its latency counts
from when it was due. A report opens a transaction on the table, and at once the column is added by
psql, or by the runner of this project, or, to compare with, not at all.
"""

import argparse
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count, pairwise
from pathlib import Path

import psycopg
from pydantic import SecretStr

from bench.processes import libpq_environment
from bench.report import judged, machine, progress, publish, table
from blocks.postgres.database import Database
from release.migration.files import read_migration
from sandbox.commands import wait_until
from sandbox.parts.local_postgres import LocalPostgres, local_postgres

CLIENTS = 8
RATE = 150  # transactions/s
ROWS = 100_000
WARM_UP = 2.0  # seconds of traffic before the report begins
BEFORE = 1.0  # seconds of that traffic that are counted
AFTER = 12.0  # seconds of traffic after the report: the longest pause between two tries is 10 s
ALLOWANCE = 100  # ms beyond the lock timeout
ALTER = "ALTER TABLE orders ADD COLUMN x int"
SCRIPT = f"""\
\\set id random(1, {ROWS})
\\set kind random(1, 5)
\\if :kind = 1
UPDATE orders SET note = 'seen' WHERE id = :id;
\\else
SELECT note FROM orders WHERE id = :id;
\\endif
"""
_NUMBERS = count(1)


@dataclass(frozen=True)
class Measured:
    """One run: the transactions from just before the change to the end."""

    title: str
    latencies: list[float]  # ms, sorted
    silence: float  # seconds: the longest time without the end of a transaction
    tries: int | None  # None if no column was added
    took: float  # seconds from the start of the change to its end
    after_reader: float  # seconds from the end of the report to that of the change

    def percentile(self, share: float) -> float:
        return self.latencies[min(int(share * len(self.latencies)), len(self.latencies) - 1)]


def main() -> None:
    """Measure, print, and write into docs/benchmarks.md."""
    parser = argparse.ArgumentParser(prog="python -m bench.stalls", description=__doc__)
    parser.add_argument("--hold", type=float, default=10.0, help="seconds that the report stays")
    parser.add_argument(
        "--print-only", dest="write", action="store_false", help="leave docs/benchmarks.md alone"
    )
    options = parser.parse_args()
    with local_postgres() as server:
        with psycopg.connect(server.dsn) as connection:
            where = machine(connection, server.data)
        runs = [
            measure(server, "no change", leave_alone, options.hold),
            measure(server, "psql", by_psql(server), options.hold),
            measure(server, "ignition", by_ignition, options.hold),
        ]
    limit = Database.model_fields["lock_timeout_ms"].default + ALLOWANCE
    sentences = [
        f"{where}. pgbench: {CLIENTS} clients, {RATE} transactions/s on {ROWS:,} rows; "
        f"a report that holds its lock for {options.hold:.0f} s; lock timeout "
        f"{limit - ALLOWANCE} ms.",
        stall_table(runs, limit),
        judged("The longest transaction with ignition", runs[-1].latencies[-1], limit, " ms"),
    ]
    publish("stalls", "\n\n".join(sentences), write=options.write)


# ── Three ways ───────────────────────────────────────────────────────────────────────────────────


def leave_alone(dsn: str) -> int | None:
    """Change nothing: what the machine itself does to latencies."""
    return None


def by_psql(server: LocalPostgres) -> Callable[[str], int | None]:
    """Add it as the runbook's author would by hand."""

    def alter(dsn: str) -> int | None:
        subprocess.run(
            [server.programs / "psql", "--no-psqlrc", "--quiet", "--command", ALTER],
            env=libpq_environment(dsn),
            check=True,
        )
        return 1

    return alter


def by_ignition(dsn: str) -> int | None:
    """Add it by the runner, with its default limits."""
    file = read_migration("0001_add_x.sql", f"{ALTER};".encode())
    (row,) = Database(dsn=SecretStr(dsn)).apply([file], on_event=progress)
    return row.attempts


# ── Measuring ────────────────────────────────────────────────────────────────────────────────────


def measure(
    server: LocalPostgres, title: str, change: Callable[[str], int | None], hold: float
) -> Measured:
    """One run of traffic, report and change, on a table of its own."""
    dsn = make_table(server)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        with traffic(server, dsn, folder, WARM_UP + hold + AFTER):
            time.sleep(WARM_UP)
            with a_report(dsn, hold) as ended:
                started = time.time()
                tries = change(dsn)
                finished = time.time()
            over = ended[0]
        transactions = sorted(read_log(folder))
    seen = [(end, ms) for end, ms in transactions if end >= started - BEFORE]
    result = Measured(
        title=title,
        latencies=sorted(ms for _, ms in seen),
        silence=max(later - earlier for (earlier, _), (later, _) in pairwise(seen)),
        tries=tries,
        took=finished - started,
        after_reader=finished - over,
    )
    progress(f"{title}: longest {result.latencies[-1]:.0f} ms, tries {tries}")
    return result


def make_table(server: LocalPostgres) -> str:
    """A new database with the table, and its connection string."""
    name = f"stalls_{next(_NUMBERS)}"
    with psycopg.connect(server.dsn, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
    dsn = server.dsn.replace("/postgres", f"/{name}")
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("CREATE TABLE orders (id int PRIMARY KEY, note text)")
        connection.execute(f"INSERT INTO orders SELECT generate_series(1, {ROWS})".encode())
        connection.execute("VACUUM ANALYZE orders")
        connection.execute("CHECKPOINT")
    return dsn


@contextmanager
def traffic(server: LocalPostgres, dsn: str, folder: Path, seconds: float) -> Iterator[None]:
    """pgbench for that long; the block ends when it does."""
    (folder / "script.sql").write_text(SCRIPT)
    process = subprocess.Popen(
        [
            *(server.programs / "pgbench", "--no-vacuum", "--file", folder / "script.sql"),
            *("--client", str(CLIENTS), "--jobs", "2", "--rate", str(RATE)),
            *("--time", str(round(seconds)), "--log", "--log-prefix", folder / "log"),
        ],
        env=libpq_environment(dsn),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    try:
        wait_until(lambda: connected(dsn), what="pgbench's traffic", seconds=30, hint="")
        yield
        if process.wait(timeout=seconds + 30) != 0:
            raise SystemExit(f"pgbench ended with {process.returncode}")
    finally:
        process.kill()


def connected(dsn: str) -> bool:
    """Whether all of pgbench's clients are connected."""
    with psycopg.connect(dsn) as connection:
        row = connection.execute(
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE application_name = 'pgbench' AND datname = current_database()"
        ).fetchone()
    return row == (CLIENTS,)


@contextmanager
def a_report(dsn: str, hold: float) -> Iterator[list[float]]:
    """A transaction that has read the table and stays open for ``hold`` seconds.

    After the block, the list that it yielded holds the time of its end.
    """
    ended: list[float] = []
    holds = threading.Event()

    def read() -> None:
        with psycopg.connect(dsn, application_name="nightly-report") as connection:
            connection.execute("SELECT count(*) FROM orders")
            holds.set()
            time.sleep(hold)  # how long it takes is what a report is
            connection.rollback()
            ended.append(time.time())

    thread = threading.Thread(target=read)
    thread.start()
    holds.wait()
    yield ended
    thread.join()


def read_log(folder: Path) -> Iterator[tuple[float, float]]:
    """When each transaction ended (seconds since 1970), and its latency in milliseconds."""
    for path in folder.glob("log*"):
        for line in path.read_text().splitlines():
            _, _, latency, _, seconds, microseconds, *_ = line.split()
            yield int(seconds) + int(microseconds) / 1e6, int(latency) / 1000


# ── Words ────────────────────────────────────────────────────────────────────────────────────────


def stall_table(runs: Sequence[Measured], limit: int) -> str:
    """Latencies in milliseconds, and how the change went."""
    head = [
        "ADD COLUMN by",
        *("p50, ms", "p95", "p99", "max", f"over {limit} ms", "longest silence, s"),
        *("tries", "done after, s", "after the report, s"),
    ]
    return table(head, [cells(run, limit) for run in runs])


def cells(run: Measured, limit: int) -> list[str]:
    """One run's row."""
    latencies = [
        f"{statistics.median(run.latencies):.1f}",
        *(f"{run.percentile(share):,.0f}" for share in (0.95, 0.99)),
        f"**{run.latencies[-1]:,.0f}**",
        f"{sum(ms > limit for ms in run.latencies):,} of {len(run.latencies):,}",
        f"{run.silence:.2f}",
    ]
    change = ["–"] * 3
    if run.tries is not None:
        change = [str(run.tries), f"{run.took:.1f}", f"{run.after_reader:.1f}"]
    return [run.title, *latencies, *change]


if __name__ == "__main__":
    main()
