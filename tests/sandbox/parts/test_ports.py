"""A taken port is one sentence, before anything is started."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandbox.errors import PortTaken
from sandbox.layout import Sandbox
from sandbox.parts.ports import holder, is_taken, require_free_ports, sentence


@pytest.fixture
def taken_port() -> Iterator[int]:
    """A port on which this process listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.fixture
def free_ports() -> dict[str, str]:
    """Variables that give each part of a sandbox a free port."""
    names = ("REGISTRY", "POSTGRES", "PRODUCTION", "STAGING", "PREFECT")
    servers = [socket.create_server(("127.0.0.1", 0)) for _ in names]
    found = [str(server.getsockname()[1]) for server in servers]
    for server in servers:
        server.close()
    return {f"IGNITION_SANDBOX_{name}_PORT": port for name, port in zip(names, found, strict=True)}


def test_the_sentence_names_port_purpose_holder_and_variable() -> None:
    assert sentence("registry", 18050, "nginx (process 7)") == (
        "port 18050 on 127.0.0.1, which the sandbox needs for registry, is taken by "
        "nginx (process 7); set IGNITION_SANDBOX_REGISTRY_PORT to a free port"
    )


def test_an_unknown_holder_is_left_out() -> None:
    assert "is taken; set IGNITION_SANDBOX_REGISTRY_PORT" in sentence("registry", 18050, None)


def test_the_holder_of_a_port_is_found(taken_port: int) -> None:
    assert is_taken(taken_port)
    assert holder(taken_port) is not None
    assert f"(process {os.getpid()})" in str(holder(taken_port))


def test_a_taken_port_stops_the_sandbox(
    tmp_path: Path, taken_port: int, free_ports: dict[str, str]
) -> None:
    environ = free_ports | {"IGNITION_SANDBOX_STAGING_PORT": str(taken_port)}
    sandbox = Sandbox.from_environment({"IGNITION_SANDBOX": str(tmp_path), **environ})

    with pytest.raises(PortTaken, match=f"port {taken_port} .* for staging, is taken by .*"):
        require_free_ports(sandbox)


def test_a_port_that_the_sandbox_holds_itself_is_no_obstacle(
    tmp_path: Path, taken_port: int, free_ports: dict[str, str]
) -> None:
    environ = free_ports | {"IGNITION_SANDBOX_STAGING_PORT": str(taken_port)}
    sandbox = Sandbox.from_environment({"IGNITION_SANDBOX": str(tmp_path), **environ})

    require_free_ports(sandbox, ours=["staging"])
