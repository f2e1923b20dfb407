"""PostgreSQL, in a container on the sandbox's network, with a database for each purpose."""

import psycopg
from psycopg import sql

from sandbox.commands import run, wait_until
from sandbox.errors import CommandFailed
from sandbox.layout import DATABASES, HOST, Sandbox
from sandbox.parts.images import POSTGRES

START_TIMEOUT = 60.0  # seconds


def has_network(sandbox: Sandbox) -> bool:
    """Whether the sandbox's network exists."""
    only = f"name=^{sandbox.network}$"
    return bool(run(["docker", "network", "ls", "--quiet", "--filter", only]).strip())


def ensure_network(sandbox: Sandbox) -> None:
    """Make the network that PostgreSQL and the backend's services share."""
    if not has_network(sandbox):
        run(["docker", "network", "create", sandbox.network])


def ensure_postgres(sandbox: Sandbox) -> str:
    """Start PostgreSQL, wait until it answers, and make its databases and their users."""
    ensure_network(sandbox)
    state = container_state(sandbox.postgres_container)
    if state is None:
        create(sandbox)
    elif state != "running":
        run(["docker", "start", sandbox.postgres_container])
    wait_until(
        lambda: answers(sandbox),
        what="an answer from PostgreSQL",
        seconds=START_TIMEOUT,
        hint=f"type: docker logs {sandbox.postgres_container}",
    )
    with psycopg.connect(superuser_url(sandbox), autocommit=True) as connection:
        for name in DATABASES:
            ensure_database(connection, name, getattr(sandbox.secrets, name))
    return f"on port {sandbox.ports.postgres}: {', '.join(DATABASES)}"


def container_state(name: str) -> str | None:
    """Docker's word for a container's state: `running`, `exited`. Returns None if there is none."""
    listed = run(
        ["docker", "ps", "--all", "--format", "{{.State}}", "--filter", f"name=^/{name}$"]
    ).strip()
    return listed or None


def is_running(sandbox: Sandbox) -> bool:
    """Whether this sandbox's container runs, and so holds its port."""
    return runs(sandbox.postgres_container)


def runs(name: str) -> bool:
    """Whether a container of this name runs. Returns False if no engine answers."""
    try:
        return container_state(name) == "running"
    except CommandFailed:
        return False


def create(sandbox: Sandbox) -> None:
    """Make and start the container."""
    name = sandbox.postgres_container
    run(
        [
            *("docker", "run", "--detach", "--name", name, "--restart", "unless-stopped"),
            *("--network", sandbox.network, "--network-alias", "postgres"),
            *("--publish", f"{HOST}:{sandbox.ports.postgres}:5432"),
            *("--volume", f"{name}:/var/lib/postgresql/data"),
            *("--env", "POSTGRES_PASSWORD"),  # its value comes from this process's environment
            *(POSTGRES, "-c", "max_connections=200"),
            *("-c", "fsync=off"),  # the machine may lose it; the containers may not, and do not
        ],
        environment={"POSTGRES_PASSWORD": sandbox.secrets.postgres},
    )


def superuser_url(sandbox: Sandbox) -> str:
    """The maintenance database, as the superuser."""
    return sandbox.database_url("postgres")


def answers(sandbox: Sandbox) -> bool:
    """Whether PostgreSQL takes connections on its published port."""
    try:
        psycopg.connect(superuser_url(sandbox), connect_timeout=2).close()
    except psycopg.OperationalError:
        return False
    return True


def ensure_database(connection: psycopg.Connection, name: str, password: str) -> None:
    """Make a database, and a role of the same name that owns it."""
    role, secret = sql.Identifier(name), sql.Literal(password)
    if not exists(connection, "SELECT 1 FROM pg_roles WHERE rolname = %s", name):
        connection.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(role, secret))
    if not exists(connection, "SELECT 1 FROM pg_database WHERE datname = %s", name):
        connection.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(role, role))


def exists(connection: psycopg.Connection, query: str, name: str) -> bool:
    """Whether a catalog query finds a name."""
    return connection.execute(query.encode(), (name,)).fetchone() is not None


def remove_postgres(sandbox: Sandbox, *, keep_data: bool) -> None:
    """Remove the container, the network and, unless its data are kept, the volume."""
    run(["docker", "rm", "--force", "--volumes", sandbox.postgres_container])
    if not keep_data:
        run(["docker", "volume", "rm", "--force", sandbox.postgres_container])
    if has_network(sandbox):
        run(["docker", "network", "rm", sandbox.network])
