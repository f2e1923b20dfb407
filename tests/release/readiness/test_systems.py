"""What doctor gives as the way out of what it found."""

import pytest

from release.readiness.systems import Readiness, with_way_out

FILE = "ignition.toml"


@pytest.mark.parametrize(
    ("system", "hint"),
    [
        ("registry", "edit registry.address in ignition.toml, then: ignition setup"),
        (
            "orchestrator",
            "edit environments.eu-west.orchestrator in ignition.toml, then: ignition setup",
        ),
        ("ledger", "start it, or set IGNITION_LEDGER__DSN, then: ignition setup"),
        (
            "database",
            "start it, or set IGNITION_ENVIRONMENTS__EU_WEST__DATABASE__DSN, then: ignition setup",
        ),
        ("something that no setting names", ""),
    ],
)
@pytest.mark.parametrize("given", ["", "ignition doctor"])
def test_doctor_never_sends_a_person_to_doctor(system: str, hint: str, given: str) -> None:
    answer = with_way_out(Readiness(system, "it does not answer", given), "eu-west", FILE)

    assert (answer.problem, answer.hint) == ("it does not answer", hint)


def test_a_hint_that_says_more_stays() -> None:
    said = Readiness("registry", "refused", "docker login registry.example.com")

    assert with_way_out(said, "eu-west", FILE) == said


def test_a_good_answer_needs_no_way_out() -> None:
    assert with_way_out(Readiness("registry"), "eu-west", FILE) == Readiness("registry")
