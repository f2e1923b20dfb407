"""One engine: the SDK is led to that of Docker's own command; and what its words mean."""

import json
import subprocess
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path

import pytest
from pytest_httpserver import HTTPServer

from blocks.builder import Builder
from blocks.compose.orchestrator import ComposeOrchestrator
from blocks.engine import (
    client_of,
    context_name,
    is_refused_for_good,
    is_worth_another_build,
    name_of,
)
from release.errors import Unreachable

ROOTLESS = "unix:///run/user/1000/docker.sock"


@pytest.fixture
def engines() -> Iterator[list[str]]:
    """Two engines that say which version of the API they speak, and nothing else."""
    servers = [HTTPServer(), HTTPServer()]
    for server in servers:
        server.expect_request("/version").respond_with_json({"ApiVersion": "1.43"})
        server.start()
    yield [f"tcp://127.0.0.1:{server.port}" for server in servers]
    for server in servers:
        server.stop()


@pytest.fixture(autouse=True)
def choose(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Makes a context in a DOCKER_CONFIG folder, and chooses it as `docker context use` does."""
    for name in ("DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH"):
        monkeypatch.delenv(name, raising=False)
    folder = tmp_path / "docker"
    folder.mkdir()
    monkeypatch.setenv("DOCKER_CONFIG", str(folder))

    def choose(name: str, address: str) -> None:
        (folder / "config.json").write_text(json.dumps({"currentContext": name}))
        if address:
            meta = folder / "contexts" / "meta" / sha256(name.encode()).hexdigest() / "meta.json"
            meta.parent.mkdir(parents=True)
            endpoints = {"docker": {"Host": address}}
            meta.write_text(json.dumps({"Name": name, "Metadata": {}, "Endpoints": endpoints}))

    return choose


Choose = Callable[[str, str], None]


def address_of(engine: str = "") -> str:
    client = client_of(engine)
    try:
        return str(client.api.base_url).replace("http://", "tcp://")
    finally:
        client.close()


def command_says() -> str:
    """Where Docker's own command would go."""
    shown = ["docker", "context", "inspect", "--format", "{{.Endpoints.docker.Host}}"]
    return subprocess.run(shown, capture_output=True, text=True, check=True).stdout.strip()


def test_the_context_that_was_chosen_is_followed(choose: Choose, engines: list[str]) -> None:
    choose("rootless", engines[0])

    assert address_of() == engines[0]
    assert name_of("") == "of docker's context 'rootless'"


@pytest.mark.engine
def test_dockers_own_command_follows_it_too(choose: Choose, engines: list[str]) -> None:
    choose("rootless", engines[0])

    assert command_says() == engines[0]


def test_docker_host_comes_before_every_context(
    choose: Choose, engines: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    choose("rootless", engines[0])
    monkeypatch.setenv("DOCKER_CONTEXT", "rootless")
    monkeypatch.setenv("DOCKER_HOST", engines[1])

    assert address_of() == engines[1]
    assert name_of("") == engines[1]


def test_an_engine_that_is_configured_comes_before_all(
    choose: Choose, engines: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    choose("rootless", engines[0])
    monkeypatch.setenv("DOCKER_HOST", engines[0])

    assert address_of(engines[1]) == engines[1]
    assert name_of(engines[1]) == engines[1]


@pytest.mark.parametrize(
    ("address", "sentence"),
    [
        ("", "docker's context is 'rootless', which does not exist or names no engine"),
        (ROOTLESS, "container engine of docker's context 'rootless' does not answer"),
    ],
)
def test_a_context_that_leads_nowhere_is_named(
    choose: Choose, tmp_path: Path, address: str, sentence: str
) -> None:
    """The SDK alone would take the host's own engine for one that is not there."""
    choose("rootless", address)

    for check in (
        lambda: ComposeOrchestrator(directory=tmp_path).check(replicas=1, routed=True),
        Builder().check,
    ):
        with pytest.raises(Unreachable) as caught:
            check()
        assert sentence in caught.value.what


@pytest.mark.parametrize(
    ("chosen", "environment", "name"),
    [
        ("rootless", {}, "rootless"),
        ("", {}, "default"),
        ("rootless", {"DOCKER_CONTEXT": "default"}, "default"),
        ("rootless", {"DOCKER_CONTEXT": "other"}, "other"),
        ("rootless", {"DOCKER_CONTEXT": "other", "DOCKER_HOST": "tcp://h:1"}, "default"),
    ],
)
def test_the_context_is_the_one_that_dockers_own_command_would_use(
    choose: Choose, chosen: str, environment: dict[str, str], name: str
) -> None:
    choose(chosen, "")

    assert context_name(environment) == name


# ---- its words


@pytest.mark.parametrize(
    "said",
    [
        'Get "http://127.0.0.1:5000/v2/": dial tcp 127.0.0.1:5000: connect: connection refused',
        'Get "https://registry/v2/": dial tcp: lookup registry: no such host',
        "received unexpected HTTP status: 503 Service Unavailable",
        "net/http: TLS handshake timeout",
        "toomanyrequests: slow down",
        "blob upload unknown to registry",
        "EOF",
        "",
    ],
)
def test_a_registry_that_is_away_for_a_moment_is_asked_again(said: str) -> None:
    assert not is_refused_for_good(said)


@pytest.mark.parametrize(
    "said",
    [
        "denied: requested access to the resource is denied",
        "unauthorized: authentication required",
        "no basic auth credentials",
        "name unknown: The repository with name 'api' does not exist in the registry",
        "unexpected status from POST request to http://registry/v2/: 403 Forbidden",
        "An image does not exist locally with the tag: registry/api",
        'Get "https://registry/v2/": http: server gave HTTP response to HTTPS client',
        "x509: certificate signed by unknown authority",
    ],
)
def test_what_no_second_try_changes_is_not_tried_again(said: str) -> None:
    assert is_refused_for_good(said)


@pytest.mark.parametrize(
    "said",
    [
        "Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is it running?",
        "ERROR: failed to solve: Canceled: context canceled",
        "rpc error: code = Unavailable desc = error reading from server: EOF",
        "Temporary failure resolving 'mirror.example'",
        "WARNING: Retrying after connection broken by 'ConnectTimeoutError: timed out'",
        "failed to fetch: 503 Service Unavailable",
        "dial tcp 10.0.0.5:443: connect: connection refused",
    ],
)
def test_a_build_that_met_a_hiccup_is_worth_another(said: str) -> None:
    assert is_worth_another_build(f"exit code 1\n#5 [2/6] RUN make\n{said}")


@pytest.mark.parametrize(
    "said",
    [
        "dockerfile parse error on line 2: unknown instruction: RNU",
        'process "/bin/sh -c make" did not complete successfully: exit code: 2',
        'failed to compute cache key: "/nothing": not found',
        "error: invalid syntax (app.py, line 3)",
        "SyntaxError: unexpected EOF while parsing",
        "No matching distribution found for ignition-nothing==9",
        "no space left on device",
        "",
    ],
)
def test_a_build_that_fails_by_itself_is_not_tried_again(said: str) -> None:
    assert not is_worth_another_build(f"exit code 1\n{said}")
