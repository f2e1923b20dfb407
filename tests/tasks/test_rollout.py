"""Step 4 and its way back, in memory and on a real engine with users at the door."""

import json
import re
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from prefect.logging import disable_run_logger

from blocks.compose.orchestrator import ComposeOrchestrator
from release.configuration.layout import ServiceLayout
from release.configuration.rules import RolloutRules
from release.errors import BadConfiguration, RollbackFailed, RolloutFailed, Unreachable
from release.model import Baseline, Instance, Release
from release.rollback.restore import Restored
from release.rollout import Cutover
from release.watch.verdict import Outcome
from sandbox.commands import run, wait_until
from sandbox.traffic import Traffic, TrafficReport
from tasks import remains, rollout
from tasks import restore as way_back
from tests.fakes.orchestrator import FakeOrchestrator
from tests.fakes.project import (
    FakeProject,
    Project,
    RealProject,
    Unasked,
    compose_file,
    free_ports,
)

RATE = 200.0  # requests a second
RULES = RolloutRules(
    healthy_within=timedelta(seconds=20),
    bake=timedelta(seconds=3),
    drain_timeout=timedelta(seconds=10),
    stop_grace=timedelta(seconds=5),
)
LAYOUT = ServiceLayout(name="ignition-api")
SHORT = timedelta(milliseconds=400)
AT_ONCE = RULES.model_copy(update={"bake": timedelta()})


@pytest.fixture(autouse=True)
def artifacts(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """What was published, by key; the steps run without a Prefect server."""
    published: dict[str, str] = {}

    def publish(key: str, markdown: str, description: str) -> None:
        published[key] = markdown

    monkeypatch.setattr(rollout, "create_markdown_artifact", publish)
    monkeypatch.setattr(way_back, "_HICCUPS", (0, 0))
    with disable_run_logger():
        yield published


def start(project: Project, version: str, rules: RolloutRules, base: Baseline) -> Any:
    """Start a release beside the baseline, up to healthy."""
    image = project.images[version]
    rollout.pull_image.fn(project, image)
    new = rollout.start_new_instances.fn(project, image, base, rules)
    return rollout.await_healthy.fn(project, new, rules)


def cut_over(project: Project, new: tuple[Instance, ...], rules: RolloutRules) -> Cutover:
    """Admit, bake, pin, drain: the old release is warm then."""
    cutover = rollout.admit_instances.fn(project, new, rules)
    rollout.bake.fn(project, cutover, rules)
    assert cutover.image is not None
    rollout.pin_release.fn(project, cutover.image)
    rollout.drain_baseline.fn(project, new, rules)
    return cutover


def restore(project: Project, base: Baseline, rules: RolloutRules = RULES) -> Restored:
    return way_back.restore_baseline.fn(project, base, LAYOUT, rules, key="test")


def serve(project: Project, base: Baseline, rules: RolloutRules = RULES) -> Restored:
    """The part of a restore that users wait for."""
    return way_back.serve_baseline.fn(project, base, LAYOUT, rules, key="test")


# ---- forward, in either world


def test_a_release_replaces_the_baseline_step_by_step(
    project: Project, artifacts: dict[str, str]
) -> None:
    base = project.reset()
    rules = RULES.model_copy(update={"replicas": 2, "bake": timedelta(seconds=0.2)})

    new = start(project, "v1.1.0", rules, base)
    assert project.serving() == {"v1.0.0"}

    rollout.admit_instances.fn(project, new, rules)
    assert project.serving() == {"v1.0.0", "v1.1.0"}

    cut_over(project, new, rules)
    assert project.serving() == {"v1.1.0"}
    assert list(project.containers().values()) == ["v1.0.0 running", *2 * ["v1.1.0 running"]]

    rollout.stop_baseline.fn(project, new, rules)
    assert list(project.containers().values()) == ["v1.0.0 exited", *2 * ["v1.1.0 running"]]

    rollout.remove_baseline.fn(project, new, RULES)
    assert list(project.containers().values()) == 2 * ["v1.1.0 running"]
    assert project.serving() == {"v1.1.0"}
    assert project.orchestrator.pinned() == project.images["v1.1.0"]

    rollout.record_instances.fn(project, new, rules)
    assert f"Last log lines of {new[0].name}" in artifacts["rollout-production"]


def test_a_new_instance_meets_a_small_share_of_users_until_it_is_trusted(
    project: Project,
) -> None:
    base = project.reset()
    new = start(project, "v1.1.0", AT_ONCE, base)
    assert project.router is not None

    cutover = rollout.admit_instances.fn(project, new, AT_ONCE)
    during = sorted(slot.weight for slot in project.router.slots() if slot.serving)
    cut_over(project, new, AT_ONCE)
    after = next(s.weight for s in project.router.slots() if s.instance == new[0].name)

    assert (during, after) == ([25, 100], 100)
    assert [slot.instance for slot in cutover.slots] == [new[0].name]


def test_steps_that_are_repeated_start_nothing_twice(project: Project) -> None:
    base = project.reset()

    first = start(project, "v1.1.0", AT_ONCE, base)
    second = start(project, "v1.1.0", AT_ONCE, base)
    cut_over(project, second, AT_ONCE)
    cut_over(project, second, AT_ONCE)

    assert [i.id for i in first] == [i.id for i in second]
    assert project.serving() == {"v1.1.0"}


def test_a_release_with_the_baselines_own_image_is_rolled_out_in_new_containers(
    project: Project,
) -> None:
    base = project.reset()
    new = start(project, "v1.0.0", AT_ONCE, base)
    cut_over(project, new, AT_ONCE)
    rollout.stop_baseline.fn(project, new, AT_ONCE)
    rollout.remove_baseline.fn(project, new, RULES)

    assert [i.id for i in project.orchestrator.instances()] == [new[0].id]
    assert project.serving() == {"v1.0.0"}


@pytest.mark.parametrize("version", ["v1.2.0-never-healthy", "v1.2.0-exits"])
def test_a_release_that_does_not_come_up_meets_nobody_and_leaves_nothing(
    project: Project, version: str, artifacts: dict[str, str]
) -> None:
    base = project.reset()

    with pytest.raises(RolloutFailed):
        start(project, version, RULES, base)
    assert project.serving() == {"v1.0.0"}

    restore(project, base)

    assert list(project.containers().values()) == ["v1.0.0 running"]
    assert project.serving() == {"v1.0.0"}
    assert "Last log lines of" in artifacts["rollout-production"]


def test_an_engine_that_is_restarted_at_any_look_fails_no_restore(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also at the last one, when the baseline serves already: v1.0.0 serves alone afterwards."""
    project = FakeProject()
    looks = looks_of_a_restore(project, away_at=0, monkeypatch=monkeypatch)
    assert looks > 5

    for away_at in range(1, looks + 1):
        looks_of_a_restore(project, away_at, monkeypatch)

        assert project.serving() == {"v1.0.0"}, f"away at look {away_at} of {looks}"
        assert list(project.containers().values()) == ["v1.0.0 running"]


def looks_of_a_restore(project: FakeProject, away_at: int, monkeypatch: pytest.MonkeyPatch) -> int:
    """Restore over a release that serves, with an engine that does not answer one of the looks;
    how many there were."""
    base = project.reset()
    cut_over(project, start(project, "v1.1.0", AT_ONCE, base), AT_ONCE)
    look, looks = project.orchestrator.instances, 0

    def instances() -> tuple[Instance, ...]:
        nonlocal looks
        looks += 1
        if looks == away_at:
            raise Unreachable("the container engine does not answer")
        return look()

    with monkeypatch.context() as patch:
        patch.setattr(type(project.orchestrator), "instances", lambda self: instances())
        restored = restore(project, base)
    assert [one.version for one in restored.serving] == ["v1.0.0"]
    return looks


def test_a_release_that_answers_with_errors_fails_the_bake() -> None:
    """The bake's verdict has the numbers; the baseline serves alone after the restore."""
    project = FakeProject()
    base = project.reset()
    new = start(project, "v1.2.0-errors", RULES, base)
    cutover = rollout.admit_instances.fn(project, new, RULES)
    assert project.router is not None
    assert project.router.answer(40) == 20

    with pytest.raises(RolloutFailed, match=r"20 of 20 answers .* 100.0% > 5.0%; 0 of 20 beside"):
        rollout.bake.fn(project, cutover, RULES)
    restore(project, base)

    assert project.serving() == {"v1.0.0"}
    assert project.router.answer(40) == 0


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What step 4 says."""
    lines: list[str] = []
    monkeypatch.setattr(rollout, "say", lines.append)
    return lines


def test_a_bake_begins_again_where_the_router_was_away(said: list[str]) -> None:
    """Both releases serve afterwards: it decided nothing."""
    project = FakeProject()
    base = project.reset()
    cutover = rollout.admit_instances.fn(project, start(project, "v1.1.0", AT_ONCE, base), RULES)
    assert project.router is not None
    project.router.hang_up(looks=3)

    began = time.monotonic()
    rollout.bake.fn(project, cutover, RULES.model_copy(update={"bake": SHORT}))

    assert time.monotonic() - began > 3 * rollout._LOOK_EVERY + SHORT.total_seconds()
    assert said[-2] == "the router does not answer; the bake begins again when it does"
    assert said[-1].startswith("bake of ")
    assert project.serving() == {"v1.0.0", "v1.1.0"}


def test_a_router_that_does_not_come_back_ends_the_bake(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The baseline serves alone, once it can be told so."""
    monkeypatch.setattr(rollout, "_ROUTER_BACK_WITHIN", 0.5)
    project = FakeProject()
    base = project.reset()
    cutover = rollout.admit_instances.fn(project, start(project, "v1.1.0", AT_ONCE, base), RULES)
    assert project.router is not None
    project.router.hang_up()

    with pytest.raises(Unreachable, match="the router does not answer"):
        rollout.bake.fn(project, cutover, RULES)
    project.router.hang_up(looks=1)
    restore(project, base)

    assert project.serving() == {"v1.0.0"}


def test_a_router_that_is_away_again_and_again_does_not_prolong_the_bake_for_ever() -> None:
    """The baseline serves alone afterwards."""
    project = FakeProject()
    base = project.reset()
    cutover = rollout.admit_instances.fn(project, start(project, "v1.1.0", AT_ONCE, base), RULES)
    router, looks = project.router, 0
    assert router is not None

    def heed() -> None:
        nonlocal looks
        looks += 1
        router.hang_up(looks % 2)  # it does not answer every other look

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rollout, "heed", heed)
        with pytest.raises(Unreachable, match="the router does not answer"):
            rollout.bake.fn(project, cutover, RULES)
    restore(project, base)

    assert looks == 3
    assert project.serving() == {"v1.0.0"}


def test_containers_that_are_numbered_ever_higher_are_rolled_out_and_back() -> None:
    """Compose uses no number twice: names are read, never computed. v1.0.0 serves at the end."""
    project = FakeProject()
    project.orchestrator.host.made = 26
    base = project.reset()

    new = start(project, "v1.1.0", AT_ONCE, base)
    cut_over(project, new, AT_ONCE)
    assert project.containers() == {
        "app-api-27": "v1.0.0 running",
        "app-api-28": "v1.1.0 running",
    }
    assert project.serving() == {"v1.1.0"}
    restore(project, base)

    assert project.router is not None
    assert [slot.instance for slot in project.router.slots() if slot.instance] == ["app-api-27"]
    assert project.containers() == {"app-api-27": "v1.0.0 running"}
    assert project.serving() == {"v1.0.0"}


def test_an_environment_without_a_router_is_restarted_in_place_and_back(
    project: Project,
) -> None:
    base = project.reset()
    router, project.router = project.router, None
    try:
        image = project.images["v1.1.0"]
        rollout.pull_image.fn(project, image)
        rollout.restart_in_place.fn(project, image, RULES)
        assert list(project.containers().values()) == ["v1.1.0 running"]

        restored = restore(project, base)
        again = restore(project, base)
    finally:
        project.router = router

    assert list(project.containers().values()) == ["v1.0.0 running"]
    assert project.orchestrator.pinned() == project.images["v1.0.0"]
    assert restored.moves
    assert again.moves == ()


# ---- back, in either world


def drained(project: Project, new: tuple[Instance, ...]) -> None:
    """The baseline runs, and gets no requests."""


def stopped(project: Project, new: tuple[Instance, ...]) -> None:
    """The baseline is stopped and kept."""
    rollout.stop_baseline.fn(project, new, RULES)


def removed(project: Project, new: tuple[Instance, ...]) -> None:
    """The baseline's containers are gone."""
    stopped(project, new)
    rollout.remove_baseline.fn(project, new, RULES)


def test_a_baseline_that_serves_again_is_neither_stopped_nor_removed() -> None:
    """Somebody has rolled back while the deployment was taken for dead; it is not."""
    project = FakeProject()
    base = project.reset()
    new = start(project, "v1.1.0", AT_ONCE, base)
    cut_over(project, new, AT_ONCE)
    serve(project, base)

    for step in (rollout.stop_baseline, rollout.remove_baseline):
        with pytest.raises(RolloutFailed, match="app-api-1 serves again"):
            step.fn(project, new, RULES)

    assert project.serving() == {"v1.0.0"}


@pytest.mark.parametrize("state", [drained, stopped, removed])
def test_users_are_served_first_and_what_is_left_waits(project: Project, state: Any) -> None:
    """The baseline has every request; the other release runs, drained, and is still pinned."""
    base = project.reset()
    new = start(project, "v1.1.0", AT_ONCE, base)
    cut_over(project, new, AT_ONCE)
    state(project, new)

    serve(project, base)
    again = serve(project, base)

    assert project.serving() == {"v1.0.0"}
    assert "v1.1.0 running" in project.containers().values()
    assert project.orchestrator.pinned() == project.images["v1.1.0"]
    assert again.moves == ()

    restore(project, base)
    assert list(project.containers().values()) == ["v1.0.0 running"]
    assert project.orchestrator.pinned() == project.images["v1.0.0"]


def test_a_baseline_that_is_kept_warm_runs_until_it_is_removed(project: Project) -> None:
    rules = AT_ONCE.model_copy(update={"keep_warm": True})
    base = project.reset()
    new = start(project, "v1.1.0", rules, base)
    cut_over(project, new, rules)

    rollout.stop_baseline.fn(project, new, rules)
    assert list(project.containers().values()) == ["v1.0.0 running", "v1.1.0 running"]
    assert project.serving() == {"v1.1.0"}

    rollout.remove_baseline.fn(project, new, rules)
    assert list(project.containers().values()) == ["v1.1.0 running"]
    assert project.serving() == {"v1.1.0"}


@pytest.mark.parametrize("state", [drained, stopped, removed])
def test_the_baseline_comes_back_from(project: Project, state: Any) -> None:
    """Whatever became of the old containers, the old release serves alone and is pinned."""
    base = project.reset()
    new = start(project, "v1.1.0", AT_ONCE, base)
    cut_over(project, new, AT_ONCE)
    state(project, new)
    assert project.serving() == {"v1.1.0"}

    restore(project, base)
    again = restore(project, base)

    assert list(project.containers().values()) == ["v1.0.0 running"]
    assert project.serving() == {"v1.0.0"}
    assert project.orchestrator.pinned() == project.images["v1.0.0"]
    assert again.moves == ()


def test_a_baseline_container_that_does_not_start_again_is_replaced() -> None:
    project = FakeProject()
    base = project.reset()
    new = start(project, "v1.1.0", AT_ONCE, base)
    cut_over(project, new, AT_ONCE)
    stopped(project, new)
    image = project.images["v1.0.0"]
    host = project.orchestrator.host
    kept = base.instances[0]
    original = project.orchestrator.start

    def start_but_not_that_one(ids: Any) -> None:
        if kept in ids:
            raise RolloutFailed(f"cannot start {kept[:12]}: its disk is full")
        original(ids)

    object.__setattr__(project.orchestrator, "start", start_but_not_that_one)

    restored = restore(project, base)

    assert project.serving() == {"v1.0.0"}
    assert kept not in {i.id for i in restored.serving}
    assert {i.image for i in host.containers} == {image}


def test_a_baseline_that_cannot_come_back_is_an_error_that_says_what_was_done() -> None:
    """The new release goes on serving: it is all there is."""
    project = FakeProject()
    base = project.reset()
    new = start(project, "v1.1.0", AT_ONCE, base)
    cut_over(project, new, AT_ONCE)
    removed(project, new)
    image = project.images["v1.0.0"]
    project.orchestrator.host.registry[image] = ("v1.0.0", "never-healthy")

    with pytest.raises(RollbackFailed) as caught:
        restore(project, base)

    assert "v1.0.0 is not back on production: app-api-3 is running and not yet" in caught.value.what
    assert "done so far: start beside 1 × sha256:0000000…; begun: admit app-" in caught.value.what
    assert "there is: app-api-2 v1.1.0 running, app-api-3 v1.0.0 running" in caught.value.what
    assert "when the cause is fixed: ignition rollback production --to v1.0.0" in caught.value.hint
    assert project.serving() == {"v1.1.0"}


def test_a_baseline_that_has_no_version_is_named_by_what_can_be_typed() -> None:
    """A rollback takes no half of a digest; the new release goes on serving."""
    project = FakeProject()
    image = project.images["v1.0.0"]
    base = replace(project.reset(), release=Release(image.short, "", image))
    new = start(project, "v1.1.0", AT_ONCE, base)
    cut_over(project, new, AT_ONCE)
    removed(project, new)
    project.orchestrator.host.registry[image] = ("", "never-healthy")

    with pytest.raises(RollbackFailed) as caught:
        restore(project, base)

    assert f"ignition rollback production --to {image} --reason …" in caught.value.hint
    assert project.serving() == {"v1.1.0"}


def test_logs_of_the_containers_that_go_are_kept_even_if_the_restore_fails(
    artifacts: dict[str, str],
) -> None:
    project = FakeProject()
    base = project.reset()
    new = start(project, "v1.1.0", AT_ONCE, base)
    cut_over(project, new, AT_ONCE)
    removed(project, new)
    project.orchestrator.host.registry[project.images["v1.0.0"]] = ("v1.0.0", "never-healthy")

    with pytest.raises(RollbackFailed):
        restore(project, base)

    assert f"Last log lines of {new[0].name}" in artifacts["rollout-production"]
    assert project.serving() == {"v1.1.0"}


def test_the_state_of_a_failed_instance_is_kept_and_said(
    artifacts: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is gone afterwards, and v1.0.0 serves: no command could show it any more."""
    lines: list[str] = []
    monkeypatch.setattr(remains, "say", lines.append)
    project = FakeProject()
    base = project.reset()
    with pytest.raises(RolloutFailed):
        start(project, "v1.2.0-never-healthy", RULES, base)

    restore(project, base)

    said = "app-api-2, v1.2.0-never-healthy, running, not yet healthy"
    assert said in artifacts["rollout-production"]
    assert "HTTP 503" in artifacts["rollout-production"]
    at = lines.index(f"{said}; kept in artifact rollout-production")
    assert lines[at + 1 : at + 3] == [
        "app-api-2 | health check: HTTP 503",
        "app-api-2 | app-api-2 was here",
    ]
    assert project.containers() == {"app-api-1": "v1.0.0 running"}


def test_a_deployment_keeps_in_its_own_run_what_its_rollback_is_going_to_remove(
    artifacts: dict[str, str],
) -> None:
    """Once v1.0.0 has every request, and while there is something to see."""
    project = FakeProject()
    base = project.reset()
    remains.keep_evidence.fn(project, base, RULES)
    assert artifacts == {}
    with pytest.raises(RolloutFailed):
        start(project, "v1.2.0-never-healthy", RULES, base)

    serve(project, base)
    remains.keep_evidence.fn(project, base, RULES)

    assert "app-api-2 was here" in artifacts["rollout-production"]
    assert "app-api-1 was here" not in artifacts["rollout-production"]
    assert project.serving() == {"v1.0.0"}


def test_a_log_that_cannot_be_read_hides_nothing_of_the_other_containers(
    artifacts: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two failed instances one is told of in full; v1.0.0 serves."""
    project = FakeProject()
    base = project.reset()
    with pytest.raises(RolloutFailed):
        start(project, "v1.2.0-never-healthy", RULES.model_copy(update={"replicas": 2}), base)
    read = type(project.orchestrator).logs

    def logs(self: FakeOrchestrator, id: str, tail: int) -> str:
        if id == project.orchestrator.host.containers[1].id:
            raise Unreachable("the log cannot be read")
        return read(self, id, tail)

    monkeypatch.setattr(FakeOrchestrator, "logs", logs)
    restore(project, base)

    assert "(the log cannot be read)" in artifacts["rollout-production"]
    assert "app-api-3 was here" in artifacts["rollout-production"]
    assert project.containers() == {"app-api-1": "v1.0.0 running"}


@pytest.mark.parametrize("before", ["", "api:latest"])
@pytest.mark.parametrize("routed", [True, False])
def test_a_first_deployment_that_failed_leaves_no_digest_for_the_hosts_own_start(
    before: str, routed: bool
) -> None:
    """Nothing serves, and the next `docker compose up` starts what it would have started before."""
    project = FakeProject()
    nothing = replace(project.reset(), release=None, instances=(), pin=before)
    if not routed:
        project.router = None
    host = project.orchestrator.host
    host.containers.clear()
    project.orchestrator.pin(project.images["v1.1.0"])
    project.orchestrator.pull(project.images["v1.1.0"])
    project.orchestrator.start_beside(project.images["v1.1.0"], 1)

    restore(project, nothing)

    assert project.orchestrator.pinned() is None
    assert project.orchestrator.pin_text() == before
    assert project.containers() == {}


def test_a_system_that_does_not_answer_is_asked_again_and_then_given_up() -> None:
    project = FakeProject()
    base = project.reset()
    assert project.router is not None
    project.router.hang_up()

    with pytest.raises(RollbackFailed, match="the router does not answer"):
        restore(project, base)


# ---- in place, on the real engine


class InPlace(Project):
    """A service that publishes a port of the host, with nothing before it."""

    def __init__(self, real: RealProject, folder: Path) -> None:
        (self.port,) = free_ports(1)
        self.folder, self.images, self.service, self.router = folder, real.images, Unasked(), None
        self.orchestrator: ComposeOrchestrator = ComposeOrchestrator(directory=folder)
        api = json.loads(compose_file("", 0))["services"]["api"]
        api["ports"] = [f"127.0.0.1:{self.port}:8000"]
        project = {"name": f"{real.name}-in-place", "services": {"api": api}}
        (folder / "docker-compose.yml").write_text(json.dumps(project))
        (folder / ".env").write_text("TOKEN=x\n")

    def serve(self, version: str) -> Baseline:
        self.orchestrator.pull(self.images[version])
        started = self.orchestrator.restart_in_place(self.images[version], 1)
        self.orchestrator.await_healthy([i.id for i in started], RULES.healthy_within)
        return self.baseline(version)

    def serving(self) -> set[str]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/api/", timeout=5) as answer:
                return {str(json.load(answer)["version"])}
        except OSError:
            return {"nothing"}


@pytest.fixture
def in_place(real_project: RealProject, tmp_path: Path) -> Iterator[InPlace]:
    project = InPlace(real_project, tmp_path)
    try:
        yield project
    finally:
        down = ["docker", "compose", "down", "--timeout", "1"]
        run(down, directory=tmp_path, environment={"API_IMAGE": "x"})


@pytest.mark.engine
def test_a_second_instance_that_finds_its_port_taken_is_undone_in_place(in_place: InPlace) -> None:
    """The plan refuses it; should it come to that all the same, v1.0.0 serves afterwards, with as
    many instances as before."""
    base = in_place.serve("v1.0.0")
    two = RULES.model_copy(update={"replicas": 2})
    image = in_place.images["v1.1.0"]
    with pytest.raises(BadConfiguration, match=f"publishes port {in_place.port}"):
        in_place.orchestrator.check(two.replicas, routed=False)
    rollout.pull_image.fn(in_place, image)

    with pytest.raises(RolloutFailed) as caught:
        rollout.restart_in_place.fn(in_place, image, two)
    restored = restore(in_place, base, two)

    assert "port is already allocated" in caught.value.what
    assert caught.value.hint == ""  # what is typed now would only do it again
    assert in_place.serving() == {"v1.0.0"}
    assert list(in_place.containers().values()) == ["v1.0.0 running"]
    assert in_place.orchestrator.pinned() == in_place.images["v1.0.0"]
    assert "restart in place 1 × " in " ".join(restored.moves)


@pytest.mark.engine
def test_a_restart_in_place_that_fails_again_says_what_it_touched(in_place: InPlace) -> None:
    """Asked for more instances than the port allows: one of v1.0.0 serves, and that is said."""
    base = in_place.serve("v1.0.0")
    base = replace(base, instances=(*base.instances, "gone-1"))
    in_place.serve("v1.1.0")

    with pytest.raises(RollbackFailed) as caught:
        restore(in_place, base)

    assert "done so far: pin sha256:" in caught.value.what
    assert "; begun: restart in place 2 × sha256:" in caught.value.what
    assert re.search(r"there is: \S+ v1\.0\.0 \w+, \S+ v1\.0\.0 \w+$", caught.value.what)
    serves = lambda: in_place.serving() == {"v1.0.0"}  # noqa: E731
    wait_until(serves, what="an answer of v1.0.0", seconds=20, hint="")


@pytest.mark.engine
@pytest.mark.parametrize("version", ["v1.2.0-never-healthy", "v1.2.0-exits"])
def test_a_first_release_that_fails_in_place_leaves_the_hosts_file_as_it_was(
    in_place: InPlace, version: str, artifacts: dict[str, str]
) -> None:
    """Nothing serves, as before, and no `docker compose up` starts the bad release."""
    file = in_place.folder / ".env"
    before = file.read_text()
    nothing = replace(in_place.baseline(version), release=None, pin="")
    rollout.pull_image.fn(in_place, in_place.images[version])
    with pytest.raises(RolloutFailed):
        rollout.restart_in_place.fn(in_place, in_place.images[version], RULES)
    assert in_place.orchestrator.pinned() == in_place.images[version]

    restore(in_place, nothing)

    assert file.read_text() == before
    assert in_place.containers() == {}
    assert in_place.serving() == {"nothing"}
    kept = artifacts["rollout-production"]
    assert ("unhealthy" if "never" in version else "no configuration") in kept


# ---- under traffic, on the real engine


@pytest.fixture
def users(real_project: RealProject) -> Any:
    """A client at 200 requests a second; `users()` starts it on what serves."""
    return lambda: Traffic(real_project.url, RATE)


def failures(report: TrafficReport) -> str:
    """What a failed assertion shows: not only how many, but what and when."""
    return f"{report.failed} of {report.requests} failed: {dict(report.outcomes)}"


@pytest.mark.engine
@pytest.mark.parametrize("replicas", [1, 2])
def test_a_rollout_fails_no_request(real_project: RealProject, users: Any, replicas: int) -> None:
    rules = RULES.model_copy(update={"replicas": replicas})
    base = real_project.reset(replicas=replicas)

    with users() as traffic:
        new = start(real_project, "v1.1.0", rules, base)
        cut_over(real_project, new, rules)
        stopped(real_project, new)
        rollout.remove_baseline.fn(real_project, new, RULES)
        time.sleep(1)  # what a step left behind must not fail a later request
        report = traffic.stop()

    print(f"rollout, {replicas} replicas: {failures(report)}")
    assert report.failed == 0, failures(report)
    assert real_project.serving() == {"v1.1.0"}


@pytest.mark.engine
@pytest.mark.parametrize("state", [drained, stopped, removed])
def test_a_restore_fails_no_request(real_project: RealProject, users: Any, state: Any) -> None:
    base = real_project.reset()
    new = start(real_project, "v1.1.0", AT_ONCE, base)
    cut_over(real_project, new, AT_ONCE)
    state(real_project, new)

    with users() as traffic:
        restored = restore(real_project, base)
        time.sleep(1)  # what a step left behind must not fail a later request
        report = traffic.stop()

    print(f"restore, {state.__name__}: {failures(report)}; took {restored.took}; {restored.moves}")
    assert report.failed == 0, failures(report)
    assert real_project.serving() == {"v1.0.0"}


@pytest.mark.engine
@pytest.mark.parametrize("version", ["v1.2.0-never-healthy", "v1.2.0-exits"])
def test_a_release_that_does_not_come_up_fails_no_request(
    real_project: RealProject, users: Any, version: str
) -> None:
    base = real_project.reset()

    with users() as traffic:
        with pytest.raises(RolloutFailed):
            start(real_project, version, RULES, base)
        restore(real_project, base)
        time.sleep(1)  # what a step left behind must not fail a later request
        report = traffic.stop()

    print(f"{version}: {failures(report)}")
    assert report.failed == 0, failures(report)
    assert real_project.serving() == {"v1.0.0"}


@pytest.mark.engine
def test_a_router_that_is_restarted_during_the_bake_rolls_no_good_release_back(
    real_project: RealProject, said: list[str]
) -> None:
    base = real_project.reset()
    new = start(real_project, "v1.1.0", AT_ONCE, base)
    cutover = rollout.admit_instances.fn(real_project, new, RULES)

    with ThreadPoolExecutor() as beside:
        restarted = beside.submit(real_project.restart_router)
        verdict = rollout.bake.fn(real_project, cutover, RULES)
        restarted.result()
    rollout.drain_baseline.fn(real_project, new, RULES)

    assert any("the bake begins again" in line for line in said), said
    assert verdict.outcome is not Outcome.UNHEALTHY
    assert real_project.serving() == {"v1.1.0"}


@pytest.mark.engine
def test_a_release_that_fails_its_users_is_out_again_within_two_seconds(
    real_project: RealProject, users: Any
) -> None:
    """A fifth of the users meets errors, for as long as the bake takes to see a few of them."""
    base = real_project.reset()
    new = start(real_project, "v1.2.0-errors", RULES, base)

    with users() as traffic:
        cutover = rollout.admit_instances.fn(real_project, new, RULES)
        with pytest.raises(RolloutFailed, match="were 5xx"):
            rollout.bake.fn(real_project, cutover, RULES)
        restored = restore(real_project, base)
        time.sleep(1)  # what a step left behind must not fail a later request
        report = traffic.stop()

    first, last = report.first_failure_at, report.last_failure_at
    assert first is not None
    assert last is not None
    print(f"errors: {failures(report)} within {last - first:.2f} s; took {restored.took}")
    assert last - first < 2
    assert set(report.outcomes) == {"200", "500"}
    assert real_project.serving() == {"v1.0.0"}
