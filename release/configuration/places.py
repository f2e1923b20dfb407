"""Where each system is and how it is reached: one class of settings for each.

They are tables of ``ignition.toml``; docs/settings.md shows the docstring below each field.
"""

from datetime import timedelta
from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import BeforeValidator, Field, SecretStr

from release.configuration.address import (
    BlockName,
    EngineAddress,
    GitRemote,
    PostgresDsn,
    RegistryAddress,
    VariableName,
)
from release.configuration.rules import Need, Rules
from release.duration import Duration
from release.git_ref import BranchName

OwnPlace = Annotated[Path | None, BeforeValidator(lambda value: value or None)]
"""A path that is chosen for the team if it is None or an empty text."""


class RepositorySettings(Rules):
    """Where the source is."""

    url: GitRemote = Field(examples=["https://git.example.com/team/backend.git"])
    """The git remote: a URL or a path. Keep credentials in git's own credential store, or use
    an SSH key on the worker."""

    main: BranchName = "main"
    """The branch that the nightly deployment follows."""

    workspace: OwnPlace = None
    """Where the worker keeps its bare mirror; empty: in `state`."""


class RegistrySettings(Rules):
    """Where images are pushed."""

    needs: ClassVar[tuple[Need, ...]] = (Need("password", asked_by="username"),)

    address: RegistryAddress = Field(examples=["registry.example.com"])
    """Host and port, without a scheme: `registry.example.com`."""

    username: str = ""
    """The login's name; empty: no login."""

    password: SecretStr = SecretStr("")
    """The login's password."""

    insecure: bool = False
    """true: plain HTTP instead of HTTPS. Only for a registry on this machine."""

    engine: EngineAddress = ""
    """DOCKER_HOST of the engine that builds and pushes images; empty: the worker's own engine."""


class LedgerSettings(Rules):
    """The durable record of deployments, signatures and locks."""

    needs: ClassVar[tuple[Need, ...]] = (Need("dsn"),)

    dsn: PostgresDsn = None
    """PostgreSQL connection string of a database of its own, not one that is deployed to."""


class DatabaseSettings(Rules):
    """The environment's own database, for step 3."""

    needs: ClassVar[tuple[Need, ...]] = (Need("dsn"),)

    dsn: PostgresDsn = None
    """PostgreSQL connection string of a direct connection: the migrations' lock and their timeouts
    do not survive a transaction pooler."""

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
    """Any database of a scratch server, with a role that may create databases; without it nothing
    is rehearsed. The worker needs pg_dump, at least as new as the environment's server. A role that
    is not a superuser leaves its statements in pg_stat_statements, so use a server of its own."""

    container_dsn: PostgresDsn = None
    """The same server, as a container of the service reaches it; without it the old release's
    smoke tests are not run on the copy."""

    database_variable: VariableName = "DATABASE_URL"
    """The variable that tells a container of the service its database."""

    seed: SecretStr = SecretStr("")
    """SQL with the rows that the smoke tests need on the copy, which has only the schema."""

    limit: Duration = Field(default=timedelta(minutes=5), ge=timedelta(seconds=1))
    """How long a rehearsal may take before it is given up; the verdict is unknown then."""

    statement_timeout: Duration = Field(default=timedelta(minutes=1), ge=timedelta(seconds=1))
    """How long one statement may take on the copy."""

    most_statements: int = Field(default=5000, ge=0)
    """How many statements of the running release (pg_stat_statements) are checked, the most
    frequently called first."""


class ApproverSettings(Rules):
    """Who may sign at a gate."""

    file: OwnPlace = None
    """The approvers, their roles and the secrets of their one-time codes, on the worker, mode
    0600; empty: in `state`. `ignition approvers add NAME` writes it; the Prefect server never sees
    it."""

    enrolled: SecretStr = SecretStr("")
    """The content of `file`, for a worker without files of its own. If it is set, the file is not
    read."""


class NotifySettings(Rules):
    """Who is told, through Prefect's notification blocks: Slack, Teams, e-mail, PagerDuty, …"""

    blocks: tuple[BlockName, ...] = ()
    """Told about each gate that opens and each ending: `slack-webhook/deployments`, as the UI names
    the block."""

    escalation: tuple[BlockName, ...] = ()
    """Also told when three quarters of a gate's time have passed, and about an ending that a person
    has to look at: `pager-duty-webhook/on-call`."""
