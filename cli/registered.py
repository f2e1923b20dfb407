"""What `ignition setup` left on the Prefect server, beside what it would write now.

Deployments go by prefect.yaml, automations by :mod:`cli.automations`, blocks by the configuration.
"""

import importlib
import shlex
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from prefect.blocks.core import Block
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.responses import DeploymentResponse
from prefect.events.schemas.automations import AutomationCore
from prefect.exceptions import ObjectNotFound
from prefect.utilities.callables import parameter_schema
from pydantic import BaseModel, SecretStr

from blocks.target import Target, say_unreadable
from cli import automations
from cli.runs import prefect
from cli.schedule import registered
from release.configuration.layout import ServiceInterface
from release.readiness.registered import differing, judge_registered
from release.readiness.systems import Readiness
from settings import Settings

HOME = Path(__file__).resolve().parents[1]
"""The checkout: its prefect.yaml is applied, and runs work in it."""

_SETUP = "ignition setup"

# By which setting a field of a block is known to a person; {} is the environment.
_SETTINGS = {
    "url": "environments.{}.url",
    "repository": "repository",
    "registry": "registry",
    "database": "environments.{}.database",
    "rehearsal": "environments.{}.rehearsal",
    "orchestrator": "environments.{}.orchestrator",
    "orchestrator.service": "service.compose_service",
    "orchestrator.network": "environments.{}.router.network",
    "orchestrator.registry_username": "registry.username",
    "orchestrator.registry_password": "registry.password",
    "builder.engine": "registry.engine",
    "router": "environments.{}.router",
    **{
        f"{part}.{field}": f"service.{field}"
        for part in ("orchestrator", "router")
        for field in ServiceInterface.model_fields
    },
    "service": "service",
    "service.url": "environments.{}.url",
    "service.request_timeout_s": "environments.{}.verify.request_timeout",
    "service.auth": "environments.{}.auth",
    "metrics.server": "environments.{}.metrics",
    "ticketing": "ticket",
}


def template_variables() -> dict[str, str]:
    """What prefect.yaml takes from the environment."""
    return {"IGNITION_HOME": str(HOME), "IGNITION_PYTHON": shlex.quote(sys.executable)}


def ask_deployments(client: SyncPrefectClient) -> Readiness:
    """Whether the deployments are those of prefect.yaml, and may start."""
    found = registered(client)
    return judge_registered(
        "deployments",
        {name: dict(one) for name, one in declared().items()},
        {name: _deployment(one) for name, one in found.items()},
        {name: "is paused, so it starts no run" for name, one in found.items() if one.paused},
    )


def ask_automations(client: SyncPrefectClient, settings: Settings) -> Readiness:
    """Whether the automations are those that this version makes, and are on."""
    try:
        wanted = automations.wanted(client, settings)
    except ObjectNotFound:  # they start deployments
        return Readiness("automations", "the deployments that they start do not exist", _SETUP)
    found = automations.registered(client)
    return judge_registered(
        "automations",
        {one.name: _automation(one) for one in wanted},
        {one.name: _automation(one) for one in found},
        {one.name: "is switched off" for one in found if not one.enabled},
    )


def ask_blocks(target: Target) -> Readiness:
    """Whether the saved blocks, which runs use, are what the configuration says now."""
    name = f"ignition-target/{target.environment}"
    with prefect():  # without an address, Block.load would start a server of its own
        pass
    try:
        saved: Any = Target.load(target.environment)
    except ValueError as error:
        if "Unable to find block document" in str(error):
            return Readiness("saved blocks", f"there is no {name}: no run can begin", _SETUP)
        return Readiness("saved blocks", f"{name} cannot be read by this version", _SETUP)
    except RuntimeError as error:
        return Readiness("saved blocks", f"{name} {say_unreadable(error)}", _SETUP)
    keys = sorted({setting_of(key, target.environment) for key in _differing_fields(target, saved)})
    if not keys:
        return Readiness("saved blocks", found=f"{name} is as configured")
    return Readiness(
        "saved blocks",
        f"runs use values that differ from the configuration: {', '.join(keys)}",
        _SETUP,
    )


def setting_of(field: str, environment: str) -> str:
    """The setting that a field of an environment's blocks comes from, in dotted words."""
    known = max(
        (key for key in _SETTINGS if f"{field}.".startswith(f"{key}.")), key=len, default=""
    )
    return _SETTINGS[known].format(environment) + field[len(known) :] if known else field


def declared() -> dict[str, Mapping[str, Any]]:
    """The deployments of prefect.yaml by flow/name, as the server would hold them."""
    written = _rendered(yaml.safe_load((HOME / "prefect.yaml").read_text(encoding="utf-8")))
    return {
        f"{one['entrypoint'].rpartition('.')[2]}/{one['name']}": _declared(one, written["pull"])
        for one in written["deployments"]
    }


def _declared(one: Mapping[str, Any], pull: object) -> dict[str, Any]:
    module, _, flow = one["entrypoint"].rpartition(".")
    function = getattr(importlib.import_module(module), flow)
    return {
        "description": one["description"],
        "entrypoint": one["entrypoint"],
        "tags": sorted(one["tags"]),
        "parameters": one["parameters"],
        "form": _form(parameter_schema(function).model_dump()),
        "work_pool": one["work_pool"]["name"],
        "job_variables": one["work_pool"].get("job_variables", {}),
        "pull": pull,
        "schedules": sorted((s["cron"], s["timezone"]) for s in one.get("schedules", ())),
        "concurrency_limit": one.get("concurrency_limit"),
    }


def _deployment(one: DeploymentResponse) -> dict[str, Any]:
    limit, options = one.global_concurrency_limit, one.concurrency_options
    concurrency = (
        {
            "limit": limit.limit,
            "collision_strategy": options.collision_strategy.value if options else "ENQUEUE",
        }
        if limit
        else None
    )
    return {
        "description": one.description,
        "entrypoint": one.entrypoint,
        "tags": sorted(one.tags),
        "parameters": one.parameters,
        "form": _form(one.parameter_openapi_schema or {}),
        "work_pool": one.work_pool_name,
        "job_variables": one.job_variables,
        "pull": one.pull_steps,
        "schedules": sorted(
            (getattr(s.schedule, "cron", ""), getattr(s.schedule, "timezone", ""))
            for s in one.schedules
        ),
        "concurrency_limit": concurrency,
    }


def _form(schema: Mapping[str, Any]) -> dict[str, Any]:
    """A schema of parameters without what is empty: the server leaves that out."""
    return {key: value for key, value in schema.items() if value}


def _automation(one: AutomationCore) -> dict[str, Any]:
    return one.model_dump(include={"description", "trigger", "actions"})  # sets stay sets


def _rendered(value: Any) -> Any:
    """prefect.yaml with its variables filled in, as Prefect does it."""
    if isinstance(value, dict):
        return {key: _rendered(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_rendered(inner) for inner in value]
    if isinstance(value, str):
        for name, text in template_variables().items():
            value = value.replace(f"{{{{ ${name} }}}}", text)
    return value


def _differing_fields(ours: Block, saved: Block) -> Iterator[str]:
    yield from differing(_plain(ours), _plain(saved))


def _plain(value: Any) -> Any:
    """A block as plain values, secrets in clear: they are compared, and go nowhere."""
    if isinstance(value, Block):
        fields = type(value).model_fields
        return {one.alias or name: _plain(getattr(value, name)) for name, one in fields.items()}
    if isinstance(value, BaseModel):
        return {name: _plain(inner) for name, inner in value}
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    return value
