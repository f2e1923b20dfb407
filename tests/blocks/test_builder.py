"""The image builder, with BuildKit and with the engine's own builder."""

import uuid
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from blocks.builder import Build, Builder
from release.errors import BuildFailed, Unreachable
from sandbox.parts import images

NO_ENGINE = "unix:///nonexistent/docker.sock"


@pytest.fixture
def context(tmp_path: Path) -> Path:
    """A build context that needs no base image."""
    (tmp_path / "file").write_text("content\n")
    (tmp_path / "Dockerfile").write_text(
        "FROM scratch\nARG VERSION\nARG REVISION\nENV VERSION=$VERSION\nCOPY file /file\n"
    )
    return tmp_path


@pytest.fixture
def tag(engine: str) -> Iterator[str]:
    """A name for an image, removed afterwards."""
    name = f"ignition-test:{uuid.uuid4().hex[:12]}"
    yield name
    client = docker.from_env()
    if client.images.list(name):
        client.images.remove(name, force=True)


@pytest.fixture(params=["with BuildKit", "with the engine's builder"])
def builder(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Builder:
    """The same builder, with and without BuildKit: the contract is one."""
    found = Builder()
    if request.param == "with BuildKit":
        if not found._has_buildkit():
            pytest.skip("this engine's client has no buildx: there is nothing to test here")
    else:
        monkeypatch.setattr(Builder, "_has_buildkit", lambda self: False)
    return found


def build(builder: Builder, context: Path, tag: str, dockerfile: str = "Dockerfile") -> list[str]:
    said: list[str] = []
    arguments = {"VERSION": "v1.2.3", "REVISION": "a" * 40}
    labels = {"org.opencontainers.image.version": "v1.2.3", "with": "blanks and = signs"}
    builder.build(Build(context, dockerfile, tag, arguments, labels), said.append)
    return said


@pytest.mark.engine
def test_an_image_has_the_arguments_and_labels_it_was_built_with(
    builder: Builder, context: Path, tag: str
) -> None:
    said = build(builder, context, tag)

    image = docker.from_env().images.get(tag)
    assert image.labels == {
        "org.opencontainers.image.version": "v1.2.3",
        "with": "blanks and = signs",
    }
    assert "VERSION=v1.2.3" in image.attrs["Config"]["Env"]
    assert any("COPY file /file" in line for line in said)


@pytest.mark.engine
def test_another_dockerfile_of_the_context_is_built(
    builder: Builder, context: Path, tag: str
) -> None:
    (context / "docker").mkdir()
    (context / "docker" / "Dockerfile.api").write_text("FROM scratch\nCOPY file /elsewhere\n")

    said = build(builder, context, tag, "docker/Dockerfile.api")

    assert any("/elsewhere" in line for line in said)


@pytest.mark.engine
@pytest.mark.parametrize(
    ("dockerfile", "why"),
    [
        ("FROM scratch\nCOPY missing /\n", "missing"),
        ("FROM scratch\nNONSENSE\n", "NONSENSE"),
        ("", ""),  # an empty file
    ],
)
def test_a_build_that_fails_says_why_in_its_last_lines(
    builder: Builder, context: Path, tag: str, dockerfile: str, why: str
) -> None:
    (context / "Dockerfile").write_text(dockerfile)

    with pytest.raises(BuildFailed) as failed:
        build(builder, context, tag)

    assert failed.value.what.startswith(f"image {tag} was not built: ")
    assert why.lower() in failed.value.what.lower()
    assert docker.from_env().images.list(tag) == []


@pytest.mark.engine
def test_a_dockerfile_that_is_not_there_is_a_failed_build(
    builder: Builder, context: Path, tag: str
) -> None:
    with pytest.raises(BuildFailed, match="was not built"):
        build(builder, context, tag, "Dockerfile.none")


@pytest.mark.engine
def test_the_same_context_is_built_twice_into_the_same_content(
    builder: Builder, context: Path, tag: str
) -> None:
    build(builder, context, tag)
    first = docker.from_env().images.get(tag).attrs["RootFS"]["Layers"]

    build(builder, context, tag)

    assert docker.from_env().images.get(tag).attrs["RootFS"]["Layers"] == first


@pytest.mark.engine
def test_an_engine_that_answers_is_in_order(engine: str) -> None:
    Builder().check()


def test_an_engine_that_is_not_there_is_unreachable() -> None:
    with pytest.raises(Unreachable) as failed:
        Builder(engine=NO_ENGINE).check()

    assert f"container engine {NO_ENGINE} does not answer" in failed.value.what
    assert failed.value.hint == "docker info"


def test_a_build_without_an_engine_may_be_tried_again_and_names_the_image(
    context: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Builder, "_has_buildkit", lambda self: False)

    with pytest.raises(Unreachable, match="image x:1 was not built"):
        build(Builder(engine=NO_ENGINE), context, "x:1")


@pytest.mark.engine
def test_a_build_that_finds_a_mirror_away_may_be_tried_again(
    builder: Builder, context: Path, tag: str
) -> None:
    """There is no image afterwards, and no container, as with every build that fails."""
    images.ensure_base()
    (context / "Dockerfile").write_text(
        f"FROM {images.BASE}\nRUN echo 'Temporary failure resolving mirror.example' >&2; exit 100\n"
    )

    with pytest.raises(Unreachable, match="Temporary failure resolving") as failed:
        build(builder, context, tag)

    assert (
        failed.value.hint
        == "docker info; if that works, look for what was unreachable, then deploy again"
    )
    engine = docker.from_env()
    assert engine.images.list(tag) == []
    stopped = engine.containers.list(all=True, filters={"status": "exited"}, ignore_removed=True)
    assert [one.id for one in stopped if "mirror.example" in str(one.attrs["Config"]["Cmd"])] == []


def test_without_dockers_command_the_engines_own_builder_is_used(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    assert not Builder()._has_buildkit()


@pytest.mark.engine
def test_a_base_that_the_engine_has_needs_no_registry(builder: Builder, engine: str) -> None:
    images.ensure_base()

    builder.check_base(images.BASE)


@pytest.mark.engine
def test_a_base_that_nobody_has_is_named_before_a_build_needs_it(
    builder: Builder, engine: str
) -> None:
    with pytest.raises(Unreachable) as failed:
        builder.check_base("127.0.0.1:9/nobody/base:1")

    assert failed.value.what.startswith(
        "base image 127.0.0.1:9/nobody/base:1 is not on the container engine, and cannot be pulled"
    )
    assert failed.value.hint == "docker pull 127.0.0.1:9/nobody/base:1"


def test_without_an_engine_the_engine_is_named_and_not_the_base() -> None:
    with pytest.raises(Unreachable, match=r"container engine .* does not answer"):
        Builder(engine=NO_ENGINE).check_base("alpine")
