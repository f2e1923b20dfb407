"""Whether every system that a run needs answers, asked before anything is changed."""

from collections.abc import Callable
from datetime import timedelta
from functools import partial
from logging import WARNING

from blocks.target import Target
from release.configuration.key import variable_of
from release.configuration.rules import RolloutRules
from release.duration import say_duration
from release.errors import BadConfiguration, DeployError, Unreachable
from release.readiness.systems import Readiness, blocking, summary, warnings
from tasks.say import say
from tasks.side_by_side import ask_side_by_side
from tasks.step import step

WITHIN = timedelta(seconds=100)
"""How long all systems together may take: longer than each of them has for itself."""

_DOCTOR = "ignition doctor"
# A deployment goes on without them, with a warning.
_WITHOUT = frozenset({"auth flow", "metrics"})


def systems_of(target: Target, rollout: RolloutRules) -> dict[str, Callable[[], None]]:
    """The checks of an environment by the name that a person knows the system by."""
    routed = target.router is not None
    systems: dict[str, Callable[[], None]] = {
        "repository": target.repository.check,
        "image builder": target.builder.check,
        "registry": target.registry.check,
        "database": target.database.check,
        "ledger": target.ledger.check,
        "orchestrator": lambda: target.orchestrator.check(rollout.replicas, routed),
    }
    if target.router is not None:
        systems["router"] = target.router.check
    if (server := target.metrics.server) is not None:
        systems["metrics"] = lambda: server.check(serving=_serves(target))
    if target.service.auth.configured:
        systems["auth flow"] = lambda: _check_auth_flow(target)
    return systems


def _check_auth_flow(target: Target) -> None:
    """Raise Unreachable if it fails before anything was changed: the watch would blame the release.

    It is no reason not to deploy: the release may be what repairs it. Without a password it always
    fails: that raises BadConfiguration.
    """
    table = ("environments", target.environment, "auth")
    variable = variable_of(*table, "password")
    if not target.service.auth.password.get_secret_value():
        raise BadConfiguration(
            f"{'.'.join(table)}.username is set, and its password is not: {variable}",
            f"export {variable}=… and run: ignition setup",
        )
    if not _serves(target):
        return
    check = target.service.auth_flow()
    if check is not None and not check.passed:
        raise Unreachable(
            f"it fails already, and would be taken for the release's fault: {check.sentence}",
            f"see {'.'.join(table)} in ignition.toml and {variable}, then: ignition setup",
        )


def _serves(target: Target) -> bool:
    """Whether there is anything to measure: on a first deployment there is not."""
    return target.service.health().ok


def ask_systems(
    target: Target, rollout: RolloutRules, within: timedelta = WITHIN
) -> tuple[Readiness, ...]:
    """Ask all systems at once; the answers keep the order of :func:`systems_of`."""
    systems = systems_of(target, rollout)
    found = ask_side_by_side({n: partial(ask, n, check) for n, check in systems.items()}, within)
    return tuple(found.get(name) or _late(name, within) for name in systems)


def _late(name: str, within: timedelta) -> Readiness:
    return Readiness(name, f"no answer within {say_duration(within)}", needed=name not in _WITHOUT)


def ask(name: str, check: Callable[[], None]) -> Readiness:
    """One system's answer. Never raises."""
    needed = name not in _WITHOUT
    try:
        check()
    except DeployError as error:
        wrong = isinstance(error, BadConfiguration)
        return Readiness(name, error.what, error.hint, wrong, needed=needed or wrong)
    except Exception as error:  # noqa: BLE001  # a check that breaks is no answer either
        return Readiness(name, f"{type(error).__name__}: {error}", needed=needed)
    return Readiness(name)


@step("Check systems", timeout=timedelta(minutes=2), retries=3)
def check_systems(target: Target, rollout: RolloutRules) -> tuple[Readiness, ...]:
    """Reach every system, and see whether it can do what is going to be asked of it.

    Raises BadConfiguration or Unreachable naming all that fail.

    What a deployment can do without is a warning: that it cannot be measured how a release does is
    not the release being bad.
    """
    answers = ask_systems(target, rollout)
    bad = blocking(answers)
    if bad:
        kind = BadConfiguration if any(answer.configuration for answer in bad) else Unreachable
        raise kind(summary(bad), bad[0].hint or _DOCTOR)
    for warning in warnings(answers):
        say(warning, WARNING)
    good = sum(answer.ok for answer in answers)
    say(f"{good} systems answer")
    return answers
