"""`ignition setup`: the ledger, the blocks, the work pool and the deployments."""

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import cast
from uuid import UUID

import yaml
from prefect.blocks.core import Block
from prefect.client.schemas.actions import BlockDocumentUpdate, WorkPoolCreate
from prefect.context import SyncClientContext
from prefect.exceptions import ObjectNotFound

from blocks.ledger.ledger import Ledger
from blocks.own_folder import leave_out_of_git
from blocks.program import run
from blocks.target import Target
from cli.automations import apply as apply_automations
from cli.registered import HOME, template_variables
from cli.runs import prefect
from cli.target import build_target
from cli.workforce import WORK_POOL
from release.duration import say_duration
from release.errors import BadConfiguration, Unreachable
from release.ledger import RUNBOOK_RUN, EventKind
from release.runbook.log import written_rows
from release.wording import count_of
from settings import Settings, config_path

_DEPLOY_TIMEOUT = timedelta(minutes=5)  # `prefect deploy` takes about 7 s
_SHARED = "default"  # the name of the blocks that all environments share


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
    yield f"automations: {len(names)} for gates and for runs that did not end by themselves"


def _write_rows_of_runbook(settings: Settings, ledger: Ledger) -> Iterator[str]:
    """Begin the deployment log with the rows of the runbook's own table, once each.

    They are about the environment for which people sign; if there are several, the runbook does not
    say which.
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
        target.metrics.server,
        target.metrics,
    )
    with SyncClientContext.get_or_create():  # each save makes three clients of its own without it
        for block in shared:
            _save_whole(block, _SHARED)
        for part in filter(None, own):
            _save_whole(part, target.environment)
        _save_whole(target, target.environment)


def _save_whole(block: Block, name: str) -> None:
    """Save a block, and leave out what another version saved there: Prefect merges the two."""
    id = cast(UUID, block.save(name, overwrite=True))
    with prefect() as client:
        there = client.read_block_document(id)
        known = type(block).model_json_schema()["properties"].keys()
        if there.data.keys() <= known:
            return
        # A secret reads as stars, which the server takes for the one that it has.
        data = {key: value for key, value in there.data.items() if key in known}
        parts = there.block_document_references
        data |= {
            key: {"$ref": {"block_document_id": part["block_document"]["id"]}}
            for key, part in parts.items()
            if key in known
        }
        client.update_block_document(
            id,
            BlockDocumentUpdate(
                block_schema_id=there.block_schema_id, data=data, merge_existing_data=False
            ),
        )


def _ensure_work_pool() -> str:
    with prefect() as client:
        try:
            client.read_work_pool(WORK_POOL)
        except ObjectNotFound:
            client.create_work_pool(WorkPoolCreate(name=WORK_POOL, type="process"))
            return f"{WORK_POOL} created"
    return f"{WORK_POOL} exists already"


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
    """What is wrong if secrets are missing, and what to type."""
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
    command = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all"]
    try:
        done = run(command, _DEPLOY_TIMEOUT, cwd=HOME, env=variables, merged=True)
    except subprocess.TimeoutExpired:
        limit = say_duration(_DEPLOY_TIMEOUT)
        raise Unreachable(
            f"Prefect did not take prefect.yaml within {limit}", "ignition setup"
        ) from None
    if done.returncode != 0:
        tail = "\n".join(done.stdout.decode(errors="replace").splitlines()[-10:])
        raise BadConfiguration(
            f"prefect deploy failed:\n{tail}", f"fix {HOME / 'prefect.yaml'}, then: ignition setup"
        )
