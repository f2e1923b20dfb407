"""`ignition doctor`: tries everything that a run needs, side by side, before a run needs it."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import prefect as prefect_here
from prefect.blocks import notifications as _known_blocks  # noqa: F401  # so that load finds them
from prefect.blocks.core import Block
from prefect.settings import get_current_settings

from blocks.dockerfile import base_images
from blocks.http_client import shown
from blocks.target import Target
from cli.examine import approvers_of
from cli.install import say_missing
from cli.registered import ask_automations, ask_blocks, ask_deployments
from cli.runs import prefect
from cli.schedule import read_schedules
from cli.target import build_target
from cli.workforce import WORK_POOL, read_pool
from release.configuration.layout import build_file, refuse_unfit_source
from release.configuration.rules import RolloutRules
from release.duration import say_duration
from release.errors import BadConfiguration, DeployError
from release.gate.checklist import Quorum
from release.gate.signatures import unsignable
from release.model import Step
from release.notice import Notice
from release.readiness.registered import judge_server
from release.readiness.schedule import judge_schedule
from release.readiness.serving import PortLook, judge_address, judge_port, judge_version
from release.readiness.systems import Readiness, with_way_out
from release.readiness.workforce import judge_pool, judge_workers
from release.runbook.conformance import conforming, problems_of
from settings import Settings, config_path
from tasks.notification import tell
from tasks.side_by_side import ask_side_by_side
from tasks.systems import ask, systems_of

WITHIN = timedelta(seconds=25)
"""How long all questions together may take. They are asked at once, so the slowest one counts."""

_TRIAL = Notice("A trial by ignition doctor", "Messages arrive this way. No action is needed.")
_LATE = "ask again; if that does not help, check whether it hangs, or its machine is busy"
_BROKEN = "a fault in this program, not yours: report it with this line"
_ALL = "all"  # what is not of one environment
_SHARED = ("repository", "image builder", "registry", "ledger")  # the same in every environment
_SERVER = "prefect server"


@dataclass(frozen=True)
class Question:
    """Something to try. It may give several answers; an error that it raises is one answer."""

    environment: str
    name: str
    ask: Callable[[], Readiness | Sequence[Readiness]]
    of_prefect: bool = False  # moot where the server does not answer


def examine(settings: Settings, notify: bool = False) -> list[tuple[str, Readiness]]:
    """Try everything at once: Prefect, the runbook, and every system of every environment.

    Nothing is changed, except that ``notify`` sends a message by each notification block. An answer
    that does not come :data:`WITHIN` is a fault like any other.
    """
    found = answered(list(_questions(settings, notify)), WITHIN)
    server = next(answer for question, answer in found if question.name == _SERVER)
    return [
        (question.environment, with_way_out(answer, question.environment, str(config_path())))
        for question, answer in found
        if server.ok or not question.of_prefect
    ]


def answered(questions: Sequence[Question], within: timedelta) -> list[tuple[Question, Readiness]]:
    """Ask all questions at once; the answers keep their order. Never raises."""
    asked = {number: partial(_answers_to, question) for number, question in enumerate(questions)}
    found = ask_side_by_side(asked, within)
    late = f"no answer within {say_duration(within)}"
    return [
        (question, answer)
        for number, question in enumerate(questions)
        for answer in found.get(number, [Readiness(question.name, late, _LATE)])
    ]


def _answers_to(question: Question) -> Sequence[Readiness]:
    try:
        said = question.ask()
    except DeployError as error:
        said = Readiness(question.name, error.what, error.hint)
    except Exception as error:  # noqa: BLE001  # a check that breaks must not pass for a good answer
        said = Readiness(question.name, f"the check broke: {type(error).__name__}", _BROKEN)
    return [said] if isinstance(said, Readiness) else said


def _questions(settings: Settings, notify: bool) -> Iterator[Question]:
    yield Question(_ALL, _SERVER, _ask_server)
    yield Question(_ALL, "work pool", _ask_pool, of_prefect=True)
    yield Question(_ALL, "worker", _ask_workers, of_prefect=True)
    yield Question(_ALL, "deployments", _ask_deployments, of_prefect=True)
    yield Question(_ALL, "automations", partial(_ask_automations, settings), of_prefect=True)
    yield Question(_ALL, "schedules", _ask_schedules, of_prefect=True)
    for block in dict.fromkeys((*settings.notify.blocks, *settings.notify.escalation)):
        name = f"notification {block}"
        yield Question(_ALL, name, partial(_ask_notification, name, block, notify), of_prefect=True)
    yield Question(_ALL, "secrets", partial(_ask_secrets, settings))
    yield Question(_ALL, "runbook", partial(_ask_runbook, settings))
    yield Question(_ALL, "approvers", partial(_ask_approvers, settings))
    asked: set[str] = set()
    for name in sorted(settings.environments):
        try:
            target = build_target(settings, name)
        except DeployError as error:
            refused = partial(Readiness, "configuration", error.what, error.hint)
            yield Question(name, "configuration", refused)
            continue
        yield from _systems(target, settings.environments[name].rollout, asked)
        if "main" not in asked:
            yield Question(_ALL, "main branch", partial(_ask_main, target, settings))
        asked |= {*_SHARED, "main"}
        yield Question(name, "saved blocks", partial(ask_blocks, target), of_prefect=True)
        yield Question(name, "public address", partial(_ask_addresses, target, settings))


def _systems(target: Target, rollout: RolloutRules, asked: set[str]) -> Iterator[Question]:
    for name, check in systems_of(target, rollout).items():
        if name not in asked:
            where = _ALL if name in _SHARED else target.environment
            yield Question(where, name, partial(ask, name, check))


# ── Prefect ──────────────────────────────────────────────────────────────────────────────────────


def _ask_server() -> Readiness:
    with prefect() as client:
        version = client.api_version()
        services = client.request("GET", "/admin/settings").json()["server"]["services"]
    off = [name for name, one in services.items() if isinstance(one, dict) and not one["enabled"]]
    address = shown(str(get_current_settings().api.url))
    return judge_server(_SERVER, address, version, prefect_here.__version__, off)


def _ask_pool() -> Readiness:
    with prefect() as client:
        return judge_pool(WORK_POOL, read_pool(client))


def _ask_workers() -> Sequence[Readiness]:
    with prefect() as client:
        pool = read_pool(client, machines=True)
    return [judge_workers(pool, datetime.now(UTC))] if pool else []  # the pool's answer says it


def _ask_deployments() -> Readiness:
    with prefect() as client:
        return ask_deployments(client)


def _ask_automations(settings: Settings) -> Readiness:
    with prefect() as client:
        return ask_automations(client, settings)


def _ask_schedules() -> Sequence[Readiness]:
    with prefect() as client:
        found = read_schedules(client)
    return [judge_schedule(schedule, datetime.now(UTC)) for schedule in found]


def _ask_notification(name: str, block: str, deliver: bool) -> Readiness:
    """Whether a notification block exists and, if asked to, delivers a message."""
    with prefect():  # without an address, Block.load would start a server of its own
        pass
    try:
        loaded = Block.load(block)
    except ValueError:  # what Block.load says for a name that there is not, or is not a name
        return Readiness(
            name,
            f"there is no block {block}, so it notifies nobody",
            f"make it in the UI under Blocks, or edit notify in {config_path()}",
        )
    if not hasattr(loaded, "notify"):
        hint = f"edit notify in {config_path()}"
        return Readiness(name, f"{block} is not a block that sends messages", hint)
    if not deliver:
        return Readiness(name, found="there; --notify sends a message")
    failed = tell([block], _TRIAL)
    if failed:
        return Readiness(name, failed[0], "fix its address or token in the UI, under Blocks")
    return Readiness(name, found="accepted a message")


# ── What is read from files and from the main branch ─────────────────────────────────────────────


def _ask_secrets(settings: Settings) -> Readiness:
    """Whether each secret is set without which something cannot work."""
    missing = tuple(settings.missing_secrets())
    return Readiness("secrets", *say_missing(missing)) if missing else Readiness("secrets")


def _ask_runbook(settings: Settings) -> Readiness:
    try:
        problems = problems_of(settings.located(settings.runbook).read_text(encoding="utf-8"))
    except (OSError, UnicodeError) as error:
        return Readiness("runbook", str(error), f"edit runbook in {config_path()}")
    said = "; ".join(map(str, problems))
    return Readiness("runbook", said, "ignition runbook check" if problems else "")


def _ask_approvers(settings: Settings) -> Readiness:
    """Whether every checklist of people can be signed by enough of them."""
    try:
        text = settings.located(settings.runbook).read_text(encoding="utf-8")
        runbook = conforming(text)
    except (OSError, UnicodeError, DeployError):
        return Readiness("approvers", found="not checked: the runbook cannot be read")
    for name, rules in settings.environments.items():
        if rules.gate.approval == "human":
            known = approvers_of(settings).known()
            problem = unsignable(runbook.gates(Step.CHECKLIST), known, Quorum(rules.gate.signers))
            if problem:
                hint = "ignition approvers add NAME --role ROLE"
                return Readiness("approvers", f"{name} cannot be signed: {problem}", hint)
    return Readiness("approvers")


def _ask_main(target: Target, settings: Settings) -> Sequence[Readiness]:
    """Whether what a deployment of the main branch reads is in it: Dockerfile, smoke tests."""
    service, main = settings.service, settings.repository.main
    name, dockerfile = "main branch", build_file(service)
    with target.repository.main_apart() as copy:
        revision = copy.resolve(main)
        try:
            refuse_unfit_source(service, revision, partial(copy.read, revision))
        except BadConfiguration as error:
            return [Readiness(name, f"{main}: {error.what}", error.hint)]
        built = copy.read(revision, dockerfile) or b""
    found = f"{main} ({revision[:7]}) has the Dockerfile and the smoke tests"
    bases = base_images(built.decode(errors="replace"), service.build_arguments)
    return [
        Readiness(name, found=found),
        _ask_bases(target, f"{dockerfile} of {main} ({revision[:7]})", bases),
    ]


def _ask_bases(target: Target, dockerfile: str, names: Sequence[str]) -> Readiness:
    for name in names:
        answer = ask("Dockerfile", partial(target.builder.check_base, name))
        if not answer.ok:
            return replace(answer, problem=f"{dockerfile}: {answer.problem}")
    return Readiness("Dockerfile", found=f"{dockerfile} builds on {', '.join(names) or 'nothing'}")


# ── What an environment answers ──────────────────────────────────────────────────────────────────


def _ask_addresses(target: Target, settings: Settings) -> Sequence[Readiness]:
    """The public address, the version it names, and the port of each instance that runs."""
    layout, service = settings.service, target.service
    instances = [one for one in _instances(target) if one.running and one.address]
    is_new = not instances and not _ever_served(target)
    health = service.health()
    version, probe = service.version()
    looks = [
        PortLook(one.name, service.at(target.orchestrator.reach(one, layout.port)).health())
        for one in instances
    ]
    address = f"{service.shown_url}{layout.version_path}"
    return [
        judge_address(service.shown_url, layout.health_path, health, is_new),
        judge_version(address, version, probe, health, is_new),
        judge_port(layout.port, layout.health_path, looks),
    ]


def _instances(target: Target) -> Sequence[Any]:
    try:
        return target.orchestrator.instances()
    except DeployError:  # the orchestrator's own answer says it
        return ()


def _ever_served(target: Target) -> bool:
    try:
        return bool(target.ledger.served(target.environment, limit=1))
    except DeployError:  # the ledger's own answer says it
        return False


# ── How it is said ───────────────────────────────────────────────────────────────────────────────


def answers_as_json(answers: Sequence[tuple[str, Readiness]]) -> list[dict[str, Any]]:
    """What :func:`examine` found, for programs."""
    return [
        {
            "environment": environment,
            "system": answer.name,
            "ok": answer.ok,
            "found": answer.found if answer.ok else "",
            "problem": answer.problem,
            "hint": answer.hint,
        }
        for environment, answer in answers
    ]


def answers_as_lines(answers: Sequence[tuple[str, Readiness]]) -> list[str]:
    """What :func:`examine` found, for people."""
    lines = []
    for environment, answer in answers:
        found = f"  {answer.found}" if answer.ok and answer.found else ""
        lines.append(f"{'ok   ' if answer.ok else 'WRONG'} {environment:12} {answer.name}{found}")
        if answer.problem:
            lines.append(f"      {answer.problem}")
        if answer.hint:
            lines.append(f"      hint: {answer.hint}")
    return lines
