"""The ledger on a real PostgreSQL, and without one: nothing is lost, nothing is held twice."""

import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
from pydantic import SecretStr

from blocks.ledger.ledger import Ledger
from blocks.ledger.spool import Spool
from release.errors import BadConfiguration, BadRequest, EnvironmentLocked, Unreachable
from release.ledger import EventKind
from sandbox.commands import wait_until

ROOT = Path(__file__).resolve().parents[3]
NOWHERE = "postgresql://me:Tr0ub4dor@127.0.0.1:1/ledger"
IMAGE = f"registry.example.com/api@sha256:{'a' * 64}"


@pytest.fixture
def ledger(dsn: str, tmp_path: Path) -> Ledger:
    made = Ledger(dsn=SecretStr(dsn), spool=tmp_path / "spool")
    made.install()
    return made


def away(ledger: Ledger) -> Ledger:
    """The same ledger, as seen by the same worker while its database is down."""
    return Ledger(dsn=SecretStr(NOWHERE), spool=ledger.spool)


def sql(ledger: Ledger, statement: str) -> None:
    with psycopg.connect(ledger.dsn.get_secret_value(), autocommit=True) as connection:
        connection.execute(statement.encode())


def kinds(ledger: Ledger, run_id: str) -> list[str]:
    return [event.kind for event in ledger.events(run_id=run_id)]


def has_turn(ledger: Ledger, environment: str, within: timedelta) -> bool:
    with ledger.turn(environment, within) as mine:
        return mine


ENDS_THE_TURN = """
    SELECT pg_terminate_backend(pid) FROM pg_locks
    WHERE locktype = 'advisory' AND granted
      AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"""


def an_ending(version: str, ending: str = "Deployed", **more: str) -> dict[str, str]:
    return {"version": version, "ending": ending, "deployer": "Ada", "notes": "", **more}


# --- events ---------------------------------------------------------------------------------------


def test_a_new_ledger_has_no_deployment_in_its_log(ledger):
    """What a first version wrote into every ledger is in its chain, and no deployment of theirs."""
    assert ledger.log() == []
    assert ledger.served("production") == []
    assert len(ledger.events()) == 1
    assert ledger.verify() == []


def test_installing_again_changes_nothing(ledger):
    ledger.install()

    assert len(ledger.events()) == 1
    ledger.check()


def test_the_same_event_twice_is_one_event(ledger):
    """After a gate the flow's body runs again from the top and says everything again."""
    for _ in range(2):
        assert ledger.record("staging", "r1", EventKind.STEP_BEGUN, step="Plan")
    ledger.record("staging", "r1", EventKind.ITEM_SIGNED, key="a", payload={"item": "a"})
    ledger.record("staging", "r1", EventKind.ITEM_SIGNED, key="b", payload={"item": "b"})

    events = ledger.events(run_id="r1")

    assert [event.payload.get("item") for event in events] == [None, "a", "b"]
    assert [event.seq for event in events] == [2, 3, 4], "an event that was there uses no number"


def test_events_are_found_by_environment_run_and_kind(ledger):
    ledger.record("staging", "r1", EventKind.PLAN_MADE)
    ledger.record("production", "r2", EventKind.PLAN_MADE)
    ledger.record("production", "r2", EventKind.REJECTED)

    assert len(ledger.events("staging")) == 1
    assert len(ledger.events(run_id="r2")) == 2
    assert len(ledger.events(kinds=[EventKind.PLAN_MADE])) == 2
    assert [event.kind for event in ledger.run_events("r2", EventKind.REJECTED)] == ["rejected"]


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE ledger_events SET run_id = 'x'",
        "DELETE FROM ledger_events",
        "TRUNCATE ledger_events",
    ],
)
def test_the_ledger_refuses_to_be_changed(ledger, statement):
    with pytest.raises(psycopg.errors.RestrictViolation, match="append-only"):
        sql(ledger, statement)

    assert len(ledger.events()) == 1


def test_what_was_changed_around_the_triggers_is_found(ledger):
    ledger.record("staging", "r1", EventKind.REJECTED, payload={"approver": "Ada", "n": 1.5})
    ledger.record("staging", "r1", EventKind.DEPLOYMENT_ENDED, payload=an_ending("v1", "Rejected"))
    assert ledger.verify() == []

    sql(
        ledger,
        "ALTER TABLE ledger_events DISABLE TRIGGER USER;"
        """UPDATE ledger_events SET payload = '{"approver":"Bob"}' WHERE kind = 'rejected';"""
        "ALTER TABLE ledger_events ENABLE TRIGGER USER",
    )

    assert [broken.sentence for broken in ledger.verify()] == [
        "event 2 (rejected) was changed after it was written"
    ]


def test_writers_at_once_make_one_chain_without_gaps(ledger):
    with ThreadPoolExecutor(8) as pool:
        done = pool.map(
            lambda n: ledger.record("staging", f"r{n}", EventKind.VERDICT, payload={"n": n}),
            range(24),
        )
        assert any(done)
    assert ledger.flush()

    assert [event.seq for event in ledger.events()] == list(range(1, 26))
    assert ledger.verify() == []


# --- a ledger that is down ------------------------------------------------------------------------


def test_events_of_a_dead_ledger_are_kept_and_written_in_order_later(ledger):
    at = datetime(2026, 3, 1, 12, tzinfo=UTC)
    down = away(ledger)

    assert not down.record("staging", "r1", EventKind.STEP_BEGUN, step="Plan", at=at)
    assert not down.record("staging", "r1", EventKind.STEP_DONE, step="Plan")
    assert [event.kind for event in down.run_events("r1")] == ["step_begun", "step_done"]
    assert kinds(ledger, "r1") == [], "nothing reached the ledger yet"

    assert ledger.record("staging", "r1", EventKind.PLAN_MADE)

    assert kinds(ledger, "r1") == ["step_begun", "step_done", "plan_made"]
    assert ledger.events(run_id="r1")[0].at == at, "an event keeps the time at which it happened"
    assert ledger.flush()
    assert ledger.verify() == []


@pytest.mark.parametrize("when", ["before", "after"])
def test_an_event_that_another_writes_while_a_run_is_read_is_seen_once(ledger, monkeypatch, when):
    """Just before the ledger is asked, or just after it has answered."""
    away(ledger).record("staging", "r1", EventKind.PLAN_MADE)
    read = Ledger.events
    monkeypatch.setattr(Ledger, "flush", lambda ledger: False)  # it came too early for the event

    def events(self, **wanted):
        monkeypatch.undo()
        if when == "before":
            assert ledger.flush()
        found = read(self, **wanted)
        assert ledger.flush()
        return found

    monkeypatch.setattr(Ledger, "events", events)

    assert [event.kind for event in ledger.run_events("r1")] == ["plan_made"]


def test_the_steps_begun_are_known_though_the_ledger_died_on_the_way(ledger):
    """A rollback is planned from them: the step before the crash of the ledger counts, too."""
    ledger.record("staging", "r1", EventKind.STEP_BEGUN, step="Plan")
    down = away(ledger)
    down.record("staging", "r1", EventKind.STEP_BEGUN, step="Deploy")

    assert down.steps_begun("r1") == ("Plan", "Deploy")
    assert ledger.steps_begun("r1") == ("Plan", "Deploy")


def test_the_steps_of_an_ended_run_are_noted_in_the_ledger_only(ledger):
    ledger.record("staging", "r1", EventKind.STEP_BEGUN, step="Plan")
    ledger.record("staging", "r1", EventKind.DEPLOYMENT_ENDED, payload=an_ending("v1"))

    assert ledger.steps_begun("r1") == ("Plan",)
    with pytest.raises(Unreachable):
        away(ledger).steps_begun("r1")


def test_an_event_that_a_crash_cut_off_holds_up_no_other(ledger):
    down = away(ledger)
    down.record("staging", "r1", EventKind.PLAN_MADE)
    (kept,) = ledger.spool.glob("*.json")
    (ledger.spool / f"{int(kept.name[:20]) + 1:020d}-0.json").write_text('{"at": "2026-')
    down.record("staging", "r1", EventKind.REJECTED)

    assert ledger.flush()

    assert kinds(ledger, "r1") == ["plan_made", "rejected"]


def test_events_stay_in_order_though_the_clock_is_set_back(ledger, monkeypatch):
    down = away(ledger)
    down.record("staging", "r1", EventKind.PLAN_MADE)
    monkeypatch.setattr("blocks.ledger.spool.time.time_ns", lambda: 1)
    down.record("staging", "r1", EventKind.REJECTED)

    assert ledger.flush()

    assert kinds(ledger, "r1") == ["plan_made", "rejected"]


HANGS = """
import os, signal, sys
from pathlib import Path
from pydantic import SecretStr
import blocks.ledger.ledger
from release.ledger import EventKind

def hanging(does):
    def hang(*arguments):
        done = does(*arguments)
        os.kill(os.getpid(), signal.SIGSTOP)
        return done
    return hang

{where} = hanging({where})
made = blocks.ledger.ledger.Ledger(dsn=SecretStr(sys.argv[1]), spool=Path(sys.argv[2]))
made.record("staging", "r1", EventKind.PLAN_MADE)
"""


@pytest.mark.parametrize(
    "where",
    [
        "blocks.ledger.recorder.Spool.keep",
        "blocks.ledger.recorder.insert_event",
        "blocks.ledger.recorder._write_entry",
    ],
)
def test_a_process_that_hangs_while_it_records_keeps_nobody_from_going_on(ledger, where):
    """It stops when it has kept its event, with its transaction open, or before it tidies up."""
    program = [sys.executable, "-c", HANGS.format(where=where)]
    arguments = [ledger.dsn.get_secret_value(), str(ledger.spool)]
    with subprocess.Popen([*program, *arguments], cwd=ROOT) as hung:
        try:
            seen = os.waitid(os.P_PID, hung.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
            assert seen is not None
            assert seen.si_code == os.CLD_STOPPED
            ledger.record("staging", "r2", EventKind.REJECTED)
            wait_until(ledger.flush, what="room in the ledger", seconds=30, hint="")
            assert (kinds(ledger, "r1"), kinds(ledger, "r2")) == (["plan_made"], ["rejected"])
            assert ledger.acquire("staging", "r2", "Ada", "").run_id == "r2"
        finally:
            hung.kill()


def test_a_late_release_leaves_the_environment_to_who_has_it_again(ledger):
    """r1 stood still while it gave the environment back; it was taken over, and is resumed."""
    first = ledger.acquire("staging", "r1", "Ada", "")
    late = {
        "at": datetime.now(UTC).isoformat(),
        "environment": "staging",
        "run_id": "r1",
        "kind": EventKind.LOCK_RELEASED.value,
        "step": "",
        "key": str(first.token),
        "payload": "{}",
    }
    ledger.take_over("staging", ["r1"], "recovery", "recover", "")
    ledger.take_over("staging", ["recovery"], "r1", "recover", "")
    Spool(ledger.spool).keep(late)

    assert ledger.flush()

    holder = ledger.holder("staging")
    assert holder is not None
    assert holder.run_id == "r1"


def test_an_event_that_the_ledger_never_takes_is_put_aside(ledger):
    sql(ledger, "ALTER TABLE ledger_events ADD CHECK (environment <> 'odd')")

    assert ledger.record("odd", "r1", EventKind.PLAN_MADE)
    assert ledger.record("staging", "r1", EventKind.REJECTED)

    assert kinds(ledger, "r1") == ["rejected"]
    assert "plan_made" in (ledger.spool / "refused.jsonl").read_text()


def test_a_spool_that_cannot_be_written_loses_no_event_while_the_ledger_answers(ledger, tmp_path):
    (tmp_path / "file").write_text("")
    odd = Ledger(dsn=ledger.dsn, spool=tmp_path / "file" / "spool")

    assert odd.record("staging", "r1", EventKind.PLAN_MADE)
    assert kinds(ledger, "r1") == ["plan_made"]
    with pytest.raises(BadConfiguration, match="spool"):
        odd.check()


def test_check_tells_a_dead_ledger_from_one_that_is_not_installed(new_database, tmp_path):
    with pytest.raises(Unreachable) as caught:
        Ledger(dsn=SecretStr(NOWHERE), spool=tmp_path).check()
    assert "Tr0ub4dor" not in str(caught.value)

    with pytest.raises(BadConfiguration, match=r"lacks 0001_ledger_events\.sql"):
        Ledger(dsn=SecretStr(new_database()), spool=tmp_path).check()


# --- the lock -------------------------------------------------------------------------------------


def test_a_held_environment_names_its_holder_and_stays_with_it(ledger):
    ledger.acquire("production", "1874ab-77", "Ada", "deploy v1.1.0")

    with pytest.raises(EnvironmentLocked) as caught:
        ledger.acquire("production", "22ffee-01", "Bob", "deploy v1.2.0")

    assert caught.value.what.startswith("production is held by Ada, run d-1874ab, since ")
    assert caught.value.what.endswith(" UTC (deploy v1.1.0): it has just begun")
    assert caught.value.hint.startswith("wait until it ends: ignition status production")
    held = ledger.holder("production")
    assert held is not None
    assert held.owner == "Ada"
    assert ledger.acquire("staging", "22ffee-01", "Bob", "another environment is free")


@pytest.mark.parametrize("recovered", [False, True])
def test_an_environment_that_a_failed_rollback_left_locked_says_so_and_how_to_go_on(
    ledger, recovered
):
    """What serves is not known. A recovery writes the ending in the name of the run before it."""
    ledger.acquire("production", "1874ab-77", "Ada", "")
    if recovered:
        ledger.take_over("production", ["1874ab-77"], "r1", "recover", "it crashed")
        ledger.take_over("production", ["r1"], "r2", "recover", "its recovery crashed")
    payload = {"ending": "RollbackFailed"}
    ledger.record("production", "1874ab-77", EventKind.DEPLOYMENT_ENDED, payload=payload)

    with pytest.raises(EnvironmentLocked) as caught:
        ledger.acquire("production", "22ffee-01", "Bob", "deploy v1.2.0")

    assert "it ended as RollbackFailed at " in caught.value.what
    assert "ignition unlock production --as NAME --reason …" in caught.value.hint
    assert "ignition rollback production --to VERSION" in caught.value.hint
    assert "ignition reject" not in caught.value.hint


def test_the_same_run_gets_its_lock_again(ledger):
    first = ledger.acquire("production", "r1", "Ada", "deploy")
    again = ledger.acquire("production", "r1", "Ada", "deploy, after a gate")

    assert (again.token, again.acquired_at) == (first.token, first.acquired_at)
    assert kinds(ledger, "r1") == ["lock_taken"]


def test_of_many_runs_at_once_one_gets_the_environment(ledger):
    barrier = threading.Barrier(8)

    def try_it(number: int) -> bool:
        barrier.wait()
        try:
            ledger.acquire("production", f"r{number}", "Ada", "deploy")
        except EnvironmentLocked:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(try_it, range(8))) == 1


def test_a_released_environment_is_free_and_the_next_token_is_larger(ledger):
    first = ledger.acquire("production", "r1", "Ada", "deploy")

    assert not ledger.release("production", "r2"), "only the holder gives it back"
    assert ledger.heartbeat("production", "r1")
    assert ledger.release("production", "r1")
    assert not ledger.release("production", "r1")

    assert ledger.holder("production") is None
    assert not ledger.heartbeat("production", "r1")
    assert ledger.acquire("production", "r2", "Bob", "deploy").token > first.token
    assert kinds(ledger, "r1") == ["lock_taken", "lock_released"]


def test_how_long_a_holder_has_been_silent_is_told_by_the_ledgers_own_clock(ledger):
    ledger.acquire("production", "r1", "Ada", "deploy")
    with ledger._connect() as connection:
        connection.execute(
            "UPDATE environment_locks SET heartbeat_at = clock_timestamp() - interval '1 hour'"
        )

    assert ledger.holder("production").silent >= timedelta(hours=1)
    assert ledger.heartbeat("production", "r1")
    assert ledger.holder("production").silent < timedelta(minutes=1)


def test_a_broken_lock_is_written_down_with_who_and_why(ledger):
    ledger.acquire("production", "r1", "Ada", "deploy")

    broken = ledger.break_lock("production", "Bob", "the worker is gone")

    assert broken is not None
    assert broken.run_id == "r1"
    assert ledger.break_lock("production", "Bob", "again") is None
    event = ledger.events(kinds=[EventKind.LOCK_BROKEN])[0]
    assert (event.payload["owner"], event.payload["reason"]) == ("Bob", "the worker is gone")
    assert not ledger.heartbeat("production", "r1")


def test_a_lock_is_taken_from_the_run_that_was_meant_alone(ledger):
    ledger.acquire("production", "r1", "Ada", "deploy")

    assert ledger.break_lock("production", "Bob", "r0 waits", held_by="r0") is None
    assert ledger.heartbeat("production", "r1")

    assert ledger.break_lock("production", "Bob", "r1 waits", held_by="r1") is not None
    assert ledger.holder("production") is None


def test_a_recovery_takes_the_lock_over_and_the_old_holder_has_lost_it(ledger):
    first = ledger.acquire("production", "r1", "Ada", "deploy")

    taken = ledger.take_over("production", ["r1"], "r2", "recover", "r1 crashed")

    assert (taken.run_id, taken.owner) == ("r2", "recover")
    assert taken.token > first.token
    assert not ledger.heartbeat("production", "r1"), "should it wake up, it has to stop"
    assert not ledger.release("production", "r1")
    assert kinds(ledger, "r1") == ["lock_taken", "lock_taken_over"]
    assert ledger.release("production", "r2")


def test_a_lock_is_taken_over_from_the_run_that_ended_and_from_no_other(ledger):
    with pytest.raises(BadRequest, match="production is free"):
        ledger.take_over("production", ["r1"], "r2", "recover", "r1 crashed")
    ledger.acquire("production", "r3", "Bob", "deploy")

    with pytest.raises(EnvironmentLocked, match="held by Bob, run d-r3"):
        ledger.take_over("production", ["r1"], "r2", "recover", "r1 crashed")

    assert ledger.heartbeat("production", "r3")


def test_a_dead_ledger_gives_no_lock_and_takes_one_back_later(ledger):
    ledger.acquire("production", "r1", "Ada", "deploy")
    down = away(ledger)

    with pytest.raises(Unreachable):
        down.acquire("staging", "r9", "Ada", "deploy")
    assert not down.release("production", "r1"), "it is not free yet"
    assert ledger.holder("production") is not None

    ledger.acquire("production", "r2", "Bob", "the kept release is written first")
    assert kinds(ledger, "r1") == ["lock_taken", "lock_released"]


# --- what it is asked -----------------------------------------------------------------------------


def test_one_session_at_a_time_has_the_turn_to_watch_an_environment(ledger):
    now, soon = timedelta(), timedelta(seconds=10)
    with ledger.turn("production", now) as first:
        with ledger.turn("production", now) as second, ledger.turn("staging", now) as elsewhere:
            pass
        with ThreadPoolExecutor() as pool:
            waiting = pool.submit(has_turn, ledger, "production", soon)
            sql(ledger, ENDS_THE_TURN)  # as the end of the process would
            third = waiting.result(timeout=10)

    assert (first, second, elsewhere, third) == (True, False, True, True)


def test_a_dead_ledger_gives_no_turn(ledger):
    with pytest.raises(Unreachable), away(ledger).turn("staging", timedelta()):
        pass


def test_the_log_holds_every_deployment_newest_first_and_no_plans(ledger):
    for number, ending in enumerate(["Deployed", "RolledBack", "Planned", "NothingToDo"], start=1):
        payload = an_ending(f"v1.{number}.0", ending, revision="abc", image=IMAGE)
        ledger.record("production", f"r{number}", EventKind.DEPLOYMENT_ENDED, payload=payload)
    ledger.record("staging", "r5", EventKind.DEPLOYMENT_ENDED, payload=an_ending("v1.5.0"))

    assert [row.version for row in ledger.log()] == ["v1.5.0", "v1.2.0", "v1.1.0"]
    assert [row.version for row in ledger.log("production", limit=1)] == ["v1.2.0"]
    row = ledger.log("production")[1]
    assert (row.image, row.digest, row.revision) == (IMAGE, f"sha256:{'a' * 64}", "abc")


def test_only_releases_that_served_can_be_returned_to(ledger):
    for number, ending in enumerate(["Deployed", "RolledBack", "RollbackDone"], start=1):
        payload = an_ending(f"v1.{number}.0", ending, image=IMAGE)
        ledger.record("production", f"r{number}", EventKind.DEPLOYMENT_ENDED, payload=payload)

    assert [row.version for row in ledger.served("production")] == ["v1.3.0", "v1.1.0"]


def test_a_p0_counts_from_the_moment_that_is_asked_for(ledger):
    before = datetime.now(UTC)
    assert ledger.p0_declared("production", before) is None

    ledger.record("production", "r1", EventKind.P0_DECLARED, payload={"reason": "charged twice"})

    declared = ledger.p0_declared("production", before)
    assert declared is not None
    assert declared.payload["reason"] == "charged twice"
    assert ledger.p0_declared("production", before + timedelta(hours=1)) is None
    assert ledger.p0_declared("staging", before) is None
