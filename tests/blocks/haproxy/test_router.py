"""What every router does (in memory and with HAProxy), and how HAProxy's socket may fail."""

import json
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from blocks.haproxy import router as router_module
from blocks.haproxy import socket as haproxy_socket
from blocks.haproxy.router import HaproxyRouter
from blocks.router import Router
from release.errors import BadConfiguration, RolloutFailed, Unreachable
from release.measure.slot import Admin
from release.model import Instance
from sandbox.commands import run, wait_until
from sandbox.parts import images
from tests.fakes.project import Project, RealProject


@pytest.fixture
def router(project: Project) -> Router:
    """A router with v1.0.0 in service."""
    project.reset()
    assert project.router is not None
    return project.router


def newest(project: Project) -> Instance:
    return project.orchestrator.instances()[-1]


# ---- the contract


def test_users_meet_an_admitted_instance(project: Project, router: Router) -> None:
    project.put_in_service("v1.1.0")

    assert project.serving() == {"v1.0.0", "v1.1.0"}
    assert [slot.serving for slot in router.slots()] == [True, True] + 4 * [False]


def test_admitting_twice_takes_one_slot(project: Project, router: Router) -> None:
    slot = router.admit(newest(project))

    assert slot.name == "api1"
    assert [s.instance for s in router.slots() if s.instance] == [newest(project).name]


def test_a_drained_instance_gets_nothing_and_is_idle(project: Project, router: Router) -> None:
    old = newest(project).name
    project.put_in_service("v1.1.0")

    router.drain(old)

    assert router.await_idle(old, timedelta(seconds=5)) == 0
    assert project.serving() == {"v1.1.0"}
    assert next(s for s in router.slots() if s.instance == old).admin is Admin.DRAIN


def test_a_drained_instance_can_return(project: Project, router: Router) -> None:
    old = newest(project)
    project.put_in_service("v1.1.0")
    router.drain(old.name)

    router.admit(old)

    assert project.serving() == {"v1.0.0", "v1.1.0"}


def test_a_retired_instance_leaves_its_slot_free(project: Project, router: Router) -> None:
    old = newest(project).name
    project.put_in_service("v1.1.0")

    router.drain(old)
    router.retire(old)

    assert old not in {slot.instance for slot in router.slots()}
    assert project.serving() == {"v1.1.0"}


def test_unknown_instances_are_no_error_when_they_leave(router: Router) -> None:
    before = [slot.instance for slot in router.slots()]

    router.drain("nobody")
    router.retire("nobody")
    router.set_weight("nobody", 10)

    assert router.await_idle("nobody", timedelta(seconds=5)) == 0
    assert [slot.instance for slot in router.slots()] == before


def test_a_weight_can_be_set_and_is_full_again_for_the_next_one(
    project: Project, router: Router
) -> None:
    name = newest(project).name
    router.set_weight(name, 25)
    assert router.slots()[0].weight == 25

    router.retire(name)

    assert router.slots()[0].weight == 100


def test_an_instance_that_does_not_answer_is_not_admitted(
    project: Project, router: Router, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(router_module, "_SETTLE_WITHIN", timedelta(seconds=2))
    image = project.images["v1.2.0-never-healthy"]
    project.orchestrator.pull(image)
    (new,) = project.orchestrator.start_beside(image, 1)

    with pytest.raises(RolloutFailed, match=new.name):
        router.admit(new)

    assert new.name not in {slot.instance for slot in router.slots()}
    assert project.serving() == {"v1.0.0"}


def test_what_no_instance_answers_is_counted_all_the_same(project: Project, router: Router) -> None:
    """Users meet a proxy's own 503 as any other error, and no instance's counter has it."""
    project.drain_of_everything()
    before = router.look()

    assert project.serving() == {"nothing"}

    now = router.look()
    failed = now.answered.errors - before.answered.errors
    assert failed == now.answered.requests - before.answered.requests == 12
    assert [slot.answered for slot in now.slots] == [slot.answered for slot in before.slots]


def test_a_full_router_says_so_and_changes_nothing(project: Project, router: Router) -> None:
    one = newest(project)
    taken = [replace(one, name=one.name) for _ in range(2)]
    assert {router.admit(i).name for i in taken} == {"api1"}  # the same instance, the same slot
    project.put_in_service("v1.1.0", replicas=5)
    (late,) = project.orchestrator.start_beside(project.images["v1.1.0"], 1)

    with pytest.raises(RolloutFailed, match="0 free slots of 6"):
        router.admit(replace(late, address=late.address or "172.20.0.9"))

    assert project.serving() == {"v1.0.0", "v1.1.0"}


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
