"""Whether every system that a run needs answers, asked before anything is changed."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

from prefect import get_run_logger

from blocks.target import Target
from release.errors import BadConfiguration, DeployError, Unreachable
from release.systems import Answer, summary
from tasks.step import step


def systems_of(target: Target) -> dict[str, Callable[[], None]]:
    """The checks of an environment by the name that a person knows the system by."""
    systems: dict[str, Callable[[], None]] = {
        "repository": target.repository.check,
        "image builder": target.builder.check,
        "registry": target.registry.check,
        "database": target.database.check,
        "ledger": target.ledger.check,
        "orchestrator": target.orchestrator.check,
    }
    if target.router is not None:
        systems["router"] = target.router.check
    return systems


def ask_systems(target: Target) -> tuple[Answer, ...]:
    """Ask all systems side by side; the answers keep the order of :func:`systems_of`."""
    systems = systems_of(target)
    with ThreadPoolExecutor(len(systems)) as pool:
        return tuple(pool.map(_ask, systems, systems.values()))


def _ask(name: str, check: Callable[[], None]) -> Answer:
    try:
        check()
    except DeployError as error:
        return Answer(name, error.what, error.hint, isinstance(error, BadConfiguration))
    except Exception as error:  # noqa: BLE001  # a check that breaks is no answer either
        return Answer(name, f"{type(error).__name__}: {error}")
    return Answer(name)


@step("Check systems", timeout=timedelta(minutes=2), retries=2)
def check_systems(target: Target, run: str) -> tuple[Answer, ...]:
    """Reach every system. Raises BadConfiguration or Unreachable naming all that fail."""
    answers = ask_systems(target)
    bad = [answer for answer in answers if not answer.ok]
    if bad:
        kind = BadConfiguration if any(answer.configuration for answer in bad) else Unreachable
        raise kind(summary(bad), bad[0].hint or "ignition doctor")
    get_run_logger().info("[%s] Plan      %s systems answer", run, len(answers))
    return answers
