"""One small service behind a router, twice: in memory, and on the real engine with HAProxy.

The same tests run on both. Versions: v1.0.0 and v1.1.0 are good; ``errors`` answers 500 to users
but is healthy; ``never-healthy`` and ``exits`` do what they say.
"""

import json
import shutil
import socket
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from blocks.compose.orchestrator import ComposeOrchestrator
from blocks.haproxy.file import render_backend, slot_names
from blocks.haproxy.router import HaproxyRouter
from blocks.orchestrator import Orchestrator
from blocks.router import Router
from blocks.service import Service
from release.errors import DeployError
from release.measure.slot import Slot
from release.model import Baseline, ImageRef, Probe, Release
from sandbox.commands import run, wait_until
from sandbox.layout import Ports, Sandbox
from sandbox.parts import engine, images
from sandbox.parts.registry import ensure_registry, remove_registry
from tests.fakes.orchestrator import FakeOrchestrator
from tests.fakes.router import FakeRouter

VERSIONS = {
    "v1.0.0": "good",
    "v1.1.0": "good",
    "v1.2.0-errors": "errors",
    "v1.2.0-never-healthy": "never-healthy",
    "v1.2.0-exits": "exits",
}
SECRET = "correct-horse-battery"
WITHIN = timedelta(seconds=20)
PORT = 8000  # that an instance listens on
_ASKED = 12  # requests, to see who answers


class Project:
    """What a test needs of either world."""

    environment = "production"
    orchestrator: Orchestrator
    router: Router | None
    service: Any
    images: dict[str, ImageRef]

    def reset(self, version: str = "v1.0.0", replicas: int = 1) -> Baseline:
        """Leave nothing but ``version`` in service, pinned, and return it as the baseline."""
        assert self.router is not None
        self.restart_router()
        for slot in self.router.slots():
            if slot.instance:
                self.router.retire(slot.instance)
        ids = [i.id for i in self.orchestrator.instances()]
        self.orchestrator.stop(ids, timedelta())
        self.orchestrator.remove(ids)
        self.orchestrator.pull(self.images[version])
        self.orchestrator.pin(self.images[version])
        self.put_in_service(version, replicas)
        return self.baseline(version)

    def put_in_service(self, version: str, replicas: int = 1) -> None:
        """Start and admit containers of ``version``, beside whatever there is."""
        image = self.images[version]
        if not self.orchestrator.has_image(image):
            self.orchestrator.pull(image)
        kept = [i.id for i in self.orchestrator.instances()]
        new = self.orchestrator.start_beside(image, replicas, keep=kept)
        for instance in self.orchestrator.await_healthy([i.id for i in new], WITHIN):
            assert self.router is not None
            self.router.admit(instance)

    def baseline(self, version: str) -> Baseline:
        image = self.images[version]
        ids = tuple(i.id for i in self.orchestrator.instances() if i.image == image)
        return Baseline(
            environment=self.environment,
            release=Release(version, "0" * 40, image),
            instances=ids,
            schema_version="",
            error_rate=0.0,
            p95=timedelta(milliseconds=20),
            taken_at=datetime(2026, 11, 22, tzinfo=UTC),
        )

    def drain_of_everything(self) -> None:
        """Leave no instance that users could meet."""
        assert self.router is not None
        for slot in self.router.slots():
            if slot.instance:
                self.router.drain(slot.instance)

    def containers(self) -> dict[str, str]:
        """Each container's version and state, oldest first: ``v1.0.0 running``."""
        return {i.name: f"{i.version} {i.state}" for i in self.orchestrator.instances()}

    def serving(self) -> set[str]:
        """The versions that users meet now."""
        raise NotImplementedError

    def users_ask(self, times: int) -> None:
        """Send requests as users do."""
        raise NotImplementedError

    def answers_at(self, base_url: str) -> str:
        """The version that answers at an address of one instance."""
        raise NotImplementedError

    def leave_apart(self, version: str) -> None:
        """Leave a container apart, as a run does that is killed."""
        raise NotImplementedError

    def restart_router(self) -> None:
        """Start the router anew, from its file; its counters begin at zero."""

    def with_router_away(self) -> Router:
        """The same router, where it does not answer."""
        raise NotImplementedError

    def with_a_hasty_router(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Let it give an instance up soon that it cannot admit."""


class Unasked:
    """A service that is not there to be asked: what is in memory has no address."""

    def at(self, address: str) -> "Unasked":
        return self

    def health(self) -> Probe:
        return Probe(datetime.now(UTC), 0, timedelta(), "connection refused")


class FakeProject(Project):
    """In memory."""

    def __init__(self) -> None:
        fake = FakeOrchestrator()
        self.orchestrator: FakeOrchestrator = fake
        self.router: FakeRouter | None = FakeRouter(orchestrator=fake)
        self.service = Unasked()
        self.images = {}
        for number, (version, behaviour) in enumerate(VERSIONS.items()):
            image = ImageRef("registry.example.com/api", f"sha256:{number:064x}")
            self.images[version] = image
            fake.host.registry[image] = (version, behaviour)

    def serving(self) -> set[str]:
        assert self.router is not None
        names = {slot.instance for slot in self.router.slots() if slot.serving}
        if not names:
            self.router.answer(_ASKED)
            return {"nothing"}
        return {i.version for i in self.orchestrator.instances() if i.name in names}

    def users_ask(self, times: int) -> None:
        assert self.router is not None
        self.router.answer(times)

    def answers_at(self, base_url: str) -> str:
        running = [i for i in self.orchestrator.host.containers if i.running]
        (found,) = (i for i in running if self.orchestrator.reach(i, PORT) == base_url)
        return found.version

    def leave_apart(self, version: str) -> None:
        self.orchestrator.leave_apart(self.images[version])

    def restart_router(self) -> None:
        assert self.router is not None
        self.router.begin_again()

    def with_router_away(self) -> Router:
        router = FakeRouter(orchestrator=self.orchestrator)
        router.hang_up()
        return router


APP = """\
import asyncio, json, os, signal, sys
KIND, VERSION = os.environ["KIND"], os.environ["VERSION"]
if KIND == "exits":
    sys.exit("no configuration")
busy, users = 0, 0

async def answer(reader, writer):
    global busy
    try:
        while True:
            head = (await reader.readuntil(b"\\r\\n\\r\\n")).decode()
            busy += 1
            for line in head.lower().splitlines():
                if line.startswith("content-length:"):
                    await reader.readexactly(int(line.split(":")[1]))
            path = head.split(" ")[1]
            status = 200
            if path == "/health":
                status = 503 if KIND == "never-healthy" else 200
            elif path.endswith("export"):
                await asyncio.sleep(1)
            if path != "/health" and KIND == "errors":
                status = 500
            body = json.dumps({"version": VERSION}).encode()
            head = b"HTTP/1.1 %d x\\r\\nContent-Length: %d\\r\\n\\r\\n" % (status, len(body))
            writer.write(head + body)
            await writer.drain()
            busy -= 1
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()

async def main():
    await asyncio.sleep(0.5)
    print("listening; token is", os.environ.get("TOKEN"), flush=True)
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    server = await asyncio.start_server(answer, "0.0.0.0", 8000)
    await ended.wait()
    server.close()
    while busy:
        await asyncio.sleep(0.05)

asyncio.run(main())
"""

DOCKERFILE = """\
FROM {base}
ENV PYTHONUNBUFFERED=1 KIND={kind} VERSION={version}
LABEL org.opencontainers.image.version={version} org.opencontainers.image.revision={revision}
COPY app.py /app.py
CMD ["python3", "/app.py"]
"""

HEALTH_CHECK = (
    "import socket,sys;s=socket.create_connection(('127.0.0.1',8000),3);"
    "s.sendall(b'GET /health HTTP/1.1\\r\\n\\r\\n');sys.exit(b' 200 ' not in s.recv(99))"
)


def compose_file(proxy: str, port: int) -> str:
    """The project's Compose file (JSON is YAML)."""
    api = {
        "image": "${API_IMAGE:?set API_IMAGE in .env}",
        "environment": {"TOKEN": "${TOKEN}"},
        "restart": "unless-stopped",
        "healthcheck": {
            "test": ["CMD", "python3", "-SIc", HEALTH_CHECK],
            "interval": "1s",
            "timeout": "5s",
            "retries": 2,
            "start_period": "4s",
            "start_interval": "250ms",
        },
    }
    files = ["-f", "/etc/haproxy/haproxy.cfg", "-f", "/run/haproxy/be.cfg"]
    router = {
        "image": proxy,
        "command": ["haproxy", "-W", "-db", *files],
        "user": "0:0",
        "ports": [f"127.0.0.1:{port}:8080"],
        "volumes": ["./haproxy.cfg:/etc/haproxy/haproxy.cfg:ro", "./run:/run/haproxy"],
    }
    return json.dumps({"services": {"api": api, "proxy": router}}, indent=2)


class RealProject(Project):
    """On the engine: a Compose project with HAProxy, and a registry of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        names = ("registry", "postgres", "production", "staging", "prometheus", "prefect")
        free = dict(zip(names, free_ports(len(names)), strict=True))
        self.sandbox = Sandbox(folder=folder / "sandbox", ports=Ports(**free))
        self.url = f"http://127.0.0.1:{free['production']}"
        self.service = Service(url=self.url, request_timeout_s=5)
        self.host = folder / "host"
        self.name = f"ignition-test-{free['production']}"
        self.orchestrator: ComposeOrchestrator = ComposeOrchestrator(directory=self.host)
        self.router: HaproxyRouter | None = HaproxyRouter(
            socket=self.host / "run" / "admin.sock", backend_file=self.host / "run" / "be.cfg"
        )

    def start(self) -> None:
        """Images, registry, host folder, proxy."""
        engine.ensure_engine()
        images.ensure_base()
        images.ensure_proxy()
        ensure_registry(self.sandbox)
        self.images = {version: self._publish(version) for version in VERSIONS}
        run_folder = self.host / "run"
        run_folder.mkdir(parents=True)
        haproxy = Path(images.__file__).parents[1] / "backend/deploy/production/haproxy.cfg"
        shutil.copy(haproxy, self.host / "haproxy.cfg")
        compose = compose_file(images.PROXY, self.sandbox.ports.production)
        (self.host / "docker-compose.yml").write_text(compose)
        (self.host / ".env").write_text(
            f"# the host's own\nCOMPOSE_PROJECT_NAME={self.name}\nTOKEN={SECRET}\n"
        )
        (self.host / ".env").chmod(0o600)
        self.orchestrator.pin(self.images["v1.0.0"])
        slots = [Slot(name) for name in slot_names("api", 6)]
        (run_folder / "be.cfg").write_text(render_backend(slots, "api", 8000))
        run(["docker", "compose", "up", "--detach", "--no-deps", "proxy"], directory=self.host)
        self._await_router()

    def stop(self) -> None:
        """Leave nothing."""
        run(["docker", "compose", "down", "--volumes", "--timeout", "1"], directory=self.host)
        tags = [f"{self.sandbox.image_repository}:{version}" for version in self.images]
        run(["docker", "image", "rm", "--force", *tags, *map(str, self.images.values())])
        remove_registry(self.sandbox)

    def serving(self) -> set[str]:
        return {self._ask(self.url) for _ in range(_ASKED)}

    def users_ask(self, times: int) -> None:
        for _ in range(times):
            self._ask(self.url)

    def answers_at(self, base_url: str) -> str:
        return self._ask(base_url)

    def leave_apart(self, version: str) -> None:
        label = f"ignition.apart={self.name}/api"
        run(["docker", "run", "--detach", "--label", label, str(self.images[version])])

    def with_router_away(self) -> Router:
        assert self.router is not None
        return self.router.model_copy(update={"socket": self.folder / "nobody.sock"})

    def with_a_hasty_router(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("blocks.haproxy.router._SETTLE_WITHIN", timedelta(seconds=2))

    def restart_router(self) -> None:
        run(["docker", "compose", "restart", "--timeout", "1", "proxy"], directory=self.host)
        self._await_router()

    def _await_router(self) -> None:
        router = self.router
        assert router is not None

        def answers() -> bool:
            try:
                router.check()
            except DeployError:
                return False
            return True

        wait_until(answers, what="an answer from HAProxy", seconds=30, hint="docker logs")

    def _ask(self, base_url: str) -> str:
        try:
            with urllib.request.urlopen(f"{base_url}/api/", timeout=5) as answer:
                return str(json.load(answer)["version"])
        except urllib.error.HTTPError as error:
            if error.code == 503:
                return "nothing"
            return str(json.load(error)["version"])

    def _publish(self, version: str) -> ImageRef:
        context = self.folder / "context"
        context.mkdir(exist_ok=True)
        (context / "app.py").write_text(APP)
        text = DOCKERFILE.format(
            base=images.BASE, kind=VERSIONS[version], version=version, revision="0" * 40
        )
        (context / "Dockerfile").write_text(text)
        tag = f"{self.sandbox.image_repository}:{version}"
        run(["docker", "build", "--quiet", "--provenance=false", "--tag", tag, context])
        return ImageRef(self.sandbox.image_repository, images.push(tag))


def free_ports(count: int) -> list[int]:
    """Ports that nobody has now."""
    probes = [socket.socket() for _ in range(count)]
    for probe in probes:
        probe.bind(("127.0.0.1", 0))
    found = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return found


@contextmanager
def standing_project() -> Iterator[RealProject]:
    """A real project that is there for the length of the context."""
    with tempfile.TemporaryDirectory(prefix="ignition-test-") as folder, engine.engine_in_use():
        project = RealProject(Path(folder))
        try:
            project.start()
            yield project
        finally:
            project.stop()
