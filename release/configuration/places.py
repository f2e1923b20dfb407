"""Where each system is and how it is reached: one class of settings for each.

They are tables of ``ignition.toml``; a docstring below a field is what docs/settings.md says of it.
"""

from datetime import timedelta
from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator, Field, SecretStr

from release.configuration.address import (
    ApiAddress,
    BlockName,
    EngineAddress,
    GitRemote,
    PostgresDsn,
    RegistryAddress,
    VariableName,
)
from release.configuration.rules import Rules
from release.duration import Duration
from release.git_ref import BranchName

OwnPlace = Annotated[Path | None, BeforeValidator(lambda value: value or None)]
"""A path that is chosen where none is given: none, or an empty text."""


class RepositorySettings(Rules):
    """Where the source is."""

    url: GitRemote
    """The git remote: a URL or a path. Keep credentials in git's own credential store."""

    main: BranchName = "main"
    """The branch that the nightly deployment follows."""

    workspace: OwnPlace = None
    """Where the worker keeps its bare mirror; empty: in `state`."""


class RegistrySettings(Rules):
    """Where images are pushed."""

    address: RegistryAddress
    """Host and port, without a scheme: `registry.example.com`."""

    username: str = ""
    """The login's name; empty: no login."""

    password: SecretStr = SecretStr("")
    """The login's password, from IGNITION_REGISTRY__PASSWORD."""

    insecure: bool = False
    """true: plain HTTP instead of HTTPS. Only for a registry on this machine."""


class LedgerSettings(Rules):
    """The durable record of deployments."""

    dsn: PostgresDsn = None
    """PostgreSQL connection string, from IGNITION_LEDGER__DSN."""


class DatabaseSettings(Rules):
    """The environment's own database, for step 3."""

    dsn: PostgresDsn = None
    """A direct connection (no transaction pooler), from
    IGNITION_ENVIRONMENTS__<NAME>__DATABASE__DSN."""

    lock_timeout_ms: int = Field(default=500, ge=1)
    """How many milliseconds a migration waits for a table lock before it is tried again. Traffic
    stalls no longer than this."""

    lock_budget_s: int = Field(default=60, ge=1)
    """How many seconds a migration goes on trying to get its locks, and a runner waits for another
    runner."""

    statement_timeout_s: int = Field(default=900, ge=1)
    """How many seconds one statement may take."""


class RehearsalSettings(Rules):
    """Where pending migrations are rehearsed on a copy of the schema, before the gate."""

    dsn: PostgresDsn = None
    """Any database of a scratch server, with a role that may create databases, from
    IGNITION_ENVIRONMENTS__<NAME>__REHEARSAL__DSN; without it nothing is rehearsed. The worker needs
    pg_dump, at least as new as the environment's server. A role that is not a superuser leaves its
    statements in pg_stat_statements, so use a server of its own."""

    container_dsn: PostgresDsn = None
    """The same server, as a container of the service reaches it, from
    IGNITION_ENVIRONMENTS__<NAME>__REHEARSAL__CONTAINER_DSN; without it the old release's smoke
    tests are not run on the copy."""

    database_variable: VariableName = "DATABASE_URL"
    """The variable that tells a container of the service its database."""

    seed: SecretStr = SecretStr("")
    """SQL with the rows that the smoke tests need on the copy, which has only the schema, from
    IGNITION_ENVIRONMENTS__<NAME>__REHEARSAL__SEED."""

    limit: Duration = Field(default=timedelta(minutes=5), ge=timedelta(seconds=1))
    """How long a rehearsal may take before it is given up; the verdict is unknown then."""

    statement_timeout: Duration = Field(default=timedelta(minutes=1), ge=timedelta(seconds=1))
    """How long one statement may take on the copy."""

    most_statements: int = Field(default=5000, ge=0)
    """How many statements of the running release (pg_stat_statements) are checked, the most
    frequently called first."""


class ComposeSettings(Rules):
    """The Compose project that runs the service on its host."""

    directory: Path
    """Where the host's own `docker compose up` runs (runbook, step 4: `cd deploy/production`)."""

    file: str = "docker-compose.yml"
    """The Compose file in that directory."""

    image_variable: VariableName = "API_IMAGE"
    """The variable of the directory's `.env` file that names the service's image by digest."""

    engine: EngineAddress = ""
    """The engine's DOCKER_HOST; empty: the worker's own engine."""


class RouterSettings(Rules):
    """HAProxy in front of the service. Leave the whole table out if there is none."""

    socket: Path
    """HAProxy's admin socket."""

    backend_file: Path
    """The file that a restarted HAProxy reads its servers from."""

    backend: str = "api"
    """The backend's name."""

    slots: int = Field(default=6, ge=2, le=20)
    """Server slots of the backend, named <backend>1 to <backend>N."""

    network: str = ""
    """The network on which HAProxy finds the service's containers, by its name in the Compose file;
    empty: the only one that the service is on."""


class TicketSettings(Rules):
    """The ticket system, through GitHub's issue API (Gitea and others have the same)."""

    url: ApiAddress = ""
    """`https://api.github.com/repos/OWNER/NAME`; empty: tickets are only named in the log."""

    token: SecretStr = SecretStr("")
    """From IGNITION_TICKET__TOKEN, for an account that may comment and close, nothing more."""


class ApproverSettings(Rules):
    """Who may sign at a gate."""

    file: OwnPlace = None
    """The approvers, their roles and the secrets of their one-time codes, on the worker, mode
    0600; empty: in `state`. `ignition approvers add NAME` writes it; the Prefect server never sees
    it."""

    enrolled: SecretStr = SecretStr("")
    """The content of that file, from IGNITION_APPROVERS__ENROLLED, for a worker without files of
    its own. If it is set, the file is not read."""


class ForgeSettings(Rules):
    """Where commits have check runs and issues have labels, through GitHub's API (GitHub Enterprise
    and Gitea have the same): evidence for "tests passing" and "no critical issues"."""

    url: ApiAddress = ""
    """`https://api.github.com/repos/OWNER/NAME`; empty: no forge is asked."""

    token: SecretStr = SecretStr("")
    """From IGNITION_FORGE__TOKEN. It needs to read commit statuses, checks and issues."""

    critical_label: str = "critical"
    """An open issue with this label is a critical issue."""

    tests_command: tuple[str, ...] = ()
    """A program that says whether the tests pass, used instead of the forge: the program and its
    arguments, with `{revision}` for the commit. Exit code 0 means that they pass. It runs on the
    worker."""


class OnCallSettings(Rules):
    """Who is on call, through PagerDuty's API: evidence for "on-call aware"."""

    url: ApiAddress = "https://api.pagerduty.com"
    """The API's address."""

    schedule: str = ""
    """The schedule's id; empty: nobody is asked."""

    token: SecretStr = SecretStr("")
    """From IGNITION_ON_CALL__TOKEN: a read-only API key."""


class NotifySettings(Rules):
    """Who is told, through Prefect's notification blocks: Slack, Teams, e-mail, PagerDuty, …"""

    blocks: tuple[BlockName, ...] = ()
    """Told about each gate that opens and each ending: `slack-webhook/deployments`, as the UI names
    the block."""

    escalation: tuple[BlockName, ...] = ()
    """Also told when three quarters of a gate's time have passed, and about an ending that a person
    has to look at: `pager-duty-webhook/on-call`."""
