"""What a migration file may say about itself."""

from datetime import timedelta

import pytest

from release.errors import MigrationRefused
from release.migration.header import Header, Phase, read_header


def read(text: str) -> Header:
    return read_header("0007_x.sql", text)


def test_a_file_that_says_nothing_expands_in_one_transaction_with_the_environments_limits():
    assert read("-- about users\nSELECT 1;") == Header()


def test_settings_may_stand_on_one_line_or_on_several():
    one = read("-- migrate: phase=contract min-app=v1.4.0 lock-timeout=200ms\nSELECT 1;")
    two = read(
        "-- migrate: phase=contract\n-- why: it is time\n"
        "-- migrate: min-app=v1.4.0 lock-timeout=200ms\nSELECT 1;"
    )

    assert one == two
    assert one == Header(
        phase=Phase.CONTRACT, min_app="v1.4.0", lock_timeout=timedelta(milliseconds=200)
    )


def test_each_setting_has_its_place():
    found = read(
        "-- migrate: no-transaction idempotent lock-budget=10min statement-timeout=2h\n"
        '-- migrate: allow=ban-drop-column,ban-drop-table reason="unused since v1.3.0"\nSELECT 1;'
    )

    assert found == Header(
        in_transaction=False,
        idempotent=True,
        lock_budget=timedelta(minutes=10),
        statement_timeout=timedelta(hours=2),
        allows=frozenset({"ban-drop-column", "ban-drop-table"}),
        reason="unused since v1.3.0",
    )


def test_a_mark_in_a_string_or_a_block_comment_is_text():
    assert read("/* -- migrate: phase=contract */ SELECT '-- migrate: x';") == Header()


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("phases=contract", "did you mean phase?"),
        ("no-transaction=yes", "'-- migrate: no-transaction=yes' is unknown"),
        ("phase", "'-- migrate: phase' is unknown"),
        ("lock-timeout=0ms", "a limit must be longer than zero"),
        ("up", "that is dbmate's way to write two files in one"),
    ],
)
def test_what_is_not_known_is_refused_with_the_nearest_that_is(line, says):
    with pytest.raises(MigrationRefused) as caught:
        read(f"-- about\n-- migrate: {line}\nSELECT 1;")

    assert caught.value.what.startswith("0007_x.sql:2: ")
    assert says in caught.value.what
