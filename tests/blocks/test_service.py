"""The service block against a real server."""

import json
import socket
import sys
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from blocks.auth import AuthFlow
from blocks.service import Service, SmokeRun, SmokeTests
from release.configuration.rules import WatchProbe
from release.errors import BadConfiguration

PASSWORD = "correct-horse"


@pytest.fixture
def service(httpserver: HTTPServer) -> Service:
    return Service(
        url=httpserver.url_for(""),
        auth=AuthFlow(username="probe", password=PASSWORD),
        request_timeout_s=2,
    )


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port that accepts connections and never answers."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


class TestHealth:
    def test_an_answer_is_a_probe_with_its_status(
        self, service: Service, httpserver: HTTPServer
    ) -> None:
        httpserver.expect_request("/health").respond_with_data("ok")
        probe = service.health()
        assert probe.ok
        assert probe.status == 200
        assert probe.detail == ""
        assert timedelta() < probe.took < timedelta(seconds=2)

    def test_an_error_is_said_and_a_redirect_is_not_followed(
        self, service: Service, httpserver: HTTPServer
    ) -> None:
        httpserver.expect_oneshot_request("/health").respond_with_data("down", status=503)
        assert service.health().detail == "HTTP 503"
        httpserver.expect_oneshot_request("/health").respond_with_data(
            "", status=302, headers={"Location": "/elsewhere"}
        )
        assert service.health().detail == "HTTP 302"

    def test_nobody_listening_is_no_exception(self, service: Service) -> None:
        probe = service.at("http://127.0.0.1:9").health()
        assert (probe.ok, probe.status, probe.detail) == (False, 0, "Connection refused")

    def test_an_answer_that_does_not_come_is_given_up(
        self, service: Service, silent_port: int
    ) -> None:
        service.request_timeout_s = 0.1
        probe = service.at(f"http://127.0.0.1:{silent_port}").health()
        assert (probe.status, probe.detail) == (0, "no answer within 100 ms")

    def test_an_answer_that_drips_is_given_up(
        self, service: Service, httpserver: HTTPServer
    ) -> None:
        def drip(request: Request) -> Response:
            return Response(drops(), direct_passthrough=True)

        def drops() -> Iterator[bytes]:
            for _ in range(50):
                time.sleep(0.05)
                yield b"."

        httpserver.expect_request("/health").respond_with_handler(drip)
        service.request_timeout_s = 0.2
        began = time.monotonic()
        assert service.health().detail == "no answer within 200 ms"
        assert time.monotonic() - began < 1

    @pytest.mark.parametrize("address", ["", "nonsense", "http://", "http://:8000", "http://[::1"])
    def test_an_address_that_is_none_is_no_exception(self, service: Service, address: str) -> None:
        service.url = address
        assert service.health().detail == "its address is not an http or https URL"

    def test_credentials_in_the_address_are_not_shown(self) -> None:
        service = Service(url="http://user:hunter2@127.0.0.1:9/api/")
        assert service.shown_url == "http://127.0.0.1:9/api"
        assert "hunter2" not in repr(service.health())


class TestVersion:
    def test_is_read_from_the_answer(self, service: Service, httpserver: HTTPServer) -> None:
        httpserver.expect_request("/api/").respond_with_json({"version": "v1.2.3"})
        found, probe = service.version()
        assert found == "v1.2.3"
        assert probe.ok

    def test_an_instance_is_asked_at_its_own_address(self, httpserver: HTTPServer) -> None:
        httpserver.expect_request("/api/").respond_with_json({"version": "v1.2.3"})
        service = Service(url="http://127.0.0.1:9")
        assert service.version()[0] is None
        assert service.at(httpserver.url_for("/")).version()[0] == "v1.2.3"

    def test_an_answer_without_one_is_said(self, service: Service, httpserver: HTTPServer) -> None:
        httpserver.expect_request("/api/").respond_with_data("<html>")
        found, probe = service.version()
        assert found is None
        assert probe.detail == "does not answer JSON, it begins: <html>"
        httpserver.clear()
        httpserver.expect_request("/api/").respond_with_json({"name": "api", "build": 7})
        assert service.version()[1].detail == "has no field 'version'; it has: name, build"
        httpserver.clear()
        httpserver.expect_request("/api/").respond_with_data(f"{PASSWORD} " * 100)
        assert PASSWORD not in service.version()[1].detail
        assert len(service.version()[1].detail) < 120


class TestProbe:
    def test_every_probe_has_a_connection_of_its_own(
        self, service: Service, httpserver: HTTPServer
    ) -> None:
        ports = set()

        def note(request: Request) -> Response:
            ports.add(request.environ["REMOTE_PORT"])
            return Response("ok")

        httpserver.expect_request("/api/").respond_with_handler(note)
        asked = service.probe([WatchProbe(path="/api/")] * 20, concurrency=4)
        assert len(asked) == 20
        assert not any(one.failed for one in asked)
        assert len(ports) == 20

    def test_no_more_than_allowed_are_under_way(
        self, service: Service, httpserver: HTTPServer
    ) -> None:
        httpserver.expect_request("/slow").respond_with_handler(
            lambda request: time.sleep(0.05) or Response("ok")  # type: ignore[func-returns-value]
        )
        began = time.monotonic()
        service.probe([WatchProbe(path="/slow")] * 6, concurrency=2)
        assert time.monotonic() - began >= 0.15


class TestSmoke:
    @pytest.fixture
    def said(self) -> list[str]:
        return []

    def run(
        self,
        service: Service,
        tree: Path,
        said: list[str],
        script: str,
        timeout: timedelta = timedelta(seconds=20),
    ) -> SmokeRun:
        tests = SmokeTests([sys.executable, "-c", script], tree, "v1.2.3", timeout)
        return service.run_smoke(tests, said.append)

    def test_runs_in_the_release_and_says_each_line(
        self, service: Service, tmp_path: Path, said: list[str]
    ) -> None:
        script = "import os, sys; print(os.getcwd()); print('bad', file=sys.stderr); sys.exit(3)"
        smoke = self.run(service, tmp_path, said, script)
        assert smoke.exit_code == 3
        assert sorted(said) == sorted([str(tmp_path), "bad"])
        assert sorted(smoke.output) == sorted(said)

    def test_gets_the_address_the_version_and_the_account_and_no_other_secret(
        self,
        service: Service,
        tmp_path: Path,
        said: list[str],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        for name in ("IGNITION_LEDGER__DSN", "PGPASSWORD", "PREFECT_API_AUTH_STRING", "DB_DSN"):
            monkeypatch.setenv(name, "hunter2")
        self.run(service, tmp_path, said, "import os, json; print(json.dumps(dict(os.environ)))")
        seen = json.loads(said[0])
        assert seen["BASE_URL"] == service.shown_url
        assert seen["EXPECT_VERSION"] == "v1.2.3"
        assert seen["SMOKE_USERNAME"] == "probe"
        assert "hunter2" not in said[0]

    def test_a_printed_password_does_not_reach_the_log(
        self, service: Service, tmp_path: Path, said: list[str]
    ) -> None:
        self.run(service, tmp_path, said, "import os; print(os.environ['SMOKE_PASSWORD'])")
        assert said == ["********"]

    def test_a_command_that_is_missing_is_said(
        self, service: Service, tmp_path: Path, said: list[str]
    ) -> None:
        tests = SmokeTests(["no-such-command"], tmp_path, "v1.2.3", timedelta(seconds=5))
        smoke = service.run_smoke(tests, said.append)
        assert smoke.exit_code == 127
        assert said == ["no-such-command cannot be run: No such file or directory"]

    def test_a_command_that_the_worker_lacks_is_refused_before_it_is_needed(
        self, service: Service
    ) -> None:
        service.check_smoke([sys.executable, "-c", "1"])
        service.check_smoke(["git", "--version"])
        service.check_smoke(["tests/smoke.sh"])

        for missing in ("no-such-command", "/srv/no-such-command"):
            with pytest.raises(BadConfiguration, match=f"has no program '{missing}'") as refused:
                service.check_smoke([missing])
            assert refused.value.hint.startswith(f"install {missing}, or change service.smoke")

    def test_is_stopped_with_its_children_when_the_time_is_up(
        self, service: Service, tmp_path: Path, said: list[str]
    ) -> None:
        script = (
            "import subprocess, sys, time\n"
            "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
            "print(child.pid, flush=True)\n"
            "time.sleep(60)\n"
        )
        smoke = self.run(service, tmp_path, said, script, timedelta(seconds=1))
        assert smoke.exit_code is None
        assert smoke.took < timedelta(seconds=8)
        assert _is_gone(int(said[0]))

    def test_a_child_left_behind_is_neither_waited_for_nor_left_running(
        self, service: Service, tmp_path: Path, said: list[str]
    ) -> None:
        script = (
            "import subprocess, sys\n"
            "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
            "print(child.pid, flush=True)\n"
        )
        smoke = self.run(service, tmp_path, said, script)
        assert smoke.exit_code == 0
        assert smoke.took < timedelta(seconds=8)
        assert _is_gone(int(said[0]))


def _is_gone(pid: int) -> bool:
    """Whether the process has ended; one that nobody reaps is a zombie."""
    deadline = time.monotonic() + 3
    while time.monotonic() < deadline:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            return True
        if state == "Z":
            return True
        time.sleep(0.05)
    return False
