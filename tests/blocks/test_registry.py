"""The registry block: what its answers mean, and that a push is read back."""

import re
import shutil
import socket
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import docker
import httpx
import pytest
from pydantic import SecretStr, ValidationError
from pytest_httpserver import HTTPServer

from blocks.registry import Registry
from release.errors import BuildFailed, Unreachable
from release.model import ImageRef

PASSWORD = "correct-horse-battery"
NO_ENGINE = "unix:///nonexistent/docker.sock"


def address(server: HTTPServer) -> str:
    return f"{server.host}:{server.port}"


def answering(server: HTTPServer, status: int, asks: str = "") -> str:
    headers = {"WWW-Authenticate": asks} if asks else {}
    server.expect_request("/v2/").respond_with_data("{}", status, headers)
    return address(server)


# ── Is it there? ─────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("status", "asks", "login"),
    [
        (200, "", False),
        (200, "", True),
        (401, 'Basic realm="registry"', False),  # it asks who is there: it is there
        (401, 'Bearer realm="https://auth"', False),
        (401, 'Bearer realm="https://auth"', True),  # it wants a token, which the engine gets
    ],
)
def test_a_registry_that_answers_is_in_order(
    httpserver: HTTPServer, status: int, asks: str, login: bool
) -> None:
    registry = Registry(
        address=answering(httpserver, status, asks),
        insecure=True,
        username="ada" if login else "",
        password=SecretStr(PASSWORD if login else ""),
    )

    registry.check()


@pytest.mark.parametrize(
    ("status", "asks", "username"),
    [
        (500, "", ""),
        (503, "", "ada"),
        (403, "", "ada"),
        (404, "", ""),  # a web server, no registry
        (302, "", ""),
        (401, 'Basic realm="registry"', "ada"),  # the login is wrong
    ],
)
def test_a_registry_that_refuses_is_unreachable_and_the_password_stays_secret(
    httpserver: HTTPServer, status: int, asks: str, username: str
) -> None:
    at = answering(httpserver, status, asks)
    registry = Registry(address=at, insecure=True, username=username, password=SecretStr(PASSWORD))

    with pytest.raises(Unreachable) as failed:
        registry.check()

    assert failed.value.what == f"registry {at} answers {status} to user {username or 'nobody'}"
    assert failed.value.hint == f"docker login {at}"
    assert PASSWORD not in str(failed.value)
    assert PASSWORD not in repr(registry)


@pytest.mark.parametrize("at", ["127.0.0.1:9", "no-such-host.invalid"])
def test_a_registry_that_is_not_there_is_unreachable(at: str) -> None:
    with pytest.raises(Unreachable, match="does not answer") as failed:
        Registry(address=at, insecure=True).check()

    assert failed.value.hint == "ignition doctor"


@pytest.mark.parametrize("at", ["127.0.0.1:port", "["])
def test_what_is_no_address_makes_no_block(at: str) -> None:
    with pytest.raises(ValidationError, match="is not a registry"):
        Registry(address=at, password=SecretStr(PASSWORD))


def test_https_is_spoken_unless_the_registry_is_marked_insecure(httpserver: HTTPServer) -> None:
    at = answering(httpserver, 200)

    with pytest.raises(Unreachable):
        Registry(address=at).check()


def test_an_engine_that_is_not_there_is_unreachable() -> None:
    registry = Registry(address="127.0.0.1:9", insecure=True, engine=NO_ENGINE)
    image = ImageRef("127.0.0.1:9/api", "sha256:" + "0" * 64)

    with pytest.raises(Unreachable):
        registry.find("api", "v1.0.0")
    with pytest.raises(Unreachable):
        registry.labels(image)
    with pytest.raises(Unreachable):
        registry.push("api", "v1.0.0", print)


# ── With a real engine and a real registry ───────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def registry(engine: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """A registry of the tests' own, on a free port, empty."""
    program = shutil.which("docker-registry")
    if program is None:
        pytest.fail("docker-registry is not installed; type: make setup")
    folder = tmp_path_factory.mktemp("registry")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        at = f"127.0.0.1:{free.getsockname()[1]}"
    configuration = folder / "config.yml"
    configuration.write_text(
        f"version: 0.1\nlog: {{level: error}}\nhttp: {{addr: '{at}'}}\n"
        f"storage: {{filesystem: {{rootdirectory: '{folder / 'data'}'}}}}\n"
    )
    process = subprocess.Popen(
        [program, "serve", str(configuration)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _await_answer(at)
        yield Registry(address=at, insecure=True)
    finally:
        process.terminate()
        process.wait(timeout=10)


def _await_answer(at: str) -> None:
    for _ in range(100):
        try:
            httpx.get(f"http://{at}/v2/", timeout=1).raise_for_status()
            return
        except httpx.HTTPError:
            time.sleep(0.1)
    pytest.fail(f"the registry at {at} did not answer within 10 s")


@pytest.fixture
def local_image(registry: Registry, tmp_path: Path) -> Iterator[str]:
    """An image on the engine, one file and two labels; its tag in the registry."""
    client = docker.from_env()
    tag = f"v0.0.0-{uuid.uuid4().hex[:8]}"
    (tmp_path / "file").write_text(tag)
    (tmp_path / "Dockerfile").write_text(
        f"FROM scratch\nCOPY file /\nLABEL version={tag} owner=ada\nCMD ['/file']\n"
    )
    name = f"{registry.repository('api')}:{tag}"
    client.images.build(path=str(tmp_path), tag=name, rm=True)
    yield tag
    client.images.remove(name, force=True)


@pytest.mark.engine
def test_a_push_returns_the_digest_that_the_registry_holds(
    registry: Registry, local_image: str
) -> None:
    said: list[str] = []

    pushed = registry.push("api", local_image, said.append)

    assert pushed.repository == registry.repository("api")
    assert registry.find("api", local_image) == pushed
    manifest = httpx.get(
        f"http://{registry.address}/v2/api/manifests/{pushed.digest}",
        headers={"Accept": "application/vnd.docker.distribution.manifest.v2+json"},
    )
    assert manifest.status_code == 200
    assert any(line.startswith("pushed ") for line in said)


@pytest.mark.engine
def test_pushing_again_returns_the_same_digest(registry: Registry, local_image: str) -> None:
    first = registry.push("api", local_image, lambda line: None)

    assert registry.push("api", local_image, lambda line: None) == first


@pytest.mark.engine
def test_the_labels_of_an_image_are_read_from_the_registry(
    registry: Registry, local_image: str
) -> None:
    pushed = registry.push("api", local_image, lambda line: None)
    docker.from_env().images.remove(f"{registry.repository('api')}:{local_image}", force=True)

    assert registry.labels(pushed) == {"version": local_image, "owner": "ada"}

    docker.from_env().images.get(str(pushed)).tag(registry.repository("api"), local_image)


@pytest.mark.engine
@pytest.mark.parametrize("name", ["api", "never-pushed"])
def test_a_tag_that_was_never_pushed_is_none(registry: Registry, name: str) -> None:
    assert registry.find(name, "v9.9.9") is None


@pytest.mark.engine
def test_pushing_an_image_that_was_never_built_fails_with_its_name(registry: Registry) -> None:
    with pytest.raises(BuildFailed, match=r"api:v9\.9\.9"):
        registry.push("api", "v9.9.9", lambda line: None)

    assert registry.find("api", "v9.9.9") is None


@pytest.mark.engine
def test_a_registry_that_is_gone_fails_the_push_and_the_question(engine: str) -> None:
    gone = Registry(address="127.0.0.1:9", insecure=True)

    with pytest.raises(Unreachable, match=r"registry 127\.0\.0\.1:9 refuses api:v1\.0\.0"):
        gone.find("api", "v1.0.0")
    with pytest.raises(Unreachable):
        gone.labels(ImageRef("127.0.0.1:9/api", "sha256:" + "0" * 64))


@pytest.fixture
def image_for(local_image: str, registry: Registry) -> Iterator[Callable[[str], Registry]]:
    """The local image under another registry's name, and that registry."""
    client, made = docker.from_env(), []

    def renamed(at: str) -> Registry:
        other = Registry(address=at, insecure=True)
        client.images.get(f"{registry.repository('api')}:{local_image}").tag(
            other.repository("api"), local_image
        )
        made.append(f"{other.repository('api')}:{local_image}")
        return other

    yield renamed
    for name in made:
        client.images.remove(name, force=True)


@pytest.mark.engine
def test_a_push_to_a_registry_that_is_away_may_be_tried_again(
    image_for: Callable[[str], Registry], local_image: str
) -> None:
    with pytest.raises(Unreachable, match=r"did not take api:.*connection refused") as failed:
        image_for("127.0.0.1:9").push("api", local_image, lambda line: None)

    assert failed.value.hint == f"docker push 127.0.0.1:9/api:{local_image}"


@pytest.mark.engine
def test_a_push_that_is_denied_is_not_tried_again(
    image_for: Callable[[str], Registry], local_image: str, httpserver: HTTPServer
) -> None:
    denied = {"errors": [{"code": "DENIED", "message": "requested access is denied"}]}
    blobs = re.compile("/v2/api/blobs/.*")
    httpserver.expect_request(blobs, method="POST").respond_with_json(denied, status=403)
    httpserver.expect_request(blobs, method="HEAD").respond_with_data("", status=404)
    strict = image_for(answering(httpserver, 200))

    with pytest.raises(BuildFailed, match=r"did not take api:.*denied"):
        strict.push("api", local_image, lambda line: None)


@pytest.mark.engine
def test_an_image_that_the_registry_does_not_have_has_no_labels(registry: Registry) -> None:
    missing = ImageRef(registry.repository("api"), "sha256:" + "0" * 64)

    with pytest.raises(Unreachable, match="does not give"):
        registry.labels(missing)
