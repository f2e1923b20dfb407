"""The image registry: Debian's `docker-registry` as a process, else the ordinary container."""

import json
import shutil
import urllib.error
import urllib.request

from sandbox.commands import run, wait_until
from sandbox.layout import HOST, Sandbox
from sandbox.parts.postgres import container_state, runs
from sandbox.parts.processes import Process

PROGRAM = "docker-registry"
IMAGE = "registry:2"
START_TIMEOUT = 30.0  # seconds


def registry_process(sandbox: Sandbox) -> Process:
    """The registry as a recorded process."""
    return Process("registry", sandbox.pids / "registry", sandbox.logs / "registry.log")


def registry_container(sandbox: Sandbox) -> str:
    """The name of the container, where the program is not installed."""
    return f"ignition-{sandbox.name}-registry"


def ensure_registry(sandbox: Sandbox) -> str:
    """Start the registry and wait until it answers."""
    if shutil.which(PROGRAM):
        start_process(sandbox)
    else:
        start_container(sandbox)
    wait_until(
        lambda: answers(sandbox),
        what="an answer from the registry",
        seconds=START_TIMEOUT,
        hint=f"type: tail {sandbox.logs / 'registry.log'}",
    )
    return f"at {sandbox.registry}"


def is_running(sandbox: Sandbox) -> bool:
    """Whether this sandbox's registry runs, and so holds its port."""
    return registry_process(sandbox).pid is not None or runs(registry_container(sandbox))


def start_process(sandbox: Sandbox) -> None:
    """Start Debian's program with its data in the sandbox's folder."""
    folder = sandbox.folder / "registry"
    folder.mkdir(parents=True, exist_ok=True)
    configuration = folder / "config.yml"
    # JSON is YAML, and a path with a colon or a space in it stays one string.
    settings = {
        "version": "0.1",
        "log": {"level": "warn"},
        "storage": {
            "filesystem": {"rootdirectory": str(folder / "data")},
            "delete": {"enabled": True},
        },
        "http": {"addr": sandbox.registry},
    }
    configuration.write_text(json.dumps(settings, indent=2) + "\n")
    registry_process(sandbox).start([PROGRAM, "serve", configuration], {}, folder)


def start_container(sandbox: Sandbox) -> None:
    """Start the ordinary registry image."""
    name = registry_container(sandbox)
    if container_state(name) is None:
        publish = f"{HOST}:{sandbox.ports.registry}:5000"
        run(["docker", "run", "--detach", "--name", name, "--publish", publish, IMAGE])
    else:
        run(["docker", "start", name])


def answers(sandbox: Sandbox) -> bool:
    """Whether the registry's API answers."""
    try:
        with urllib.request.urlopen(f"http://{sandbox.registry}/v2/", timeout=2):
            return True
    except (urllib.error.URLError, OSError):
        return False


def remove_registry(sandbox: Sandbox) -> None:
    """End the process, remove the container."""
    registry_process(sandbox).stop()
    if not shutil.which(PROGRAM):
        run(["docker", "rm", "--force", "--volumes", registry_container(sandbox)])
