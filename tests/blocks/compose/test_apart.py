"""What Compose adds to the contract of a container apart: names, environment, what is left."""

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


def test_it_does_not_have_the_names_of_the_service(project: RealProject) -> None:
    """A router finds instances by these."""
    with project.orchestrator.apart(project.images["v1.0.0"], {}, WITHIN) as instance:
        networks = inspect(instance.id)["NetworkSettings"]["Networks"]  # type: ignore[index]

    aliases = {alias for network in networks.values() for alias in network["Aliases"] or []}
    assert "api" not in aliases
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


def test_one_that_does_not_come_up_says_why_without_what_it_was_given(project: RealProject) -> None:
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
