"""What setup left with the server, compared with what it would write now."""

from typing import Any

import pytest

from release.readiness.registered import differing, judge_registered, judge_server

ADDRESS = "http://127.0.0.1:4200/api"
WANTED: dict[str, dict[str, Any]] = {
    "deploy/staging": {"tags": ["ignition"], "parameters": {"environment": "staging"}},
    "nightly/staging": {"tags": ["ignition"], "schedules": ["0 2 * * *"]},
}


def test_what_is_as_written_is_well() -> None:
    answer = judge_registered("deployments", WANTED, WANTED)

    assert answer.ok
    assert answer.found == "2 as this version writes them"


@pytest.mark.parametrize(
    ("there", "problem"),
    [
        ({}, "none of 2 exists"),
        ({"deploy/staging": WANTED["deploy/staging"]}, "nightly/staging is missing"),
        (
            WANTED | {"nightly/staging": {"tags": [], "schedules": ["0 3 * * *"]}},
            "nightly/staging is not as this version writes it: schedules, tags",
        ),
        (
            WANTED | {"deploy/old": {}},
            "nothing here uses deploy/old",
        ),
    ],
)
def test_what_is_missing_different_or_left_over_is_named(
    there: dict[str, dict[str, Any]], problem: str
) -> None:
    answer = judge_registered("deployments", WANTED, there)

    assert (answer.problem, answer.hint) == (problem, "ignition setup")


def test_what_is_switched_off_is_a_fault_though_it_is_the_same() -> None:
    answer = judge_registered("automations", WANTED, WANTED, {"deploy/staging": "is switched off"})

    assert answer.problem == "deploy/staging is switched off"


def test_of_many_only_some_are_named() -> None:
    many: dict[str, dict[str, Any]] = {f"deploy/{n}": {} for n in range(9)}

    answer = judge_registered("deployments", many, {"deploy/0": {}})

    assert answer.problem == "deploy/1, deploy/2, deploy/3 and 5 others are missing"


def test_a_difference_is_named_by_its_key_and_never_by_its_value() -> None:
    ours = {"registry": {"address": "a", "password": "hunter2"}, "router": None}
    saved = {"registry": {"address": "a", "password": "hunter3"}, "router": {"slots": 6}}

    assert list(differing(ours, saved)) == ["registry.password", "router"]


def test_a_service_that_is_switched_off_is_named_with_what_it_means() -> None:
    answer = judge_server("prefect server", ADDRESS, "3.9.1", "3.9.1", ["scheduler", "db_vacuum"])

    assert answer.problem == "its service scheduler is switched off: no schedule comes"
    assert answer.hint.startswith("unset PREFECT_SERVER_SERVICES_SCHEDULER_ENABLED ")


@pytest.mark.parametrize(
    ("server", "well"), [("3.9.1", True), ("3.9.0", True), ("3.10.0", True), ("3.8.8", False)]
)
def test_a_server_that_is_older_than_this_version_is_a_fault(server: str, well: bool) -> None:
    answer = judge_server("prefect server", ADDRESS, server, "3.9.1", [])

    assert answer.ok is well
    assert server in (answer.found or answer.problem)
