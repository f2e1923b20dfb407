"""One run: its id, the environment it works on, and the runbook's step that it is in."""

import contextlib
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from logging import WARNING
from typing import Any, cast

from prefect.client.orchestration import get_client
from prefect.runtime import deployment, flow_run

from blocks.approvers import Approvers
from blocks.target import Target, say_unreadable
from flows.once import earlier_ends, refuse_ended
from release.configuration.deployed_with import DeployedWith
from release.errors import BadConfiguration, BadRequest, DeployError, EnvironmentLocked
from release.ledger import EventKind, short_run
from release.model import Step
from release.request import checked_name, name_of, refuse_own_variables
from release.runbook.conformance import conforming
from release.runbook.document import Runbook
from release.steps import needs_environment
from settings import EnvironmentSettings, Settings, load_settings
from tasks.alive import alive
from tasks.say import say, speaking

_SOON = 0.5  # seconds


@dataclass(frozen=True)
class Run:
    """A flow run on one environment. A subflow shares its parent's id, label and lock."""

    id: str
    label: str  # d- and the first hex digits of the id, the same in every log line
    nested: bool  # a subflow: its parent holds the lock and ends the run
    environment: str
    settings: Settings
    rules: EnvironmentSettings
    runbook: Runbook
    target: Target
    approvers: Approvers

    def record_soon(self, *events: tuple[EventKind, str, dict[str, Any]]) -> None:
        """Write events (kind, step, payload) as :meth:`record` does, but go on after half a second.

        For steps that users wait for. An event is kept on the worker's disk first, which takes
        milliseconds; a slow ledger gets it later.
        """

        def write() -> None:
            for kind, step, payload in events:
                self.record(kind, step=step, payload=payload)

        writing = threading.Thread(target=write)
        writing.start()
        writing.join(_SOON)

    @contextlib.contextmanager
    def step(self, step: Step) -> Iterator[None]:
        """Mark one of the runbook's headings as begun and, unless it raises, as done.

        A step that began may have changed something, so the rollback is planned from what began.
        """
        say(step)
        self.record(EventKind.STEP_BEGUN, step=step)
        with speaking(heading=step.short):
            yield
        self.record(EventKind.STEP_DONE, step=step)

    def record(
        self, kind: EventKind, step: str = "", key: str = "", payload: dict[str, Any] | None = None
    ) -> None:
        """Write an event of this run to the ledger, once, however often the body runs."""
        self.target.ledger.record(
            self.environment, self.id, kind, step=step, key=key, payload=payload or {}
        )

    def deployed_with(self) -> DeployedWith:
        """How a release is checked that is deployed now."""
        return DeployedWith.now(self.settings.service, self.rules.auth, self.rules.watch)

    def steps_begun(self) -> tuple[Step, ...]:
        """The runbook's headings that this run reached."""
        return tuple(Step(step) for step in self.target.ledger.steps_begun(self.id))

    def may_hold(self) -> bool:
        """Whether the run got as far as to hold its environment; True if that is not known.

        To be asked before the ending is recorded, which removes the worker's note of its steps.
        Never raises.
        """
        try:
            return needs_environment(self.steps_begun())
        except DeployError:
            return True

    def alive(self) -> AbstractContextManager[None]:
        """Give signs of life: for as long as the run may hold the environment."""
        return alive(self.target.ledger, self.environment, self.id)

    def confirm_hold(self) -> None:
        """Raise EnvironmentLocked if another run took the environment over while this one waited.

        A ledger that does not answer takes nothing over, so the run goes on.
        """
        ledger = self.target.ledger
        try:
            if ledger.heartbeat(self.environment, self.id):
                return
            holder = ledger.holder(self.environment)
        except DeployError as error:
            say(f"the lock was not confirmed: {error.what}", WARNING)
            return
        taker = f"is held by {holder.owner}" if holder else "is free"
        raise EnvironmentLocked(
            f"{self.environment} {taker}: this run's lock was taken away",
            "start the deployment again",
        )


def begin(environment: str) -> Run:
    """Load what the run needs. Raises BadRequest or BadConfiguration, with nothing changed, and
    HasEnded for a run that ended before and was taken up again."""
    ends = earlier_ends()
    _refuse_job_variables()
    settings = load_settings()
    _refuse_another_environment(settings, environment)
    rules = settings.environment(checked_name(environment, "environment name"))
    # A subflow works in its parent's name: same lock, same ledger entries, same label.
    run_id = str(flow_run.root_flow_run_id or flow_run.id)
    target = load_target(environment)
    refuse_ended(ends, target.ledger, run_id)
    return Run(
        id=run_id,
        label=short_run(run_id),
        nested=flow_run.parent_flow_run_id is not None,
        environment=environment,
        settings=settings,
        rules=rules,
        runbook=_read_runbook(settings),
        target=target,
        approvers=Approvers(settings.approvers_file, settings.approvers.enrolled),
    )


def _refuse_job_variables() -> None:
    if deployment.id is None:
        return
    with get_client(sync_client=True) as client:
        given = client.read_flow_run(flow_run.id).job_variables or {}
        usual = client.read_deployment(deployment.id).job_variables or {} if given else {}
    refuse_own_variables(given, usual)


def _refuse_another_environment(settings: Settings, environment: str) -> None:
    """A deployment that is named after an environment is for that one: the form can be edited."""
    name = deployment.name
    if name in settings.environments and name != environment:
        raise BadRequest(
            f"the deployment {name} is for {name}, but was asked for {environment!r}",
            f"start the deployment that is named {environment}",
        )


def _read_runbook(settings: Settings) -> Runbook:
    path = settings.located(settings.runbook)
    try:
        return conforming(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeError) as error:
        raise BadConfiguration(
            f"the runbook {path} cannot be read: {error}", "set runbook in ignition.toml"
        ) from None


def load_target(environment: str) -> Target:
    """The environment's blocks. Raises BadConfiguration if `ignition setup` has not run."""
    name = f"ignition-target/{environment}"
    try:
        # Called from a flow's own thread: the sync form answers, never a coroutine.
        return cast(Target, Target.load(environment))
    except ValueError as error:
        problem = f"Prefect has no usable block {name}: {error}"
    except RuntimeError as error:
        problem = f"the block {name} {say_unreadable(error)}"
    raise BadConfiguration(problem, "ignition setup")


def run_name() -> str:
    """A run's name in the UI while it runs: which version goes where."""
    parameters = flow_run.parameters
    request = parameters.get("request")
    what = next((v for n in ("version", "to", "ref") if (v := getattr(request, n, ""))), "")
    dry_run = bool(getattr(request, "dry_run", False))
    return name_of(flow_run.flow_name, what, parameters["environment"], dry_run=dry_run)
