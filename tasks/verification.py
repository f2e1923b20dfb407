"""Step 5 of the runbook: a release shows what it is, before users meet it and after."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import replace
from datetime import timedelta
from functools import partial
from logging import DEBUG
from pathlib import Path
from time import monotonic
from typing import Protocol, TypeVar

from prefect.artifacts import create_markdown_artifact
from tenacity import Retrying, retry_if_result, stop_after_delay, wait_fixed

from blocks.orchestrator import Orchestrator
from blocks.service import Service
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
from tasks.say import say, sayer
from tasks.step import put_off, step, write_report

T = TypeVar("T")

_AGAIN_AFTER = timedelta(milliseconds=500)
_TIMEOUT = timedelta(minutes=30)  # of a step; the rules bound its parts much closer


class Source(Protocol):
    """Where the smoke tests are."""

    def export(self, revision: str) -> AbstractContextManager[Path]:
        """A folder that holds exactly the tree of ``revision``."""
        ...


class Verified(Protocol):
    """What verification needs of a target."""

    @property
    def environment(self) -> str: ...
    @property
    def service(self) -> Service: ...
    @property
    def repository(self) -> Source: ...


class Started(Verified, Protocol):
    """The same, and what knows where each instance answers."""

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
    detail = sayer(DEBUG)
    with target.repository.export(release.revision) as tree:
        for instance in instances:
            base_url = target.orchestrator.reach(instance, service.port)
            found = look(
                target.service,
                base_url,
                release,
                service,
                tree,
                rules,
                partial(_say_of, instance.name),
                detail,
            )
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
    detail = sayer(DEBUG)
    with target.repository.export(release.revision) as tree:
        checks = look(target.service, None, release, service, tree, rules, say, detail)
    return _settle(target, release, checks, f"at {target.service.shown_url}", _kept(target))


@step("Verify baseline", timeout=_TIMEOUT)
def verify_baseline(
    target: Verified, baseline: Baseline, service: ServiceLayout, rules: VerifyRules
) -> tuple[Check, ...]:
    """Check that the baseline serves again, as it was checked when it was deployed: by the paths
    and the smoke command of then, where the ledger has them.

    Users are served by it meanwhile. Health, version and smoke tests may fail for
    ``rules.health_within`` before it counts. Smoke tests that cannot be had (git is down, or its
    commit is not known) are said and left out. Raises VerificationFailed with a sentence over every
    check that failed.
    """
    detail = sayer(DEBUG)
    if baseline.release is None:
        say("nothing served before: there is nothing to verify")
        return ()
    then = baseline.deployed_with
    asked = target.service.as_deployed(then) if then else target.service
    layout = baseline.layout(service)
    with _tree_if_there(target, baseline.release, say) as tree:
        look_once = partial(look, asked, None, baseline.release, layout, tree, rules, say, detail)
        checks = _insist(look_once, lambda seen: not only_smoke_failed(seen), rules)
    return _settle(target, baseline.release, checks, asked.shown_url, _try_it(asked))


@contextmanager
def _tree_if_there(
    target: Verified, release: Release, say: Callable[[str], None]
) -> Iterator[Path | None]:
    with ExitStack() as stack:
        tree = None
        try:
            if release.revision:
                tree = stack.enter_context(target.repository.export(release.revision))
        except DeployError as error:
            say(f"smoke tests are left out: {error.what}")
        yield tree


def look(
    service: Service,
    base_url: str | None,
    release: Release,
    layout: ServiceLayout,
    tree: Path | None,
    rules: VerifyRules,
    say: Callable[[str], None],
    detail: Callable[[str], None] | None = None,
) -> tuple[Check, ...]:
    """Health, version and, with a ``tree`` to run them in, smoke tests; up to the first failure.

    Health and version may fail to answer for ``rules.health_within`` before it counts. The smoke
    tests' own lines go to ``detail`` (by default to ``say``), and to ``say`` if they fail.
    """
    checks: list[Check] = []
    for check in _looks(service, base_url, release, layout, tree, rules, say, detail or say):
        outcome = "passed" if check.passed else "FAILED"
        say(
            f"{check.name} {outcome}: {check.sentence.splitlines()[0]} ({say_duration(check.took)})"
        )
        checks.append(check)
        if not check.passed:
            break
    return tuple(checks)


def _looks(
    service: Service,
    base_url: str | None,
    release: Release,
    layout: ServiceLayout,
    tree: Path | None,
    rules: VerifyRules,
    say: Callable[[str], None],
    detail: Callable[[str], None],
) -> Iterator[Check]:
    """One check after the other, each made only when it is asked for."""
    began = monotonic()
    probe = _insist(lambda: service.health(base_url), lambda probe: probe.ok, rules)
    where = f"{base_url or service.shown_url}{layout.health_path}"
    yield _tried_since(began, check_health(probe, where))
    began = monotonic()
    found, probe = _insist(lambda: service.version(base_url), lambda answer: answer[1].ok, rules)
    where = f"{base_url or service.shown_url}{layout.version_path}"
    yield _tried_since(began, check_version(release.version, found, probe, where))
    if tree is not None:
        smoke = service.run_smoke(
            layout.smoke,
            tree,
            release.version,
            rules.smoke_timeout,
            lambda line: detail(f"smoke | {line}"),
            base_url,
            heed,
        )
        for line in smoke.output if smoke.exit_code and detail is not say else ():
            say(f"smoke | {line}")
        yield check_smoke(smoke.exit_code, smoke.output, smoke.took)


def _insist(ask: Callable[[], T], good: Callable[[T], bool], rules: VerifyRules) -> T:
    """Ask until the answer is good or ``rules.health_within`` is over; the last answer counts."""

    def ask_unless_p0() -> T:
        heed()
        return ask()

    asking = Retrying(
        retry=retry_if_result(lambda answer: not good(answer)),
        stop=stop_after_delay(rules.health_within),
        wait=wait_fixed(_AGAIN_AFTER),
        retry_error_callback=lambda state: state.outcome.result() if state.outcome else None,
    )
    answer: T = asking(ask_unless_p0)
    return answer


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
    """Where the checks of a release that is gone by then are to be read."""
    return f"artifact verification-{target.environment} of this run"


def _try_it(service: Service) -> str:
    return f"curl -i {service.shown_url}{service.health_path}"


def _say_of(name: str, line: str) -> None:
    say(f"{name}  {line}")
