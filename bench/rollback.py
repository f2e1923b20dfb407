"""How long a bad release still answers users after the verdict: `make bench-rollback`.

A sandbox is up, a client sends 300 requests/s to staging, and a release is deployed. During its
watch, a P0 is declared. The time from the watch's verdict (its log line) to the last answer of the
release is measured, once with the old containers drained but running, and once with them stopped.
"""

import argparse
import os
import re
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime
from itertools import count
from typing import TYPE_CHECKING

import httpx

from bench.report import judged, progress, publish, spread, table
from release.model import Step
from sandbox.commands import wait_until
from sandbox.layout import FOLDER_VARIABLE, PORTS_VARIABLE, Sandbox
from sandbox.parts import configuration, stack
from sandbox.traffic import Traffic
from sandbox.witness import Lookout

if TYPE_CHECKING:  # it brings Prefect along
    from blocks.ledger.ledger import Ledger

RATE = 300.0  # requests/s
LOOKOUTS = 4  # each asks 20 times a second for the version that answers
GRACE = 1.5  # seconds of traffic after the end of a run
WITHIN = 300.0  # seconds that a deployment may take to its watch
INTO_THE_WATCH = 3.0  # seconds of the watch before the P0
ENVIRONMENT = "staging"
WARM, STOPPED = "drained, running", "stopped"
HEARD_WITHIN = 5.0  # seconds
LIMITS = {WARM: 2.0, STOPPED: 5.0}  # seconds


@dataclass(frozen=True)
class Measured:
    """One rollback, in seconds."""

    heard: float  # from the declaration to the verdict
    restored: float  # from the verdict to the last answer of the bad release
    ended: float  # from the verdict to the end of the run
    requests: int
    failed: int


def main() -> None:
    """Measure, print, and write into docs/benchmarks.md."""
    options = arguments()
    here = {FOLDER_VARIABLE: ".sandbox-bench", PORTS_VARIABLE: "19500"}
    sandbox = Sandbox.from_environment(os.environ | here)
    # Before anything imports Prefect, which reads the server's address once.
    os.environ.update(sandbox.variables() | configuration.secrets(sandbox))
    measured: dict[str, list[Measured]] = {WARM: [], STOPPED: []}
    minors = count(1)
    try:
        stack.up(sandbox)
        for _ in range(options.rounds):
            for state in measured:
                configure(sandbox, warm=state == WARM)
                found = measure(sandbox, f"v1.{next(minors)}.0")
                measured[state].append(found)
                progress(f"{state}: {found}")
    finally:
        stack.down(sandbox)
    load = f"{os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f} at the end"
    text = "\n\n".join(
        [
            f"{load}. {RATE:.0f} requests/s; medians [range] of {options.rounds} rounds, in s.",
            result_table(measured),
            verdicts(measured),
        ]
    )
    publish("rollback", text, write=options.write)


def arguments() -> argparse.Namespace:
    """Fewer rounds are for trying the benchmark itself: what they give is printed only."""
    parser = argparse.ArgumentParser(prog="python -m bench.rollback", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--print-only", dest="write", action="store_false", help="leave docs/benchmarks.md alone"
    )
    return parser.parse_args()


def configure(sandbox: Sandbox, *, warm: bool) -> None:
    """A watch that lasts, with samples as far apart as by default; containers warm or stopped."""
    text = configuration.render(sandbox)
    head, mark, rest = text.partition(f"[environments.{ENVIRONMENT}.rollout]\n")
    rest = f"keep_warm = {str(warm).lower()}\n" + rest
    for name, value in {"length": "3 min", "every": "15 s", "longest_gap": "60 s"}.items():
        rest = re.sub(rf'^{name} = ".*"$', f'{name} = "{value}"', rest, count=1, flags=re.M)
    sandbox.configuration_file.write_text(head + mark + rest)


def measure(sandbox: Sandbox, version: str) -> Measured:
    """Deploy a release, declare a P0 in its watch, and see which release answers until when."""
    from cli.p0 import roll_back
    from cli.runs import start
    from release.ledger import EventKind
    from release.request import RollbackRequest
    from settings import load_settings

    url = sandbox.staging.public_url
    with Traffic(url, rate=RATE) as traffic, lookouts(url) as seen:
        request = {"version": version, "ref": "main", "started_by": "bench"}
        run = start(
            f"deploy/{ENVIRONMENT}",
            {"request": request, "environment": ENVIRONMENT},
            f"deploy {version} to {ENVIRONMENT}",
            [],
        )
        wait_for_watch(run.id)
        time.sleep(INTO_THE_WATCH)
        back = RollbackRequest(reason="measured", started_by="bench")
        done = roll_back(load_settings(), ENVIRONMENT, back, lambda: True, progress)
        if not done:
            raise SystemExit(f"{version} was not rolled back")
        time.sleep(GRACE)
        report = traffic.stop()
    declared = ledger().events(run_id=run.id, kinds=[EventKind.P0_DECLARED])[0].at.timestamp()
    verdict = said_at(sandbox, run.id, "watch FAILED")
    last = max(filter(None, (lookout.last(version) for lookout in seen)))
    return Measured(
        heard=verdict - declared,
        restored=last - verdict,
        ended=ended_at(sandbox, run.id) - verdict,
        requests=report.requests,
        failed=report.failed,
    )


@contextmanager
def lookouts(url: str) -> Iterator[Sequence[Lookout]]:
    """Several at once, so that the time of the last answer is right to less than 50 ms."""
    with ExitStack() as opened:
        yield [opened.enter_context(Lookout(url)) for _ in range(LOOKOUTS)]


def ledger() -> "Ledger":
    """The sandbox's ledger."""
    from cli.examine import ledger_of
    from settings import load_settings

    return ledger_of(load_settings())


def wait_for_watch(run_id: str) -> None:
    """Wait until the deployment has begun its watch."""
    wait_until(
        lambda: Step.POST in ledger().steps_begun(run_id),
        what=f"the watch of {run_id}",
        seconds=WITHIN,
        hint="read the worker's log",
    )


def said_at(sandbox: Sandbox, run_id: str, words: str) -> float:
    """When a run logged a line with some words, in seconds since 1970."""
    wanted = {"logs": {"flow_run_id": {"any_": [run_id]}}, "sort": "TIMESTAMP_ASC"}
    found: list[float] = []

    def look() -> bool:
        answer = httpx.post(f"{sandbox.prefect_api_url}/logs/filter", json=wanted)
        lines = [line for line in answer.json() if words in line["message"]]
        found[:] = [datetime.fromisoformat(line["timestamp"]).timestamp() for line in lines]
        return bool(found)

    # The run sends its lines a little after it writes them.
    wait_until(look, what=f"{words!r} in {run_id}", seconds=30, hint="read the worker's log")
    return found[0]


def ended_at(sandbox: Sandbox, run_id: str) -> float:
    """When a run ended, in seconds since 1970."""
    run = httpx.get(f"{sandbox.prefect_api_url}/flow_runs/{run_id}").json()
    return datetime.fromisoformat(run["end_time"]).timestamp()


def result_table(measured: dict[str, list[Measured]]) -> str:
    """One row for each state of the old containers."""
    head = [
        "old containers",
        "P0 declared → verdict",
        "verdict → last answer of the bad release",
        "verdict → end of the run, verified",
        "failed requests",
    ]
    rows = [
        [
            state,
            spread([run.heard for run in runs], 1),
            spread([run.restored for run in runs]),
            spread([run.ended for run in runs], 1),
            f"{sum(run.failed for run in runs)} of {sum(run.requests for run in runs):,}",
        ]
        for state, runs in measured.items()
    ]
    return table(head, rows)


def verdicts(measured: dict[str, list[Measured]]) -> str:
    """The targets, and whether the median and the slowest met them."""
    lines = []
    for state, runs in measured.items():
        times = [run.restored for run in runs]
        lines.append(judged(f"{state}, median", statistics.median(times), LIMITS[state], " s"))
        lines.append(judged(f"{state}, slowest", max(times), LIMITS[state], " s"))
    heard = max(run.heard for runs in measured.values() for run in runs)
    lines.append(judged("A P0 is heard, slowest", heard, HEARD_WITHIN, " s"))
    return "\n".join(lines)


if __name__ == "__main__":
    main()
