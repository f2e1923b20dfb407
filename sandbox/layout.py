"""Where everything of a sandbox is: its folder, its ports, its names, its addresses.

A sandbox is named after its folder, so that two of them can run side by side.
"""

import json
import os
import secrets
import sys
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Self

from blocks.whole_file import replace_file
from sandbox.errors import SandboxError

CHECKOUT = Path(__file__).resolve().parent.parent
FOLDER_VARIABLE = "IGNITION_SANDBOX"
PORTS_VARIABLE = "IGNITION_SANDBOX_PORTS"
DEFAULT_PORT_BASE = 18000

IMAGE_NAME = "ignition-api"
BASELINE_VERSION = "v1.0.0"
HOST = "127.0.0.1"
NAME = "localhost"  # as the pipeline knows it, so that names can be taken away from it
DATABASES = ("prefect", "ledger", "staging", "production")


@dataclass(frozen=True)
class Ports:
    """The ports of one sandbox, all on 127.0.0.1."""

    registry: int
    postgres: int
    production: int
    staging: int
    prometheus: int
    prefect: int

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> Self:
        """Ports at fixed offsets from a base, each of which a variable of its own can replace."""
        base = port_number(environ, PORTS_VARIABLE, DEFAULT_PORT_BASE)
        offsets = {
            "registry": 50,
            "postgres": 54,
            "production": 80,
            "staging": 81,
            "prometheus": 90,
            "prefect": 200,
        }
        return cls(
            **{
                name: port_number(environ, port_variable(name), base + offset)
                for name, offset in offsets.items()
            }
        )

    def by_name(self) -> dict[str, int]:
        """Each port by the name of what listens there."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


def port_variable(name: str) -> str:
    """The environment variable that moves one port: IGNITION_SANDBOX_REGISTRY_PORT."""
    return f"IGNITION_SANDBOX_{name.upper()}_PORT"


def port_number(environ: Mapping[str, str], variable: str, default: int) -> int:
    """A port number from the environment. Raises SandboxError if it is not a port number."""
    text = environ.get(variable, str(default))
    if not text.isdigit() or not 1 <= int(text) <= 65535:
        raise SandboxError(f"{variable} is {text!r}, not a port number from 1 to 65535")
    return int(text)


@dataclass(frozen=True)
class Secrets:
    """The sandbox's random passwords. They are made once and kept in its folder, mode 0600."""

    postgres: str
    prefect: str
    ledger: str
    staging: str
    production: str
    staging_signing_key: str
    production_signing_key: str
    seed_user: str

    @classmethod
    def load_or_create(cls, path: Path) -> Self:
        """The passwords in ``path``, which are written there first if there are none."""
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            made = {field.name: secrets.token_urlsafe(24) for field in fields(cls)}
            replace_file(path, (json.dumps(made, indent=2) + "\n").encode())
        return cls(**json.loads(path.read_text()))


def by_name(url: str) -> str:
    """An address on this machine with a name, which must be looked up, in place of its number."""
    return url.replace(f"{HOST}:", f"{NAME}:")


@dataclass(frozen=True)
class Environment:
    """One environment of the example backend: a Compose project in a host folder of its own."""

    name: str
    port: int
    sandbox: "Sandbox"

    @property
    def project(self) -> str:
        """The Compose project's name."""
        return f"ignition-{self.sandbox.name}-{self.name}"

    @property
    def host_folder(self) -> Path:
        """What would be a folder on the environment's host."""
        return self.sandbox.folder / "hosts" / self.name

    @property
    def database_url(self) -> str:
        """Its database, from this machine."""
        return self.sandbox.database_url(self.name)

    @property
    def container_database_url(self) -> str:
        """Its database, from its containers."""
        return self.sandbox.container_database_url(self.name)

    @property
    def signing_key(self) -> str:
        """What its backend signs tokens with: every release the same."""
        key: str = getattr(self.sandbox.secrets, f"{self.name}_signing_key")
        return key

    @property
    def public_url(self) -> str:
        """Where users reach it."""
        return f"http://{HOST}:{self.port}"

    @property
    def compose_file(self) -> Path:
        """The Compose file on its host."""
        return self.host_folder / "docker-compose.yml"

    @property
    def served_once(self) -> Path:
        """A file that exists once the environment has answered: then its host folder is its own."""
        return self.host_folder.with_suffix(".served")

    @property
    def proxy_folder(self) -> Path:
        """What the proxy reads (be.cfg) and where it is administered (admin.sock)."""
        return self.host_folder / "run"


@dataclass(frozen=True)
class Sandbox:
    """One sandbox. Nothing here starts or changes anything except the passwords' file."""

    folder: Path
    ports: Ports
    checkout: Path = CHECKOUT
    docker_host: str | None = None

    seed_username = "ada"

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> Self:
        """The sandbox that IGNITION_SANDBOX and IGNITION_SANDBOX_PORTS name."""
        return cls(
            folder=(CHECKOUT / environ.get(FOLDER_VARIABLE, ".sandbox")).resolve(),
            ports=Ports.from_environment(environ),
            docker_host=environ.get("DOCKER_HOST"),
        )

    @property
    def name(self) -> str:
        """The folder's name without its dot: `.sandbox-test` is `sandbox-test`."""
        return self.folder.name.lstrip(".").lower()

    @property
    def network(self) -> str:
        """The Docker network on which PostgreSQL and both environments' services are."""
        return f"ignition-{self.name}"

    @property
    def postgres_container(self) -> str:
        """The container, and the volume, of PostgreSQL."""
        return f"ignition-{self.name}-postgres"

    @cached_property
    def secrets(self) -> Secrets:
        """The random passwords of this sandbox."""
        return Secrets.load_or_create(self.folder / "secrets.json")

    @property
    def seed_password(self) -> str:
        """The password of ``seed_username`` in both environments."""
        return self.secrets.seed_user

    @property
    def origin(self) -> Path:
        """The example backend's bare git repository."""
        return self.folder / "origin.git"

    @property
    def registry(self) -> str:
        """The registry's host and port, the first part of an image's name."""
        return f"{HOST}:{self.ports.registry}"

    @property
    def image_repository(self) -> str:
        """The image's name in the registry, without tag or digest."""
        return f"{self.registry}/{IMAGE_NAME}"

    @property
    def prefect_home(self) -> Path:
        """Prefect's own folder: profiles and results."""
        return self.folder / "prefect"

    @property
    def prefect_ui_url(self) -> str:
        """Where people look at runs."""
        return f"http://{HOST}:{self.ports.prefect}"

    @property
    def prefect_api_url(self) -> str:
        """Where programs start runs."""
        return f"{self.prefect_ui_url}/api"

    @property
    def configuration_file(self) -> Path:
        """The pipeline's configuration for this sandbox."""
        return self.folder / "ignition.toml"

    @property
    def logs(self) -> Path:
        """One log file for each process."""
        return self.folder / "logs"

    @property
    def pids(self) -> Path:
        """One file for each process that the sandbox started."""
        return self.folder / "pids"

    @property
    def programs(self) -> Path:
        """The virtual environment's commands: `ignition`, `prefect`."""
        return Path(sys.executable).parent

    def database_url(self, name: str, scheme: str = "postgresql") -> str:
        """A database, its user and password, as reached from this machine."""
        return f"{scheme}://{self.credentials(name)}@{HOST}:{self.ports.postgres}/{name}"

    def container_database_url(self, name: str) -> str:
        """A database, its user and password, as reached from the network's containers."""
        return f"postgresql://{self.credentials(name)}@postgres:5432/{name}"

    def credentials(self, name: str) -> str:
        """`user:password` of a database (``postgres``: the superuser)."""
        return f"{name}:{getattr(self.secrets, name)}"

    @property
    def ledger_url(self) -> str:
        """The deployment ledger's database."""
        return self.database_url("ledger")

    @property
    def staging(self) -> Environment:
        """The staging environment."""
        return Environment("staging", self.ports.staging, self)

    @property
    def production(self) -> Environment:
        """The production environment."""
        return Environment("production", self.ports.production, self)

    @property
    def environments(self) -> tuple[Environment, Environment]:
        """Both environments, staging first."""
        return (self.staging, self.production)

    def variables(self) -> dict[str, str]:
        """What a shell or a process needs to work with this sandbox."""
        found = {
            FOLDER_VARIABLE: str(self.folder),
            "PREFECT_API_URL": self.prefect_api_url,
            "PREFECT_HOME": str(self.prefect_home),
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "IGNITION_CONFIG": str(self.configuration_file),
            "IGNITION_PRODUCTION_URL": self.production.public_url,
            "IGNITION_STAGING_URL": self.staging.public_url,
            "IGNITION_ORIGIN": str(self.origin),
            "IGNITION_IMAGE_REGISTRY": self.registry,
            "PRODUCTION_DATABASE_URL": self.production.database_url,
            "STAGING_DATABASE_URL": self.staging.database_url,
            "LEDGER_DATABASE_URL": self.ledger_url,
            "SMOKE_USERNAME": self.seed_username,
            "SMOKE_PASSWORD": self.seed_password,
        }
        if self.docker_host:
            found["DOCKER_HOST"] = self.docker_host
        return found
