"""What follows from a rehearsal, as tables: the verdict, the lines of a gate, the artifact."""

import pickle
from dataclasses import replace
from datetime import timedelta

import pytest

from release.errors import MigrationRefused
from release.migration.files import MigrationFile, read_migration
from release.migration.rehearsal.compatibility import (
    Broken,
    Restriction,
    RollbackVerdict,
    StatementCheck,
)
from release.migration.rehearsal.outcome import (
    Rehearsal,
    SmokeOutcome,
    SmokeResult,
    TableSize,
    compare_smoke,
    not_rehearsed,
    refuse_breaking,
    say_bytes,
)
from release.migration.rehearsal.trace import Failure, StatementTrace, TableLock
from release.model import Check

SAFE, UNSAFE, UNKNOWN = RollbackVerdict.SAFE, RollbackVerdict.UNSAFE, RollbackVerdict.UNKNOWN
PASSED = SmokeResult(SmokeOutcome.PASSED, "")
FAILED = SmokeResult(SmokeOutcome.FAILED, "exit code 1: not ok 3 - an item is listed")
BROKEN = Broken("SELECT email FROM users", 'column "email" does not exist (42703)', 1204)
PERHAPS = Restriction("orders", "orders has to keep CHECK (total > 0) now", certain=False)
REFUSED = Restriction("orders", "orders.a is required now, and an INSERT lacks it", certain=True)
ALL = StatementCheck(checked=40)

TRACE = StatementTrace(
    "0007_add_a.sql",
    3,
    "ALTER TABLE orders ADD a float DEFAULT random()",
    timedelta(milliseconds=12),
    locks=(TableLock("orders", "ACCESS EXCLUSIVE"),),
    rewrites=("orders",),
)
REHEARSAL = Rehearsal(
    files=("0007_add_a.sql",),
    took=timedelta(seconds=3.1),
    traces=(TRACE,),
    sizes=(TableSize("orders", 12 * 1024**3, 3_400_000),),
)


@pytest.mark.parametrize(
    ("found", "verdict", "words"),
    [
        # Neither look was possible: nothing is claimed.
        ({}, UNKNOWN, "no statement was checked"),
        ({"statements": StatementCheck(reason="not installed")}, UNKNOWN, "not installed"),
        # Either look is enough, if it saw everything.
        ({"statements": ALL}, SAFE, "40 of 40 statements prepare"),
        ({"smoke": PASSED}, SAFE, "smoke tests pass on the new schema"),
        ({"statements": ALL, "smoke": PASSED}, SAFE, "and its smoke tests pass"),
        ({"statements": replace(ALL, unclear=3)}, SAFE, "3 did not prepare on the old one either"),
        ({"statements": StatementCheck(unclear=3)}, UNKNOWN, "no statement was checked"),
        ({"statements": replace(ALL, since=timedelta(hours=3))}, SAFE, "of the last 3 h"),
        ({"statements": replace(ALL, evictions=2)}, UNKNOWN, "raise pg_stat_statements.max"),
        ({"statements": replace(ALL, hidden=2)}, UNKNOWN, "GRANT pg_read_all_stats"),
        ({"statements": replace(ALL, left_out=9)}, UNKNOWN, "9 were left out"),
        ({"statements": replace(ALL, hidden=2), "smoke": PASSED}, SAFE, "smoke tests pass"),
        # One proof against it is enough, whatever else passed.
        ({"statements": replace(ALL, broken=(BROKEN,)), "smoke": PASSED}, UNSAFE, "1 of 40"),
        ({"statements": ALL, "smoke": FAILED}, UNSAFE, "not ok 3 - an item is listed"),
        ({"statements": ALL, "restrictions": (PERHAPS, REFUSED)}, UNSAFE, "an INSERT lacks it"),
        # What depends on values, no look can show.
        ({"statements": ALL, "smoke": PASSED, "restrictions": (PERHAPS,)}, UNKNOWN, "CHECK"),
        ({"statements": ALL, "failure": Failure("a.sql", 3, "42P01", "no t")}, UNKNOWN, "a.sql:3"),
        # An expand file always needs a proof; without one there is nothing to prove.
        ({"files": (), "traces": ()}, SAFE, "no schema change"),
        ({"files": (), "statements": ALL}, SAFE, "no schema change"),
    ],
)
def test_a_verdict_is_safe_only_by_proof(found, verdict, words):
    said, why = replace(REHEARSAL, **found).verdict

    assert said is verdict
    assert words in why
    assert "\n" not in why


def test_what_was_not_rehearsed_is_unknown_with_its_reason():
    found = not_rehearsed("pg_dump cannot be run", [read_migration("0001_a.sql", b"SELECT 1")])

    assert found.verdict == (UNKNOWN, "not rehearsed: pg_dump cannot be run")
    assert found.lines() == ["not rehearsed: pg_dump cannot be run"]


def test_a_gate_shows_what_traffic_would_notice_and_how_large_it_is():
    broken = replace(REHEARSAL, statements=replace(ALL, broken=(BROKEN,)), restrictions=(PERHAPS,))

    assert broken.lines() == [
        "rehearsed 1 file in 3.1 s on a copy of the schema without rows",
        "0007_add_a.sql:3 `ALTER TABLE orders ADD a float DEFAULT random()`: ACCESS EXCLUSIVE on "
        "orders: blocks reads and writes; rewrites orders (12 GB, about 3400000 rows)",
        "running release: 39 of 40 statements prepare on the new schema",
        'broken: `SELECT email FROM users`: column "email" does not exist (42703)',
        "orders has to keep CHECK (total > 0) now",
        "old release's smoke tests on the new schema: not run: no old release was started on the "
        "copy",
    ]


def test_a_quiet_file_says_so():
    quiet = replace(TRACE, locks=(TableLock("orders", "ROW EXCLUSIVE"),), rewrites=())

    lines = replace(REHEARSAL, traces=(quiet,), statements=ALL).lines()

    assert lines[1] == "no statement takes a lock that traffic would notice"


def test_a_failure_is_named_instead_of_what_it_kept_from_happening():
    failed = replace(REHEARSAL, failure=Failure("0008_b.sql", 12, "42703", "no column c"))

    assert failed.lines()[1:] == ["it failed: 0008_b.sql:12: no column c (42703)"]


def test_the_artifact_begins_with_the_verdict_and_lists_every_statement():
    text = replace(REHEARSAL, statements=replace(ALL, broken=(BROKEN,))).markdown()

    assert text.splitlines()[2].startswith("A code-only rollback is **unsafe**: 1 of 40")
    assert "| 0007_add_a.sql:3 | `ALTER TABLE orders ADD a float" in text
    assert '| `SELECT email FROM users` | column "email" does not exist (42703) | 1204 |' in text


def test_text_from_a_file_cannot_break_the_artifacts_table():
    odd = replace(TRACE, text_short="SELECT a | b `c`")

    assert "SELECT a \\| b 'c'" in replace(REHEARSAL, traces=(odd,)).markdown()


def test_a_rehearsal_survives_being_stored():
    everything = replace(REHEARSAL, statements=ALL, restrictions=(PERHAPS,), smoke=FAILED)

    assert pickle.loads(pickle.dumps(everything)) == everything


@pytest.mark.parametrize(
    ("control", "after", "result"),
    [
        (True, True, PASSED),
        (True, False, SmokeResult(SmokeOutcome.FAILED, "not ok 2")),
        (
            False,
            False,
            SmokeResult(
                SmokeOutcome.NOT_RUN, "before the migrations they fail on the copy too: not ok 2"
            ),
        ),
        # What did not work before proves nothing by working now.
        (
            False,
            True,
            SmokeResult(
                SmokeOutcome.NOT_RUN, "before the migrations they fail on the copy too: not ok 2"
            ),
        ),
    ],
)
def test_smoke_tests_count_only_against_a_control(control, after, result):
    def check(passed: bool) -> Check:
        return Check("smoke tests", passed, "exit code 0" if passed else "not ok 2\nand more")

    assert compare_smoke(check(control), check(after)) == result


@pytest.mark.parametrize(
    ("size", "words"),
    [
        (0, "0 bytes"),
        (1023, "1023 bytes"),
        (8192, "8 kB"),
        (1536, "1.5 kB"),
        (12 * 1024**3, "12 GB"),
        (3 * 1024**4, "3 TB"),
        (5000 * 1024**4, "5000 TB"),
    ],
)
def test_a_size_is_said_as_people_write_it(size, words):
    assert say_bytes(size) == words


# ── What breaks the running release ──────────────────────────────────────────────────────────────

BREAKS = Rehearsal(
    ("0002_rename.sql",),
    statements=StatementCheck(checked=2, broken=(Broken("SELECT name FROM items", "gone", 9),)),
)


def an_expand_file(header: str = "") -> MigrationFile:
    return read_migration("0002_rename.sql", f"{header}\nSELECT 1;".encode())


def test_a_file_that_breaks_what_serves_is_refused_before_it_runs():
    with pytest.raises(MigrationRefused) as caught:
        refuse_breaking(BREAKS, [an_expand_file()])

    assert caught.value.what.startswith("0002_rename.sql: 1 of 2 statements of the running release")
    assert caught.value.what.endswith("[breaking-running-release]")
    assert "phase=contract" in caught.value.hint


def test_its_author_may_take_that_upon_themselves_with_a_reason():
    allowed = '-- migrate: allow=breaking-running-release reason="a report of last year"'

    refuse_breaking(BREAKS, [an_expand_file(allowed)])


@pytest.mark.parametrize("found", [Rehearsal(()), not_rehearsed("no scratch server")])
def test_nothing_is_refused_for_what_nobody_knows(found):
    refuse_breaking(found, [an_expand_file()])
