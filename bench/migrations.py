"""How fast migrations are applied, beside the barest loop and other tools: `make bench-migrations`.

Each run has a new database on a server with durable commits, and counts only if everything was
applied. The runners take turns, so that a busy moment of the machine affects all of them.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import psycopg

from bench.processes import (
    LONGEST_RUN,
    NotApplied,
    Run,
    last_line,
    libpq_environment,
    run_process,
)
from bench.report import judged, machine, progress, publish, spread, table
from bench.tools import TOOLS, Tool, environment
from bench.workload import (
    small_migrations,
    what_is_there,
    what_should_be_there,
    write_data_file,
    write_plain,
)
from sandbox.parts.local_postgres import LocalPostgres, local_postgres

ROOT = Path(__file__).resolve().parents[1]
DURABLE: dict[str, str | int] = {
    "fsync": "on",
    "synchronous_commit": "on",
    "shared_buffers": "512MB",
}
SLOWER_AT_MOST = 1.2  # times the bare loop
NOTHING_AT_MOST = 0.3  # seconds
MEMORY_AT_MOST = 150.0  # MB
_NUMBERS = count(1)


@dataclass
class Runner:
    """One way to apply migrations, and what was measured of it."""

    title: str
    write: Callable[[Path, str], None]  # the migrations, into a folder, for a connection string
    run: Callable[[Path, str], Run]
    url: Callable[[str], str]
    records: str
    applied: list[Run] = field(default_factory=list)
    nothing: list[Run] = field(default_factory=list)
    why_not: str = ""  # why it could not be measured

    @property
    def seconds(self) -> float:
        return statistics.median(run.seconds for run in self.applied)


def main() -> None:
    """Measure, print, and write into docs/benchmarks.md."""
    options = arguments()
    with local_postgres(DURABLE) as server:
        with psycopg.connect(server.dsn) as connection:
            where = machine(connection, server.data)
        runners = the_runners(small_migrations(options.files))
        for number in range(options.rounds):
            # Each round begins with another one, so that none always follows the same neighbour.
            first = number % len(runners)
            for runner in [*runners[first:], *runners[:first]]:
                if not runner.why_not:
                    measure(server, runner, options.files)
        data = measure_data_file(server, options.rows, options.rounds)
    text = "\n\n".join(
        [
            f"{where}. Medians [range]; rounds: {options.rounds}.",
            small_table(runners, options.files),
            small_verdicts(runners),
            data_table(data, options.rows),
            data_verdicts(data["ignition"]),
        ]
    )
    publish("migrations", text, write=options.write)


def arguments() -> argparse.Namespace:
    """Smaller numbers are for trying the benchmark itself: what they give is printed only."""
    parser = argparse.ArgumentParser(prog="python -m bench.migrations", description=__doc__)
    parser.add_argument("--files", type=int, default=1000, help="small migrations")
    parser.add_argument("--rows", type=int, default=100_000, help="statements of the data file")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--print-only", dest="write", action="store_false", help="leave docs/benchmarks.md alone"
    )
    return parser.parse_args()


# ── Runners ──────────────────────────────────────────────────────────────────────────────────────


def the_runners(migrations: Sequence[str]) -> list[Runner]:
    """The bare loop, ours, and every tool that can be installed."""

    def plain(folder: Path, url: str) -> None:
        write_plain(folder, migrations)

    def within(how: str, records: str) -> Runner:
        title = f"{IN_PROCESS[how]}, within a running process"
        return Runner(title, plain, lambda f, url: run_inside(how, f, url), str, records)

    def beside(tool: Tool) -> Runner:
        return Runner(
            title=tool.title,
            write=lambda folder, url: tool.write(folder, migrations, url),
            run=lambda folder, url: run_process(tool.command, folder, environment(url)),
            url=tool.url,
            records=tool.records,
            why_not=tool.why_not(),
        )

    return [
        within("bare", "SELECT count(*) FROM bare_migrations"),
        within("ours", "SELECT count(*) FROM schema_migrations"),
        *(beside(tool) for tool in TOOLS),
    ]


IN_PROCESS = {"bare": "the barest psycopg loop", "ours": "ignition"}


def run_inside(how: str, folder: Path, url: str) -> Run:
    """Run it in a new process whose clock starts once all modules are loaded, as in a worker."""
    done = subprocess.run(
        [sys.executable, "-m", "bench.inside", how, str(folder)],
        cwd=ROOT,
        env=environment(url),
        capture_output=True,
        text=True,
        timeout=LONGEST_RUN,
        check=False,
    )
    if done.returncode != 0:
        raise NotApplied(last_line(done.stderr))
    return Run(**json.loads(done.stdout))


# ── Measuring ────────────────────────────────────────────────────────────────────────────────────


@contextmanager
def a_database(server: LocalPostgres) -> Iterator[str]:
    """A new database, with nothing left to write to disk from before."""
    name = f"bench_{next(_NUMBERS)}"
    with psycopg.connect(server.dsn, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
        connection.execute("CHECKPOINT")
        yield server.dsn.replace("/postgres", f"/{name}")
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


def measure(server: LocalPostgres, runner: Runner, files: int) -> None:
    """Apply all migrations, check that they took effect, and run the same once more."""
    with a_database(server) as dsn, tempfile.TemporaryDirectory() as scratch:
        folder, url = Path(scratch), runner.url(dsn)
        runner.write(folder, url)
        try:
            applied = runner.run(folder, url)
            require_all(dsn, runner.records, files)
            nothing = runner.run(folder, url)
            require_all(dsn, runner.records, files)
        except (NotApplied, psycopg.Error) as error:
            runner.why_not = f"failed: {error}"
            progress(f"{runner.title}: {runner.why_not}")
            return
    runner.applied.append(applied)
    runner.nothing.append(nothing)
    progress(f"{runner.title}: {applied.seconds:.2f} s, again {nothing.seconds:.3f} s")


def require_all(dsn: str, records: str, files: int) -> None:
    """Raise NotApplied unless every migration has left what it should, and its record."""
    with psycopg.connect(dsn) as connection:
        found, expected = what_is_there(connection), what_should_be_there(files)
        recorded = connection.execute(records.encode()).fetchone()
    if found != expected or recorded is None or recorded[0] != files:
        raise NotApplied(f"tables, columns, rows {found} of {expected}, records {recorded}")


def measure_data_file(server: LocalPostgres, rows: int, rounds: int) -> dict[str, list[Run]]:
    """Apply the big data file by ours, by the bare loop and by psql."""
    runs: dict[str, list[Run]] = {title: [] for title in ("ignition", *DATA_BESIDE)}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        file = write_data_file(folder, rows)
        ways: dict[str, Callable[[str], Run]] = {
            "ignition": lambda dsn: run_inside("ours", folder, dsn),
            "the barest psycopg loop": lambda dsn: run_inside("bare", folder, dsn),
            "psql -1 -f": lambda dsn: run_psql(server, file, dsn),
        }
        for _ in range(rounds):
            for title, way in ways.items():
                with a_database(server) as dsn:
                    runs[title].append(way(dsn))
                    require_rows(dsn, rows)
                progress(f"data file, {title}: {runs[title][-1]}")
    return runs


DATA_BESIDE = ("the barest psycopg loop", "psql -1 -f")


def run_psql(server: LocalPostgres, file: Path, dsn: str) -> Run:
    """Run a file by psql, all statements in one transaction."""
    quiet = ("--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1")
    return run_process(
        [server.programs / "psql", *quiet, "--single-transaction", "--file", file],
        file.parent,
        libpq_environment(dsn),
    )


def require_rows(dsn: str, rows: int) -> None:
    """Raise NotApplied unless all rows of the data file exist."""
    with psycopg.connect(dsn) as connection:
        found = connection.execute("SELECT count(*) FROM notes").fetchone()
    if found != (rows,):
        raise NotApplied(f"{found} of {rows} rows")


# ── Words ────────────────────────────────────────────────────────────────────────────────────────


def small_table(runners: Sequence[Runner], files: int) -> str:
    """The runners, the fastest first."""
    bare = runners[0].seconds
    measured = sorted((one for one in runners if one.applied), key=lambda one: one.seconds)
    rows = [
        [
            runner.title,
            spread([run.seconds for run in runner.applied]),
            f"{runner.seconds / bare:.2f}",
            f"{statistics.median(run.cpu for run in runner.applied):.2f}",
            spread([run.seconds for run in runner.nothing], 3),
        ]
        for runner in measured
    ]
    rows += [
        [f"{runner.title} ({runner.why_not})", *["–"] * 4]
        for runner in runners
        if not runner.applied
    ]
    head = [
        "a transaction per file",
        f"{files:,} migrations, s",
        "× bare loop",
        "client CPU, s",
        "nothing to do, s",
    ]
    return table(head, rows)


def small_verdicts(runners: Sequence[Runner]) -> str:
    """The targets, and whether they were met."""
    bare, ours, *others = runners
    lines = [
        judged("Against the bare loop", ours.seconds / bare.seconds, SLOWER_AT_MOST, " ×"),
        judged(
            "Nothing to do",
            statistics.median(run.seconds for run in ours.nothing),
            NOTHING_AT_MOST,
            " s",
        ),
    ]
    lines += [
        judged(f"Ahead of {other.title}", ours.seconds, round(other.seconds, 2), " s")
        for other in others
        if other.applied and not other.title.startswith("dbmate")
    ]
    return "\n".join(lines)


def data_table(runs: dict[str, list[Run]], rows: int) -> str:
    """Seconds and memory for the data file."""
    return table(
        [f"a file of {rows:,} INSERTs", "s", "client idle, MB", "client at its peak, MB"],
        [
            [
                title,
                spread([run.seconds for run in measured]),
                f"{measured[0].idle_mb:.0f}" if measured[0].idle_mb else "–",
                f"{max(run.peak_mb for run in measured):.0f}",
            ]
            for title, measured in runs.items()
        ],
    )


def data_verdicts(runs: Sequence[Run]) -> str:
    """The peak of all runs, in total and without what the idle process takes."""
    peak, growth = (
        max(run.peak_mb for run in runs),
        max(run.peak_mb - run.idle_mb for run in runs),
    )
    return "\n".join(
        [
            judged("Client memory with the data file", peak, MEMORY_AT_MOST, " MB"),
            judged("Of that, beyond the idle process", growth, MEMORY_AT_MOST, " MB"),
        ]
    )


if __name__ == "__main__":
    main()
