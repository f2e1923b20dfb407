"""The deployed backend, as its users and the runbook's commands reach it."""

import os
import shutil
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from time import monotonic
from typing import Any

import httpx
from pydantic import Field, PrivateAttr

from blocks.auth import AuthFlow, Session
from blocks.http_client import ask, client, shown
from blocks.part import Part
from blocks.program import follow
from release.configuration.deployed_with import DeployedWith
from release.configuration.layout import ServiceInterface
from release.configuration.rules import WatchProbe
from release.errors import BadConfiguration
from release.model import Check, Probe
from release.verification import explain_answer, read_field
from release.watch.probing import Asked

# All that the smoke tests inherit: nothing of the worker's own configuration, no secret.
_INHERITED = ("PATH", "HOME", "LANG", "TMPDIR", "NPM_CONFIG_CACHE", "npm_config_cache")
_KEPT_LINES = 500  # test runners print much after the line that names a failed test
_NOT_FOUND = 127  # as a shell says it


@dataclass(frozen=True, slots=True)
class SmokeTests:
    """A release's own smoke tests."""

    command: Sequence[str]
    tree: Path  # a clean export of the release, in which they are run
    version: str  # that they expect
    timeout: timedelta


@dataclass(frozen=True, slots=True)
class SmokeRun:
    """How the smoke tests ended."""

    exit_code: int | None  # None if they were stopped because the time was up
    output: tuple[str, ...]  # last lines
    took: timedelta


class Service(ServiceInterface, Part):
    """The backend's HTTP interface, at its public address or, by :meth:`at`, at an instance's."""

    _block_type_name = "Ignition Service"

    url: str = Field(description="The public address, as users reach it.")
    request_timeout_s: float = Field(
        default=10.0, gt=0, description="Seconds that one answer may take."
    )
    auth: AuthFlow = Field(
        default_factory=AuthFlow, description="How one logs in, and the checks' own account."
    )

    _own_network: bool = PrivateAttr(default=False)

    def at(self, address: str) -> "Service":
        """The same service at an instance's own address."""
        there = self.model_copy(update={"url": address})
        there._own_network = True
        return there

    @property
    def shown_url(self) -> str:
        """Its address without user and password, for logs and errors."""
        return shown(self.url)

    def health(self) -> Probe:
        """Ask the health path once (runbook, step 5: ``curl -f …/health``)."""
        with self._client() as http:
            return self._ask(http, "GET", self._address(self.health_path))[0]

    def version(self) -> tuple[str | None, Probe]:
        """The version that the service names, or None and, in the probe's detail, why not."""
        with self._client() as http:
            probe, body = self._ask(http, "GET", self._address(self.version_path))
        if not probe.ok:
            return None, probe
        field = self.version_field
        found = read_field(body, field)
        if found is None:
            said = explain_answer(self.auth.concealed(body.decode("utf-8", "replace")), field)
            probe = Probe(probe.at, probe.status, probe.took, said)
        return found, probe

    def probe(
        self, wanted: Sequence[WatchProbe], session: Session | None = None, *, concurrency: int = 8
    ) -> tuple[Asked, ...]:
        """Ask for each of ``wanted``, ``concurrency`` at a time, each on a new connection.

        No connection is kept, so each one is balanced on its own and none outlives a drained
        instance. ``session`` is sent with those that are asked with one.
        """
        known_by = dict(session.headers) if session else {}
        with self._client() as http, ThreadPoolExecutor(max(1, concurrency)) as pool:

            def ask_for(probe: WatchProbe) -> Asked:
                headers = known_by if probe.session else {}
                address = self._address(probe.path)
                return Asked(probe, self._ask(http, probe.method, address, headers=headers)[0])

            return tuple(pool.map(ask_for, wanted))

    def log_in(self) -> Session | None:
        """A session to probe with. None if no account is configured, or the login gives none.

        Raises Unreachable if the service takes no more logins for now.
        """
        if not self.auth.configured:
            return None
        return self.auth.log_in(self.url, self.request_timeout_s, own_network=self._own_network)

    def as_deployed(self, then: DeployedWith) -> "Service":
        """The same service, with the settings that a release was deployed with."""
        return self.model_copy(
            update={
                "health_path": then.health_path,
                "version_path": then.version_path,
                "version_field": then.version_field,
                "auth": self.auth.model_copy(update=then.auth_fields()),
            }
        )

    def auth_flow(self) -> Check | None:
        """Go through the auth flow once. Returns None if no account is configured.

        Raises Unreachable if the release cannot be judged.
        """
        if not self.auth.configured:
            return None
        return self.auth.check(self.url, self.request_timeout_s, own_network=self._own_network)

    @property
    def auth_requests(self) -> int:
        """How many requests a check of the auth flow makes."""
        return self.auth.requests if self.auth.configured else 0

    def check_smoke(self, command: Sequence[str]) -> None:
        """Raise BadConfiguration if this machine lacks the program of the smoke tests.

        A program of the release itself, `tests/smoke.sh`, is not looked for here.
        """
        program = command[0]
        inside = "/" in program and not program.startswith("/")
        if not inside and shutil.which(program) is None:
            raise BadConfiguration(
                f"the worker has no program {program!r}, with which the smoke tests are run",
                f"install {program}, or change service.smoke in ignition.toml",
            )

    def run_smoke(
        self,
        tests: SmokeTests,
        say: Callable[[str], None],
        heed: Callable[[], None] = lambda: None,
    ) -> SmokeRun:
        """Run the smoke tests, and say each line of their output as it comes.

        They get BASE_URL, EXPECT_VERSION and, if an account is configured, SMOKE_USERNAME and
        SMOKE_PASSWORD; of the worker's environment only what any program needs. When the time is
        up, the run is cancelled, or ``heed``, which is called all the while, raises, they are
        stopped with every process they started.
        """
        began = monotonic()
        output: deque[str] = deque(maxlen=_KEPT_LINES)

        def heard(line: str) -> None:
            shown = self.auth.concealed(line.rstrip())
            output.append(shown)
            say(shown)

        exit_code: int | None = _NOT_FOUND
        try:
            exit_code = follow(
                tests.command,
                heard,
                within=tests.timeout,
                heed=heed,
                cwd=tests.tree,
                env=self._smoke_environment(tests.version),
            )
        except OSError as error:
            heard(f"{tests.command[0]} cannot be run: {error.strerror}")
        return SmokeRun(exit_code, tuple(output), timedelta(seconds=monotonic() - began))

    def _smoke_environment(self, version: str) -> Mapping[str, str]:
        inherited = {name: os.environ[name] for name in _INHERITED if name in os.environ}
        account = {
            "SMOKE_USERNAME": self.auth.username,
            "SMOKE_PASSWORD": self.auth.password.get_secret_value(),
        }
        return {
            **inherited,
            "NO_COLOR": "1",  # the output is read in a log
            "BASE_URL": self.shown_url,
            "EXPECT_VERSION": version,
            **(account if self.auth.configured else {}),
        }

    def _client(self) -> httpx.Client:
        # A proxy of the worker's environment may lead to the public address, but never to an
        # instance's own.
        return client(self.request_timeout_s, own_network=self._own_network)

    def _address(self, path: str) -> str:
        return self.url.rstrip("/") + path

    def _ask(
        self, http: httpx.Client, method: str, address: str, **options: Any
    ) -> tuple[Probe, bytes]:
        """One request. Whatever goes wrong is a probe without status, with a safe sentence."""
        reply = ask(
            http,
            method,
            address,
            self.request_timeout_s,
            conceal=self.auth.concealed,
            **options,
        )
        return reply.probe, reply.body
