"""The script that the smoke tests are, before a release depends on it."""

import json

import pytest

from release.smoke_script import NpmScript, missing_script, npm_script

PACKAGE = json.dumps({"scripts": {"test": "jest", "test:smoke": "jest smoke"}}).encode()
SMOKE = NpmScript("test:smoke", "tests/package.json")


@pytest.mark.parametrize(
    ("command", "script"),
    [
        ("npm run test:smoke --prefix tests/", SMOKE),
        ("npm --prefix=tests run test:smoke", SMOKE),
        ("npm -C tests run-script test:smoke -- --bail", SMOKE),
        ("/usr/bin/npm run --silent smoke", NpmScript("smoke", "package.json")),
        ("npm test", NpmScript("test", "package.json")),
        ("npm run", None),
        ("npm ci", None),
        ("make smoke", None),
        ("", None),
    ],
)
def test_the_script_and_its_package_are_read_from_the_command(
    command: str, script: NpmScript | None
) -> None:
    assert npm_script(command.split()) == script


def test_a_script_that_is_there_is_well() -> None:
    assert missing_script(SMOKE, PACKAGE, "main (1a2b3c4)") == ""


@pytest.mark.parametrize(
    ("name", "manifest", "sentence"),
    [
        (
            "test:smokey",
            PACKAGE,
            "tests/package.json of main (1a2b3c4) has no script 'test:smokey'; "
            "did you mean 'test:smoke'? There is: test, test:smoke",
        ),
        (
            "e2e",
            PACKAGE,
            "tests/package.json of main (1a2b3c4) has no script 'e2e'; there is: test, test:smoke",
        ),
        (
            "e2e",
            b"{}",
            "tests/package.json of main (1a2b3c4) has no script 'e2e'; there is: none",
        ),
        (
            "e2e",
            None,
            "main (1a2b3c4) has no tests/package.json, which the smoke tests are started by",
        ),
        ("e2e", b"{", "tests/package.json of main (1a2b3c4) is not the JSON of a package"),
        ("e2e", b"[]", "tests/package.json of main (1a2b3c4) is not the JSON of a package"),
        (
            "e2e",
            b'{"scripts": 3}',
            "tests/package.json of main (1a2b3c4) is not the JSON of a package",
        ),
    ],
)
def test_a_script_that_is_missing_names_those_that_are_there(
    name: str, manifest: bytes | None, sentence: str
) -> None:
    script = NpmScript(name, "tests/package.json")

    assert missing_script(script, manifest, "main (1a2b3c4)") == sentence
