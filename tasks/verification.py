"""Step 5 of the runbook: a release shows what it is, before users meet it and after."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import replace
from datetime import timedelta
from functools import partial
from logging import DEBUG, INFO
from pathlib import Path
from time import monotonic
from typing import Protocol, TypeVar

from prefect.artifacts import create_markdown_artifact

from blocks.orchestrator import Orchestrator
from blocks.polling import poll
from blocks.service import Service, SmokeTests
from release.configuration.layout import ServiceLayout
from release.configuration.rules import VerifyRules
from release.duration import say_duration
from release.errors import DeployError, VerificationFailed
from release.model import Baseline, Check, Instance, Release
from release.verification import (
    check_health,
    check_smoke,
    check_version,
    explain_failures,
    only_smoke_failed,
    summary,
)
from tasks.alarm import heed
from tasks.say import say
from tasks.step import put_off, step, write_report

T = TypeVar("T")

_AGAIN_AFTER = timedelta(milliseconds=500)
_TIMEOUT = timedelta(minutes=30)  # of a step; the rules bound its parts much closer


class Source(Protocol):
    """Where the smoke tests are."""

    def export(self, revision: str) -> AbstractContextManager[Path]:
        """A folder that holds exactly the tree of ``revision``."""
        ...


class Say(Protocol):
    """Says a line, by default at INFO; details at DEBUG."""

    def __call__(self, text: str, level: int = INFO, /) -> None: ...


class Verified(Protocol):
    """What verification needs of a target."""

    @property
    def environment(self) -> str: ...
    @property
    def service(self) -> Service: ...
    @property
    def repository(self) -> Source: ...


class Started(Verified, Protocol):
    """The same, and where each instance answers."""

    @property
    def orchestrator(self) -> Orchestrator: ...


@step("Verify new instances", timeout=_TIMEOUT)
def verify_instances(
    target: Started,
    instances: Sequence[Instance],
    release: Release,
    service: ServiceLayout,
    rules: VerifyRules,
) -> tuple[Check, ...]:
    """Check each new instance at its own address: no user has met it yet.

    Raises VerificationFailed with a sentence over every check that failed.
    """
    checks: list[Check] = []
    with target.repository.export(release.revision) as tree:
        smoke = SmokeTests(service.smoke, tree, release.version, rules.smoke_timeout)
        for instance in instances:
            there = target.service.at(target.orchestrator.reach(instance, service.port))
            found = look(there, release, smoke, rules, partial(_say_of, instance.name))
            checks += (replace(check, name=f"{check.name}, {instance.name}") for check in found)
    where = "on the new instances, before users meet them"
    return _settle(target, release, checks, where, _kept(target))


@step("Verify public address", timeout=_TIMEOUT)
def verify_public(
    target: Verified, release: Release, service: ServiceLayout, rules: VerifyRules
) -> tuple[Check, ...]:
    """Check what users reach: health, version, smoke tests (runbook, step 5).

    Raises VerificationFailed with a sentence over every check that failed.
    """
    with target.repository.export(release.revision) as tree:
        smoke = SmokeTests(service.smoke, tree, release.version, rules.smoke_timeout)
        checks = look(target.service, release, smoke, rules, say)
    return _settle(target, release, checks, f"at {target.service.shown_url}", _kept(target))


@step("Verify baseline", timeout=_TIMEOUT)
def verify_baseline(
    target: Verified, baseline: Baseline, service: ServiceLayout, rules: VerifyRules
) -> tuple[Check, ...]:
    """Check that the baseline serves again, as it was checked when it was deployed: by the paths
    and the smoke command of that time, if the ledger has them.

    Users are served by it meanwhile. Health, version and smoke tests may fail for
    ``rules.health_within`` before it counts. Smoke tests that are not available (git is down, or
    the commit is not known) are reported and left out. Raises VerificationFailed with a sentence
    over every check that failed.
    """
    release = baseline.release
    if release is None:
        say("nothing served before: there is nothing to verify")
        return ()
    then = baseline.deployed_with
    asked = target.service.as_deployed(then) if then else target.service
    command = baseline.layout(service).smoke
    with _tree_if_there(target, release) as tree:
        smoke = SmokeTests(command, tree, release.version, rules.smoke_timeout) if tree else None
        look_once = partial(look, asked, release, smoke, rules, say)
        checks = _insist(look_once, lambda seen: not only_smoke_failed(seen), rules)
    return _settle(target, release, checks, asked.shown_url, _try_it(asked))


@contextmanager
def _tree_if_there(target: Verified, release: Release) -> Iterator[Path | None]:
    with ExitStack() as stack:
        tree = None
        try:
            if release.revision:
                tree = stack.enter_context(target.repository.export(release.revision))
        except DeployError as error:
            say(f"smoke tests are left out: {error.what}")
        yield tree


def look(
    service: Service, release: Release, smoke: SmokeTests | None, rules: VerifyRules, say: Say
) -> tuple[Check, ...]:
    """Health, version and, if they are available, smoke tests; up to the first failure.

    Health and version may fail to answer for ``rules.health_within`` before it counts. The smoke
    tests' own lines are said as details, and once more, for everybody, if they fail.
    """
    checks: list[Check] = []
    for check in _looks(service, release, smoke, rules, say):
        outcome = "passed" if check.passed else "FAILED"
        say(
            f"{check.name} {outcome}: {check.sentence.splitlines()[0]} ({say_duration(check.took)})"
        )
        checks.append(check)
        if not check.passed:
            break
    return tuple(checks)


def _looks(
    service: Service, release: Release, smoke: SmokeTests | None, rules: VerifyRules, say: Say
) -> Iterator[Check]:
    """One check after the other, each made only when it is asked for."""
    began = monotonic()
    probe = _insist(service.health, lambda probe: probe.ok, rules)
    where = f"{service.shown_url}{service.health_path}"
    yield _tried_since(began, check_health(probe, where))
    began = monotonic()
    found, probe = _insist(service.version, lambda answer: answer[1].ok, rules)
    where = f"{service.shown_url}{service.version_path}"
    yield _tried_since(began, check_version(release.version, found, probe, where))
    if smoke is not None:
        ran = service.run_smoke(smoke, lambda line: say(f"smoke | {line}", DEBUG), heed)
        for line in ran.output if ran.exit_code else ():
            say(f"smoke | {line}")
        yield check_smoke(ran.exit_code, ran.output, ran.took)


def _insist(ask: Callable[[], T], good: Callable[[T], bool], rules: VerifyRules) -> T:
    """Ask until the answer is good or ``rules.health_within`` is over; the last answer counts."""

    def ask_unless_p0() -> T:
        heed()
        return ask()

    return poll(ask_unless_p0, good, every=_AGAIN_AFTER, within=rules.health_within)


def _tried_since(began: float, check: Check) -> Check:
    """The check with the time that all its tries took."""
    took = timedelta(seconds=monotonic() - began)
    if check.passed:
        return replace(check, took=took)
    return replace(check, took=took, sentence=f"{check.sentence}, tried for {say_duration(took)}")


def _settle(
    target: Verified, release: Release, checks: Sequence[Check], where: str, hint: str
) -> tuple[Check, ...]:
    """Keep the checks as an artifact, and raise if one failed."""
    failures = explain_failures(checks)
    keep = partial(
        create_markdown_artifact,
        key=f"verification-{target.environment}",
        description=f"{release.version} on {target.environment}",
        markdown=f"{release.version} {'failed' if failures else 'passed'} verification {where}."
        f"\n\n{summary(checks)}",
    )
    if failures:
        put_off(keep)
        raise VerificationFailed(
            f"{release.version} on {target.environment} failed verification: {failures}", hint
        )
    write_report(keep)
    return tuple(checks)


def _kept(target: Verified) -> str:
    """Where to read the checks of a release that is gone by then."""
    return f"artifact verification-{target.environment} of this run"


def _try_it(service: Service) -> str:
    return f"curl -i {service.shown_url}{service.health_path}"


def _say_of(name: str, line: str, level: int = INFO) -> None:
    say(f"{name}  {line}", level)
