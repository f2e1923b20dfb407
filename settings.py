"""One frozen settings object: ``ignition.toml`` and, above it, the environment.

Every value can be overridden by a variable such as
``IGNITION_ENVIRONMENTS__PRODUCTION__WATCH__LENGTH="15 min"``; secrets come only from there.
An unknown key is an error that names the nearest known one.
"""

import difflib
import os
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any, Self, get_args, get_origin

from pydantic import BaseModel, Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    TomlConfigSettingsSource,
)

from release.auth import AuthSettings
from release.duration import Duration
from release.errors import BadConfiguration, BadRequest
from release.layout import ServiceLayout
from release.prometheus import PrometheusSettings
from release.request import checked_name
from release.rules import (
    GateRules,
    RollbackRules,
    RolloutRules,
    Rules,
    VerifyRules,
    WatchRules,
)

PREFIX = "IGNITION_"
CONFIG_VARIABLE = f"{PREFIX}CONFIG"
_DEFAULT_CONFIG = "ignition.toml"


class RepositorySettings(Rules):
    """Where the source is."""

    url: str
    """The git remote: a URL or a path. Credentials belong into git's own credential store."""

    main: str = "main"
    """The branch that the nightly deployment follows."""

    workspace: Path = Path(".ignition/repository.git")
    """Where the worker keeps its own bare mirror."""


class RegistrySettings(Rules):
    """Where images are pushed."""

    address: str
    """Host and port, without scheme: `registry.example.com`."""

    username: str = ""
    """Empty: no login."""

    password: SecretStr = SecretStr("")
    """From IGNITION_REGISTRY__PASSWORD only."""

    insecure: bool = False
    """True: plain HTTP. Only for a registry on this machine."""


class LedgerSettings(Rules):
    """The durable record of deployments."""

    dsn: SecretStr | None = None
    """PostgreSQL connection string, from IGNITION_LEDGER__DSN."""


class DatabaseSettings(Rules):
    """The environment's own database, for step 3."""

    dsn: SecretStr | None = None
    """A direct connection (no transaction pooler), from
    IGNITION_ENVIRONMENTS__<NAME>__DATABASE__DSN."""

    lock_timeout_ms: int = Field(default=500, ge=1)
    """Milliseconds that a migration waits for a table lock before it is tried again: what
    traffic may stall at most."""

    lock_budget_s: int = Field(default=60, ge=1)
    """Seconds that a migration may go on trying to get its locks, and that a runner waits for
    another runner."""

    statement_timeout_s: int = Field(default=900, ge=1)
    """Seconds that one statement may take."""


class RehearsalSettings(Rules):
    """Where pending migrations are rehearsed on a copy of the schema, before the gate."""

    dsn: SecretStr | None = None
    """Any database of a scratch server whose role may create databases, from
    IGNITION_ENVIRONMENTS__<NAME>__REHEARSAL__DSN; without it nothing is rehearsed. The worker needs
    pg_dump, as new as the environment's server. A role that is no superuser leaves its statements
    in pg_stat_statements, so give it a server of its own."""

    container_dsn: SecretStr | None = None
    """The same server, as a container of the service reaches it, from
    IGNITION_ENVIRONMENTS__<NAME>__REHEARSAL__CONTAINER_DSN; without it the old release's smoke
    tests are not run on the copy."""

    database_variable: str = "DATABASE_URL"
    """By which a container of the service is told its database."""

    seed: SecretStr = SecretStr("")
    """SQL with the rows that the smoke tests need on the copy, which has the schema alone, from
    IGNITION_ENVIRONMENTS__<NAME>__REHEARSAL__SEED."""

    limit: Duration = Field(default=timedelta(minutes=5), ge=timedelta(seconds=1))
    """How long a rehearsal may take before it is given up, which leaves the verdict unknown."""

    statement_timeout: Duration = Field(default=timedelta(minutes=1), ge=timedelta(seconds=1))
    """How long one statement may take on the copy."""

    most_statements: int = Field(default=5000, ge=0)
    """Statements of the running release (pg_stat_statements) that are checked, by calls."""


class ComposeSettings(Rules):
    """The Compose project that runs the service on its host."""

    directory: Path
    """Where the host's own `docker compose up` runs (runbook, step 4: `cd deploy/production`)."""

    file: str = "docker-compose.yml"
    """In that directory."""

    image_variable: str = "API_IMAGE"
    """The variable of the directory's `.env` file that names the service's image by digest."""

    engine: str = ""
    """DOCKER_HOST of the engine; empty: the worker's own."""


class RouterSettings(Rules):
    """HAProxy before the service. Leave the whole table out where there is none."""

    socket: Path
    """The admin socket."""

    backend_file: Path
    """The file that a restarted HAProxy reads its servers from."""

    backend: str = "api"
    """The backend's name."""

    slots: int = Field(default=6, ge=2, le=20)
    """Server slots of the backend, named <backend>1 to <backend>N."""

    network: str = ""
    """The network on which HAProxy finds the service's containers, by its name in the Compose file.
    Empty: the only one that the service is on."""


class TicketSettings(Rules):
    """The ticket system, in the shape of GitHub's issue API (Gitea and others answer to it)."""

    url: str = ""
    """`https://api.github.com/repos/OWNER/NAME`; empty: tickets are only named in the log."""

    token: SecretStr = SecretStr("")
    """From IGNITION_TICKET__TOKEN."""


class ApproverSettings(Rules):
    """Who may sign at a gate."""

    file: Path = Path(".ignition/approvers.json")
    """The approvers, their roles and the secrets of their one-time codes, on the worker, mode
    0600. `ignition approvers add NAME` writes it; the Prefect server never sees it."""

    enrolled: SecretStr = SecretStr("")
    """The content of that file, from IGNITION_APPROVERS__ENROLLED, for a worker without files of
    its own. Where it is set, the file is not read."""


class ForgeSettings(Rules):
    """Where commits have check runs and issues have labels, in the shape of GitHub's API (GitHub
    Enterprise and Gitea answer to it): evidence for "tests passing" and "no critical issues"."""

    url: str = ""
    """`https://api.github.com/repos/OWNER/NAME`; empty: no forge is asked."""

    token: SecretStr = SecretStr("")
    """From IGNITION_FORGE__TOKEN. It needs to read commit statuses, checks and issues."""

    critical_label: str = "critical"
    """An open issue with this label is a critical issue."""

    tests_command: tuple[str, ...] = ()
    """Asked instead of the forge whether the tests pass: a program and its arguments, with
    `{revision}` for the commit. Exit code 0 says that they pass. Run on the worker."""


class OnCallSettings(Rules):
    """Who is on call, in the shape of PagerDuty's API: evidence for "on-call aware"."""

    url: str = "https://api.pagerduty.com"
    """The API's address."""

    schedule: str = ""
    """The schedule's id; empty: nobody is asked."""

    token: SecretStr = SecretStr("")
    """From IGNITION_ON_CALL__TOKEN: a read-only API key."""


class NotifySettings(Rules):
    """Who is told, through Prefect's notification blocks: Slack, Teams, e-mail, PagerDuty, …"""

    blocks: tuple[str, ...] = ()
    """Told of each gate that opens and of each ending: `slack-webhook/deployments`, as the UI
    names the block."""

    escalation: tuple[str, ...] = ()
    """Told in addition when three quarters of a gate's time have passed, and of an ending that a
    person has to look at: `pager-duty-webhook/on-call`."""


class EnvironmentSettings(Rules):
    """One environment: where it is and which rules hold there."""

    url: str
    """The public address, as users reach it."""

    compose: ComposeSettings
    database: DatabaseSettings = DatabaseSettings()
    rehearsal: RehearsalSettings = RehearsalSettings()
    router: RouterSettings | None = None
    auth: AuthSettings = AuthSettings()
    prometheus: PrometheusSettings = PrometheusSettings()
    gate: GateRules = GateRules()
    rollout: RolloutRules = RolloutRules()
    verify: VerifyRules = VerifyRules()
    watch: WatchRules = WatchRules()
    rollback: RollbackRules = RollbackRules()

    staging: str = ""
    """The environment whose state is the evidence for this one ("tested in staging")."""

    wait_for_others: Duration = Field(default=timedelta(), ge=timedelta(), le=timedelta(hours=24))
    """How long a deployment waits for another run that holds the environment; 0 s: it is refused
    at once. A rollback never waits: it takes over, or hands over."""

    @model_validator(mode="after")
    def _slots_for_old_and_new(self) -> Self:
        needed = 2 * self.rollout.replicas
        if self.router is not None and self.router.slots < needed:
            raise ValueError(
                f"router.slots is {self.router.slots}; rollout.replicas = {self.rollout.replicas} "
                f"needs {needed}, because old and new serve side by side"
            )
        return self

    @model_validator(mode="after")
    def _probes_can_log_in(self) -> Self:
        named = next((probe.name for probe in self.watch.probes if probe.session), "")
        if named and not self.auth.username:
            raise ValueError(
                f"watch.probes: {named} is asked with a session, and auth.username names no account"
            )
        return self


class _Variables(EnvSettingsSource):
    """The environment. A variable's name holds no ``-``, so ``EU_WEST`` is ``eu-west``."""

    def __call__(self) -> dict[str, Any]:
        found = super().__call__()
        tables = found.get("environments", {})
        return found | {"environments": {k.replace("_", "-"): v for k, v in tables.items()}}


class _File(TomlConfigSettingsSource):
    """``ignition.toml``. It is in git, so a secret in it is refused."""

    def __call__(self) -> dict[str, Any]:
        found = super().__call__()
        for key in secret_keys(Settings, found):
            raise BadConfiguration(
                f"{config_path()}: {'.'.join(key)} is a secret and does not belong into a file",
                f"take the line out and set {variable_of(*key)}",
            )
        return found


class Settings(BaseSettings):
    """Everything that is configured."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
        use_attribute_docstrings=True,
    )

    service: ServiceLayout
    repository: RepositorySettings
    registry: RegistrySettings
    ledger: LedgerSettings = LedgerSettings()
    ticket: TicketSettings = TicketSettings()
    approvers: ApproverSettings = ApproverSettings()
    forge: ForgeSettings = ForgeSettings()
    on_call: OnCallSettings = OnCallSettings()
    notify: NotifySettings = NotifySettings()
    runbook: Path = Path("RUNBOOK.md")
    """The runbook whose checklist items are the gates."""

    environments: dict[str, EnvironmentSettings]

    @field_validator("environments")
    @classmethod
    def _names(cls, value: dict[str, EnvironmentSettings]) -> dict[str, EnvironmentSettings]:
        for name in value:
            try:
                checked_name(name, "environment name")
            except BadRequest as error:
                raise ValueError(error.what) from None
        return value

    @model_validator(mode="after")
    def _staging_exists(self) -> Self:
        for name, environment in self.environments.items():
            if environment.staging and environment.staging not in self.environments:
                known = ", ".join(sorted(self.environments))
                raise ValueError(
                    f"environments.{name}.staging names {environment.staging!r}; there is: {known}"
                )
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (
            init_settings,
            _Variables(settings_cls),
            _File(settings_cls, toml_file=config_path()),
        )

    def located(self, path: Path) -> Path:
        """Where a configured path is: relative ones start at the configuration file's folder, so
        that it does not matter where a worker or a command was started."""
        return path if path.is_absolute() else config_path().resolve().parent / path

    def environment(self, name: str) -> EnvironmentSettings:
        """Return the environment's settings. Raises BadRequest naming those that exist."""
        found = self.environments.get(name)
        if found is None:
            known = ", ".join(sorted(self.environments))
            raise BadRequest(
                f"environment {name!r} is not configured in {config_path()}; there is: {known}",
                "ignition status",
            )
        return found


def config_path() -> Path:
    """The configuration file: ``$IGNITION_CONFIG``, else ``ignition.toml`` here."""
    return Path(os.environ.get(CONFIG_VARIABLE, _DEFAULT_CONFIG))


def variable_of(*key: str) -> str:
    """The environment variable that sets a key: IGNITION_ENVIRONMENTS__EU_WEST__DATABASE__DSN."""
    return PREFIX + "__".join(key).upper().replace("-", "_")


def secret_keys(model: type[BaseModel], table: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    """The keys in ``table`` whose values are secrets, as ``model`` knows them."""
    for key, value in table.items():
        field = model.model_fields.get(key)
        if field is None:
            continue
        inner = _model_in(field.annotation)
        if inner is None:
            if field.annotation is SecretStr or SecretStr in get_args(field.annotation):
                yield (key,)
        elif isinstance(value, dict):
            named = get_origin(field.annotation) is dict  # a mapping: its own keys are names
            for name, found in value.items() if named else [("", value)]:
                if isinstance(found, dict):
                    yield from ((key, *filter(None, [name]), *k) for k in secret_keys(inner, found))


def load_settings() -> Settings:
    """Read and check the configuration, once per process and state of its sources.

    Raises BadConfiguration with the file, the key, what was found, and the nearest known key.
    """
    path = config_path()
    variables = tuple(sorted(i for i in os.environ.items() if i[0].startswith(PREFIX)))
    modified = path.stat().st_mtime_ns if path.is_file() else 0
    return _load(path, modified, variables)


@cache
def _load(path: Path, modified: int, variables: tuple[tuple[str, str], ...]) -> Settings:
    if not path.is_file():
        raise BadConfiguration(
            f"no configuration at {path}",
            f"cp ignition.example.toml ignition.toml, or set {CONFIG_VARIABLE}",
        )
    _refuse_unknown_variables(name for name, _ in variables)
    try:
        return Settings()
    except tomllib.TOMLDecodeError as error:
        raise BadConfiguration(f"{path} is no TOML: {error}", f"edit {path}") from None
    except SettingsError as error:
        raise BadConfiguration(
            f"a variable {PREFIX}… cannot be read: {error}",
            f"one key is set as {variable_of('registry', 'address')}; a list or table is JSON",
        ) from None
    except ValidationError as error:
        raise BadConfiguration(
            _explain(path, error), f"edit {path}, then: ignition doctor"
        ) from None


def _refuse_unknown_variables(names: Iterable[str]) -> None:
    """Raise BadConfiguration for a variable of a table that does not exist: it would do nothing."""
    for name in names:
        table, nested, key = name.removeprefix(PREFIX).partition("__")
        if nested and table.lower() not in Settings.model_fields:
            known = [known.upper() for known in Settings.model_fields]
            near = difflib.get_close_matches(table.upper(), known, n=1, cutoff=0.5)
            raise BadConfiguration(
                f"variable {name} is no setting"
                + (f"; did you mean {PREFIX}{near[0]}__{key}?" if near else ""),
                f"unset {name}",
            )


def _explain(path: Path, error: ValidationError) -> str:
    """Say each problem with its key, in one sentence; never the value, it may be a secret."""
    return f"{path}: " + "; ".join(_explain_one(problem) for problem in error.errors())


def _explain_one(problem: Any) -> str:
    key = ".".join(str(part) for part in problem["loc"])
    if problem["type"] != "extra_forbidden":
        return f"{key}: {problem['msg'].removeprefix('Value error, ')}"
    known = _known_keys(Settings, problem["loc"][:-1])
    near = difflib.get_close_matches(str(problem["loc"][-1]), known, n=1, cutoff=0.5)
    return f"{key} is no setting" + (f"; did you mean {near[0]}?" if near else "")


def _known_keys(model: type[BaseModel], location: tuple[Any, ...]) -> list[str]:
    """The keys of the table at ``location``; a mapping's own keys (names) are skipped."""
    for part in location:
        field = model.model_fields.get(str(part))
        if field is not None:
            model = _model_in(field.annotation) or model
    return list(model.model_fields)


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for inner in getattr(annotation, "__args__", ()):
        found = _model_in(inner)
        if found is not None:
            return found
    return None
