"""Doctor, on real parts that are well: green, and quick enough to be asked at any time."""

from tests.e2e.driver import Operator


def test_doctor_is_green_where_a_deployment_could_begin(operator: Operator) -> None:
    """Setup, worker, schedules and both environments; what is wrong would be named here."""
    command = operator.ignition("doctor", "--json")

    answers = command.json
    assert [answer for answer in answers if not answer["ok"]] == []
    assert command.code == 0
    there = {answer["system"] for answer in answers}
    assert {"worker", "schedule nightly/staging", "saved blocks", "Dockerfile"} <= there


def test_status_says_when_each_schedule_comes_next(operator: Operator) -> None:
    lines = operator.ignition("status").said.splitlines()

    for name in ("nightly/staging", "watch/production"):
        assert any(line.startswith(f"schedule {name}  next 20") for line in lines)
