"""`ignition setup`: the ledger, the blocks, the work pool and the deployments."""

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import yaml
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.context import SyncClientContext
from prefect.exceptions import ObjectNotFound
from pydantic import SecretStr

from blocks.auth import AuthFlow
from blocks.builder import Builder
from blocks.compose.orchestrator import ComposeOrchestrator
from blocks.forge import Forge
from blocks.haproxy.router import HaproxyRouter
from blocks.ledger.ledger import Ledger
from blocks.metrics import Metrics
from blocks.on_call import OnCall
from blocks.own_folder import leave_out_of_git
from blocks.postgres.database import Database
from blocks.postgres.rehearsal import Rehearsal
from blocks.prometheus import Prometheus
from blocks.registry import Registry
from blocks.repository import Repository
from blocks.service import Service
from blocks.target import Target
from blocks.ticketing import Ticketing
from cli.automations import apply as apply_automations
from cli.registered import HOME, template_variables
from cli.runs import prefect
from cli.workforce import WORK_POOL
from release.configuration.key import variable_of
from release.configuration.prometheus import PrometheusSettings
from release.errors import BadConfiguration
from release.ledger import RUNBOOK_RUN, EventKind
from release.runbook.log import written_rows
from release.wording import count_of
from settings import EnvironmentSettings, Settings, config_path

_SHARED = "default"  # the name of the blocks that all environments share


def build_target(settings: Settings, name: str) -> Target:
    """The blocks of one environment, from the settings alone; nothing is saved.

    Raises BadConfiguration where a secret is missing, naming its variable.
    """
    rules = settings.environment(name)
    compose = rules.compose
    router = _router(settings, rules)
    service = _service(settings, rules)
    return Target(
        environment=name,
        url=rules.url,
        repository=Repository(
            url=settings.repository.url,
            workspace=settings.mirror,
            main=settings.repository.main,
        ),
        builder=Builder(),
        registry=Registry(
            address=settings.registry.address,
            username=settings.registry.username,
            password=settings.registry.password,
            insecure=settings.registry.insecure,
        ),
        database=Database(
            dsn=_secret(rules.database.dsn, variable_of("environments", name, "database", "dsn")),
            lock_timeout_ms=rules.database.lock_timeout_ms,
            lock_budget_s=rules.database.lock_budget_s,
            statement_timeout_s=rules.database.statement_timeout_s,
        ),
        rehearsal=Rehearsal(
            dsn=rules.rehearsal.dsn,
            container_dsn=rules.rehearsal.container_dsn,
            database_variable=rules.rehearsal.database_variable,
            seed=rules.rehearsal.seed,
            limit_s=round(rules.rehearsal.limit.total_seconds()),
            statement_timeout_s=round(rules.rehearsal.statement_timeout.total_seconds()),
            most_statements=rules.rehearsal.most_statements,
        ),
        orchestrator=ComposeOrchestrator(
            directory=settings.located(compose.directory),
            file=compose.file,
            service=settings.service.compose_service,
            image_variable=compose.image_variable,
            engine=compose.engine,
            port=settings.service.port,
            network=rules.router.network if rules.router else "",
        ),
        router=router,
        service=service,
        metrics=Metrics(prometheus=_prometheus(rules.prometheus, name)),
        ledger=Ledger(
            dsn=_secret(settings.ledger.dsn, variable_of("ledger", "dsn")),
            spool=settings.spool,
        ),
        ticketing=Ticketing(url=settings.ticket.url, token=settings.ticket.token),
        forge=Forge(
            url=settings.forge.url,
            token=settings.forge.token,
            critical_label=settings.forge.critical_label,
            tests_command=settings.forge.tests_command,
        ),
        on_call=OnCall(
            url=settings.on_call.url,
            schedule=settings.on_call.schedule,
            token=settings.on_call.token,
        ),
    )


def install(settings: Settings) -> Iterator[str]:
    """Set everything up, once or again, and say each thing that was done."""
    _refuse_unknown_environments(settings)
    _refuse_missing_secrets(settings)
    names = sorted(settings.environments)
    targets = [build_target(settings, name) for name in names]
    leave_out_of_git(settings.state_folder)
    targets[0].ledger.install()
    yield "ledger: schema up to date"
    yield from _write_rows_of_runbook(settings, targets[0].ledger)
    yield f"work pool: {_ensure_work_pool()}"
    with ThreadPoolExecutor(1) as beside:  # a process of Prefect's, which takes as long as blocks
        applied = beside.submit(_apply_prefect_yaml)
        for target in targets:
            _save(target)
            yield f"blocks: ignition-target/{target.environment}"
        applied.result()
    yield "deployments: prefect.yaml applied"
    with prefect() as client:
        names = apply_automations(client, settings)
    yield f"automations: {len(names)} for gates and for runs that did not end themselves"


def _write_rows_of_runbook(settings: Settings, ledger: Ledger) -> Iterator[str]:
    """Begin the deployment log with the rows of the runbook's own table, once each.

    They are about the environment for which people sign; where there are several, the runbook does
    not say which.
    """
    try:
        text = settings.located(settings.runbook).read_text(encoding="utf-8")
    except (OSError, UnicodeError):
        return  # said by `ignition doctor`, and by each run
    signed = [n for n, rules in settings.environments.items() if rules.gate.approval == "human"]
    if len(signed) != 1:
        return
    rows = written_rows(text)
    for row in rows:
        kind = EventKind.DEPLOYMENT_ENDED
        ledger.record(signed[0], RUNBOOK_RUN, kind, key=row.key, payload=row.payload, at=row.date)
    if rows:
        yield f"deployment log: {count_of(len(rows), 'row')} of {settings.runbook}"


def _router(settings: Settings, rules: EnvironmentSettings) -> HaproxyRouter | None:
    if rules.router is None:
        return None
    return HaproxyRouter(
        socket=settings.located(rules.router.socket),
        backend_file=settings.located(rules.router.backend_file),
        backend=rules.router.backend,
        slot_count=rules.router.slots,
        port=settings.service.port,
    )


def _service(settings: Settings, rules: EnvironmentSettings) -> Service:
    return Service(
        url=rules.url,
        health_path=settings.service.health_path,
        version_path=settings.service.version_path,
        version_field=settings.service.version_field,
        request_timeout_s=rules.verify.request_timeout.total_seconds(),
        auth=AuthFlow(**dict(rules.auth)),
    )


def _prometheus(settings: PrometheusSettings, environment: str) -> Prometheus | None:
    if not settings.url:
        return None
    return Prometheus(
        environment=environment,
        url=settings.url,
        token=settings.token,
        username=settings.username,
        password=settings.password,
        requests=settings.requests,
        errors=settings.errors,
        durations=settings.durations,
        release_label=settings.release_label,
        timeout_s=settings.timeout.total_seconds(),
    )


def _save(target: Target) -> None:
    """Save the parts, then the whole that refers to them, so that a part can be edited alone."""
    shared = (
        target.repository,
        target.builder,
        target.registry,
        target.ledger,
        target.ticketing,
        target.forge,
        target.on_call,
    )
    own = (
        target.database,
        target.rehearsal,
        target.orchestrator,
        target.router,
        target.service.auth,
        target.service,
        target.metrics.prometheus,
        target.metrics,
    )
    with SyncClientContext.get_or_create():  # each save makes three clients of its own without it
        for block in shared:
            block.save(_SHARED, overwrite=True)
        for part in filter(None, own):
            part.save(target.environment, overwrite=True)
        target.save(target.environment, overwrite=True)


def _ensure_work_pool() -> str:
    with prefect() as client:
        try:
            client.read_work_pool(WORK_POOL)
        except ObjectNotFound:
            client.create_work_pool(WorkPoolCreate(name=WORK_POOL, type="process"))
            return f"{WORK_POOL} created"
    return f"{WORK_POOL} is there"


def _refuse_unknown_environments(settings: Settings) -> None:
    """Raise BadConfiguration if a deployment is for an environment that is not configured."""
    written = yaml.safe_load((HOME / "prefect.yaml").read_text(encoding="utf-8"))
    for deployment in written["deployments"]:
        name = deployment["parameters"]["environment"]
        if name not in settings.environments:
            known = ", ".join(sorted(settings.environments))
            raise BadConfiguration(
                f"prefect.yaml has a deployment for {name!r}, {config_path()} has: {known}",
                f"edit {HOME / 'prefect.yaml'}, then: ignition setup",
            )


def _refuse_missing_secrets(settings: Settings) -> None:
    """Raise BadConfiguration naming each secret without which something cannot work."""
    missing = tuple(settings.missing_secrets())
    if missing:
        raise BadConfiguration(*say_missing(missing))


def say_missing(missing: Sequence[str]) -> tuple[str, str]:
    """What is wrong where secrets are missing, and what to type."""
    first = missing[0].partition(" ")[0]
    return (
        f"{config_path()} needs {count_of(len(missing), 'more secret')}: {'; '.join(missing)}",
        f"export {first}=… and run: ignition setup",
    )


def _apply_prefect_yaml() -> None:
    # Prefect stores the literal text of a template whose variable is not set, so it is set here.
    variables = {
        **os.environ,
        **template_variables(),
        "PREFECT_LOGGING_LEVEL": "ERROR",
    }
    done = subprocess.run(
        [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all"],
        cwd=HOME,
        env=variables,
        capture_output=True,
        text=True,
    )
    if done.returncode != 0:
        tail = "\n".join((done.stdout + done.stderr).splitlines()[-10:])
        raise BadConfiguration(
            f"prefect deploy failed:\n{tail}", f"mend {HOME / 'prefect.yaml'}, then: ignition setup"
        )


def _secret(value: SecretStr | None, variable: str) -> SecretStr:
    if value is None or not value.get_secret_value():
        raise BadConfiguration(
            f"{config_path()} needs a secret that is not set: {variable}",
            f"export {variable}=… and run: ignition setup",
        )
    return value
