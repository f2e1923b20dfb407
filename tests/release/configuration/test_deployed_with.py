"""How a release was checked when it was deployed: written down, and read again."""

import json

import pytest
from pydantic import SecretStr

from release.configuration.auth import AuthSettings
from release.configuration.deployed_with import DeployedWith, read_deployed_with
from release.configuration.layout import ServiceLayout
from release.configuration.rules import WatchProbe, WatchRules

SECRET = "correct-horse-battery"
NOW = ServiceLayout(
    name="api", port=9000, health_path="/live", smoke=("make", "new"), backend="src"
)
THEN = DeployedWith.now(
    ServiceLayout(name="api", port=8000, smoke=("make", "smoke")),
    AuthSettings(username="check", password=SecretStr(SECRET), login_path="/login"),
    WatchRules(probes=(WatchProbe(path="/api/orders", expect=(200, 304)),)),
)


def test_what_is_written_down_is_read_again_but_for_the_account() -> None:
    written = json.loads(json.dumps(THEN.payload()))

    assert SECRET not in json.dumps(written)
    assert "check" not in json.dumps(written)
    found = read_deployed_with([{"to": "v1.0.0"}, written])
    assert found is not None
    assert found.smoke == ("make", "smoke")
    assert found.probes == THEN.probes
    assert found.auth_fields()["login_path"] == "/login"
    assert {"username", "password"}.isdisjoint(found.auth_fields())


def test_only_how_it_is_checked_is_that_of_then() -> None:
    found = THEN.layout(NOW)
    assert (found.port, found.health_path, found.smoke) == (8000, "/health", ("make", "smoke"))
    assert found.backend == "src"
    assert THEN.rules(WatchRules(error_rate_ceiling=0.2)).error_rate_ceiling == 0.2


@pytest.mark.parametrize(
    "payload",
    [{}, {"deployed_with": None}, {"deployed_with": {"port": "?"}}, {"deployed_with": []}],
    ids=str,
)
def test_a_record_that_is_not_there_or_cannot_be_read_is_none(payload: dict[str, object]) -> None:
    """The present settings are used then, as before there was a record."""
    assert read_deployed_with([payload]) is None


def test_what_a_newer_version_wrote_beside_it_is_left_out() -> None:
    written = json.loads(json.dumps(THEN.payload()))
    written["deployed_with"]["tracing_path"] = "/trace"
    assert read_deployed_with([written]) is not None
