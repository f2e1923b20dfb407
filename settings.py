"""One frozen settings object: ``ignition.toml``, overridden by the environment.

Every value can be overridden by a variable such as
``IGNITION_ENVIRONMENTS__PRODUCTION__WATCH__LENGTH="15 min"``; secrets come only from there.
An unknown key is an error that names the nearest known one.
"""

import os
import re
import tomllib
from collections.abc import Iterator
from datetime import timedelta
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from pydantic import (
    BaseModel,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    TomlConfigSettingsSource,
)

from blocks import kinds
from release.configuration.address import WebAddress
from release.configuration.auth import AuthSettings
from release.configuration.key import PREFIX, Key, refused_variables, secret_keys, variable_of
from release.configuration.key_errors import explain, misplaced
from release.configuration.layout import ServiceLayout
from release.configuration.places import (
    ApproverSettings,
    DatabaseSettings,
    LedgerSettings,
    NotifySettings,
    OwnPlace,
    RegistrySettings,
    RehearsalSettings,
    RepositorySettings,
)
from release.configuration.rules import (
    GateRules,
    RollbackRules,
    RolloutRules,
    Rules,
    VerifyRules,
    WatchRules,
)
from release.duration import Duration
from release.errors import BadConfiguration, BadRequest
from release.request import checked_name
from release.wording import there_is

CONFIG_VARIABLE = f"{PREFIX}CONFIG"
_DEFAULT_CONFIG = "ignition.toml"

if TYPE_CHECKING:
    from release.configuration.kinds import (
        ForgeSettings,
        MetricsSettings,
        OnCallSettings,
        OrchestratorSettings,
        RouterSettings,
        TicketSettings,
    )
else:  # a table is read as the settings of one of the registered kinds
    ForgeSettings = kinds.FORGES.settings()
    MetricsSettings = kinds.METRICS.settings()
    OnCallSettings = kinds.ON_CALL.settings()
    OrchestratorSettings = kinds.ORCHESTRATORS.settings()
    RouterSettings = kinds.ROUTERS.settings()
    TicketSettings = kinds.TICKETING.settings()


class EnvironmentSettings(Rules):
    """One environment: where it is and which rules hold there."""

    url: WebAddress = Field(examples=["https://api.example.com"])
    """The public address, as users reach it."""

    orchestrator: OrchestratorSettings
    database: DatabaseSettings = DatabaseSettings()
    rehearsal: RehearsalSettings = RehearsalSettings()
    router: RouterSettings | None = None
    auth: AuthSettings = AuthSettings()
    metrics: MetricsSettings = kinds.METRICS.default()
    gate: GateRules = GateRules()
    rollout: RolloutRules = RolloutRules()
    verify: VerifyRules = VerifyRules()
    watch: WatchRules = WatchRules()
    rollback: RollbackRules = RollbackRules()

    staging: str = ""
    """The environment whose state is evidence for this one ("tested in staging")."""

    wait_for_others: Duration = Field(default=timedelta(), ge=timedelta(), le=timedelta(hours=24))
    """How long a deployment waits for another run that holds the environment. "0 s": it is refused
    at once. A rollback never waits: it takes over, or hands over."""

    @model_validator(mode="after")
    def _room_for_old_and_new(self) -> Self:
        refusal = self.router.refusal(self.rollout.replicas) if self.router else ""
        if refusal:
            raise ValueError(refusal)
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
        tables = found.get("environments")
        if not isinstance(tables, dict):
            return found
        return found | {"environments": {k.replace("_", "-"): v for k, v in tables.items()}}


class _File(TomlConfigSettingsSource):
    """``ignition.toml``. It is in git, so a secret in it is refused."""

    def __call__(self) -> dict[str, Any]:
        found = super().__call__()
        for key in secret_keys(Settings, found):
            raise BadConfiguration(
                f"{config_path()}: {'.'.join(key)} is a secret and does not belong in a file",
                f"remove the line and set {variable_of(*key)}",
            )
        # Before the variables override it, which would hide a value that is in a table's place.
        if wrong := "; ".join(misplaced(Settings, found)):
            raise BadConfiguration(f"{config_path()}: {wrong}", _edit(config_path()))
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
    ticket: TicketSettings = kinds.TICKETING.default()
    approvers: ApproverSettings = ApproverSettings()
    forge: ForgeSettings = kinds.FORGES.default()
    on_call: OnCallSettings = kinds.ON_CALL.default()
    notify: NotifySettings = NotifySettings()
    runbook: Path = Path("RUNBOOK.md")
    """The runbook whose checklist items are the gates."""

    state: OwnPlace = None
    """The folder for this machine's own data: the mirror, the approvers, events that the ledger has
    not taken yet. Empty: a folder for this configuration in the user's state directory,
    `$XDG_STATE_HOME` or `~/.local/state`; or `.ignition` beside this file, if it exists. Type
    `ignition setup` after a change, as the worker's user."""

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
                known = there_is(environment.staging, self.environments)
                raise ValueError(
                    f"environments.{name}.staging names {environment.staging!r}{known}"
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

    @property
    def state_folder(self) -> Path:
        """Where this machine keeps what is its own.

        Worker and command must find the same folder, so it depends only on the configuration and
        the user. A folder from before the user's state directory was used is still used, so that
        no approvers, events or mirror are lost. Raises BadConfiguration if ``state`` names another
        place and that folder was not moved there.
        """
        beside = self.located(Path(".ignition"))
        if not self.state:
            return beside if beside.is_dir() else _folder_of(config_path().resolve())
        chosen = self.located(self.state)
        if beside.is_dir() and not chosen.is_dir():
            raise BadConfiguration(
                f"{beside} has what this machine kept until now, and state names {chosen}, "
                "which does not exist",
                f"mv {beside} {chosen}, then: ignition setup",
            )
        return chosen

    @property
    def mirror(self) -> Path:
        """The worker's mirror of the repository."""
        given = self.repository.workspace
        return self.located(given) if given else self.state_folder / "repository.git"

    @property
    def approvers_file(self) -> Path:
        """The approvers with their secrets."""
        given = self.approvers.file
        return self.located(given) if given else self.state_folder / "approvers.json"

    @property
    def spool(self) -> Path:
        """Events that the ledger has not taken yet."""
        return self.state_folder / "ledger-spool"

    def missing_secrets(self) -> Iterator[str]:
        """A sentence for each secret that is not set, and without which something cannot work."""
        for key, table in _tables(self):
            for need in table.needs:
                value = getattr(table, need.secret)
                asked = getattr(table, need.asked_by) if need.asked_by else True
                if asked and not (value and value.get_secret_value().strip()):
                    by = ".".join((*key, need.asked_by))
                    why = f" ({by} is set, and needs it)" if need.asked_by else ""
                    yield f"{variable_of(*key, need.secret)} is not set{why}"

    def environment(self, name: str) -> EnvironmentSettings:
        """Return the environment's settings. Raises BadRequest naming those that exist."""
        found = self.environments.get(name)
        if found is None:
            known = there_is(name, self.environments)
            raise BadRequest(
                f"environment {name!r} is not configured in {config_path()}{known}",
                "ignition status",
            )
        return found


def config_path() -> Path:
    """The configuration file: ``$IGNITION_CONFIG``, else ``ignition.toml`` here."""
    return Path(os.environ.get(CONFIG_VARIABLE, _DEFAULT_CONFIG))


def _tables(value: Any, key: Key = ()) -> Iterator[tuple[Key, Rules]]:
    """Every table with its key, those of the environments last and in the order of their names."""
    if isinstance(value, dict):
        for name in sorted(value):
            yield from _tables(value[name], (*key, name))
    elif isinstance(value, BaseModel):
        if isinstance(value, Rules):
            yield key, value
        for name in type(value).model_fields:
            yield from _tables(getattr(value, name), (*key, name))


def _folder_of(configuration: Path) -> Path:
    """A folder of its own for each configuration file, in the user's state directory.

    Source: the XDG base directory specification; a path there that is not absolute is ignored.
    """
    given = Path(os.environ.get("XDG_STATE_HOME", ""))
    state = given if given.is_absolute() else Path.home() / ".local" / "state"
    name = re.sub(r"[^0-9A-Za-z._-]+", "-", configuration.parent.name).strip("-.") or "root"
    return state / "ignition" / f"{name}-{sha256(bytes(configuration)).hexdigest()[:8]}"


def load_settings() -> Settings:
    """Read and check the configuration, once per process and state of its sources.

    Raises BadConfiguration with the file, the key, what was found, and the nearest known key.
    """
    path = config_path()
    variables = tuple(sorted(i for i in os.environ.items() if i[0].upper().startswith(PREFIX)))
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
        named = tomllib.loads(path.read_text(encoding="utf-8")).get("environments", {})
        for sentence, hint in refused_variables(Settings, dict(variables), _names_in(named)):
            raise BadConfiguration(sentence, hint)
        return Settings()
    except tomllib.TOMLDecodeError as error:
        raise BadConfiguration(f"{path} is not TOML: {error}", f"edit {path}") from None
    except (OSError, UnicodeError) as error:
        raise BadConfiguration(f"{path} cannot be read: {error}", f"edit {path}") from None
    except SettingsError as error:
        raise BadConfiguration(
            f"a variable {PREFIX}… cannot be read: {error}",
            f"one key is set as {variable_of('registry', 'address')}; a list or table is JSON",
        ) from None
    except ValidationError as error:
        problems, given = error.errors(include_url=False), [name.upper() for name, _ in variables]
        what, wrong = explain(Settings, problems, given)
        if len(wrong) == len(problems):
            raise BadConfiguration(what, f"export {wrong[0]}=…, then: ignition doctor") from None
        raise BadConfiguration(f"{path}: {what}", _edit(path)) from None


def _names_in(environments: Any) -> list[str]:
    return list(environments) if isinstance(environments, dict) else []


def _edit(path: Path) -> str:
    return f"edit {path}, then: ignition doctor"
