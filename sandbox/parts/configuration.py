"""The pipeline's configuration for a sandbox: the rules of production, with windows of seconds."""

import re
from collections.abc import Mapping
from string import Template

from sandbox.layout import CHECKOUT, IMAGE_NAME, Environment, Sandbox, by_name
from sandbox.parts import prometheus
from sandbox.parts.environments import seed_statement

_SHARED = Template(
    """\
# Written by `make up`. Secrets are in the environment: source the file `env` beside this one.
runbook = "$checkout/RUNBOOK.md"
state = ".ignition"

[service]
name = "$image"

[repository]
url = "$origin"
workspace = "repository.git"

[registry]
address = "$registry"
insecure = true  # plain HTTP, on this machine only
"""
)

_ENVIRONMENT = Template(
    """
[environments.$name]
url = "$url"
$staging
[environments.$name.orchestrator]
directory = "$folder"

[environments.$name.router]
socket = "$folder/run/admin.sock"
backend_file = "$folder/run/be.cfg"
network = "default"

[environments.$name.auth]
username = "$user"
logout_path = "/api/logout"

$prometheus
[environments.$name.gate]
approval = "$approval"

[environments.$name.rollout]
bake = "2 s"

[environments.$name.rollback]
watch = "3 s"

[environments.$name.watch]
length = "$watch"
every = "500 ms"
sustained_for = "4 s"
longest_gap = "5 s"
extend_up_to = "20 s"
rollback_window = "0 s"  # nothing by schedule: it would come between two deployments of a test
window_run = "9 s"
"""
)


_PROMETHEUS = Template(
    """\
[environments.$name.metrics]
url = "$url"
"""
)


def write(sandbox: Sandbox) -> None:
    """Write ``ignition.toml``. It holds no secret."""
    sandbox.configuration_file.write_text(render(sandbox))


def render(sandbox: Sandbox) -> str:
    """The configuration's text."""
    shared = _SHARED.substitute(
        checkout=CHECKOUT,
        image=IMAGE_NAME,
        origin=sandbox.origin,
        registry=sandbox.registry,
    )
    return (
        shared
        + _environment(sandbox, sandbox.staging, "evidence", "6 s")
        + _environment(sandbox, sandbox.production, "human", "8 s", 'staging = "staging"\n')
    )


def _environment(
    sandbox: Sandbox, environment: Environment, approval: str, watch: str, staging: str = ""
) -> str:
    return _ENVIRONMENT.substitute(
        name=environment.name,
        url=by_name(environment.public_url),
        folder=environment.host_folder,
        user=sandbox.seed_username,
        approval=approval,
        watch=watch,
        staging=staging,
        prometheus=_PROMETHEUS.substitute(name=environment.name, url=prometheus.url(sandbox))
        if prometheus.is_installed()
        else "",
    )


def secrets(sandbox: Sandbox) -> dict[str, str]:
    """The variables that carry the configuration's secrets."""
    found = {"IGNITION_LEDGER__DSN": by_name(sandbox.ledger_url)}
    for environment in sandbox.environments:
        prefix = f"IGNITION_ENVIRONMENTS__{environment.name.upper()}__"
        found[f"{prefix}DATABASE__DSN"] = by_name(environment.database_url)
        found[f"{prefix}AUTH__PASSWORD"] = sandbox.seed_password
        found[f"{prefix}REHEARSAL__DSN"] = by_name(sandbox.database_url("postgres"))
        found[f"{prefix}REHEARSAL__CONTAINER_DSN"] = sandbox.container_database_url("postgres")
        found[f"{prefix}REHEARSAL__SEED"] = seed_statement(sandbox)
    return found


def set_values(text: str, table: str, values: Mapping[str, str]) -> str:
    """The configuration with some values of one of its tables replaced or added: strings, and
    lists as TOML writes them."""
    head, header, rest = text.partition(f"[{table}]\n")
    body, mark, tail = rest.partition("\n[")
    kept = [line for line in body.splitlines() if re.split(r"\s*=", line)[0] not in values]
    lines = [*kept, *(f"{name} = {_value(value)}" for name, value in values.items())]
    return "\n".join([head + header + "\n".join(filter(None, lines)), ""]) + mark + tail


def _value(value: str) -> str:
    return value if value.startswith("[") else f'"{value}"'
