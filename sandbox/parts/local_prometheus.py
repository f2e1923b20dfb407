"""A Prometheus of a test's own, from the machine's program: no container.

It listens on a free port of 127.0.0.1, scrapes each second what its owner names, and has its data
in a folder that its owner throws away.
"""

import base64
import json
import shutil
import subprocess
import tempfile
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from sandbox.commands import wait_until
from sandbox.errors import NotReady, SandboxError
from sandbox.layout import HOST
from sandbox.parts.local_postgres import free_port

PROGRAM = "prometheus"
START_TIMEOUT = 30.0  # seconds


class LocalPrometheus:
    """A server with its data in ``folder``, that scrapes ``targets`` (Prometheus's own form).

    ``login`` is a name with its password, one of those in ``web``: without it, a server does not
    say whether it is ready.
    """

    def __init__(
        self,
        folder: Path,
        targets: Sequence[Mapping[str, Any]] = (),
        web: Mapping[str, Any] | None = None,
        login: tuple[str, str] | None = None,
    ) -> None:
        self.folder = folder
        self.port = free_port()
        self.url = f"http://{HOST}:{self.port}"
        self._targets = list(targets)
        self._web = web
        self._login = login
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it answers. Raises NotReady if it does not."""
        write_configuration(
            self.folder, [{"job_name": "api", "static_configs": self._targets}], often="1s"
        )
        log = self.folder / "server.log"
        command = command_line(self.folder, self.port, self._web)
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd="/"
            )
        try:
            ready = partial(answers, self.url, self._login)
            wait_until(ready, what="start", seconds=START_TIMEOUT, hint="")
        except NotReady:
            raise NotReady(f"Prometheus did not start: {log.read_text()[-2000:]}") from None

    def stop(self) -> None:
        """End it. What it has stored stays in its folder."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(timeout=START_TIMEOUT)
            self._process = None


@contextmanager
def local_prometheus(
    targets: Sequence[Mapping[str, Any]] = (),
    web: Mapping[str, Any] | None = None,
    login: tuple[str, str] | None = None,
) -> Iterator[LocalPrometheus]:
    """A new, running server; it is stopped and its folder removed at the end."""
    folder = Path(tempfile.mkdtemp(prefix="ignition-prometheus-"))
    server = LocalPrometheus(folder, targets, web, login)
    try:
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


def write_configuration(folder: Path, scrapes: Sequence[Mapping[str, Any]], often: str) -> None:
    """Write ``prometheus.yml`` (JSON is YAML)."""
    rhythm = {"scrape_interval": often, "scrape_timeout": often}
    settings = {"global": rhythm, "scrape_configs": scrapes}
    (folder / "prometheus.yml").write_text(json.dumps(settings, indent=2) + "\n")


def command_line(folder: Path, port: int, web: Mapping[str, Any] | None = None) -> list[str]:
    """What starts a server on ``port`` with the configuration and the data in ``folder``.

    ``web`` is Prometheus's own web configuration: who may log in.
    """
    program = shutil.which(PROGRAM)
    if program is None:
        raise SandboxError(f"{PROGRAM} is not installed; type: make setup")
    command = [
        program,
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        "--storage.tsdb.retention.time=2d",
        f"--web.listen-address={HOST}:{port}",
        "--log.level=warn",
    ]
    if web is not None:
        file = folder / "web.yml"
        file.write_text(json.dumps(web))
        command.append(f"--web.config.file={file}")
    return command


def answers(url: str, login: tuple[str, str] | None = None) -> bool:
    """Whether a server is ready: it answers some time before it would answer a query."""
    request = urllib.request.Request(f"{url}/-/ready")
    if login is not None:
        encoded = base64.b64encode(":".join(login).encode()).decode()
        request.add_header("Authorization", f"Basic {encoded}")
    try:
        with urllib.request.urlopen(request, timeout=2) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def find(url: str, promql: str) -> list[Any]:
    """What a query finds now; nothing also where the server does not answer."""
    query = urllib.parse.urlencode({"query": promql})
    try:
        with urllib.request.urlopen(f"{url}/api/v1/query?{query}", timeout=5) as answer:
            found: list[Any] = json.load(answer)["data"]["result"]
    except (urllib.error.URLError, OSError, ValueError, KeyError):
        return []
    return found
