"""What is left of a run that ended without saying so, read from its events alone."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from release.errors import BadRequest
from release.ledger import Event, EventKind, Lock
from release.model import ImageRef, Release, Step
from release.rollback.recovery import (
    LONGEST_SILENCE,
    Action,
    Before,
    OpenGate,
    found_before,
    is_gone,
    open_gate_of,
    planned_baseline,
    recovery_of,
    replaced_release,
    restored_since,
    run_of,
)

IMAGE = ImageRef("registry/api", "sha256:" + "1" * 64)
AT = datetime(2026, 11, 3, 14, 2, tzinfo=UTC)
RUN = "1874ab00-0000-4000-8000-000000000000"


def event(kind: EventKind, step: str = "", **payload: Any) -> Event:
    return Event(1, AT, "production", RUN, kind, step, payload)


TAKEN = event(EventKind.LOCK_TAKEN)
PLANNED = event(EventKind.STEP_BEGUN, Step.PLAN)
ASKED = event(EventKind.STEP_BEGUN, Step.CHECKLIST)
OPENED = event(
    EventKind.GATE_OPENED,
    Step.CHECKLIST,
    items=["tests", "pager"],
    until="2026-11-03T22:02:00Z",
    about="v1.1.0",
    evidence="tests passed",
)
SIGNED = event(EventKind.ITEM_SIGNED, Step.CHECKLIST, item="plan", approver="Ada")
CLOSED = event(EventKind.GATE_CLOSED, Step.CHECKLIST)
TAGGED = event(EventKind.STEP_BEGUN, Step.PREPARE)
ENDED = event(EventKind.DEPLOYMENT_ENDED)
WAITING = [TAKEN, PLANNED, ASKED, OPENED]


@pytest.mark.parametrize(
    ("events", "state", "action", "says"),
    [
        ([], "FAILED", Action.NOTHING, "it never held the environment"),
        ([PLANNED], "CRASHED", Action.NOTHING, "it never held the environment"),
        ([*WAITING, ENDED], "FAILED", Action.NOTHING, "it ended by itself"),
        (
            [*WAITING, event(EventKind.LOCK_RELEASED)],
            "FAILED",
            Action.NOTHING,
            "it ended by itself",
        ),
        ([*WAITING, event(EventKind.LOCK_BROKEN)], "CRASHED", Action.NOTHING, "it ended by itself"),
        (
            WAITING,
            "FAILED",
            Action.SETTLE,
            "the gate's time is over; not signed: tests, pager",
        ),
        (
            WAITING,
            "CANCELLED",
            Action.SETTLE,
            "the run was cancelled at its gate; not signed: tests, pager",
        ),
        (WAITING, "CRASHED", Action.SETTLE, "the run crashed at its gate; not signed: tests, pag"),
        (WAITING, "COMPLETED", Action.SETTLE, "the run was called completed by hand at its gate"),
        ([TAKEN, PLANNED], "CRASHED", Action.SETTLE, "the run crashed before anything was changed"),
        (
            [*WAITING, CLOSED],
            "CANCELLED",
            Action.SETTLE,
            "the run was cancelled before anything was changed",
        ),
    ],
)
def test_only_a_run_that_changed_nothing_is_settled(
    events: list[Event], state: str, action: Action, says: str
) -> None:
    found = recovery_of(events, state, 1)
    assert found.action is action
    assert found.sentence.startswith(says)


@pytest.mark.parametrize("step", [Step.PREPARE, Step.BUILD, Step.MIGRATE])
def test_a_run_that_crashed_before_the_cutover_goes_on_once(step: Step) -> None:
    """What serves is the baseline, and what the run has done is found when it goes on."""
    crashed = [*WAITING, CLOSED, TAGGED, event(EventKind.STEP_BEGUN, step)]

    first = recovery_of(crashed, "CRASHED", 1)
    second = recovery_of([*crashed, event(EventKind.RESUMED, begun=1)], "CRASHED", 2)

    assert first.action is Action.RESUME
    assert first.sentence == f"the run crashed in {step.value!r}; it goes on where it stopped, once"
    assert (second.action, second.sentence) == (
        Action.SETTLE,
        f"the run crashed in {step.value!r}",
    )


def test_a_late_word_of_the_death_that_was_seen_to_is_no_second_crash() -> None:
    """The run has not begun again since; a worker that never gets it to begin ends that."""
    crashed = [*WAITING, CLOSED, TAGGED]
    resumed = event(EventKind.RESUMED, begun=1)

    attempts = [recovery_of([*crashed, *[resumed] * n], "CRASHED", 1) for n in range(4)]

    assert [found.action for found in attempts] == [*[Action.RESUME] * 3, Action.SETTLE]
    assert [found.attempt for found in attempts] == [1, 2, 3, 0]


@pytest.mark.parametrize("state", ["CANCELLED", "FAILED", "COMPLETED"])
def test_what_a_person_ended_before_the_cutover_is_not_resumed(state: str) -> None:
    found = recovery_of([*WAITING, CLOSED, TAGGED], state, 1)

    assert found.action is Action.SETTLE
    assert "in '1. Prepare Release'" in found.sentence


PLAN = event(EventKind.PLAN_MADE, baseline="r/api@sha256:11", to="v1.0.0")
TOUCHED = [*WAITING, PLAN, CLOSED, TAGGED, event(EventKind.STEP_BEGUN, Step.DEPLOY)]


@pytest.mark.parametrize("state", ["CRASHED", "CANCELLED", "FAILED", "COMPLETED"])
@pytest.mark.parametrize("step", [Step.DEPLOY, Step.VERIFY, Step.POST, Step.ROLLBACK])
def test_once_instances_were_touched_the_baseline_is_restored(state: str, step: Step) -> None:
    found = recovery_of([*TOUCHED, event(EventKind.STEP_BEGUN, step)], state, 1)

    assert found.action is Action.ROLL_BACK
    assert (found.to, found.version, found.finishes) == ("r/api@sha256:11", "v1.0.0", False)
    assert f"in {step.value!r}" in found.sentence


def test_a_crash_is_not_resumed_beside_users_however_often_it_was_before() -> None:
    resumed = [*TOUCHED, event(EventKind.RESUMED)]

    assert recovery_of(resumed, "CRASHED", 1).action is Action.ROLL_BACK


def test_a_release_that_has_passed_its_watch_stays() -> None:
    passed = [
        *TOUCHED,
        event(EventKind.STEP_BEGUN, Step.POST),
        event(EventKind.STEP_DONE, Step.POST),
    ]

    assert recovery_of(passed, "CRASHED", 1).action is Action.RESUME
    for events, state in (
        ([*passed, event(EventKind.RESUMED)], "CRASHED"),
        (passed, "CANCELLED"),
    ):
        found = recovery_of(events, state, 1)
        assert found.action is Action.SETTLE
        assert "after its watch had passed" in found.sentence


def test_a_rollback_that_was_interrupted_is_finished() -> None:
    rollback = [
        TAKEN,
        event(EventKind.STEP_BEGUN, Step.ROLLBACK),
        event(EventKind.ROLLBACK_STARTED, baseline="r/api@sha256:00", to="v0.9.0"),
    ]

    found = recovery_of(rollback, "CRASHED", 1)

    assert found.action is Action.ROLL_BACK
    assert (found.to, found.version, found.finishes) == ("r/api@sha256:00", "v0.9.0", True)


SOUGHT = [TAKEN, event(EventKind.STEP_BEGUN, Step.ROLLBACK)]


def test_a_rollback_that_had_not_found_its_target_goes_on_once() -> None:
    """It has touched nothing; somebody wants another release to serve."""
    found = recovery_of(SOUGHT, "CRASHED", 1)
    assert (found.action, found.attempt) == (Action.RESUME, 1)

    again = recovery_of([*SOUGHT, event(EventKind.RESUMED, begun=1)], "CRASHED", 2)
    assert again.action is Action.SETTLE


@pytest.mark.parametrize("state", ["CANCELLED", "FAILED", "COMPLETED"])
def test_a_rollback_that_a_person_ended_before_it_touched_anything_does_not_go_on(
    state: str,
) -> None:
    assert recovery_of(SOUGHT, state, 1).action is Action.SETTLE


def test_where_no_baseline_was_recorded_a_person_decides() -> None:
    """A run of an older version: nothing is done to what serves."""
    found = recovery_of([event for event in TOUCHED if event is not PLAN], "CRASHED", 1)

    assert found.action is Action.TELL
    assert "which release it is to go back to is not known" in found.sentence


@pytest.mark.parametrize(
    ("state", "expired"), [("FAILED", True), ("CANCELLED", False), ("COMPLETED", False)]
)
def test_a_gate_whose_time_is_over_has_expired_and_a_cancelled_one_has_not(
    state: str, expired: bool
) -> None:
    assert recovery_of(WAITING, state, 1).expired is expired


def test_an_open_gate_says_what_is_open_and_who_signed() -> None:
    assert open_gate_of([*WAITING, SIGNED]) == OpenGate(
        Step.CHECKLIST,
        ("tests", "pager"),
        ("plan by Ada",),
        "2026-11-03T22:02:00Z",
        "v1.1.0",
        "tests passed",
        since=AT,
        opened=AT,
    )


def reopened(**payload: Any) -> Event:
    return replace(OPENED, payload={"items": ["tests", "pager"], **payload})


BY_ADA = [{"item": "tests", "approver": "Ada"}, {"item": "pager", "approver": "Ada"}]
LACKS = "2 different people must sign, Ada has: 1 to go"


def test_where_only_a_second_person_is_missing_no_item_is_called_open() -> None:
    """The form offers them all, for somebody who has not signed yet."""
    gate = open_gate_of(
        [*WAITING, reopened(more={"tests": 0, "pager": 0}, signed=BY_ADA, lacks=LACKS)]
    )

    assert gate is not None
    assert (gate.items, gate.signed) == ((), ("tests by Ada", "pager by Ada"))
    assert gate.open == LACKS


def test_an_item_that_needs_two_is_open_until_both_have_signed() -> None:
    gate = open_gate_of(
        [*WAITING, reopened(more={"tests": 1, "pager": 0}, signed=BY_ADA, lacks=LACKS)]
    )

    assert gate is not None
    assert gate.items == ("tests",)
    assert gate.open == "not signed: tests"


def test_a_signature_counts_before_the_gate_has_opened_again() -> None:
    opened = reopened(more={"tests": 1, "pager": 2})
    ada = event(EventKind.ITEM_SIGNED, Step.CHECKLIST, item="tests", approver="Ada")
    both = [*WAITING, opened, ada, event(EventKind.ITEM_SIGNED, Step.CHECKLIST, item="pager")]

    gate = open_gate_of(both)

    assert gate is not None
    assert gate.items == ("pager",)


def test_a_signature_that_fell_with_its_evidence_is_not_called_one() -> None:
    gate = open_gate_of([*WAITING, SIGNED, reopened(more={"tests": 1, "pager": 1}, signed=[])])

    assert gate is not None
    assert (gate.items, gate.signed) == (("tests", "pager"), ())


def test_of_a_gate_that_an_older_version_opened_what_nobody_signed_is_open() -> None:
    gate = open_gate_of([*WAITING, reopened(signed=BY_ADA[:1])])

    assert gate is not None
    assert gate.items == ("pager",)


@pytest.mark.parametrize("after", [CLOSED, ENDED, event(EventKind.LOCK_RELEASED)])
def test_a_gate_that_is_over_reminds_nobody(after: Event) -> None:
    assert open_gate_of([*WAITING, after]) is None


def test_a_second_gate_waits_although_the_first_is_closed() -> None:
    later = event(EventKind.GATE_OPENED, Step.POST, items=["told"])
    found = open_gate_of([*WAITING, CLOSED, later])
    assert found is not None
    assert (found.section, found.items, found.until) == (Step.POST, ("told",), "")


@pytest.mark.parametrize("sent", [RUN, f"ignition.gate.{RUN}", f"prefect.flow-run.{RUN}"])
def test_a_run_is_found_in_what_an_automation_sends(sent: str) -> None:
    assert run_of(sent) == RUN


@pytest.mark.parametrize("sent", ["", "ignition.gate.", "{{ labels }}", "d-1874ab"])
def test_what_names_no_run_is_refused(sent: str) -> None:
    with pytest.raises(BadRequest, match="names no run"):
        run_of(sent)


def test_the_first_plan_says_where_a_run_is_to_go_back_to() -> None:
    """One that was made again, after the release served, would name the release itself."""
    again = event(EventKind.PLAN_MADE, baseline="r/api@sha256:22", to="v1.1.0")

    assert planned_baseline([]) == ""
    assert planned_baseline([PLAN, again]) == "r/api@sha256:11"


def test_the_first_plan_says_what_a_deployment_replaced() -> None:
    digests = ["sha256:" + digit * 64 for digit in "12"]
    first, again = (
        event(EventKind.PLAN_MADE, baseline=f"r/api@{digest}", to=version)
        for digest, version in zip(digests, ("v1.0.0", "v1.1.0"), strict=True)
    )
    nothing = event(EventKind.PLAN_MADE, baseline="nothing", to="nothing")

    assert replaced_release([first, again]) == Release("v1.0.0", "", ImageRef("r/api", digests[0]))
    assert replaced_release([nothing]) is None
    assert replaced_release([TAKEN]) is None


@pytest.mark.parametrize(
    ("silent", "gone"),
    [
        (timedelta(), False),
        (LONGEST_SILENCE, False),  # four signs that did not come are no death
        (LONGEST_SILENCE + timedelta.resolution, True),
    ],
)
def test_a_run_that_gives_no_sign_of_life_is_gone(silent: timedelta, gone: bool) -> None:
    assert is_gone(Lock("production", RUN, "Ada", "v1.1.0", 7, AT, AT, silent), RUN) is gone


def test_a_run_that_does_not_hold_the_environment_is_not_missed() -> None:
    lock = Lock("production", "another", "Ada", "v1.1.0", 7, AT, AT, timedelta(hours=1))

    assert not is_gone(lock, RUN)


def plan(baseline: str, **found: Any) -> Event:
    return event(EventKind.PLAN_MADE, baseline=baseline, **found)


@pytest.mark.parametrize(
    ("events", "before"),
    [
        ([plan("old", instances=1, pin="")], Before(1, "")),
        ([plan("old", instances=2), plan("old", instances=1)], Before(1, "")),
        # One that was made again, after the release served, found the release itself.
        ([plan("old", instances=1), plan("new", instances=2)], Before(1, "")),
        ([plan("old", instances=0, pin="api:latest")], Before(0, "api:latest")),
        ([plan("old")], Before(None, "")),  # from before this was written down
        ([plan("other", instances=3)], Before(None, "")),
        ([], Before(None, "")),
    ],
)
def test_a_deployment_is_undone_to_what_its_plan_found(events: list[Event], before: Before) -> None:
    assert found_before(events, "old") == before


BACK = [
    event(EventKind.ROLLBACK_STARTED, baseline=str(IMAGE), to="v1.0.0"),
    event(EventKind.STEP_DONE, Step.ROLLBACK),
]


def test_what_a_rollback_has_brought_back_is_known_before_its_ending_says_so() -> None:
    """It is watched still, or was not well: whoever rolls back now goes further back than that."""
    assert restored_since(BACK, AT - timedelta(hours=1)) == Release("v1.0.0", "", IMAGE)
    assert restored_since(BACK, None) == Release("v1.0.0", "", IMAGE)


@pytest.mark.parametrize(
    ("events", "since"),
    [
        ([], None),
        (BACK[:1], None),
        ([*BACK[1:], event(EventKind.STEP_DONE, Step.POST)], None),
        ([event(EventKind.ROLLBACK_STARTED, baseline="nothing", to="nothing"), BACK[1]], None),
        (BACK, AT + timedelta(minutes=1)),
    ],
    ids=["none", "not done", "not begun", "to nothing", "its ending, or another deployment, came"],
)
def test_no_rollback_is_left_to_speak_of(events: list[Event], since: datetime | None) -> None:
    assert restored_since(events, since) is None
