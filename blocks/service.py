"""The deployed backend, as its users and the runbook's commands meet it."""

import contextlib
import functools
import os
import queue
import re
import signal
import ssl
import subprocess
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import monotonic
from typing import IO, Any

import httpx
from prefect.blocks.core import Block
from pydantic import Field, SecretStr

from release.duration import say_duration
from release.model import Check, Probe
from release.verification import read_field

_LONGEST_BODY = 1_000_000  # bytes; no answer that is looked at here has a reason to be longer
_WRONG_TOKEN = "not-a-token"
_REFUSED = (401, 403)
_ERRNO = re.compile(r"^\[Errno -?\d+\] ")
# All that the smoke tests inherit: nothing of the worker's own configuration, no secret.
_INHERITED = ("PATH", "HOME", "LANG", "TMPDIR", "NPM_CONFIG_CACHE", "npm_config_cache")
_KEPT_LINES = 500  # test runners print much after the line that names a failed test
_NOT_FOUND = 127  # as a shell says it
_LINGER = timedelta(seconds=2)  # between SIGTERM and SIGKILL, and for a last line of output


@dataclass(frozen=True, slots=True)
class SmokeRun:
    """How the smoke tests ended."""

    exit_code: int | None  # None: stopped when the time was up
    output: tuple[str, ...]  # last lines
    took: timedelta


class Service(Block):
    """The backend's HTTP interface. Every method takes another address than the public one."""

    _block_type_name = "Ignition Service"

    url: str = Field(description="The public address, as users reach it.")
    health_path: str = Field(default="/health", description="Answers 200 while it can serve.")
    version_path: str = Field(default="/api/", description="Answers JSON that names the version.")
    version_field: str = Field(default="version", description="The field of that JSON.")
    request_timeout_s: float = Field(
        default=10.0, gt=0, description="Seconds that one answer may take."
    )
    login_path: str = Field(default="/api/login", description="POST username and password.")
    token_field: str = Field(default="token", description="The field of its JSON answer.")
    protected_path: str = Field(default="/api/me", description="Answers with the token only.")
    username: str = Field(default="", description="The checks' own account; empty: no auth check.")
    password: SecretStr = Field(default=SecretStr(""), description="Of that account.")

    @property
    def shown_url(self) -> str:
        """The public address without user and password, for logs and errors."""
        scheme, separator, rest = self.url.partition("://")
        host, slash, path = rest.partition("/")
        return f"{scheme}{separator}{host.rpartition('@')[2]}{slash}{path}".rstrip("/")

    def health(self, base_url: str | None = None) -> Probe:
        """Ask the health path once (runbook, step 5: ``curl -f …/health``)."""
        with self._client(base_url) as client:
            return self._ask(client, "GET", self._at(base_url, self.health_path))[0]

    def version(self, base_url: str | None = None) -> tuple[str | None, Probe]:
        """The version that the service names, or None and, in the probe's detail, why not."""
        with self._client(base_url) as client:
            probe, body = self._ask(client, "GET", self._at(base_url, self.version_path))
        if not probe.ok:
            return None, probe
        found = read_field(body, self.version_field)
        if found is None:
            said = f"no field {self.version_field!r} in the answer"
            probe = Probe(probe.at, probe.status, probe.took, said)
        return found, probe

    def probe(
        self, count: int, base_url: str | None = None, *, path: str = "", concurrency: int = 8
    ) -> tuple[Probe, ...]:
        """Ask ``path`` (by default the version path) ``count`` times, each on a new connection.

        No connection is kept, so each one is balanced anew and none outlives a drained instance.
        """
        with self._client(base_url) as client, ThreadPoolExecutor(max(1, concurrency)) as pool:
            wanted = [self._at(base_url, path or self.version_path)] * count
            return tuple(pool.map(lambda each: self._ask(client, "GET", each)[0], wanted))

    def auth_flow(self, base_url: str | None = None) -> Check | None:
        """Log in, be known with the token, be refused without one and with a wrong one.

        None where no account is configured. Every deviation is a clause of the sentence, which
        holds neither password nor token.
        """
        if not self.username:
            return None
        began = monotonic()
        with self._client(base_url) as client:
            deviations = [*self._log_in(client, base_url), *self._be_refused(client, base_url)]
        took = timedelta(seconds=monotonic() - began)
        good = "logged in, known with the token, refused without and with a wrong one"
        return Check("auth flow", not deviations, "; ".join(deviations) or good, took)

    def run_smoke(
        self,
        command: Sequence[str],
        tree: Path,
        expect_version: str,
        timeout: timedelta,
        say: Callable[[str], None],
        base_url: str | None = None,
    ) -> SmokeRun:
        """Run the smoke tests in ``tree``, each line of their output said as it comes.

        They get BASE_URL, EXPECT_VERSION and, where an account is configured, SMOKE_USERNAME and
        SMOKE_PASSWORD; of the worker's environment only what any program needs. When the time is
        up, or the run is cancelled, they are stopped with every process they started.
        """
        began = monotonic()
        output: deque[str] = deque(maxlen=_KEPT_LINES)

        def heard(line: str) -> None:
            shown = self._without_password(line.rstrip())
            output.append(shown)
            say(shown)

        try:
            process = subprocess.Popen(
                list(command),
                cwd=tree,
                env=self._smoke_environment(base_url or self.shown_url, expect_version),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                start_new_session=True,
            )
        except OSError as error:
            heard(f"{command[0]} cannot be run: {error.strerror}")
            return SmokeRun(_NOT_FOUND, tuple(output), timedelta(seconds=monotonic() - began))
        try:
            exit_code = _follow(process, began + timeout.total_seconds(), heard)
        finally:
            _stop_group(process)
        return SmokeRun(exit_code, tuple(output), timedelta(seconds=monotonic() - began))

    def _smoke_environment(self, base_url: str, version: str) -> Mapping[str, str]:
        inherited = {name: os.environ[name] for name in _INHERITED if name in os.environ}
        account = {
            "SMOKE_USERNAME": self.username,
            "SMOKE_PASSWORD": self.password.get_secret_value(),
        }
        return {
            **inherited,
            "NO_COLOR": "1",  # the output is read in a log
            "BASE_URL": base_url,
            "EXPECT_VERSION": version,
            **(account if self.username else {}),
        }

    def _without_password(self, text: str) -> str:
        password = self.password.get_secret_value()
        return text.replace(password, "********") if password else text

    def _log_in(self, client: httpx.Client, base_url: str | None) -> Iterator[str]:
        """Say what is wrong with logging in and with being known afterwards."""
        credentials = {"username": self.username, "password": self.password.get_secret_value()}
        address = self._at(base_url, self.login_path)
        login, body = self._ask(client, "POST", address, json=credentials)
        if not login.ok:
            yield f"login: {_said(login)}"
            return
        token = read_field(body, self.token_field)
        if token is None or not token.isascii() or not token.isprintable():
            yield f"login: no usable field {self.token_field!r} in the answer"
            return
        address = self._at(base_url, self.protected_path)
        known, _ = self._ask(client, "GET", address, headers=_bearer(token))
        if not known.ok:
            yield f"{self.protected_path} with the token: {_said(known)}, expected 200"

    def _be_refused(self, client: httpx.Client, base_url: str | None) -> Iterator[str]:
        """Say where the protected path answers somebody it does not know."""
        address = self._at(base_url, self.protected_path)
        strangers: dict[str, dict[str, str]] = {
            "without a token": {},
            "with a wrong token": _bearer(_WRONG_TOKEN),
        }
        for who, headers in strangers.items():
            answer, _ = self._ask(client, "GET", address, headers=headers)
            if answer.status not in _REFUSED:
                yield f"{self.protected_path} {who}: {_said(answer)}, expected 401 or 403"

    def _client(self, base_url: str | None) -> httpx.Client:
        return httpx.Client(
            timeout=self.request_timeout_s,
            verify=_tls(),
            # A proxy of the worker's environment may lead to the public address, but never to an
            # instance's own.
            trust_env=base_url is None,
            limits=httpx.Limits(max_keepalive_connections=0),
            headers={"Connection": "close", "User-Agent": "ignition-deploy"},
        )

    def _at(self, base_url: str | None, path: str) -> str:
        return (base_url or self.url).rstrip("/") + path

    def _ask(
        self, client: httpx.Client, method: str, address: str, **options: Any
    ) -> tuple[Probe, bytes]:
        """One request. Whatever goes wrong is a probe without status, with a safe sentence."""
        at, began = datetime.now(UTC), monotonic()
        body, status = b"", 0
        try:
            with client.stream(method, address, **options) as answer:
                body = _read(answer, began + self.request_timeout_s)
                status = answer.status_code
                detail = "" if answer.is_success else f"HTTP {status}"
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            detail = self._explain(error)
        return Probe(at, status, timedelta(seconds=monotonic() - began), detail), body

    def _explain(self, error: Exception) -> str:
        if isinstance(error, httpx.TimeoutException):
            return f"no answer within {say_duration(timedelta(seconds=self.request_timeout_s))}"
        if isinstance(error, httpx.NetworkError | httpx.RemoteProtocolError) and str(error):
            return _ERRNO.sub("", self._without_password(str(error)))
        if isinstance(error, httpx.UnsupportedProtocol | httpx.InvalidURL):
            return "its address is no http or https URL"
        return type(error).__name__  # its text may repeat the address, with what it holds


@functools.cache
def _tls() -> ssl.SSLContext:
    """One for all clients: reading the certificate store takes longer than most answers."""
    return httpx.create_ssl_context()


def _read(answer: httpx.Response, deadline: float) -> bytes:
    """The body, as far as it is sensibly long and comes in time."""
    body = b""
    for part in answer.iter_bytes():
        body += part
        if len(body) > _LONGEST_BODY:
            break
        if monotonic() > deadline:  # httpx limits the wait for a part, not for the whole
            raise httpx.ReadTimeout("too slow", request=answer.request)
    return body


def _said(probe: Probe) -> str:
    return probe.detail or f"HTTP {probe.status}"


def _bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def _follow(
    process: subprocess.Popen[str], deadline: float, heard: Callable[[str], None]
) -> int | None:
    """Pass the output on until the process ends; None if it does not end in time."""
    lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    assert process.stdout is not None  # it was opened as a pipe
    threading.Thread(target=_pump, args=(process.stdout, lines), daemon=True).start()
    quiet_until = None  # an ended process whose children hold the pipe open is not waited for
    while monotonic() < deadline and (quiet_until is None or monotonic() < quiet_until):
        try:
            line = lines.get(timeout=0.05)
        except queue.Empty:
            if process.poll() is not None and quiet_until is None:
                quiet_until = monotonic() + _LINGER.total_seconds()
            continue
        if line is None:
            break
        heard(line)
    with contextlib.suppress(subprocess.TimeoutExpired):
        return process.wait(timeout=max(0.0, deadline - monotonic()))
    return None


def _pump(stream: IO[str], lines: "queue.SimpleQueue[str | None]") -> None:
    with stream:
        for line in stream:
            lines.put(line)
    lines.put(None)


def _stop_group(process: subprocess.Popen[str]) -> None:
    """End the process and whatever it started and left behind."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=_LINGER.total_seconds())
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
