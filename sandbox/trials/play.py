"""`make trials`: releases, good and bad, deployed for real under load, each with its own ending.

Everything goes to staging, where items pass on their evidence: gates have tests of their own. The
windows of the runbook are shortened by settings in the sandbox's `ignition.toml`, nothing else.
"""

import json
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from release.ledger import EventKind
from release.model import Step
from sandbox import runs, witness
from sandbox.commands import wait_until
from sandbox.errors import SandboxError
from sandbox.layout import CHECKOUT, Sandbox
from sandbox.parts import configuration, environments, origin, prometheus, stack
from sandbox.runs import AT, RUN_TIMEOUT, Kept, follow, next_version, roll_back, say, start
from sandbox.traffic import Traffic, TrafficReport
from sandbox.trials.table import HEAD, SUSTAINED, Observed, Scenario, Trial, chosen, rows, wrongs

if TYPE_CHECKING:
    from cli.runs import RunView

KEPT = CHECKOUT / ".trials"  # the logs of trials that failed
RESULTS = Kept(
    section="trials",
    head=HEAD,
    right=(2, 3, 5, 6),
    rows=rows,
    name=lambda trial: trial.scenario,
    read=Trial.from_json,
)
TAIL = 2.0  # seconds of traffic after a run has ended
RULES = {
    f"environments.{AT}.rollout": {"bake": "2 s", "healthy_within": "10 s"},
    f"environments.{AT}.watch": {"sustained_for": f"{SUSTAINED:.0f} s", "extend_up_to": "20 s"},
}
VERIFY = '\n[environments.staging.verify]\nhealth_within = "5 s"\n'


def trials(sandbox: Sandbox, rounds: int, only: str) -> bool:
    """Run each chosen scenario ``rounds`` times. Returns whether all passed every time.

    Results replace those that are kept of the same scenarios, and docs/trials.md shows all that
    are kept. Raises SandboxError if this sandbox is up already, or for an unknown scenario.
    """
    scenarios = chosen(only)
    done: list[Trial] = []
    with stack.standing(sandbox, "trials"):
        shorten_windows(sandbox)
        serve_main(sandbox)
        for round in range(1, rounds + 1):
            for scenario in scenarios:
                say(f"\nround {round} of {rounds}: {scenario.title}")
                done.append(play(sandbox, scenario))
                RESULTS.keep(done)
    show(done)
    return all(not trial.wrongs for trial in done)


def shorten_windows(sandbox: Sandbox) -> None:
    """Write the shortened rules into the sandbox's configuration; each run reads it again."""
    text = sandbox.configuration_file.read_text() + VERIFY
    for table, values in RULES.items():
        text = configuration.set_values(text, table, values)
    sandbox.configuration_file.write_text(text)


@contextmanager
def watching_for(sandbox: Sandbox, length: str) -> Iterator[None]:
    """Set the watch's length for a while."""
    before = sandbox.configuration_file.read_text()
    changed = configuration.set_values(before, f"environments.{AT}.watch", {"length": length})
    sandbox.configuration_file.write_text(changed)
    try:
        yield
    finally:
        sandbox.configuration_file.write_text(before)


def serve_main(sandbox: Sandbox) -> None:
    """Deploy the head of main before anything is tried: bad releases branch off from it."""
    say("\nmain is deployed first")
    ended = follow(deploy(sandbox, "main", next_version(sandbox), "before the trials"))
    if ended.state != "Deployed":
        raise SandboxError(f"main ended as {ended.state}: {ended.message}")


def play(sandbox: Sandbox, scenario: Scenario) -> Trial:
    """Deploy a release of one kind under load, look at what came of it, and clean up."""
    version = next_version(sandbox)
    before = environments.served_version(sandbox.staging) or ""
    with (
        watching_for(sandbox, scenario.watch),
        metrics(sandbox, scenario.metrics),
        traffic(sandbox, scenario.rate) as client,
    ):
        started = deploy(sandbox, scenario.branch, version, scenario.title)
        p0 = declare_p0(sandbox, started) if scenario.p0 else None
        ended = follow(started)
        over = time.time()
        p0_ending = follow(p0).state if p0 else ""
        serves = environments.served_version(sandbox.staging) or ""
        report = finish(client)
    seen = Observed(
        version=version,
        before=before,
        ending=ended.state,
        message=ended.message,
        serves=serves,
        answered_after=dict(Counter(s.version for s in report.samples if s.sent_at > over)),
        requests=report.requests,
        failed=report.failed,
        met=report.by(version).requests,
        failed_by_it=report.by(version).failed,
        failed_before=failed_before(sandbox, ended.id, report),
        held_by=witness.lock_holder(sandbox, AT),
        containers=witness.instances(sandbox.staging),
        pinned=witness.pinned(sandbox.staging),
        took=over - started_at(sandbox, ended.id),
        to_restore=seconds_to_restore(sandbox, scenario, ended.id, report.by(version)),
        p0_ending=p0_ending,
        cleaned_up=clean_up(scenario, ended.state),
    )
    return tell(sandbox, scenario, seen, ended.id, report)


@contextmanager
def metrics(sandbox: Sandbox, there: bool) -> Iterator[None]:
    """Stop Prometheus for a while, unless it is to run."""
    if there:
        yield
        return
    prometheus.stop(sandbox)
    try:
        yield
    finally:
        prometheus.ensure_prometheus(sandbox)
        prometheus.wait_for_data(sandbox)


@contextmanager
def traffic(sandbox: Sandbox, rate: float) -> Iterator[Traffic | None]:
    """A client on staging's public address; None if ``rate`` is 0."""
    if not rate:
        yield None
        return
    with Traffic(sandbox.staging.public_url, rate=rate) as client:
        yield client


def finish(client: Traffic | None) -> TrafficReport:
    """A little more traffic on what serves now, and the report."""
    if client is None:
        return TrafficReport(())
    time.sleep(TAIL)  # how long it is looked at, not a wait for something
    return client.stop()


def failed_before(sandbox: Sandbox, run_id: str, report: TrafficReport) -> int:
    """Requests that failed before a run started its release; all of them if it never did."""
    begun = dict(witness.events(sandbox, run_id, EventKind.STEP_BEGUN))
    touched = begun[Step.DEPLOY].timestamp() if Step.DEPLOY in begun else time.time()
    return sum(sample.sent_at < touched for sample in report.failures)


def seconds_to_restore(
    sandbox: Sandbox, scenario: Scenario, run_id: str, by_it: TrafficReport
) -> float | None:
    """Seconds from the verdict to the last request that the release answered.

    Returns None if there was no verdict, or the release answered none.
    """
    declared = witness.events(sandbox, run_id, EventKind.P0_DECLARED) if scenario.p0 else []
    verdict = declared[0][1].timestamp() if declared else witness.verdict_at(sandbox, run_id)
    if verdict is None or not by_it.requests:
        return None
    return max(0.0, by_it.samples[-1].sent_at - verdict)


# ---- runs


def deploy(sandbox: Sandbox, branch: str, version: str, notes: str) -> "RunView":
    """Deploy a branch, as a new commit: a commit that serves already is not deployed again."""
    own = f"trial/{version}"
    origin.branch_off(sandbox.origin, branch, own, f"Release {version}: {notes}")
    request = {"version": version, "ref": own, "started_by": "trials", "notes": notes}
    return start("deploy", request, version)


def declare_p0(sandbox: Sandbox, deployment: "RunView") -> "RunView":
    """Ask for a rollback once the deployment has reached its watch."""
    wait_until(
        lambda: any(
            step == Step.POST
            for step, _ in witness.events(sandbox, deployment.id, EventKind.STEP_BEGUN)
        ),
        what=f"the watch of {deployment.label}",
        seconds=RUN_TIMEOUT.total_seconds(),
        hint=f"read {sandbox.logs}",
    )
    return roll_back("P0: orders are charged twice", by="trials")


def clean_up(scenario: Scenario, ending: str) -> str:
    """Get rid of a bad release that serves, so that the next trial begins with a good one.

    Returns the rollback's ending; "" if there was nothing to do.
    """
    if ending != "Deployed" or scenario.branch == "main":
        return ""
    reason = f"after the trial of {scenario.name}"
    return follow(roll_back(reason, by="trials")).state


def started_at(sandbox: Sandbox, run_id: str) -> float:
    """When a run began, in seconds since 1970: its first line in the log."""
    return witness.log(sandbox, run_id)[0][0]


# ---- what is shown and kept


def tell(
    sandbox: Sandbox, scenario: Scenario, seen: Observed, run_id: str, report: TrafficReport
) -> Trial:
    """Say how a trial went, and keep its log if it failed."""
    trial = Trial.of(scenario, seen)
    restored = "" if trial.to_restore is None else f", restored in {trial.to_restore:.1f} s"
    say(f"  {seen.ending} after {trial.took:.0f} s{restored}: {trial.message}")
    say(f"  {seen.failed:,} of {seen.requests:,} requests failed; {seen.met:,} met {seen.version}")
    for wrong in trial.wrongs:
        say(f"  WRONG: {wrong}")
    if trial.wrongs:
        say(f"  see {keep_log(sandbox, scenario, seen, run_id, report)}")
    return trial


def keep_log(
    sandbox: Sandbox, scenario: Scenario, seen: Observed, run_id: str, report: TrafficReport
) -> Path:
    """Write down what is needed to understand a wrong ending."""
    KEPT.mkdir(exist_ok=True)
    file = KEPT / f"{scenario.name}-{datetime.now(UTC):%H%M%S}.log"
    lines = [*wrongs(scenario, seen), "", json.dumps(asdict(seen), indent=2, default=list), ""]
    lines += [f"failed {line}" for line in witness.failures(report)]
    lines += [
        f"{datetime.fromtimestamp(at, UTC):%H:%M:%S.%f} {line}"
        for at, line in witness.log(sandbox, run_id)
    ]
    file.write_text("\n".join(lines) + "\n")
    return file


def show(done: Sequence[Trial]) -> None:
    """Print the table of these trials."""
    runs.show(HEAD[:-1], [row[:-1] for row in rows(done) if row[2] != "not run"])
    runs.say_wrongs([(trial.scenario, trial.wrongs) for trial in done])
