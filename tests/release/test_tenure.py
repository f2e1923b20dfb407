"""Since when something serves, and by whom, as the deployment log has it."""

from datetime import UTC, datetime, timedelta

import pytest

from release.ledger import LogRow
from release.model import ImageRef
from release.outcome import Ending
from release.tenure import tenure_of

AT = datetime(2026, 11, 3, 14, 2, tzinfo=UTC)
IMAGES = {
    version: ImageRef("r.example.com/api", "sha256:" + digit * 64)
    for version, digit in (("v1.0.0", "1"), ("v1.1.0", "2"), ("v1.2.0", "3"))
}


def row(version: str, hours: int, ending: Ending = Ending.DEPLOYED, image: bool = True) -> LogRow:
    return LogRow(
        AT + timedelta(hours=hours),
        version,
        "Ada",
        "",
        "production",
        ending.value,
        f"{hours}874ab00",
        image=str(IMAGES[version]) if image else "",
    )


def test_what_was_deployed_last_serves_since_then() -> None:
    found = tenure_of([row("v1.1.0", 1), row("v1.0.0", 0)], IMAGES["v1.1.0"], "v1.1.0")

    assert found.sentence == "since 2026-11-03 15:02 UTC, by Ada (d-1874ab)"
    assert (found.at, found.by, found.run_id) == (AT + timedelta(hours=1), "Ada", "1874ab00")


def test_what_a_rollback_brought_serves_since_the_rollback() -> None:
    log = [row("v1.0.0", 2, Ending.ROLLBACK_DONE), row("v1.1.0", 1), row("v1.0.0", 0)]

    assert tenure_of(log, IMAGES["v1.0.0"], "v1.0.0").sentence == (
        "since 2026-11-03 16:02 UTC, brought back by Ada (d-2874ab)"
    )


@pytest.mark.parametrize("ending", [Ending.ROLLED_BACK, Ending.ROLLBACK_FAILED])
def test_a_deployment_that_was_left_since_is_said_beside_it(ending: Ending) -> None:
    found = tenure_of([row("v1.2.0", 2, ending), row("v1.1.0", 1)], IMAGES["v1.1.0"], "v1.1.0")

    assert found.sentence == (
        f"since 2026-11-03 15:02 UTC, by Ada (d-1874ab); then v1.2.0: {ending} at "
        "2026-11-03 16:02 UTC"
    )


def test_a_release_whose_last_steps_failed_after_its_watch_serves() -> None:
    log = [row("v1.1.0", 1, Ending.FAILED), row("v1.0.0", 0)]

    assert tenure_of(log, IMAGES["v1.1.0"], "v1.1.0").by == "Ada"


def test_one_that_failed_before_it_had_an_image_changed_nothing() -> None:
    log = [row("v1.1.0", 1, Ending.FAILED, image=False), row("v1.0.0", 0)]

    assert tenure_of(log, IMAGES["v1.0.0"], "v1.0.0").at == AT


def test_what_the_log_does_not_know_is_not_given_a_date_of_its_own() -> None:
    """Somebody typed `docker compose up`, or a deployment is under way."""
    found = tenure_of([row("v1.1.0", 1)], IMAGES["v1.2.0"], "v1.2.0")

    assert found.at is None
    assert found.sentence == (
        "how long v1.2.0 has served is not known: by the log it is v1.1.0, since "
        "2026-11-03 15:02 UTC by Ada (d-1874ab)"
    )


def test_an_empty_log_knows_nothing() -> None:
    assert tenure_of([], IMAGES["v1.0.0"], "v1.0.0").sentence == (
        "how long v1.0.0 has served is not known: the log has no deployment of it"
    )


def test_a_row_from_before_the_ledger_goes_by_its_version() -> None:
    assert tenure_of([row("v1.0.0", 0, image=False)], IMAGES["v1.0.0"], "v1.0.0").at == AT
    assert tenure_of([row("v1.0.0", 0, image=False)], IMAGES["v1.1.0"], "v1.1.0").at is None


def test_where_the_engine_does_not_answer_the_version_has_to_do() -> None:
    assert tenure_of([row("v1.1.0", 1)], None, "v1.1.0").by == "Ada"
    assert tenure_of([row("v1.1.0", 1)], None, "v1.2.0").by == ""
