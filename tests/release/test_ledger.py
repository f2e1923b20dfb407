"""The chain of hashes and the deployment log."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from release.ledger import (
    RUNBOOK_RUN,
    Event,
    EventKind,
    LogRow,
    deployment_log,
    event_hash,
    short_run,
    verify_chain,
)
from release.ledger import write_payload as write
from release.model import ImageRef

NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
IMAGE = f"registry.example.com/api@sha256:{'a' * 64}"


def a_chain(length: int) -> list[Event]:
    events: list[Event] = []
    for seq in range(1, length + 1):
        before = events[-1].hash if events else ""
        event = Event(
            seq, NOON + timedelta(seconds=seq), "production", "r1", EventKind.VERDICT,
            payload={"n": seq}, previous_hash=before, key=str(seq),
        )  # fmt: skip
        events.append(replace(event, hash=event_hash(event)))
    return events


def a_row(version: str = "v1.1.0", **changes: object) -> LogRow:
    row = LogRow(NOON, version, "Ada", "Orders by e-mail", "production", "Deployed", "r1")
    return replace(row, **changes)  # type: ignore[arg-type]


def test_an_untouched_chain_holds():
    assert verify_chain(a_chain(5)) == []
    assert verify_chain([]) == []


@pytest.mark.parametrize(
    ("run", "label"),
    [
        ("1874ab00-36c0-4100-88cb-7ba5420e5000", "d-1874ab"),
        # Two scheduled runs: the time at which they were planned comes first in their ids.
        ("01a22e08-843d-7b34-a81d-98f0675bd654", "d-5bd654"),
        ("01a22e08-843d-7ea3-b30c-76720c8ea9c6", "d-8ea9c6"),
        (RUNBOOK_RUN, "runbook"),
    ],
)
def test_two_runs_have_two_labels_however_their_ids_were_made(run: str, label: str) -> None:
    assert short_run(run) == label


@pytest.mark.parametrize(
    "change",
    [
        {"payload": {"n": 99}},
        {"at": NOON},
        {"environment": "staging"},
        {"run_id": "r2"},
        {"kind": "rejected"},
        {"step": "Plan"},
        {"key": "x"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_changed_event_is_named(change):
    events = a_chain(5)
    events[2] = replace(events[2], **change)

    (broken,) = verify_chain(events)

    assert broken.seq == 3
    assert "was changed after it was written" in broken.sentence


def test_a_changed_event_with_a_new_hash_breaks_the_chain_behind_it():
    events = a_chain(5)
    changed = replace(events[2], payload={"n": 99})
    events[2] = replace(changed, hash=event_hash(changed))

    assert [broken.seq for broken in verify_chain(events)] == [4]


def test_a_removed_event_is_named_by_its_number():
    events = a_chain(5)

    assert verify_chain(events[:2] + events[3:])[0].sentence == "event 3 is missing before event 4"
    assert verify_chain(events[2:])[0].sentence == "event 1 to 2 is missing before event 3"


def test_the_hash_does_not_depend_on_the_time_zone_or_the_order_of_keys():
    event = a_chain(1)[0]
    elsewhere = datetime.fromisoformat("2026-03-01T14:00:01+02:00")

    assert event_hash(replace(event, at=elsewhere)) == event.hash
    assert write({"b": 1, "a": 2}) == write({"a": 2, "b": 1})


def test_a_payload_is_one_line_whatever_is_in_it():
    text = write({"log": "two\nlines", "at": NOON, "odd": "\ud800", "name": "Zoë"})

    assert "\n" not in text
    assert "Zoë" in text
    assert text.encode()


def test_the_log_is_the_runbooks_table_oldest_first():
    rows = [
        a_row(date=NOON + timedelta(days=1), version="v1.2.0", ending="RolledBack"),
        a_row(notes="a|b\nc"),
    ]

    assert deployment_log(rows) == (
        "| Date | Version | Deployer | Notes | Environment |\n"
        "|------|---------|----------|-------|-------------|\n"
        "| 2026-03-01 | v1.1.0 | Ada | a\\|b c | production |\n"
        "| 2026-03-02 | v1.2.0 | Ada | RolledBack: Orders by e-mail | production |\n"
    )


def test_a_row_names_the_release_and_its_image_where_it_is_known():
    assert a_row(image=IMAGE, revision="abc").release.image == ImageRef.parse(IMAGE)
    assert a_row().release.image is None
