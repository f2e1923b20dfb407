"""Every line of a run's log: its label, the heading it is at, one fact."""

import logging
from threading import Thread

import pytest
from prefect import flow

from release.ledger import short_run
from release.model import Step
from tasks.say import say, sayer, speak_for, speaking


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture):  # type: ignore[no-untyped-def]
    """What a run has said so far."""
    return lambda: [r.getMessage() for r in caplog.records if r.getMessage().startswith("[")]


def test_a_line_names_the_run_and_the_heading_that_it_is_at(lines) -> None:
    @flow
    def run() -> None:
        with speaking():
            speak_for("d-1874ab")
            say("begins")
            with speaking(heading=Step.DEPLOY.short):
                say("api is drained")
                with speaking(heading=Step.ROLLBACK.short):
                    say("to v1.0.0")
                say("api is stopped")

    run()

    assert lines() == [
        "[d-1874ab] begins",
        "[d-1874ab] 4. Deploy   api is drained",
        "[d-1874ab] Rollback    to v1.0.0",
        "[d-1874ab] 4. Deploy   api is stopped",
    ]


def test_a_run_of_which_no_label_was_given_is_named_by_its_own_id(lines) -> None:
    @flow
    def run() -> str:
        from prefect.runtime import flow_run

        say("it was refused")
        return str(flow_run.id)

    ran = run()

    assert lines() == [f"[{short_run(ran)}] it was refused"]


def test_the_label_of_a_run_is_forgotten_at_its_end(lines) -> None:
    """A worker's process may carry out another run next."""

    @flow
    def run(label: str) -> None:
        with speaking():
            if label:
                speak_for(label)
            say("goes on")

    run("d-1874ab")
    run("")

    assert lines()[0] == "[d-1874ab] goes on"
    assert "d-1874ab" not in lines()[1]


def test_a_thread_says_its_lines_where_it_was_started(lines, caplog) -> None:
    """It has no context of its own."""

    @flow
    def run() -> None:
        with speaking(run="d-1874ab", heading=Step.MIGRATE.short):
            thread = Thread(target=sayer(logging.WARNING), args=("0016_add.sql waits",))
            thread.start()
            thread.join()

    run()

    assert lines() == ["[d-1874ab] 3. Migrate  0016_add.sql waits"]
    assert [r.levelname for r in caplog.records if "waits" in r.getMessage()] == ["WARNING"]
