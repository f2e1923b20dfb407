"""Prefect's server on the sandbox's PostgreSQL, its work pool, and one worker."""

import os
import threading
import urllib.error
import urllib.request
from pathlib import Path

import certifi

from sandbox.commands import run, wait_until
from sandbox.layout import HOST, NAME, Sandbox
from sandbox.parts import configuration
from sandbox.parts.processes import Process

WORK_POOL = "ignition"
START_TIMEOUT = 120.0  # seconds: 14 on an idle machine, several times that on a busy one


def server_process(sandbox: Sandbox) -> Process:
    """The server as a recorded process."""
    return Process("prefect-server", sandbox.pids / "prefect-server", sandbox.logs / "server.log")


def worker_process(sandbox: Sandbox) -> Process:
    """The worker as a recorded process."""
    return Process("prefect-worker", sandbox.pids / "prefect-worker", sandbox.logs / "worker.log")


def start_server(sandbox: Sandbox) -> str:
    """Start the server, without waiting: it takes long, and other steps can go on meanwhile."""
    port = sandbox.ports.prefect
    sandbox.prefect_home.mkdir(parents=True, exist_ok=True)
    first, _, _ = certifi.contents().partition("\n\n")  # an empty line ends each certificate
    authority_file(sandbox).write_text(first)
    server_process(sandbox).start(
        [prefect(sandbox), "server", "start", "--host", HOST, "--port", str(port)],
        client_variables(sandbox) | server_variables(sandbox),
        sandbox.folder,
    )
    return f"starting on port {port}"


def server_variables(sandbox: Sandbox) -> dict[str, str]:
    """The server's own settings."""
    return {
        "PREFECT_SERVER_DATABASE_CONNECTION_URL": sandbox.database_url(
            "prefect", "postgresql+asyncpg"
        ),
        "PREFECT_SERVER_API_HOST": HOST,
        "PREFECT_SERVER_API_PORT": str(sandbox.ports.prefect),
        "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
    }


def client_variables(sandbox: Sandbox) -> dict[str, str]:
    """What the worker, its flow runs and the command line share."""
    path = f"{sandbox.programs}:{os.environ['PATH']}"
    secrets = configuration.secrets(sandbox)
    own = {"PATH": path, "DO_NOT_TRACK": "1"} | tls_variables(sandbox)
    return sandbox.variables() | secrets | own


def tls_variables(sandbox: Sandbox) -> dict[str, str]:
    """Variables that spare Prefect's clients the certificates of all authorities.

    The server speaks plain HTTP, on this machine; but each client, and a run makes a dozen, would
    read them all, which takes a run more than a second of a busy machine.
    """
    return {"PREFECT_API_SSL_CERT_FILE": str(authority_file(sandbox))}


def authority_file(sandbox: Sandbox) -> Path:
    """One authority's certificate: a file without any would be refused."""
    return sandbox.prefect_home / "authority.pem"


def wait_for_server(sandbox: Sandbox, unless: threading.Event) -> str:
    """Wait until the server answers; its UI then answers as well. Give up once told to."""
    wait_until(
        lambda: server_answers(sandbox),
        what="an answer from the Prefect server",
        seconds=START_TIMEOUT,
        hint=f"type: tail {server_process(sandbox).log_file}",
        unless=unless,
    )
    return sandbox.prefect_ui_url


def server_answers(sandbox: Sandbox) -> bool:
    """Whether the server calls itself healthy within 5 s."""
    try:
        with urllib.request.urlopen(f"{sandbox.prefect_api_url}/health", timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def register_deployments(sandbox: Sandbox) -> str:
    """Let the project write its work pool, blocks, deployments and automations into the server."""
    run(
        [sandbox.programs / "ignition", "setup"],
        directory=sandbox.checkout,
        environment=client_variables(sandbox),
    )
    return "ignition setup"


def start_worker(sandbox: Sandbox) -> str:
    """Start one worker that runs flows as processes on this machine."""
    command = [prefect(sandbox), "worker", "start", "--pool", WORK_POOL, "--type", "process"]
    worker_process(sandbox).start(
        [*_with_names_of_its_own(sandbox), *command],
        client_variables(sandbox) | worker_variables(),
        sandbox.checkout,
    )
    return f"log in {worker_process(sandbox).log_file}"


def names_file(sandbox: Sandbox) -> Path:
    """What the worker and its runs have for /etc/hosts."""
    return sandbox.folder / "names"


def know_names(sandbox: Sandbox) -> None:
    """Let the worker and its runs find this machine by its name, the only one that they know."""
    names_file(sandbox).write_text(f"{HOST} {NAME}\n")


def forget_names(sandbox: Sandbox) -> None:
    """Let the worker and its runs find nothing by name, as where DNS is gone."""
    names_file(sandbox).write_text("")


def _with_names_of_its_own(sandbox: Sandbox) -> tuple[str | Path, ...]:
    """The arguments that start a command with its own /etc/hosts, and without a name server.

    Only root can do that; for others it is empty.
    """
    if os.geteuid() != 0:
        return ()
    know_names(sandbox)
    nobody = sandbox.folder / "resolv.conf"
    nobody.write_text("")
    mounts = 'mount --bind "$1" /etc/hosts && mount --bind "$2" /etc/resolv.conf'
    script = f'{mounts} && shift 2 && exec "$@"'
    return ("unshare", "--mount", "sh", "-c", script, "sh", names_file(sandbox), nobody)


def worker_variables() -> dict[str, str]:
    """The worker's own settings."""
    return {
        "PREFECT_WORKER_QUERY_SECONDS": "0.5",  # how soon a started run is seen
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",  # seconds; the least that Prefect takes
    }


def stop_prefect(sandbox: Sandbox) -> str:
    """End the worker, with the flow runs on it, and then the server."""
    stopped = [each.name for each in processes(sandbox) if each.stop()]
    return f"stopped {', '.join(stopped)}" if stopped else "was not running"


def processes(sandbox: Sandbox) -> tuple[Process, Process]:
    """The worker and the server, in the order in which they are ended."""
    return (worker_process(sandbox), server_process(sandbox))


def state(sandbox: Sandbox) -> str:
    """Where the server answers and whether the worker runs, in a few words."""
    if not server_answers(sandbox):
        return "does not answer"
    worker = "a worker" if worker_process(sandbox).pid else "no worker"
    return f"{sandbox.prefect_ui_url}, {worker}"


def prefect(sandbox: Sandbox) -> str:
    """The `prefect` command of this virtual environment."""
    return str(sandbox.programs / "prefect")
