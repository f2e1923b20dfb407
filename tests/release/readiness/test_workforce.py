"""Whether anybody carries the runs out, and what is said of a run that nobody takes."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from release.readiness.workforce import (
    PATIENCE,
    Cause,
    Queue,
    Worker,
    WorkPool,
    judge_pool,
    judge_workers,
    why_not_taken,
)

NOW = datetime(2026, 12, 1, 9, 0, tzinfo=UTC)
WORKER = Worker("crew-1", since=NOW - timedelta(days=2), heard=NOW - timedelta(seconds=12))
POOL = WorkPool(
    "ignition", queues=[Queue("default", polled=NOW - timedelta(seconds=4))], workers=[WORKER]
)
START = "prefect worker start --pool ignition --type process"


def ago(seconds: float) -> datetime:
    return NOW - timedelta(seconds=seconds)


def polled(seconds: float | None) -> WorkPool:
    """The pool whose worker was heard last, and asked for runs, that long ago."""
    at = None if seconds is None else ago(seconds)
    workers = [replace(WORKER, heard=at)] if at else []
    return replace(POOL, queues=[Queue("default", polled=at)], workers=workers)


# ── Who is there ─────────────────────────────────────────────────────────────────────────────────


def test_a_worker_that_beats_and_asks_is_well_and_named_with_machine_and_age() -> None:
    pool = replace(POOL, workers=[replace(WORKER, machine="deploy-1")])

    answer = judge_workers(pool, NOW)

    assert answer.ok
    assert answer.found == "crew-1 on deploy-1, heard 12 s ago, there since 2026-11-29 09:00 UTC"


@pytest.mark.parametrize(
    ("silent", "online"), [(0, True), (30, True), (90, True), (90.1, False), (7200, False)]
)
def test_a_worker_is_gone_after_three_heartbeats(silent: float, online: bool) -> None:
    pool = replace(POOL, workers=[replace(WORKER, heard=ago(silent))])

    assert judge_workers(pool, NOW).ok is online


def test_a_worker_that_has_just_begun_has_not_asked_yet_and_is_well() -> None:
    """The pool was last asked by the one before it."""
    for before in (None, ago(3600)):
        pool = replace(POOL, queues=[Queue("default", polled=before)])

        assert judge_workers(pool, NOW).ok


def test_the_length_of_a_heartbeat_is_the_worker_s_own() -> None:
    slow = replace(WORKER, heard=ago(200), every=timedelta(seconds=100))

    assert judge_workers(replace(POOL, workers=[slow]), NOW).ok


@pytest.mark.parametrize(("asked", "online"), [(30, True), (30.1, False)])
def test_a_worker_that_has_just_been_stopped_is_missed_before_its_heartbeat_is(
    asked: float, online: bool
) -> None:
    assert judge_workers(polled(asked), NOW).ok is online


def test_no_worker_is_a_fault_with_the_command_that_starts_one() -> None:
    silent = replace(polled(3600), workers=[replace(WORKER, heard=ago(3590))])

    answer = judge_workers(silent, NOW)

    assert (answer.problem, answer.hint) == ("no worker has asked for 59 min 50 s", START)


def test_a_pool_that_no_worker_ever_asked_says_so() -> None:
    answer = judge_workers(WorkPool("ignition", queues=[Queue("default")]), NOW)

    assert (answer.problem, answer.hint) == ("no worker has ever asked for a run", START)


def test_a_worker_whose_clock_is_ahead_is_not_heard_in_the_future() -> None:
    pool = replace(POOL, workers=[replace(WORKER, heard=ago(-3))])

    assert "heard 0 ms ago" in judge_workers(pool, NOW).found


@pytest.mark.parametrize(
    ("pool", "problem", "hint"),
    [
        (None, "the Prefect server has no work pool ignition", "ignition setup"),
        (
            replace(POOL, is_paused=True),
            "ignition is paused, so no run is started, and no schedule either",
            "prefect work-pool resume ignition",
        ),
        (
            replace(POOL, queues=[Queue("default", is_paused=True)]),
            "queue default of ignition is paused, so no run of it is started",
            "prefect work-queue resume default --pool ignition",
        ),
    ],
)
def test_a_pool_that_delivers_nothing_is_a_fault(
    pool: WorkPool | None, problem: str, hint: str
) -> None:
    answer = judge_pool("ignition", pool)

    assert (answer.problem, answer.hint) == (problem, hint)


def test_a_full_pool_is_well() -> None:
    assert judge_pool("ignition", replace(POOL, limit=2, busy=2)).ok


# ── A run that nobody takes ──────────────────────────────────────────────────────────────────────


def stalled(pool: WorkPool | None, state: str = "Late", waited: float = 40) -> tuple[Cause, str]:
    stall = why_not_taken("ignition", pool, state, ago(waited), NOW)
    assert stall is not None
    return stall.cause, stall.sentence


@pytest.mark.parametrize("pool", [POOL, None, replace(POOL, is_paused=True), polled(None)])
def test_nothing_is_said_before_a_worker_can_have_asked(pool: WorkPool | None) -> None:
    early = NOW - PATIENCE + timedelta(milliseconds=1)

    assert why_not_taken("ignition", pool, "Scheduled", early, NOW) is None


def test_a_run_without_a_worker_says_for_how_long_and_what_starts_one() -> None:
    gone = replace(polled(40), workers=[replace(WORKER, heard=ago(40))])

    assert stalled(gone) == (
        Cause.NO_WORKER,
        f"no worker has asked for 40 s; start one: {START}",
    )


def test_a_run_of_a_pool_that_never_had_a_worker_says_so() -> None:
    assert stalled(WorkPool("ignition"))[1] == (
        f"no worker has ever asked for a run; start one: {START}"
    )


def test_a_paused_pool_comes_before_its_missing_worker() -> None:
    """Starting one would not help."""
    paused = replace(polled(None), is_paused=True, workers=[])

    assert stalled(paused) == (
        Cause.PAUSED,
        "not taken for 40 s: work pool ignition is paused; "
        "go on: prefect work-pool resume ignition",
    )


def test_a_paused_queue_is_named() -> None:
    paused = replace(POOL, queues=[Queue("default", is_paused=True, polled=NOW)])

    assert stalled(paused)[1].endswith("go on: prefect work-queue resume default --pool ignition")


def test_a_pool_that_is_gone_is_made_by_setup() -> None:
    cause, sentence = stalled(None)

    assert cause is Cause.NO_POOL
    assert sentence.endswith("make it: ignition setup")


def test_a_run_that_waits_for_its_turn_is_not_called_missing() -> None:
    cause, sentence = stalled(replace(POOL, limit=1, busy=1), "Late")

    assert cause is Cause.FULL
    assert sentence.startswith("waits for its turn: ")
    assert "worker start" not in sentence


def test_a_late_run_with_a_worker_that_lives_names_the_worker() -> None:
    cause, sentence = stalled(POOL, "Late")

    assert cause is Cause.SLOW
    assert sentence.startswith("not taken for 40 s, though crew-1 asks for runs")


def test_a_run_that_was_taken_and_does_not_begin_points_to_the_worker_s_log() -> None:
    assert stalled(POOL, "Pending", 95) == (
        Cause.SLOW,
        "crew-1 took it, and it has not begun for 1 min 35 s; the reason is in the worker's log",
    )
