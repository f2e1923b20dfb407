"""What the `ignition` command reads: systems, environments, locks, the log."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

from blocks.approvers import Approvers
from blocks.ledger import Ledger
from blocks.target import Target
from cli.install import build_target, say_missing
from cli.runs import RunView, prefect, read, waiting
from release.checklist import Quorum
from release.conformance import conforming, problems_of
from release.duration import say_duration
from release.errors import BadRequest, DeployError
from release.ledger import LogRow
from release.model import Step
from release.signatures import unsignable
from release.systems import Answer
from release.wording import count_of
from settings import Settings
from tasks.baseline import serving
from tasks.serving import what_serves
from tasks.systems import ask_systems


@dataclass(frozen=True)
class EnvironmentView:
    """What is known of one environment at this moment."""

    name: str
    url: str
    serves: str
    instances: tuple[str, ...]
    image: str
    schema: str
    holder: str
    problem: str = ""

    def lines(self) -> list[str]:
        instances = count_of(len(self.instances), "instance")
        lines = [
            f"{self.name} serves {self.serves}",
            f"  {self.url}  {instances}  {self.image or 'no image known'}"
            f"  schema {self.schema or 'unknown'}",
            f"  {self.holder or 'free'}",
        ]
        return [*lines, f"  {self.problem}"] if self.problem else lines


@dataclass(frozen=True)
class StatusView:
    """All environments that were asked for, and the runs that wait."""

    environments: tuple[EnvironmentView, ...]
    waiting: tuple[RunView, ...]

    def as_json(self) -> dict[str, Any]:
        return {
            "environments": [asdict(environment) for environment in self.environments],
            "waiting": [run.as_json() for run in self.waiting],
        }

    def lines(self) -> list[str]:
        lines = [line for environment in self.environments for line in environment.lines()]
        for run in self.waiting:
            until = f" until {run.waits_until}" if run.waits_until else ""
            lines.append(
                f"waiting: {run.label} {run.name}{until}: ignition approve {run.label} --as NAME"
            )
        return lines if self.waiting else [*lines, "no run waits for a signature"]


def examine(settings: Settings) -> list[tuple[str, Answer]]:
    """Ask Prefect, the runbook, and every system of every environment."""
    shared = (
        _ask_prefect(),
        _ask_secrets(settings),
        _ask_runbook(settings),
        _ask_approvers(settings),
    )
    answers = [("all", answer) for answer in shared]
    for name in sorted(settings.environments):
        target = build_target(settings, name)
        answers += [(name, answer) for answer in ask_systems(target)]
        answers.append((name, _ask_address(target)))
    return answers


def look(settings: Settings, environment: str) -> StatusView:
    """Look at one environment, or at all."""
    if environment:
        settings.environment(environment)
    names = [environment] if environment else sorted(settings.environments)
    targets = [build_target(settings, name) for name in names]
    with ThreadPoolExecutor(len(targets)) as pool:
        views = tuple(pool.map(_look_at, targets))
    return StatusView(views, tuple(waiting()))


def read_log(settings: Settings, environment: str, limit: int) -> Sequence[LogRow]:
    """The deployment log, newest first."""
    if environment:
        settings.environment(environment)
    return ledger_of(settings).log(environment or None, limit=limit)


def log_line(row: LogRow) -> str:
    """A row of the log, as the command line shows it: the runbook's columns, then the ending."""
    return (
        f"{row.date:%Y-%m-%d}  {row.version:16} {row.deployer:16} {row.environment:12} "
        f"{row.ending:14} {row.notes}"
    )


def verify_ledger(settings: Settings) -> list[str]:
    """What is wrong with the ledger's chain; empty where it is whole."""
    return [broken.sentence for broken in ledger_of(settings).verify()]


def unlock(settings: Settings, environment: str, by: str, reason: str) -> str:
    """Break the lock of a run that has ended. Raises BadRequest while it has not."""
    settings.environment(environment)
    ledger = ledger_of(settings)
    holder = ledger.holder(environment)
    if holder is None:
        raise BadRequest(f"nobody holds {environment}", "ignition status")
    run = read(holder.run_id)
    if not run.ended:
        raise BadRequest(
            f"{run.label} holds {environment} and is {run.state}, so its lock is not taken away",
            f"end it first: ignition reject {run.label} --as NAME --reason …, or Cancel in the UI",
        )
    ledger.break_lock(environment, by, reason)
    return f"{environment} is free; it was held by {run.label} ({run.state})"


def ledger_of(settings: Settings) -> Ledger:
    """The ledger, from the settings alone."""
    return build_target(settings, sorted(settings.environments)[0]).ledger


def _look_at(target: Target) -> EnvironmentView:
    try:
        instances = serving(target)
        image = str(instances[0].image or "") if instances else ""
        problem = ""
    except DeployError as error:
        instances, image, problem = (), "", error.what
    return EnvironmentView(
        name=target.environment,
        url=target.url,
        serves=what_serves(target),
        instances=tuple(instance.name for instance in instances),
        image=image,
        schema=_or_problem(target.database.schema_version),
        holder=_or_problem(lambda: _holder(target)),
        problem=problem,
    )


def _holder(target: Target) -> str:
    lock = target.ledger.holder(target.environment)
    if lock is None:
        return ""
    return (
        f"held by {lock.owner}, d-{lock.run_id[:6]}, since {lock.acquired_at:%H:%M} UTC, "
        f"last at work {say_duration(lock.silent)} ago"
    )


def _or_problem(read: Any) -> str:
    try:
        return str(read())
    except DeployError as error:
        return error.what


def _ask_prefect() -> Answer:
    try:
        with prefect() as client:
            client.hello()
    except DeployError as error:
        return Answer("prefect", error.what, error.hint)
    return Answer("prefect")


def _ask_secrets(settings: Settings) -> Answer:
    """Whether each secret is set without which something cannot work."""
    missing = tuple(settings.missing_secrets())
    return Answer("secrets", *say_missing(missing)) if missing else Answer("secrets")


def _ask_runbook(settings: Settings) -> Answer:
    try:
        problems = problems_of(settings.located(settings.runbook).read_text(encoding="utf-8"))
    except (OSError, UnicodeError) as error:
        return Answer("runbook", str(error), f"edit {settings.runbook}")
    said = "; ".join(map(str, problems))
    return Answer("runbook", said, "ignition runbook check" if problems else "")


def _ask_approvers(settings: Settings) -> Answer:
    """Whether every checklist of people can be signed by enough of them."""
    try:
        text = settings.located(settings.runbook).read_text(encoding="utf-8")
        runbook = conforming(text)
        for name, rules in settings.environments.items():
            if rules.gate.approval == "human":
                known = approvers_of(settings).known()
                quorum = Quorum(rules.gate.signers)
                problem = unsignable(runbook.gates(Step.CHECKLIST), known, quorum)
                if problem:
                    hint = "ignition approvers add NAME --role ROLE"
                    return Answer("approvers", f"{name} cannot be signed: {problem}", hint)
    except (DeployError, OSError, UnicodeError) as error:
        return Answer("approvers", getattr(error, "what", str(error)), getattr(error, "hint", ""))
    return Answer("approvers")


def approvers_of(settings: Settings) -> Approvers:
    """The approvers of this machine."""
    return Approvers(settings.approvers_file, settings.approvers.enrolled)


def _ask_address(target: Target) -> Answer:
    probe = target.service.health()
    problem = "" if probe.ok else f"{target.url} answers {probe.detail or probe.status}"
    return Answer("public address", problem)


def answers_as_json(answers: Sequence[tuple[str, Answer]]) -> list[dict[str, Any]]:
    """What :func:`examine` found, for programs."""
    return [
        {
            "environment": environment,
            "system": answer.name,
            "ok": answer.ok,
            "problem": answer.problem,
            "hint": answer.hint,
        }
        for environment, answer in answers
    ]


def answers_as_lines(answers: Sequence[tuple[str, Answer]]) -> list[str]:
    """What :func:`examine` found, for people."""
    lines = []
    for environment, answer in answers:
        lines.append(f"{'ok   ' if answer.ok else 'WRONG'} {environment:12} {answer.name}")
        if answer.problem:
            lines.append(f"      {answer.problem}")
        if answer.hint:
            lines.append(f"      hint: {answer.hint}")
    return lines
