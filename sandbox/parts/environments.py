"""Staging and production of the example backend: a host folder, a schema, a Compose project."""

import base64
import hashlib
import json
import os
import urllib.error
import urllib.request
from pathlib import Path

import psycopg
from psycopg import sql

from blocks.whole_file import replace_file
from sandbox.commands import run, wait_until
from sandbox.layout import BASELINE_VERSION, Environment, Sandbox
from sandbox.parts import origin
from sandbox.parts.images import PROXY
from sandbox.parts.postgres import runs

SLOTS = 6  # servers that the proxy has room for
SERVICE_PORT = 8000
START_TIMEOUT = 90.0  # seconds


def ensure_environment(sandbox: Sandbox, environment: Environment, image: str) -> str:
    """Bring an environment up with ``image`` (by digest), unless it serves a release already."""
    if served_version(environment) is None:
        if environment.served_once.exists():
            start_again(environment)
        else:
            prepare_database(sandbox, environment)
            prepare_host(sandbox, environment, image)
            write_first_server(environment)
            compose(environment, "up", "--detach", "--wait")
        wait_until(
            lambda: served_version(environment),
            what=f"an answer from {environment.public_url}/api/",
            seconds=START_TIMEOUT,
            hint=f"type: docker compose --project-directory {environment.host_folder} logs",
        )
        environment.served_once.touch()
    return f"{environment.public_url} serves {served_version(environment)}"


def start_again(environment: Environment) -> None:
    """Start what an environment served when it was stopped, whichever release that was."""
    if not containers(environment.project):
        write_first_server(environment)
    compose(environment, "up", "--detach", "--wait", "--no-recreate")


def prepare_host(sandbox: Sandbox, environment: Environment, image: str) -> None:
    """Write what a host of this environment has: deploy/<environment> and `.env`."""
    folder = environment.host_folder
    source = f"deploy/{environment.name}"
    origin.export(sandbox.origin, f"{BASELINE_VERSION}:{source}", folder)
    replace_file(folder / ".env", host_variables(sandbox, environment, image).encode())


def host_variables(sandbox: Sandbox, environment: Environment, image: str) -> str:
    """The `.env` that the host's own `docker compose` reads."""
    variables = {
        "COMPOSE_PROJECT_NAME": environment.project,
        "API_IMAGE": image,
        "DATABASE_URL": environment.container_database_url,
        "SIGNING_KEY": environment.signing_key,
        "PUBLIC_PORT": str(environment.port),
        "PROXY_IMAGE": PROXY,
        "PROXY_USER": f"{os.getuid()}:{os.getgid()}",
        "DATA_NETWORK": sandbox.network,
    }
    return "".join(f"{name}={value}\n" for name, value in variables.items())


def write_first_server(environment: Environment) -> None:
    """Point the proxy at the one container that Compose makes in a project without any."""
    environment.proxy_folder.mkdir(exist_ok=True)
    first = f"{environment.project}-api-1:{SERVICE_PORT}"
    (environment.proxy_folder / "be.cfg").write_text(backend_configuration(first))


def backend_configuration(first: str) -> str:
    """The proxy's servers: ``first`` (host:port) in slot 1, the other slots empty."""
    empty = [
        f"  server api{slot} 127.0.0.1:{SERVICE_PORT} disabled" for slot in range(2, SLOTS + 1)
    ]
    lines = [
        "backend api",
        "  balance roundrobin",
        "  option httpchk",
        "  http-check send meth GET uri /health ver HTTP/1.1 hdr Host proxy",
        "  http-check expect status 200",
        "  default-server check inter 1s fastinter 200ms downinter 200ms fall 3 rise 1"
        " resolvers docker resolve-prefer ipv4 init-addr last,none",
        f"  server api1 {first}",
        *empty,
    ]
    return "\n".join(lines) + "\n"


def prepare_database(sandbox: Sandbox, environment: Environment) -> None:
    """Give the environment the baseline's schema and one user."""
    folder = sandbox.folder / "migrations" / environment.name
    paths = "app/backend/migrations"
    origin.export(sandbox.origin, f"{BASELINE_VERSION}:{paths}", folder)
    apply_migrations(environment.database_url, folder)
    seed_user(environment.database_url, sandbox.seed_username, sandbox.seed_password)


def apply_migrations(dsn: str, folder: Path) -> None:
    """Apply the migrations in ``folder`` with the pipeline's own runner."""
    # Imported here: it brings Prefect along, which takes seconds.
    from pydantic import SecretStr

    from blocks.postgres.database import apply_folder

    apply_folder(SecretStr(dsn), folder)


def seed_user(dsn: str, username: str, password: str) -> None:
    """Create the account that smoke checks and the auth check log in with."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO users (username, password_hash) VALUES (%s, %s)"
            " ON CONFLICT (username) DO UPDATE SET password_hash = excluded.password_hash",
            (username, password_hash(password)),
        )


def seed_statement(sandbox: Sandbox) -> str:
    """SQL that creates that account on a copy of the schema."""
    statement = sql.SQL("INSERT INTO users (username, password_hash) VALUES ({}, {})")
    return statement.format(sandbox.seed_username, password_hash(sandbox.seed_password)).as_string()


def password_hash(password: str) -> str:
    """A password as the backend stores it: `scrypt$<salt>$<hash>`, both base64."""
    # The same each time: it is a part of the configuration, which the saved blocks are equal to.
    salt = hashlib.sha256(password.encode()).digest()[:16]
    found = hashlib.scrypt(password.encode(), salt=salt, n=2**14, r=8, p=1)
    return f"scrypt${base64.b64encode(salt).decode()}${base64.b64encode(found).decode()}"


def served_version(environment: Environment) -> str | None:
    """The version that the public address answers with. Returns None if it does not answer."""
    try:
        with urllib.request.urlopen(f"{environment.public_url}/api/", timeout=5) as answer:
            version: str = json.load(answer)["version"]
    except (urllib.error.URLError, OSError, ValueError, KeyError):
        return None
    return version


def is_running(environment: Environment) -> bool:
    """Whether this environment's proxy runs, and so holds its port."""
    return runs(f"{environment.project}-proxy-1")


def state(environment: Environment) -> str:
    """Where the environment is and what it serves, in a few words."""
    version = served_version(environment)
    return f"{environment.public_url} serves {version}" if version else "does not answer"


def compose(environment: Environment, *arguments: str) -> str:
    """Run `docker compose` as the environment's host would."""
    folder = environment.host_folder
    return run(["docker", "compose", "--project-directory", folder, *arguments], directory=folder)


def containers(project: str) -> list[str]:
    """The ids of a Compose project's containers, running or not."""
    label = f"label=com.docker.compose.project={project}"
    return run(["docker", "ps", "--all", "--quiet", "--filter", label]).split()


def remove_environment(environment: Environment) -> None:
    """Remove the project's containers and network, even when its host folder is gone."""
    found = containers(environment.project)
    if found:
        run(["docker", "rm", "--force", "--volumes", *found])
    label = f"label=com.docker.compose.project={environment.project}"
    networks = run(["docker", "network", "ls", "--quiet", "--filter", label]).split()
    if networks:
        run(["docker", "network", "rm", *networks])
