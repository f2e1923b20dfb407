"""Prometheus, which scrapes the services of both environments once a second, if it is installed.

It finds their containers through the engine, so a new one is seen within seconds of its start.
"""

import shutil

from sandbox.commands import wait_until
from sandbox.layout import HOST, Environment, Sandbox
from sandbox.parts import local_prometheus
from sandbox.parts.environments import SERVICE_PORT
from sandbox.parts.local_prometheus import PROGRAM
from sandbox.parts.processes import Process

START_TIMEOUT = 30.0  # seconds
SEEN_TIMEOUT = 60.0  # seconds: Prometheus takes up to six for a new container
SMALL = {"GOMAXPROCS": "1"}  # it shares two cores with everything else


def is_installed() -> bool:
    """Whether this machine has the program. Without it the sandbox does without."""
    return shutil.which(PROGRAM) is not None


def process(sandbox: Sandbox) -> Process:
    """Prometheus as a recorded process."""
    return Process("prometheus", sandbox.pids / "prometheus", sandbox.logs / "prometheus.log")


def url(sandbox: Sandbox) -> str:
    """Where it answers."""
    return f"http://{HOST}:{sandbox.ports.prometheus}"


def ensure_prometheus(sandbox: Sandbox) -> str:
    """Start it and wait until it answers."""
    if not is_installed():
        return f"{PROGRAM} is not installed: the watch does without"
    folder = sandbox.folder / "prometheus"
    folder.mkdir(parents=True, exist_ok=True)
    local_prometheus.write_configuration(folder, [scrape(sandbox)], often="1s")
    command = local_prometheus.command_line(folder, sandbox.ports.prometheus)
    process(sandbox).start(command, SMALL, folder)
    wait_until(
        lambda: local_prometheus.answers(url(sandbox)),
        what="an answer from Prometheus",
        seconds=START_TIMEOUT,
        hint=f"type: tail {sandbox.logs / 'prometheus.log'}",
    )
    return f"at {url(sandbox)}"


def wait_for_data(sandbox: Sandbox) -> str:
    """Wait until both environments are seen: a deployment refuses a query that finds nothing."""
    if not is_installed():
        return "not there"
    for environment in sandbox.environments:
        wait_until(
            lambda: _is_seen(sandbox, environment),  # noqa: B023  # called before the next one
            what=f"a scrape of {environment.name}",
            seconds=SEEN_TIMEOUT,
            hint=f"look at {url(sandbox)}/targets",
        )
    return "sees both environments"


def scrape(sandbox: Sandbox) -> dict[str, object]:
    """What is scraped: the services' containers, at their addresses on the shared network."""
    meta = "__meta_docker_container_label_com_docker_compose"
    return {
        "job_name": "api",
        "docker_sd_configs": [
            {
                "host": sandbox.docker_host or "unix:///var/run/docker.sock",
                "port": SERVICE_PORT,
                "refresh_interval": "1s",
                "filters": [{"name": "label", "values": ["com.docker.compose.service=api"]}],
            }
        ],
        "relabel_configs": [
            _keep("__meta_docker_network_name", sandbox.network),
            _keep(f"{meta}_project", "|".join(e.project for e in sandbox.environments)),
            {
                "source_labels": [f"{meta}_project"],
                "regex": f"ignition-{sandbox.name}-(.*)",
                "target_label": "environment",
            },
            {
                "source_labels": ["__meta_docker_network_ip"],
                "replacement": f"$1:{SERVICE_PORT}",
                "target_label": "__address__",
            },
            {
                "source_labels": ["__meta_docker_container_name"],
                "regex": "/(.*)",
                "target_label": "container",
            },
        ],
    }


def state(sandbox: Sandbox) -> str:
    """Whether it answers, in a few words."""
    if not is_installed():
        return "not installed"
    return "answers" if local_prometheus.answers(url(sandbox)) else "does not answer"


def stop(sandbox: Sandbox) -> bool:
    """End it; what it has stored stays. Returns whether it was running."""
    return process(sandbox).stop()


def _keep(label: str, regex: str) -> dict[str, object]:
    return {"source_labels": [label], "regex": regex, "action": "keep"}


def _is_seen(sandbox: Sandbox, environment: Environment) -> bool:
    promql = f'http_requests_total{{environment="{environment.name}"}}'
    return bool(local_prometheus.find(url(sandbox), promql))
