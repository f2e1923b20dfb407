"""What a release must show, and how a person reads that it did not."""

from datetime import UTC, datetime, timedelta

import pytest

from release.model import Check, Probe
from release.verification import (
    check_health,
    check_smoke,
    check_version,
    explain_answer,
    explain_failures,
    only_smoke_failed,
    read_field,
    summary,
)

AT = datetime(2026, 1, 8, 2, 14, tzinfo=UTC)
TOOK = timedelta(milliseconds=12)

# As npm 11 and, the last one, npm 8 write it.
NPM_WITHOUT_SCRIPT = """\
npm error Missing script: "test:smok"
npm error
npm error Did you mean this?
npm error   npm run test:smoke # run the "test:smoke" package script
npm error
npm error To see a list of scripts, run:
npm error   npm run
npm error A complete log of this run can be found in: /root/.npm/_logs/debug-0.log""".splitlines()
NPM_WITHOUT_JSON = """\
npm error code EJSONPARSE
npm error JSON.parse Invalid package.json: JSONParseError: Expected
npm error JSON.parse Failed to parse JSON data.
npm error A complete log of this run can be found in: /root/.npm/_logs/debug-0.log""".splitlines()
NPM_WITHOUT_FILE = """\
npm error code ENOENT
npm error syscall open
npm error path /tmp/nope/package.json
npm error errno -2
npm error enoent Could not read package.json: Error: ENOENT
npm error enoent This is related to npm not being able to find a file.
npm error A complete log of this run can be found in: /root/.npm/_logs/debug-0.log""".splitlines()
NPM_LIFECYCLE = """\
npm ERR! Lifecycle script `smoke` failed with error:
npm ERR! Error: command failed
npm ERR!   in workspace: ignition-api-smoke
npm ERR! A complete log of this run can be found in:
npm ERR!     /root/.npm/_logs/debug-0.log""".splitlines()


def answered(status: int, detail: str = "") -> Probe:
    return Probe(AT, status, TOOK, detail)


@pytest.mark.parametrize(
    ("probe", "passed", "sentence"),
    [
        (answered(200), True, "HTTP 200"),
        (answered(204), True, "HTTP 204"),
        (answered(302, "HTTP 302"), False, "HTTP 302"),
        (answered(503, "HTTP 503"), False, "HTTP 503"),
        (answered(0, "Connection refused"), False, "Connection refused"),
    ],
)
def test_only_an_answer_of_200_to_299_is_healthy(probe: Probe, passed: bool, sentence: str) -> None:
    assert check_health(probe) == Check("health", passed, sentence, TOOK)


@pytest.mark.parametrize(
    ("found", "probe", "passed", "sentence"),
    [
        ("v1.2.3", answered(200), True, "v1.2.3"),
        ("1.2.3", answered(200), True, "1.2.3"),
        ("v1.2.2", answered(200), False, "answers v1.2.2, expected v1.2.3"),
        ("v1.2.30", answered(200), False, "answers v1.2.30, expected v1.2.3"),
        (None, answered(503, "HTTP 503"), False, "no version (HTTP 503), expected v1.2.3"),
    ],
)
def test_the_version_has_to_be_the_one_that_was_deployed(
    found: str | None, probe: Probe, passed: bool, sentence: str
) -> None:
    assert check_version("v1.2.3", found, probe) == Check("version", passed, sentence, TOOK)


@pytest.mark.parametrize(
    ("body", "field", "found"),
    [
        ('{"version": "v1.2.3"}', "version", "v1.2.3"),
        ('{"version": "v1.2.3"}', ".version", "v1.2.3"),
        ('{"app": {"version": "v1.2.3"}}', "app.version", "v1.2.3"),
        ('{"version": 7}', "version", "7"),
        ('{"version": null}', "version", None),
        ('{"version": ""}', "version", None),
        ('{"version": true}', "version", None),
        ('{"version": {"major": 1}}', "version", None),
        ('["version"]', "version", None),
        ("<html>", "version", None),
        (b"\xff\xfe\xfa", "version", None),
        ("", "version", None),
    ],
)
def test_a_field_of_an_answer_is_read_or_is_not_there(
    body: bytes | str, field: str, found: str | None
) -> None:
    assert read_field(body, field) == found


def test_smoke_tests_pass_with_exit_code_0_only() -> None:
    assert check_smoke(0, ["ok 1"], TOOK) == Check("smoke tests", True, "exit code 0", TOOK)
    assert check_smoke(None, []).sentence == "stopped: out of time"
    assert not check_smoke(None, []).passed


@pytest.mark.parametrize(
    ("output", "sentence"),
    [
        (["ok 1 - health", "not ok 2 - login", "# duration_ms 7"], "exit code 1: not ok 2 - login"),
        (["✖ login (3 ms)", "ℹ fail 1"], "exit code 1: ✖ login (3 ms)"),
        (["  AssertionError: 1 == 2", "bye"], "exit code 1: AssertionError: 1 == 2"),
        (["npm ERR! missing script", "", "bye", ""], "exit code 1: bye"),
        (NPM_WITHOUT_SCRIPT, 'exit code 1: Missing script: "test:smok"'),
        (
            NPM_WITHOUT_JSON,
            "exit code 1: JSON.parse Invalid package.json: JSONParseError: Expected",
        ),
        (NPM_WITHOUT_FILE, "exit code 1: enoent Could not read package.json: Error: ENOENT"),
        (["", "> smoke", "> ./smoke.sh", "", "login: 401"], "exit code 1: login: 401"),
        (
            ["> smoke", "> ./smoke.sh", "login: 401", *NPM_LIFECYCLE],
            "exit code 1: login: 401",
        ),
        (["", "> smoke", "> exit 4", ""], "exit code 1: > exit 4"),
        (["notable: Errors are none"], "exit code 1: notable: Errors are none"),
        ([], "exit code 1"),
    ],
)
def test_a_failure_names_the_first_test_that_failed(output: list[str], sentence: str) -> None:
    assert check_smoke(1, output).sentence.splitlines()[0] == sentence


@pytest.mark.parametrize(
    ("body", "field", "said"),
    [
        ('{"name": "a", "build": 7}', "version", "has no field 'version'; it has: name, build"),
        ("{}", "version", "has no field 'version'; it has: none"),
        (
            '{"app": {"name": "a"}}',
            "app.version",
            "has no field 'app.version'; 'app' has: name",
        ),
        ('{"app": "a"}', "app.version", "has no field 'app.version'; 'app' is \"a\""),
        ('["v1"]', "version", "has no field 'version'; its answer is a list of 1"),
        ('{"version": null}', "version", "has in its field 'version' null, and no version"),
        ('{"version": ""}', "version", "has in its field 'version' an empty text, and no version"),
        (
            '{"version": {"major": 1}}',
            "version",
            "has in its field 'version' an object with: major, and no version",
        ),
        ("<html>\n\x1b[2J<p>", "version", "does not answer JSON, it begins: <html> [2J<p>"),
        (b"\xff\xfe", "version", "does not answer JSON, it begins: \ufffd\ufffd"),
        ("x" * 500, "version", "does not answer JSON, it begins: " + "x" * 80 + "…"),
        (" \n", "version", "answers nothing"),
    ],
)
def test_an_answer_without_a_version_is_told_in_one_line(
    body: bytes | str, field: str, said: str
) -> None:
    assert read_field(body, field) is None
    assert explain_answer(body, field) == said


def test_a_failure_says_which_address_was_asked() -> None:
    refused = answered(0, "Connection refused")

    assert check_health(refused, "http://10.0.0.2:8001/health").sentence == (
        "http://10.0.0.2:8001/health: Connection refused"
    )
    assert check_version("v1.2.3", "v1.2.2", answered(200), "https://x/api/").sentence == (
        "https://x/api/ answers v1.2.2, expected v1.2.3"
    )


def test_a_failure_shows_the_last_lines() -> None:
    sentence = check_smoke(1, [f"line {number}" for number in range(90)]).sentence
    assert sentence.splitlines()[1:] == [f"line {number}" for number in range(50, 90)]


def test_a_release_that_answers_as_itself_may_have_failed_by_its_smoke_tests_alone() -> None:
    good = [Check("health", True, "HTTP 200"), Check("version", True, "v1.1.0")]

    assert only_smoke_failed([*good, check_smoke(1, ["not ok 2 login"])])
    assert not only_smoke_failed([*good, check_smoke(0, [])])
    assert not only_smoke_failed([Check("health", False, "HTTP 503")])
    assert not only_smoke_failed([])


def test_failures_are_one_sentence() -> None:
    checks = [
        Check("health", True, "HTTP 200"),
        Check("version", False, "answers v1.2.2, expected v1.2.3"),
        Check("smoke tests", False, "exit code 1: not ok 2 login\nok 1\nnot ok 2 login"),
    ]
    assert explain_failures(checks) == (
        "version: answers v1.2.2, expected v1.2.3; smoke tests: exit code 1: not ok 2 login"
    )
    assert explain_failures(checks[:1]) == ""


def test_the_summary_is_a_table_with_the_output_of_what_failed() -> None:
    checks = [
        Check("health", True, "HTTP 200", timedelta(seconds=3.1)),
        Check("smoke tests", False, "exit code 1\nnot ok 2 | login", timedelta(seconds=1)),
    ]
    assert summary(checks) == (
        "| check | outcome | value | took |\n"
        "|---|---|---|---|\n"
        "| health | passed | HTTP 200 | 3.1 s |\n"
        "| smoke tests | **failed** | exit code 1 | 1 s |\n"
        "\n"
        "smoke tests, last lines:\n"
        "\n"
        "    not ok 2 | login"
    )


def test_a_value_cannot_break_the_table() -> None:
    assert "| a \\| b |" in summary([Check("health", True, "a | b")])
