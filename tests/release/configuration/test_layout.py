"""What a commit has to hold to be built and smoke-tested, looked at before anything is tagged."""

import json

import pytest

from release.configuration.layout import (
    NpmScript,
    ServiceLayout,
    build_file,
    refuse_unfit_source,
    smoke_program,
    smoke_script,
)
from release.errors import BadConfiguration

REVISION = "1a2b3c4d5e6f" + "0" * 28
SERVICE = ServiceLayout(name="orders", smoke=("npm", "run", "smoke", "--prefix", "checks/"))
MANIFEST = "checks/package.json"


def tree(**files: str | None) -> dict[str, bytes]:
    """A commit with all that SERVICE needs, but for ``files``."""
    found = {
        "app/backend/Dockerfile": "FROM scratch",
        MANIFEST: json.dumps({"scripts": {"smoke": "node --test"}}),
        **files,
    }
    return {path: text.encode() for path, text in found.items() if text is not None}


def refusal(files: dict[str, bytes], service: ServiceLayout = SERVICE) -> BadConfiguration:
    with pytest.raises(BadConfiguration) as refused:
        refuse_unfit_source(service, REVISION, files.get)
    return refused.value


def test_a_commit_with_dockerfile_and_script_is_fit() -> None:
    refuse_unfit_source(SERVICE, REVISION, tree().get)


def test_a_commit_without_dockerfile_is_refused_with_path_and_commit() -> None:
    refused = refusal(tree(**{"app/backend/Dockerfile": None}))

    assert refused.what == "1a2b3c4d5e6f has no app/backend/Dockerfile to build from"
    assert refused.hint == (
        "commit it, or edit service.backend and service.dockerfile in ignition.toml"
    )


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "1a2b3c4d5e6f has no checks/package.json, so npm finds no script 'smoke'"),
        ("{bad", "checks/package.json of 1a2b3c4d5e6f is not JSON: Expecting property name"),
        (
            '{"scripts": {"smok": "x", "test": "y"}}',
            "checks/package.json of 1a2b3c4d5e6f has no script 'smoke'; did you mean smok? "
            "There is: smok, test",
        ),
        (
            '{"scripts": {"build": "x"}}',
            "checks/package.json of 1a2b3c4d5e6f has no script 'smoke'; there is: build",
        ),
        ("{}", "has no script 'smoke'; there is: none"),
        ('{"scripts": []}', "has no script 'smoke'; there is: none"),
        ("[]", "has no script 'smoke'; there is: none"),
    ],
)
def test_a_commit_without_the_smoke_script_is_refused_with_those_that_there_are(
    content: str | None, sentence: str
) -> None:
    assert sentence in refusal(tree(**{MANIFEST: content})).what


def test_a_byte_order_mark_is_no_fault_and_no_text_at_all_is_one() -> None:
    bom = {**tree(), MANIFEST: b"\xef\xbb\xbf" + tree()[MANIFEST]}
    refuse_unfit_source(SERVICE, REVISION, bom.get)

    assert "is not JSON" in refusal({**tree(), MANIFEST: b"\xff"}).what


def test_a_program_of_the_release_has_to_be_in_it() -> None:
    service = ServiceLayout(name="orders", smoke=("./checks/smoke.sh", "--fast"))
    refuse_unfit_source(service, REVISION, tree(**{"checks/smoke.sh": "#!/bin/sh"}).get)

    assert refusal(tree(), service).what == (
        "1a2b3c4d5e6f has no checks/smoke.sh to run as smoke tests"
    )


@pytest.mark.parametrize(
    ("command", "manifest", "name"),
    [
        (ServiceLayout(name="x").smoke, "tests/package.json", "test:smoke"),
        (("npm", "--prefix", "a/b", "run", "smoke"), "a/b/package.json", "smoke"),
        (("npm", "run", "smoke", "--prefix=./a/"), "a/package.json", "smoke"),
        (("npm", "-C", "a", "run-script", "smoke", "--silent"), "a/package.json", "smoke"),
        (("/usr/bin/npm", "test", "-s"), "package.json", "test"),
        (("npm", "t", "--", "--prefix", "a"), "package.json", "test"),
        (("npm", "run", "smoke", "--", "other", "-x"), "package.json", "smoke"),
    ],
)
def test_what_npm_would_run_is_known(command: tuple[str, ...], manifest: str, name: str) -> None:
    assert smoke_script(command) == NpmScript(manifest, name)


@pytest.mark.parametrize(
    "command",
    [
        ("pytest", "tests/smoke"),
        ("yarn", "run", "smoke"),
        ("npm",),
        ("npm", "run"),
        ("npm", "exec", "smoke"),
        ("npm", "run", "start"),
        ("npm", "run", "--if-present", "smoke"),
        ("npm", "run", "--loglevel", "silent", "smoke"),
        ("npm", "run", "smoke", "-w", "checks"),
        ("npm", "run", "smoke", "--prefix"),
        ("npm", "run", "smoke", "--prefix", "/srv/checks"),
    ],
)
def test_what_cannot_be_told_for_certain_is_not_refused(command: tuple[str, ...]) -> None:
    assert smoke_script(command) is None


def test_a_program_of_the_worker_is_not_looked_for_in_the_release() -> None:
    assert [smoke_program(one) for one in (("pytest",), ("/bin/sh", "a/b"), ())] == ["", "", ""]


@pytest.mark.parametrize(
    ("backend", "dockerfile", "path"),
    [
        ("app/backend", "Dockerfile", "app/backend/Dockerfile"),
        (".", "docker/Dockerfile", "docker/Dockerfile"),
        ("", "Dockerfile", "Dockerfile"),
        ("app", "../Dockerfile", "Dockerfile"),
    ],
)
def test_the_dockerfile_is_named_from_the_repositorys_root(
    backend: str, dockerfile: str, path: str
) -> None:
    service = ServiceLayout(name="x", backend=backend, dockerfile=dockerfile)

    assert build_file(service) == path
