"""What doctor says of the addresses of an environment."""

from datetime import UTC, datetime, timedelta

import pytest

from release.model import Probe
from release.readiness.serving import PortLook, judge_address, judge_port, judge_version

AT = datetime(2026, 12, 1, tzinfo=UTC)
GOOD = Probe(AT, 200, timedelta(milliseconds=4))
BAD = Probe(AT, 503, timedelta(milliseconds=4), "HTTP 503")
GONE = Probe(AT, 0, timedelta(milliseconds=1), "Connection refused")
URL = "https://api.example.com"


def test_an_environment_that_serves_nothing_yet_is_well() -> None:
    """Before the first deployment doctor could never be green."""
    answer = judge_address(URL, "/health", BAD, is_new=True)

    assert answer.ok
    assert answer.found == f"serves nothing yet ({URL}/health: HTTP 503)"
    assert judge_version(f"{URL}/api/", None, BAD, BAD, is_new=True).ok
    assert judge_port(8000, "/health", []).ok


def test_an_environment_that_served_before_and_does_not_answer_is_a_fault() -> None:
    answer = judge_address(URL, "/health", GONE, is_new=False)

    assert answer.problem == f"{URL}/health: Connection refused"
    assert answer.hint == "see what runs: ignition status"
    assert not judge_version(f"{URL}/api/", None, GONE, GONE, is_new=False).ok


def test_an_address_that_answers_is_well_and_says_what() -> None:
    assert judge_address(URL, "/health", GOOD, is_new=False).found == f"{URL}/health answers 200"
    version = judge_version(f"{URL}/api/", "v1.2.3", GOOD, GOOD, is_new=False)
    assert version.found == f"{URL}/api/ says v1.2.3"


def test_a_wrong_version_field_is_a_fault_even_before_the_first_deployment() -> None:
    """Something answers there: the first deployment would be verified against it."""
    said = Probe(AT, 200, timedelta(), "no field 'version' in the answer; there is: build")

    answer = judge_version(f"{URL}/api/", None, said, GOOD, is_new=True)

    assert answer.problem == f"{URL}/api/: no field 'version' in the answer; there is: build"
    assert answer.hint == "edit service.version_path or service.version_field"


@pytest.mark.parametrize(
    ("probe", "problem"),
    [
        (GONE, "api-2 at port 9999/health: Connection refused"),
        (Probe(AT, 404, timedelta(), "HTTP 404"), "api-2 at port 9999/health: HTTP 404"),
    ],
)
def test_a_wrong_port_says_what_answers_there(probe: Probe, problem: str) -> None:
    answer = judge_port(9999, "/health", [PortLook("api-1", GOOD), PortLook("api-2", probe)])

    assert (answer.problem, answer.hint) == (problem, "edit service.port or service.health_path")
