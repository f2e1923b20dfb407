"""One frozen settings object: ``ignition.toml`` and, above it, the environment.

Every value can be overridden by a variable such as
``IGNITION_ENVIRONMENTS__PRODUCTION__WATCH__LENGTH="15 min"``; secrets come only from there.
An unknown key is an error that names the nearest known one.
"""

import difflib
import os
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from release.errors import BadConfiguration, BadRequest
from release.request import checked_name
from release.rules import GateRules, RolloutRules, Rules, VerifyRules, WatchRules

CONFIG_VARIABLE = "IGNITION_CONFIG"
_DEFAULT_CONFIG = "ignition.toml"


class ServiceSettings(Rules):
    """What is deployed: the layout of the backend's repository and of its HTTP interface."""

    name: str
    """Image name, without registry: `ignition-api`."""

    backend: str = "app/backend"
    """Build context, from the repository's root (runbook, step 2: `cd app/backend`)."""

    dockerfile: str = "Dockerfile"
    """From the build context."""

    build_arguments: dict[str, str] = {}
    """Extra `--build-arg`s. VERSION and REVISION are always given. No secrets: an image keeps
    its build arguments for everyone to read."""

    migrations: str = "app/backend/migrations"
    """Ordered SQL files, from the repository's root (runbook, step 3)."""

    compose_service: str = "api"
    """The service in the Compose file (runbook, step 4: `docker compose up -d --no-deps api`)."""

    port: int = Field(default=8000, ge=1, le=65535)
    """The port that a container of the service listens on."""

    health_path: str = "/health"
    """Answers 200 while the service can serve (runbook, step 5)."""

    version_path: str = "/api/"
    """Answers JSON that names the version (runbook, step 5)."""

    version_field: str = "version"
    """The field of that JSON (runbook: `jq '.version'`)."""

    smoke: tuple[str, ...] = ("npm", "run", "test:smoke", "--prefix", "tests/")
    """The smoke tests, run in a clean export of the release (runbook, step 5). They get BASE_URL
    and EXPECT_VERSION in their environment."""


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


class AuthSettings(Rules):
    """The auth flow that is checked during the watch: log in, use the token, be refused."""

    login_path: str = "/api/login"
    """POST with JSON username and password; answers JSON with a token."""

    token_field: str = "token"
    """The field of that answer."""

    protected_path: str = "/api/me"
    """GET: 200 with the token, 401 or 403 without one and with a wrong one."""

    username: str = ""
    """An account made for this check alone; empty: the auth flow is not checked."""

    password: SecretStr = SecretStr("")
    """From IGNITION_ENVIRONMENTS__<NAME>__AUTH__PASSWORD."""


class TicketSettings(Rules):
    """The ticket system, in the shape of GitHub's issue API (Gitea and others answer to it)."""

    url: str = ""
    """`https://api.github.com/repos/OWNER/NAME`; empty: tickets are only named in the log."""

    token: SecretStr = SecretStr("")
    """From IGNITION_TICKET__TOKEN."""


class EnvironmentSettings(Rules):
    """One environment: where it is and which rules hold there."""

    url: str
    """The public address, as users reach it."""

    compose: ComposeSettings
    database: DatabaseSettings = DatabaseSettings()
    router: RouterSettings | None = None
    auth: AuthSettings = AuthSettings()
    gate: GateRules = GateRules()
    rollout: RolloutRules = RolloutRules()
    verify: VerifyRules = VerifyRules()
    watch: WatchRules = WatchRules()

    staging: str = ""
    """The environment whose state is the evidence for this one ("tested in staging")."""


class Settings(BaseSettings):
    """Everything that is configured."""

    model_config = SettingsConfigDict(
        env_prefix="IGNITION_",
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
        use_attribute_docstrings=True,
    )

    service: ServiceSettings
    repository: RepositorySettings
    registry: RegistrySettings
    ledger: LedgerSettings = LedgerSettings()
    ticket: TicketSettings = TicketSettings()
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
            env_settings,
            TomlConfigSettingsSource(settings_cls, toml_file=config_path()),
        )

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


def load_settings() -> Settings:
    """Read and check the configuration, once per process and state of its sources.

    Raises BadConfiguration with the file, the key, what was found, and the nearest known key.
    """
    path = config_path()
    variables = tuple(sorted(i for i in os.environ.items() if i[0].startswith("IGNITION_")))
    modified = path.stat().st_mtime_ns if path.is_file() else 0
    return _load(path, modified, variables)


@cache
def _load(path: Path, modified: int, variables: tuple[tuple[str, str], ...]) -> Settings:
    if not path.is_file():
        raise BadConfiguration(
            f"no configuration at {path}",
            f"cp ignition.example.toml ignition.toml, or set {CONFIG_VARIABLE}",
        )
    try:
        return Settings()  # type: ignore[call-arg]  # the sources give the arguments
    except tomllib.TOMLDecodeError as error:
        raise BadConfiguration(f"{path} is no TOML: {error}", f"edit {path}") from None
    except ValidationError as error:
        raise BadConfiguration(_explain(path, error), f"edit {path}, then: ignition doctor") from None


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
    """The keys of the table at ``location``; a mapping's own keys (environment names) are skipped."""
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
