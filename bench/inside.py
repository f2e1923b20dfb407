"""Apply a folder of migrations within this process, as a running worker does, and say what it took.

``python -m bench.inside ours|bare FOLDER``, with the connection string in DATABASE_URL. The clock
starts when Python and all modules are loaded. Prints one line of JSON.
"""

import json
import os
import sys
import time
from pathlib import Path

import psycopg

from bench.processes import peak_memory
from blocks.postgres.database import apply_folder


def ours(dsn: str, folder: Path) -> None:
    """Read, plan and apply, by the runner of this project."""
    lines: list[str] = []
    apply_folder(dsn, folder, lines.append)


def bare(dsn: str, folder: Path) -> None:
    """The least that applies each file with its record in one transaction. It checks nothing."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS bare_migrations (version text PRIMARY KEY)")
        done = {row[0] for row in connection.execute("SELECT version FROM bare_migrations")}
        for path in sorted(folder.glob("*.sql")):
            version = path.name.partition("_")[0]
            if version not in done:
                connection.execute("BEGIN")
                connection.execute(path.read_bytes())
                connection.execute("INSERT INTO bare_migrations VALUES (%s)", (version,))
                connection.execute("COMMIT")


def main(how: str, folder: Path) -> None:
    """Run one of the two, and print seconds, CPU seconds, and memory before and at its peak."""
    dsn = os.environ["DATABASE_URL"]
    # From now on the peak is this run's own, not that of loading the modules.
    Path("/proc/self/clear_refs").write_text("5")
    idle = peak_memory(os.getpid())
    cpu, started = time.process_time(), time.perf_counter()
    {"ours": ours, "bare": bare}[how](dsn, folder)
    seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
    peak = peak_memory(os.getpid())
    print(json.dumps({"seconds": seconds, "cpu": cpu, "idle_mb": idle, "peak_mb": peak}))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
