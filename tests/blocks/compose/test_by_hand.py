"""What a person types on the host: commands that do what they say, in a real shell."""

import os
import subprocess
from pathlib import Path

import pytest

from blocks.compose.by_hand import Host, commands, meanwhile, stopping
from release.model import ImageRef

OLD = ImageRef("registry.example.com:5000/ignition-api", "sha256:" + "1" * 64)


def host(folder: Path, **given: object) -> Host:
    known: dict[str, object] = {
        "directory": folder,
        "file": "docker-compose.yml",
        "service": "api",
        "variable": "API_IMAGE",
        "env_file": folder / ".env",
        "assigned": True,
        "containers": 1,
    }
    return Host(**{**known, **given})  # type: ignore[arg-type]


def test_the_commands_are_those_of_the_runbooks_plain_restart() -> None:
    assert commands(host(Path("/srv/production")), OLD, there=True) == (
        "cd /srv/production",
        "sed -i -E 's|^[[:blank:]]*(export[[:blank:]]+)?API_IMAGE[[:blank:]]*=.*|"
        f"API_IMAGE={OLD}|' .env",
        "docker compose --file docker-compose.yml up --detach --no-deps --no-build "
        "--scale api=1 api",
    )


def test_an_image_that_the_host_does_not_have_is_pulled_first() -> None:
    assert commands(host(Path("/srv")), OLD, there=False)[1] == f"docker pull {OLD}"


def test_another_engine_is_named_in_each_command_that_speaks_to_it() -> None:
    there = host(Path("/srv"), engine="ssh://ops@web 1")

    asked = [c for c in (*commands(there, OLD, there=False), *stopping(there)) if "docker " in c]

    assert len(asked) == 3
    assert all(command.startswith("DOCKER_HOST='ssh://ops@web 1' docker ") for command in asked)


def test_every_container_keeps_its_name_because_a_router_knows_it_by_that() -> None:
    assert "--scale api=3 api" in commands(host(Path("/srv"), containers=3), OLD, there=True)[-1]


def test_before_the_first_deployment_the_way_back_is_to_stop() -> None:
    assert stopping(host(Path("/srv/it is"))) == (
        "cd '/srv/it is'",
        "docker compose --file docker-compose.yml stop api",
        "sed -i -E '/^[[:blank:]]*(export[[:blank:]]+)?API_IMAGE[[:blank:]]*=.*/d' .env",
    )


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("A=1\nAPI_IMAGE=r/api@sha256:22\nB=2\n", f"A=1\nAPI_IMAGE={OLD}\nB=2\n"),
        ('  export API_IMAGE = "r/api@sha256:22" # it\n', f"API_IMAGE={OLD}\n"),
        ("MY_API_IMAGE=x\nAPI_IMAGE=\n", f"MY_API_IMAGE=x\nAPI_IMAGE={OLD}\n"),
        ("A=1", f"A=1\nAPI_IMAGE={OLD}\n"),
        ("A=1\n", f"A=1\n\nAPI_IMAGE={OLD}\n"),
        (None, f"\nAPI_IMAGE={OLD}\n"),
    ],
)
@pytest.mark.parametrize("linked", [False, True])
def test_a_shell_that_types_them_starts_the_service_with_that_image(
    tmp_path: Path, before: str | None, after: str, linked: bool
) -> None:
    """`docker` is a program that writes down what it was asked for; all else is the shell's own."""
    folder = tmp_path / "it is production"
    folder.mkdir()
    env = tmp_path / "of all" if linked else folder / ".env"
    if linked:
        (folder / ".env").symlink_to(env)
    if before is not None:
        env.write_text(before)
    docker = tmp_path / "bin" / "docker"
    docker.parent.mkdir()
    docker.write_text(f'#!/bin/sh\necho "$PWD: $*" >> "{tmp_path}/asked"\n')
    docker.chmod(0o755)
    typed = commands(
        host(folder, env_file=env, assigned="API_IMAGE" in (before or "").replace("MY_", "")),
        OLD,
        there=True,
    )

    subprocess.run(
        ["sh", "-eu"],
        input="\n".join(typed),
        text=True,
        check=True,
        env={**os.environ, "PATH": f"{docker.parent}:{os.environ['PATH']}"},
    )

    assert env.read_text() == after
    assert (folder / ".env").is_symlink() is linked
    assert (tmp_path / "asked").read_text() == (
        f"{folder}: compose --file docker-compose.yml up --detach --no-deps --no-build "
        "--scale api=1 api\n"
    )


@pytest.mark.parametrize("routed", [True, False])
def test_that_users_meet_errors_meanwhile_is_not_kept_from_anybody(routed: bool) -> None:
    assert meanwhile(routed).startswith("meet errors for some seconds")
