"""`make demo`: the main job on real parts, with a client counting failed requests all the while."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import timedelta

import httpx

from sandbox.errors import SandboxError
from sandbox.layout import Sandbox
from sandbox.parts import approvers, stack
from sandbox.traffic import Traffic, TrafficReport
from sandbox.witness import Lookout, failures, verdict_at

RATE = 200.0  # requests a second
RUN_TIMEOUT = timedelta(minutes=4)


@dataclass(frozen=True)
class Scenario:
    """One deployment to production, and how it must end."""

    title: str
    version: str
    ref: str
    ending: str
    serves: str
    may_fail_requests: bool


SCENARIOS = (
    Scenario("a good release", "v1.1.0", "main", "Deployed", "v1.1.0", False),
    Scenario(
        "a bad one, caught before users reach it",
        "v1.2.0",
        "bad/failing-smoke",
        "RolledBack",
        "v1.1.0",
        False,
    ),
    Scenario(
        "one that goes bad under traffic",
        "v1.3.0",
        "bad/errors-under-traffic",
        "RolledBack",
        "v1.1.0",
        True,
    ),
)


@dataclass(frozen=True)
class Result:
    """What happened, as `.sandbox/demo.json` holds it."""

    scenario: str
    ending: str
    served_before: str
    served_after: str
    requests: int
    failed: int
    seconds_to_serve: float | None  # last signature → first answer by the new release
    seconds_to_restore: float | None  # verdict → last answer by the new release

    def as_expected(self, scenario: Scenario) -> bool:
        """Whether it ended as it should."""
        return (
            self.ending == scenario.ending
            and self.served_after == scenario.serves
            and self.requests > 0
            and (scenario.may_fail_requests or self.failed == 0)
        )


def demo(sandbox: Sandbox) -> bool:
    """Play all scenarios on a fresh sandbox and take it away. Returns whether all went as expected.

    Raises SandboxError if this sandbox is up already: its state would not be a fresh one.
    """
    results: list[Result] = []
    with stack.standing(sandbox, "demo"), Lookout(sandbox.production.public_url) as lookout:
        for scenario in SCENARIOS:
            results.append(play(sandbox, scenario, lookout))
    write(sandbox, results)
    show(sandbox, results)
    return len(results) == len(SCENARIOS) and all(
        result.as_expected(scenario) for result, scenario in zip(results, SCENARIOS, strict=True)
    )


def play(sandbox: Sandbox, scenario: Scenario, lookout: Lookout) -> Result:
    """Start one deployment under traffic, sign its gates as people would, and wait for its end."""
    from cli.runs import follow, start

    say(f"\n{scenario.title}: {scenario.version} from {scenario.ref}")
    before = lookout.seen[-1][1] if lookout.seen else version_at(sandbox)
    signed: list[float] = []
    with traffic(sandbox) as client:
        run = start(
            "deploy/production",
            {
                "request": {
                    "version": scenario.version,
                    "ref": scenario.ref,
                    "started_by": "demo",
                    "notes": scenario.title,
                },
                "environment": "production",
            },
            f"deploy {scenario.version} to production",
            ["env:production"],
        )
        ended = follow(run, signer(sandbox, signed), within=RUN_TIMEOUT)
        report = client.stop()
    say(f"  {ended.state}: {ended.message.splitlines()[0]}")
    for line in failures(report):
        say(f"  failed {line}")
    return measure(sandbox, scenario, lookout, report, ended, before, signed)


@contextmanager
def traffic(sandbox: Sandbox) -> Iterator[Traffic]:
    """A client on production's public address."""
    with Traffic(sandbox.production.public_url, rate=RATE) as client:
        yield client


def signer(sandbox: Sandbox, signed: list[float]) -> Callable[[object], None]:
    """On-call, scripted: two people sign each gate one after the other, each with a code.

    Only the API that a person's browser uses is called.
    """
    from cli.runs import RunView, answer

    waiting = list(approvers.NAMES)

    def look(run: object) -> None:
        assert isinstance(run, RunView)
        say(f"  [{run.label}] {run.state}")
        if not run.waiting:
            return
        if not waiting:
            raise SandboxError(f"{run.label} waits for a signature, but no approver is left")
        name = waiting.pop(0)
        answer(run, approvers.approval(sandbox, name, comment="signed by the demo"))
        signed.append(time.time())
        say(f"  [{run.label}] {name} signed")

    return look


def measure(
    sandbox: Sandbox,
    scenario: Scenario,
    lookout: Lookout,
    report: TrafficReport,
    ended: object,
    before: str,
    signed: list[float],
) -> Result:
    """Put the scenario's figures together, from the client, the lookout and the ledger."""
    served = lookout.first(scenario.version, signed[-1]) if signed else None
    verdict = verdict_at(sandbox, getattr(ended, "id", ""))
    last = lookout.last(scenario.version)
    return Result(
        scenario=scenario.title,
        ending=getattr(ended, "state", ""),
        served_before=before,
        served_after=version_at(sandbox),
        requests=report.requests,
        failed=report.failed,
        seconds_to_serve=round(served - signed[-1], 1) if served else None,
        seconds_to_restore=round(max(last - verdict, 0.0), 1) if verdict and last else None,
    )


def version_at(sandbox: Sandbox) -> str:
    """The version that production answers with now."""
    try:
        answer = httpx.get(f"{sandbox.production.public_url}/api/", timeout=5)
        return str(answer.json()["version"])
    except (httpx.HTTPError, ValueError, KeyError) as error:
        return f"nothing ({type(error).__name__})"


def write(sandbox: Sandbox, results: list[Result]) -> None:
    """Write the results where a script finds them."""
    sandbox.folder.mkdir(parents=True, exist_ok=True)
    (sandbox.folder / "demo.json").write_text(
        json.dumps([asdict(result) for result in results], indent=2) + "\n"
    )


def show(sandbox: Sandbox, results: list[Result]) -> None:
    """Print the outcomes, where the UI is, and what to try next."""
    from rich.console import Console
    from rich.table import Table

    table = Table("scenario", "ending", "served", "requests", "failed", "to serve", "to restore")
    for result in results:
        table.add_row(
            result.scenario,
            result.ending,
            f"{result.served_before} → {result.served_after}",
            f"{result.requests:,}",
            f"{result.failed:,}",
            seconds(result.seconds_to_serve),
            seconds(result.seconds_to_restore),
        )
    Console(width=130).print(table)
    say("to serve: last signature → first answer by the new release, build included")
    say("to restore: verdict → last answer by the new release")
    say(f"\nthe same by hand: make up   then the UI at {sandbox.prefect_ui_url}")
    say(f"next command to try: . {sandbox.folder}/env && ignition status")


def seconds(value: float | None) -> str:
    """A figure of the table; a dash if there is none."""
    return "–" if value is None else f"{value:.1f} s"


def say(line: str) -> None:
    """One line of progress."""
    print(line, flush=True)
