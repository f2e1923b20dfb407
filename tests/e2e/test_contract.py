"""What a release does not need any more is removed with the next one, and then there is no way back
to a release that needs it."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest

from tests.e2e.conftest import Deployed
from tests.e2e.driver import Look, Operator, Outcome

pytestmark = pytest.mark.e2e

BRANCH = "feature/drafts"
EXPAND = "CREATE TABLE drafts_v2 (id bigint PRIMARY KEY, body text NOT NULL);\n"
CONTRACT = "-- migrate: phase=contract\nDROP TABLE IF EXISTS drafts_v1;\n"
EARLIER = "CREATE TABLE IF NOT EXISTS drafts_v1 (id bigint PRIMARY KEY)"


@dataclass(frozen=True)
class Contracted:
    """Two releases, one after the other: the first brings a contract file, the second runs it."""

    bringing: Outcome
    between: Look
    next: Outcome
    after: Look
    back: Outcome  # a rollback to the release before both
    after_back: Look


def add_migrations(work: Path) -> None:
    folder = work / "app/backend/migrations"
    (folder / "0003_add_drafts_v2.sql").write_text(EXPAND)
    (folder / "0004_drop_drafts_v1.sql").write_text(CONTRACT)


@pytest.fixture(scope="module")
def contracted(operator: Operator, staged: Deployed) -> Iterator[Contracted]:
    dsn = operator.environment("staging").database_url
    before = operator.serves("staging")
    change(dsn, EARLIER)
    operator.push(BRANCH, add_migrations, "Keep drafts in a new table")
    try:
        bringing = operator.deploy(operator.next_version(), BRANCH)
        between = operator.look("staging")
        next_one = operator.deploy(operator.next_version(), BRANCH)
        after = operator.look("staging")
        back = operator.roll_back("staging", "a test goes too far back", to=before)
        yield Contracted(bringing, between, next_one, after, back, operator.look("staging"))
    finally:
        # The other tests deploy main, which knows nothing of these files.
        change(dsn, "DELETE FROM schema_migrations WHERE version IN ('0003', '0004')")
        change(dsn, "DROP TABLE IF EXISTS drafts_v1, drafts_v2")
        operator.roll_back("staging", "a test is over", to=before)


def change(dsn: str, statement: str) -> None:
    with psycopg.connect(dsn) as connection:
        connection.execute(statement.encode())


def test_the_release_that_brings_a_contract_file_leaves_what_a_rollback_would_need(
    contracted: Contracted,
) -> None:
    assert contracted.bringing.ending == "Deployed", contracted.bringing
    assert contracted.between.schema == ("0001", "0002", "0003")
    assert {"drafts_v1", "drafts_v2"} <= set(contracted.between.tables)


def test_its_plan_says_that_the_file_waits_and_for_what(
    operator: Operator, staged: Deployed, contracted: Contracted
) -> None:
    plan = str(operator.artifacts(contracted.bringing.run)["plan-staging"])

    assert "not yet: `0004_drop_drafts_v1` (a rollback would go to" in plan
    assert "which came before this file" in plan


def test_the_next_release_removes_it_after_its_watch(
    operator: Operator, contracted: Contracted
) -> None:
    log = operator.log(contracted.next.run)

    assert contracted.next.ending == "Deployed", contracted.next
    assert contracted.after.schema == ("0001", "0002", "0003", "0004")
    assert "drafts_v1" not in contracted.after.tables
    watched = first(log, "watch passed")
    assert watched < first(log, "0004_drop_drafts_v1.sql applied")


def test_a_rollback_to_before_both_is_refused_and_changes_nothing(contracted: Contracted) -> None:
    """The release that it names would not run on what the contract file has left."""
    assert contracted.back.ending not in ("Deployed", "RolledBack"), contracted.back
    assert "0004_drop_drafts_v1.sql removed what it needs" in contracted.back.message
    assert contracted.after_back == contracted.after


def first(log: list[str], words: str) -> int:
    """The first line of a log that has these words."""
    return next(number for number, line in enumerate(log) if words in line)
