"""What Compose on a real engine adds to the contract of every orchestrator."""

import json
import os
import re
import stat
import subprocess
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pytest_httpserver import HTTPServer

from blocks.compose.orchestrator import ComposeOrchestrator
from blocks.compose.project import ComposeProject
from release.errors import BadConfiguration, RolloutFailed, Unreachable
from release.masking import without_secrets
from release.model import ImageRef
from sandbox.commands import run, wait_until
from tests.fakes.project import SECRET, RealProject

IMAGE = ImageRef("registry.example.com/api", "sha256:" + 64 * "a")


# ---- Compose on a real engine


@pytest.mark.engine
def test_secrets_of_the_host_are_in_no_log_and_no_error(real_project: RealProject) -> None:
    baseline = real_project.reset()
    log = real_project.orchestrator.logs(baseline.instances[0], 50)
    with pytest.raises(RolloutFailed) as caught:
        real_project.put_in_service("v1.2.0-never-healthy")

    assert "token is ***" in log
    assert "token is ***" in str(caught.value)
    assert SECRET not in log + str(caught.value)


@pytest.mark.engine
def test_after_a_rollout_the_hosts_own_compose_up_changes_nothing(
    real_project: RealProject,
) -> None:
    """An operator who types the runbook's command, or a reboot, keeps the release."""
    baseline = real_project.reset()
    real_project.put_in_service("v1.1.0")
    orchestrator = real_project.orchestrator
    orchestrator.pin(real_project.images["v1.1.0"])
    orchestrator.stop(baseline.instances, timedelta(seconds=5))
    orchestrator.remove(baseline.instances)
    before = [i.id for i in orchestrator.instances()]

    run(["docker", "compose", "up", "-d", "--no-deps", "api"], directory=real_project.host)

    assert [i.id for i in orchestrator.instances()] == before
    assert real_project.serving() == {"v1.1.0"}


@pytest.mark.engine
def test_the_listing_shows_every_container_of_the_project(real_project: RealProject) -> None:
    real_project.reset()
    listing = real_project.orchestrator.listing()

    assert "api-" in listing
    assert "proxy-1" in listing


@pytest.mark.engine
def test_a_failed_compose_command_shows_command_exit_code_and_last_lines(
    real_project: RealProject,
) -> None:
    real_project.reset()
    unknown = ImageRef(real_project.images["v1.0.0"].repository, IMAGE.digest)

    with pytest.raises(RolloutFailed) as caught:
        real_project.orchestrator.start_beside(unknown, 1)

    assert "from `docker compose --file docker-compose.yml up --no-start" in caught.value.what
    assert "exit code 1" in caught.value.what
    assert "manifest" in caught.value.what or "not found" in caught.value.what
    assert real_project.serving() == {"v1.0.0"}


@pytest.mark.engine
@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"service": "web"}, "has no service 'web'; there is: api, proxy"),
        ({"image_variable": "WEB_IMAGE"}, "is not exactly ${WEB_IMAGE}"),
        ({"network": "elsewhere"}, "service api is on default, not on network 'elsewhere'"),
        ({"file": "other.yml"}, "no Compose file at"),
        ({"directory": Path("/nowhere")}, "no directory /nowhere"),
    ],
)
def test_a_configuration_that_cannot_deploy_is_found_before_it_tries(
    real_project: RealProject, change: dict[str, object], sentence: str
) -> None:
    orchestrator = real_project.orchestrator.model_copy(update=change)

    with pytest.raises(BadConfiguration) as caught:
        orchestrator.check(replicas=1, routed=True)

    assert sentence in caught.value.what


@pytest.mark.engine
def test_a_broken_host_file_is_reported_without_its_secrets(
    real_project: RealProject, tmp_path: Path
) -> None:
    text = (real_project.host / "docker-compose.yml").read_text()
    (tmp_path / "docker-compose.yml").write_text(text)
    (tmp_path / ".env").write_text(f"TOKEN={SECRET}\n{SECRET} without a name\n")

    with pytest.raises(BadConfiguration) as caught:
        ComposeOrchestrator(directory=tmp_path).check(replicas=1, routed=True)

    assert "exit code" in caught.value.what
    assert SECRET not in str(caught.value)


@pytest.mark.engine
def test_a_container_that_the_engine_starts_again_and_again_can_be_removed_once_it_is_stopped(
    real_project: RealProject,
) -> None:
    """It ended by itself, and may run again by the time it is removed. v1.0.0 serves."""
    baseline = real_project.reset()
    orchestrator, image = real_project.orchestrator, real_project.images["v1.2.0-exits"]
    orchestrator.pull(image)
    (new,) = orchestrator.start_beside(image, 1, keep=baseline.instances)

    def restarting() -> bool:
        return any(i.id == new.id and i.state == "restarting" for i in orchestrator.instances())

    wait_until(restarting, what="the engine's second try", seconds=60, hint="docker ps")
    orchestrator.stop([new.id], grace=timedelta(seconds=1))
    orchestrator.remove([new.id])

    assert [i.version for i in orchestrator.instances()] == ["v1.0.0"]
    assert real_project.serving() == {"v1.0.0"}


PROJECT = """
name: shop
services:
  api: {api}
  proxy: {{image: haproxy, networks: [default, data]}}
networks: {{data: {{}}}}
"""


@pytest.fixture
def written(real_project: RealProject, tmp_path: Path) -> Any:
    """Writes a project whose service says this, and returns an orchestrator for it."""

    def write(api: str, **other: Any) -> ComposeOrchestrator:
        text = PROJECT.format(api="{image: '${API_IMAGE}', " + api + "}")
        (tmp_path / "docker-compose.yml").write_text(text)
        return ComposeOrchestrator(directory=tmp_path, **other)

    return write


@pytest.mark.engine
@pytest.mark.parametrize(
    ("api", "sentence"),
    [
        ("container_name: api", "service api has the container_name api"),
        ("ports: ['80:8000']", "service api publishes port 80"),
        ("network_mode: host", "service api has network_mode: host"),
        ("logging: {driver: none}", "cannot be read back (logging driver none)"),
        ("networks: [default, data]", "is on 2 networks, data and default, and none is named"),
        ("networks: {data: {ipv4_address: 10.77.0.5}}", "service api has the address 10.77.0.5"),
        ("profiles: [web]", "belongs to the profile web, which is not enabled"),
    ],
)
def test_a_project_that_cannot_be_rolled_out_is_found_before_it_is_tried(
    written: Any, api: str, sentence: str
) -> None:
    """What served serves on: it is the plan that asks."""
    with pytest.raises(BadConfiguration) as caught:
        written(api).check(replicas=1, routed=True)

    assert sentence in caught.value.what
    assert caught.value.hint
    assert "\n" not in caught.value.what


@pytest.mark.engine
def test_what_only_several_containers_cannot_share_is_no_problem_of_one(written: Any) -> None:
    written("container_name: api, ports: ['80:8000']").check(replicas=1, routed=False)

    with pytest.raises(BadConfiguration, match=r"rollout\.replicas is 2"):
        written("ports: ['80:8000']").check(replicas=2, routed=False)


@pytest.mark.engine
def test_the_network_that_is_named_is_the_routers(written: Any) -> None:
    written("networks: [default, data]", network="data").check(replicas=1, routed=True)


@pytest.mark.engine
def test_an_external_network_that_does_not_exist_is_found_before_it_is_tried(
    written: Any, tmp_path: Path
) -> None:
    orchestrator = written("networks: [data]")
    file = tmp_path / "docker-compose.yml"
    file.write_text(file.read_text().replace("data: {}", "data: {external: true, name: no-net}"))

    with pytest.raises(BadConfiguration) as caught:
        orchestrator.check(replicas=1, routed=True)

    assert caught.value.what == "the external network no-net of service api does not exist"
    assert caught.value.hint == "docker network create no-net"


@pytest.mark.engine
@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("docker-compose.override.yml", "services: {}", "would be ignored by a deployment"),
        (".env", "COMPOSE_FILE=docker-compose.yml:more.yml\n", "COMPOSE_FILE in .env names"),
        (".env", "COMPOSE_FILE='./docker-compose.yml' # this one\n", ""),
    ],
)
def test_files_that_only_the_hosts_own_start_reads_are_found(
    written: Any, tmp_path: Path, name: str, text: str, sentence: str
) -> None:
    orchestrator = written("restart: always")
    (tmp_path / name).write_text(text)

    if not sentence:
        orchestrator.check(replicas=1, routed=True)
        return
    with pytest.raises(BadConfiguration, match=sentence):
        orchestrator.check(replicas=1, routed=True)


@pytest.mark.engine
def test_other_services_of_the_same_image_are_named(written: Any, tmp_path: Path) -> None:
    orchestrator = written("restart: always")
    file = tmp_path / "docker-compose.yml"
    file.write_text(file.read_text().replace("image: haproxy", "image: '${API_IMAGE}'"))

    assert orchestrator.left_behind() == ("proxy",)


ALL_SORTS = {
    "PLAIN_TOKEN=plain-value-1 # a comment": "plain-value-1",
    "QUOTED='quoted value 2' # a comment": "quoted value 2",
    'ESCAPED="escaped\\nvalue-3"': "value-3",
    "COLON: colon-value-4": "colon-value-4",
    "DOLLAR='dollar$$value-5$x'": "dollar$$value-5$x",
    "CARD_PIN=47-11": "47-11",  # short, and in no id, port or time
    "STORE=postgresql://app:pa55@db/shop": "pa55",
}


@pytest.mark.engine
def test_whatever_a_container_got_is_in_no_log(real_project: RealProject, tmp_path: Path) -> None:
    """By `.env` in its own syntax, `env_file:`, `environment:` and a secret that is a file: once
    from the container, which was started with it, and once from what Compose reads."""
    (tmp_path / ".env").write_text("\n".join(ALL_SORTS) + "\n")
    (tmp_path / "api.env").write_text("SESSION_SECRET=only-in-env-file-77\n")
    (tmp_path / "signing.key").write_text("mounted-secret-88\n")
    said = [*ALL_SORTS.values(), "only-in-env-file-77", "inline-in-compose-42", "mounted-secret-88"]
    (tmp_path / "docker-compose.yml").write_text(
        json.dumps(
            {
                "name": f"{real_project.name}-said",
                "services": {
                    "api": {
                        "image": "${API_IMAGE}",
                        "entrypoint": ["printf", "%s\\n", "health on 8000"],
                        "command": [text.replace("$", "$$") for text in said],
                        "env_file": [".env", "api.env"],
                        "environment": {"WEBHOOK_SECRET": "inline-in-compose-42"},
                        "secrets": ["signing"],
                    }
                },
                "secrets": {"signing": {"file": "./signing.key"}},
            }
        )
    )
    orchestrator = ComposeOrchestrator(directory=tmp_path)
    image = real_project.images["v1.0.0"]
    orchestrator.pull(image)
    try:
        (instance,) = orchestrator.start_beside(image, 1)
        run(["docker", "wait", instance.id])
        log, listing = orchestrator.logs(instance.id, 50), orchestrator.listing()
        (tmp_path / ".env").write_text("PLAIN_TOKEN=changed-since\n")
        later = ComposeOrchestrator(directory=tmp_path).logs(instance.id, 50)
    finally:
        down = ["docker", "compose", "down", "--timeout", "1"]
        run(down, directory=tmp_path, environment={"API_IMAGE": str(image)})

    assert log.splitlines() == ["health on 8000", *len(said) * ["***"]]
    assert not [value for value in said if value in listing]
    assert not [value for value in said if value in later]


@pytest.mark.engine
@pytest.mark.parametrize("part", ["logs", "_health_output"])
def test_what_cannot_be_read_of_a_container_does_not_hide_why_it_failed(
    real_project: RealProject, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    real_project.reset()

    def unreadable(self: object, *of: object) -> str:
        raise Unreachable("it cannot be read")

    monkeypatch.setattr(ComposeOrchestrator, part, unreadable)
    with pytest.raises(RolloutFailed, match="is unhealthy after") as caught:
        real_project.put_in_service("v1.2.0-never-healthy")

    assert "(it cannot be read)" in caught.value.what
    assert real_project.serving() == {"v1.0.0"}


# ---- without an engine


def test_an_engine_that_does_not_answer_is_unreachable(tmp_path: Path) -> None:
    orchestrator = ComposeOrchestrator(directory=tmp_path, engine=f"unix://{tmp_path}/no.sock")

    with pytest.raises(Unreachable, match="does not answer"):
        orchestrator.check(replicas=1, routed=True)


@pytest.fixture
def refusing(tmp_path: Path, httpserver: HTTPServer) -> ComposeOrchestrator:
    """One whose engine refuses whatever it is asked, but for its version."""
    httpserver.expect_request("/version").respond_with_json({"ApiVersion": "1.44"})
    httpserver.expect_request(re.compile(".*")).respond_with_json(
        {"message": "authorization denied by plugin"}, status=403
    )
    engine = f"tcp://{httpserver.host}:{httpserver.port}"
    return ComposeOrchestrator(directory=tmp_path, engine=engine)


@pytest.mark.parametrize(
    "read",
    [
        lambda orchestrator: orchestrator.has_image(IMAGE),
        lambda orchestrator: orchestrator.logs("abc", 10),
        lambda orchestrator: orchestrator.health_output("abc"),
    ],
)
def test_a_question_that_the_engine_refuses_says_nothing_about_the_release(
    refusing: ComposeOrchestrator, read: Callable[[ComposeOrchestrator], object]
) -> None:
    with pytest.raises(Unreachable, match="authorization denied by plugin"):
        read(refusing)


def test_a_container_that_the_engine_refuses_to_start_is_a_failed_rollout(
    refusing: ComposeOrchestrator,
) -> None:
    with pytest.raises(RolloutFailed, match="cannot start abc: authorization denied by plugin"):
        refusing.start(["abc"])


@pytest.mark.engine
@pytest.mark.parametrize("kept", [False, True])
def test_what_a_person_types_on_the_host_serves_the_release_whatever_the_router_knows(
    real_project: RealProject, kept: bool
) -> None:
    """Compose would keep one of two containers: each keeps its name, by which HAProxy knows it."""
    old, orchestrator = real_project.reset("v1.0.0"), real_project.orchestrator
    real_project.put_in_service("v1.1.0")
    orchestrator.pin(real_project.images["v1.1.0"])
    assert real_project.router is not None
    real_project.router.retire(orchestrator.instances()[0].name)
    orchestrator.stop(old.instances, timedelta(seconds=5))
    if not kept:
        orchestrator.remove(old.instances)
    assert real_project.serving() == {"v1.1.0"}
    image = real_project.images["v1.0.0"]

    typed = orchestrator.by_hand(image, 1, routed=True).commands
    own = {n: v for n, v in os.environ.items() if not n.startswith("API_")}
    subprocess.run(["sh", "-eu"], input="\n".join(typed), text=True, check=True, env=own)

    wait_until(
        lambda: real_project.serving() == {"v1.0.0"}, what="v1.0.0", seconds=60, hint="docker ps"
    )
    assert orchestrator.pinned() == image
    assert {i.image for i in orchestrator.instances()} == {image}
    kept_versions = [release.version for release in orchestrator.kept_releases()]
    assert {"v1.0.0", "v1.1.0"} <= set(kept_versions)


@pytest.fixture
def host(tmp_path: Path) -> ComposeOrchestrator:
    return ComposeOrchestrator(directory=tmp_path)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", "API_IMAGE={new}\n"),
        ("A=1", "A=1\nAPI_IMAGE={new}\n"),
        ("A=1\nAPI_IMAGE=x@y\nB='2'\n", "A=1\nAPI_IMAGE={new}\nB='2'\n"),
        ("API_IMAGE=a\r\nB=2\r\n", "API_IMAGE={new}\r\nB=2\r\n"),
        ("export API_IMAGE = a\n", "API_IMAGE={new}\n"),
        ("# API_IMAGE=a\nOLD_API_IMAGE=b\n", "# API_IMAGE=a\nOLD_API_IMAGE=b\nAPI_IMAGE={new}\n"),
        ("API_IMAGE=a\nAPI_IMAGE=b\n", "API_IMAGE={new}\nAPI_IMAGE={new}\n"),
    ],
)
def test_pinning_changes_one_line_of_the_hosts_file(
    host: ComposeOrchestrator, before: str, after: str
) -> None:
    path = host.directory / ".env"
    path.write_bytes(before.encode())
    path.chmod(0o640)

    host.pin(IMAGE)

    assert path.read_bytes().decode() == after.format(new=IMAGE)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert host.pinned() == IMAGE
    assert [p.name for p in host.directory.iterdir()] == [".env"]


def test_a_hosts_file_that_is_new_is_its_owners_alone(host: ComposeOrchestrator) -> None:
    host.pin(IMAGE)

    assert stat.S_IMODE((host.directory / ".env").stat().st_mode) == 0o600


def test_a_linked_hosts_file_stays_a_link(host: ComposeOrchestrator, tmp_path: Path) -> None:
    shared = tmp_path / "shared.env"
    shared.write_text("A=1\n")
    (host.directory / ".env").symlink_to(shared)

    host.pin(IMAGE)

    assert (host.directory / ".env").is_symlink()
    assert shared.read_text() == f"A=1\nAPI_IMAGE={IMAGE}\n"


@pytest.mark.parametrize(
    ("before", "text"),
    [
        ("A=1\n", ""),
        ("A=1\nAPI_IMAGE=api:latest\nB='2'\n", "api:latest"),
        ("A=1\nAPI_IMAGE='api:latest' # the first\nB='2'\n", "'api:latest' # the first"),
        ("API_IMAGE=api:latest\r\nB=2\r\n", "api:latest"),
    ],
)
def test_a_pin_can_be_taken_back_to_what_the_hosts_file_said_before(
    host: ComposeOrchestrator, before: str, text: str
) -> None:
    path = host.directory / ".env"
    path.write_bytes(before.encode())
    assert host.pin_text() == text

    host.pin(IMAGE)
    assert host.pin_text() == str(IMAGE)
    host.unpin(text)
    host.unpin(text)

    assert path.read_bytes().decode() == before
    assert host.pinned() is None


def test_a_pin_that_is_taken_out_leaves_all_other_lines(host: ComposeOrchestrator) -> None:
    path = host.directory / ".env"
    path.write_bytes(f"A=1\r\nAPI_IMAGE={IMAGE}\r\nNAME=gr\xf6\xdfe\n".encode("latin-1"))

    host.unpin("")

    assert path.read_bytes() == b"A=1\r\nNAME=gr\xf6\xdfe\n"


def test_a_secret_that_is_not_utf_8_is_masked_in_what_a_container_logged(tmp_path: Path) -> None:
    """A restore reads the logs of what goes: it would fail with this file as well."""
    written = "TOKEN=gr\xfcn-token\n".encode("latin-1")
    (tmp_path / ".env").write_bytes(written)
    logged = written.decode(errors="replace")

    secrets = ComposeProject(tmp_path, "docker-compose.yml", "API_IMAGE", engine="").secrets()

    assert without_secrets(logged, secrets) == "TOKEN=***\n"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", None),
        ("API_IMAGE=api:latest\n", None),
        (f"API_IMAGE='{IMAGE}'\n", IMAGE),
        (f"API_IMAGE=a\nAPI_IMAGE={IMAGE}\n", IMAGE),
    ],
)
def test_only_a_digest_counts_as_pinned(
    host: ComposeOrchestrator, text: str, found: ImageRef | None
) -> None:
    (host.directory / ".env").write_text(text)

    assert host.pinned() == found


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("cannot log in with hunter2hunter2", "cannot log in with ***"),
        ("dsn postgresql://u:s3cr3tpass@db/x", "dsn ***"),
        ("password s3cr3tpass refused", "password *** refused"),
        ("broken line: SIGNING", "broken line: ***"),
        ("port 18080 of project shop", "port 18080 of project shop"),
    ],
)
def test_what_the_hosts_file_says_is_not_repeated(
    host: ComposeOrchestrator, text: str, shown: str
) -> None:
    (host.directory / ".env").write_text(
        "COMPOSE_PROJECT_NAME=project\nPUBLIC_PORT=18080\nTOKEN='hunter2hunter2'\n"
        "DATABASE_URL=postgresql://u:s3cr3tpass@db/x\nSIGNING\n"
    )

    assert host._mask(text) == shown
