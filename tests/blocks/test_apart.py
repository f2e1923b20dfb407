"""A container of the service that is no instance of it: on the real engine."""

import json
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest
from pydantic import SecretStr

from release.errors import RolloutFailed
from sandbox.commands import run
from tests.fakes.project import WITHIN, RealProject

pytestmark = pytest.mark.engine

OTHER = "another-horse-battery"


@pytest.fixture
def project(real_project: RealProject) -> RealProject:
    real_project.reset()
    return real_project


def inspect(id: str) -> Mapping[str, object]:
    found: Mapping[str, object] = json.loads(run(["docker", "inspect", id]))[0]
    return found


def left(project: RealProject) -> list[str]:
    label = f"label=ignition.apart={project.name}/api"
    return run(["docker", "ps", "--all", "--quiet", "--filter", label]).split()


def test_it_runs_beside_the_instances_and_no_user_meets_it(project: RealProject) -> None:
    orchestrator = project.orchestrator
    before = orchestrator.instances()
    image = project.images["v1.1.0"]

    with orchestrator.apart(image, {"TOKEN": SecretStr(OTHER)}, WITHIN) as instance:
        assert (instance.version, instance.health, instance.image) == ("v1.1.0", "healthy", image)
        assert orchestrator.instances() == before
        assert project.serving() == {"v1.0.0"}
        assert orchestrator.pinned() == project.images["v1.0.0"]
        networks = inspect(instance.id)["NetworkSettings"]["Networks"]  # type: ignore[index]
        aliases = {alias for network in networks.values() for alias in network["Aliases"] or []}
        assert "api" not in aliases
        assert instance.address

    assert left(project) == []


def test_it_gets_the_services_environment_but_for_what_is_given(project: RealProject) -> None:
    image = project.images["v1.0.0"]

    with project.orchestrator.apart(image, {"TOKEN": SecretStr(OTHER)}, WITHIN) as instance:
        config: Any = inspect(instance.id)["Config"]
        log = project.orchestrator.logs(instance.id, 5)

    assert f"TOKEN={OTHER}" in config["Env"]
    assert "token is ***" in log


def test_it_is_not_started_again_after_a_reboot(project: RealProject) -> None:
    with project.orchestrator.apart(project.images["v1.0.0"], {}, WITHIN) as instance:
        host = inspect(instance.id)["HostConfig"]
        assert host["RestartPolicy"]["Name"] in ("", "no")  # type: ignore[index]


def test_one_that_does_not_come_up_is_named_and_removed(project: RealProject) -> None:
    broken = project.images["v1.2.0-exits"]
    project.orchestrator.pull(broken)

    with (
        pytest.raises(RolloutFailed, match=r"-apart-.* (stopped with|was started)") as caught,
        project.orchestrator.apart(broken, {"TOKEN": SecretStr(OTHER)}, WITHIN),
    ):
        pytest.fail("it came up")

    assert "no configuration" in caught.value.what
    assert OTHER not in caught.value.what
    assert left(project) == []
    assert project.serving() == {"v1.0.0"}


def test_a_rollout_neither_counts_nor_removes_it(project: RealProject) -> None:
    orchestrator = project.orchestrator

    with orchestrator.apart(project.images["v1.0.0"], {}, WITHIN) as instance:
        project.put_in_service("v1.1.0")
        assert [i.version for i in orchestrator.instances()] == ["v1.0.0", "v1.1.0"]
        assert left(project) == [instance.id[:12]]


def test_one_that_a_killed_worker_left_is_removed_when_it_is_old(
    project: RealProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = project.images["v1.0.0"]
    label = f"ignition.apart={project.name}/api"
    run(["docker", "run", "--detach", "--label", label, str(image)])

    with project.orchestrator.apart(image, {}, WITHIN):
        assert len(left(project)) == 2, "another rehearsal may still use it"
    monkeypatch.setattr("blocks.compose.orchestrator._FORGOTTEN_AFTER", timedelta())
    with project.orchestrator.apart(image, {}, WITHIN):
        assert len(left(project)) == 1


def test_who_holds_the_environment_removes_what_a_killed_run_left(project: RealProject) -> None:
    """The instances serve on."""
    before = project.orchestrator.instances()
    label = f"ignition.apart={project.name}/api"
    run(["docker", "run", "--detach", "--label", label, str(project.images["v1.0.0"])])

    assert project.orchestrator.remove_apart() == 1
    assert left(project) == []
    assert project.orchestrator.instances() == before
    assert project.orchestrator.remove_apart() == 0
