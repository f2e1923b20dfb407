"""The composition root: the blocks of one environment, from the settings alone."""

from pathlib import Path
from typing import Any

from pydantic import BaseModel, SecretStr

from blocks.auth import AuthFlow
from blocks.builder import Builder
from blocks.kinds import FORGES, METRICS, ON_CALL, ORCHESTRATORS, ROUTERS, TICKETING
from blocks.ledger.ledger import Ledger
from blocks.metrics import Metrics
from blocks.postgres.database import Database
from blocks.postgres.rehearsal import Rehearsal
from blocks.registry import Registry
from blocks.repository import Repository
from blocks.service import Service
from blocks.target import Target
from release.configuration.key import variable_of
from release.configuration.layout import ServiceInterface
from release.errors import BadConfiguration
from settings import Settings, config_path


def build_target(settings: Settings, name: str) -> Target:
    """The blocks of one environment; nothing is saved.

    Raises BadConfiguration, naming its variable, if a secret is missing.
    """
    rules = settings.environment(name)
    registry = settings.registry
    interface = {key: getattr(settings.service, key) for key in ServiceInterface.model_fields}

    def located(table: BaseModel) -> Any:
        """The table with its relative paths at the configuration file's folder."""
        paths = {key: value for key, value in table if isinstance(value, Path)}
        return table.model_copy(update={key: settings.located(p) for key, p in paths.items()})

    return Target(
        environment=name,
        url=rules.url,
        repository=Repository(**dict(settings.repository) | {"workspace": settings.mirror}),
        builder=Builder(engine=registry.engine),
        registry=Registry(**dict(registry)),
        database=Database(
            **dict(rules.database)
            | {"dsn": _secret(rules.database.dsn, "environments", name, "database", "dsn")}
        ),
        rehearsal=Rehearsal(**dict(rules.rehearsal)),
        orchestrator=ORCHESTRATORS.block_of(
            located(rules.orchestrator),
            **interface,
            service=settings.service.compose_service,
            network=rules.router.network if rules.router else "",
            registry_username=registry.username,
            registry_password=registry.password,
        ),
        router=ROUTERS.block_of(located(rules.router), **interface) if rules.router else None,
        service=Service(
            **interface,
            url=rules.url,
            request_timeout_s=rules.verify.request_timeout.total_seconds(),
            auth=AuthFlow(**dict(rules.auth)),
        ),
        metrics=Metrics(
            server=METRICS.block_of(located(rules.metrics), environment=name)
            if rules.metrics.configured
            else None
        ),
        ledger=Ledger(
            dsn=_secret(settings.ledger.dsn, "ledger", "dsn"),
            spool=settings.spool,
        ),
        ticketing=TICKETING.block_of(located(settings.ticket)),
        forge=FORGES.block_of(located(settings.forge)),
        on_call=ON_CALL.block_of(located(settings.on_call)),
    )


def _secret(value: SecretStr | None, *key: str) -> SecretStr:
    if value is None or not value.get_secret_value():
        variable = variable_of(*key)
        raise BadConfiguration(
            f"{config_path()} needs a secret that is not set: {variable}",
            f"export {variable}=… and run: ignition setup",
        )
    return value
