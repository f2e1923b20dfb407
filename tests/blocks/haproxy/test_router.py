"""What HAProxy adds to the contract of every router, and how its socket may fail."""

import json
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from blocks.haproxy import router as router_module
from blocks.haproxy import socket as haproxy_socket
from blocks.haproxy.router import HaproxyRouter
from release.errors import BadConfiguration, RolloutFailed, Unreachable
from release.measure.slot import Admin
from release.model import Instance
from sandbox.commands import run, wait_until
from sandbox.parts import images
from tests.fakes.project import Project, RealProject


def newest(project: Project) -> Instance:
    return project.orchestrator.instances()[-1]


# ---- HAProxy


@pytest.mark.engine
def test_a_restarted_proxy_serves_what_it_served(real_project: RealProject) -> None:
    """After a rollout, a drain and a restart of HAProxy: the new release, and only that."""
    real_project.reset()
    old = newest(real_project)
    real_project.put_in_service("v1.1.0")
    router = real_project.router
    assert router is not None
    router.drain(old.name)

    real_project.restart_router()

    assert real_project.serving() == {"v1.1.0"}
    kept = next(slot for slot in router.slots() if slot.instance == old.name)
    assert not kept.serving
    router.admit(old)
    assert real_project.serving() == {"v1.0.0", "v1.1.0"}


@pytest.mark.engine
def test_a_container_that_was_started_again_is_admitted_at_its_new_address(
    real_project: RealProject,
) -> None:
    baseline = real_project.reset()
    real_project.put_in_service("v1.1.0")
    router, orchestrator = real_project.router, real_project.orchestrator
    assert router is not None
    old = orchestrator.instances()[0]
    router.drain(old.name)
    orchestrator.stop(baseline.instances, timedelta(seconds=5))
    taker = ["docker", "run", "--detach", "--rm", "--network", f"{real_project.name}_default"]
    id = run([*taker, "--entrypoint", "sleep", images.BASE, "60"]).strip()  # takes the address
    try:
        orchestrator.start(baseline.instances)
        (again,) = orchestrator.await_healthy(baseline.instances, timedelta(seconds=20))
        slot = router.admit(again)
    finally:
        run(["docker", "rm", "--force", id])

    assert again.address != old.address
    assert slot.address == again.address
    assert real_project.serving() == {"v1.0.0", "v1.1.0"}


@pytest.mark.engine
def test_a_container_name_that_comes_back_is_admitted_again(real_project: RealProject) -> None:
    """Compose gives a removed container's number to the next one; HAProxy still has its name."""
    baseline = real_project.reset()
    real_project.put_in_service("v1.1.0")
    router, orchestrator = real_project.router, real_project.orchestrator
    assert router is not None
    first, second = orchestrator.instances()
    router.retire(first.name)
    router.retire(second.name)
    orchestrator.stop([second.id], timedelta(seconds=5))
    orchestrator.remove([second.id])

    real_project.put_in_service("v1.1.0")

    again = orchestrator.instances()[-1]
    assert again.name == second.name
    assert real_project.serving() == {"v1.1.0"}
    assert baseline.instances == (first.id,)


@pytest.mark.engine
def test_a_slot_keeps_no_connection_to_the_instance_that_it_had_before(
    real_project: RealProject,
) -> None:
    """Requests that were under way when it was freed end after that. What they came on must not
    answer for the next instance: it was not judged then, and some of its requests were lost."""
    real_project.reset()
    router = real_project.router
    assert router is not None
    (before,) = real_project.orchestrator.instances()
    router.retire(before.name)
    real_project.restart_router()  # no slot remembers a name
    assert router.admit(before).name == "api1"
    with users_who_stay(real_project.url, 4) as users:
        assert {user.meets("/api/") for user in users} == {"v1.0.0"}
        for user in users:
            user.asks("/api/items/export")  # it takes a second
        wait_until(
            lambda: router.slots()[0].sessions == 4,
            what="four requests under way",
            seconds=5,
            hint="",
        )
        router.retire(before.name)
        assert {user.hears() for user in users} == {"v1.0.0"}

        real_project.put_in_service("v1.1.0")

        assert [slot.name for slot in router.slots() if slot.serving] == ["api1"]
        assert before.name in real_project.containers()  # it would still answer
        assert {user.meets("/api/") for user in 5 * users} == {"v1.1.0"}


@pytest.mark.engine
def test_a_request_that_holds_up_a_slot_for_too_long_is_cut(
    real_project: RealProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    real_project.reset()
    router = real_project.router
    assert router is not None
    (instance,) = real_project.orchestrator.instances()
    slot = next(slot for slot in router.slots() if slot.instance)
    with users_who_stay(real_project.url, 1) as (user,):
        user.connection.request("POST", "/api/items/export")  # HAProxy asks for a GET again
        wait_until(
            lambda: any(slot.sessions for slot in router.slots()),
            what="a request under way",
            seconds=5,
            hint="",
        )
        monkeypatch.setattr(router_module, "_END_WITHIN", timedelta())
        router._disconnect(slot.name, instance)
        assert user.connection.getresponse().status == 502

    assert real_project.serving() == {"v1.0.0"}


@pytest.mark.engine
def test_an_admission_that_was_killed_while_it_disconnected_the_slot_is_done_again(
    real_project: RealProject,
) -> None:
    real_project.reset()
    router = real_project.router
    assert router is not None
    (instance,) = real_project.orchestrator.instances()
    slot = next(slot for slot in router.slots() if slot.instance)
    router.retire(instance.name)
    router._set_address(slot.name, router_module._FREE_ADDRESS)

    router.admit(instance)

    assert real_project.serving() == {"v1.0.0"}


class User:
    """Somebody on a connection that is kept."""

    def __init__(self, url: str) -> None:
        self.connection = HTTPConnection(urlsplit(url).netloc, timeout=5)

    def meets(self, path: str) -> str:
        self.asks(path)
        return self.hears()

    def asks(self, path: str) -> None:
        self.connection.request("GET", path)

    def hears(self) -> str:
        """The version that answers."""
        return str(json.load(self.connection.getresponse())["version"])


@contextmanager
def users_who_stay(url: str, number: int) -> Iterator[list[User]]:
    users = [User(url) for _ in range(number)]
    try:
        yield users
    finally:
        for user in users:
            user.connection.close()


@pytest.mark.engine
def test_counters_tell_good_answers_from_bad_ones(real_project: RealProject) -> None:
    real_project.reset("v1.2.0-errors")
    router = real_project.router
    assert router is not None
    before = router.slots()[0]

    real_project.serving()

    after = router.slots()[0]
    assert after.answered_5xx - before.answered_5xx == 12
    assert after.answered - before.answered == 12


@pytest.mark.engine
def test_missing_slots_are_found_before_a_deployment(real_project: RealProject) -> None:
    assert real_project.router is not None
    router = real_project.router.model_copy(update={"slot_count": 8})

    with pytest.raises(BadConfiguration, match="has no server api7, api8"):
        router.check()


@pytest.mark.engine
def test_a_backend_that_haproxy_does_not_know_is_named(real_project: RealProject) -> None:
    assert real_project.router is not None
    router = real_project.router.model_copy(update={"backend": "web"})

    with pytest.raises(BadConfiguration, match="knows no backend web"):
        router.check()


# ---- the admin socket


def test_a_socket_that_is_not_there_is_unreachable(tmp_path: Path) -> None:
    router = HaproxyRouter(socket=tmp_path / "admin.sock", backend_file=tmp_path / "be.cfg")

    with pytest.raises(Unreachable, match="No such file"):
        router.check()


def test_a_socket_that_does_not_answer_is_unreachable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(haproxy_socket, "_ANSWER_WITHIN", 0.2)
    router = HaproxyRouter(socket=tmp_path / "admin.sock", backend_file=tmp_path / "be.cfg")

    with listening(router.socket, None), pytest.raises(Unreachable, match="timed out"):
        router.check()


def test_a_refused_command_is_an_error_with_haproxys_words(tmp_path: Path) -> None:
    router = HaproxyRouter(socket=tmp_path / "admin.sock", backend_file=tmp_path / "be.cfg")

    with (
        listening(router.socket, b"Permission denied\n"),
        pytest.raises(RolloutFailed, match=r"refused .*api1 state drain.*: Permission denied"),
    ):
        router._set_state("api1", Admin.DRAIN)


def test_a_socket_with_a_long_path_is_reached(tmp_path: Path) -> None:
    folder = tmp_path / ("deep" * 20) / ("deeper" * 10)
    folder.mkdir(parents=True)
    router = HaproxyRouter(socket=folder / "admin.sock", backend_file=folder / "be.cfg")

    with listening(router.socket, b"hello\n"):
        assert router._ask("show info") == "hello\n"


@contextmanager
def listening(path: Path, answer: bytes | None) -> Iterator[None]:
    """A socket that gives one answer to everything; None: it accepts and says nothing."""
    here = os.getcwd()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
        os.chdir(path.parent)  # the kernel takes short paths only
        server.bind(path.name)
        os.chdir(here)
        server.listen()
        held: list[socket.socket] = []

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                held.append(connection)
                if answer is not None:
                    connection.recv(999)
                    connection.sendall(answer)
                    connection.close()

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join(2)
            for connection in held:
                connection.close()
