"""What was probably meant by an address at which no Prefect API answers."""

import pytest

from release.readiness.prefect_address import hint_for, meant_address


@pytest.mark.parametrize(
    ("address", "meant"),
    [
        ("http://127.0.0.1:4200/api", ""),
        ("http://127.0.0.1:4200/api/", ""),
        ("https://prefect.example.com/team/api", ""),
        ("http://127.0.0.1:4200", "http://127.0.0.1:4200/api"),
        ("http://127.0.0.1:4200/", "http://127.0.0.1:4200/api"),
        ("http://127.0.0.1:4200/v2/dashboard", "http://127.0.0.1:4200/api"),
        ("http://127.0.0.1:4200/runs/flow-run/1", "http://127.0.0.1:4200/api"),
        ("127.0.0.1:4200/api", "http://127.0.0.1:4200/api"),
        ("127.0.0.1:4200", "http://127.0.0.1:4200/api"),
    ],
)
def test_the_address_that_was_meant(address: str, meant: str) -> None:
    assert meant_address(address) == meant


def test_the_hint_is_what_to_type() -> None:
    assert hint_for("http://h:4200") == (
        "did you mean http://h:4200/api? export PREFECT_API_URL=http://h:4200/api"
    )
    assert hint_for("http://h:80/api").startswith(
        "export PREFECT_API_URL=http://127.0.0.1:4200/api"
    )
