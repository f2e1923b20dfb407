"""What people are told: what, where, which version, until when, and where to act."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from release.errors import SourceRefused
from release.notice import (
    Asked,
    Notice,
    Page,
    breach_alert,
    gate_answered,
    gate_opened,
    gate_waits,
    left_locked,
    nightly_refused,
    run_ended,
)
from release.outcome import Ending, Report

AT = datetime(2026, 11, 3, 14, 2, tzinfo=UTC)
RUN = "1874ab00-0000-4000-8000-000000000000"
PAGE = Page(RUN, "http://prefect:4200")
WHERE = [
    f"sign in the UI (⋮, then Resume): http://prefect:4200/v2/runs/flow-run/{RUN}",
    f"in the classic UI (Resume): http://prefect:4200/runs/flow-run/{RUN}",
    "or in a shell: ignition approve d-1874ab --as NAME",
]
ASKED = Asked(
    "production",
    about="**production**: v1.0.0 → **v1.1.0** (`01ab`)",
    open="pager",
    serves="v1.0.0",
    evidence="tests passed; pager unknown",
    until=AT,
)
SAYS = [
    "evidence: tests passed; pager unknown",
    "until: 2026-11-03 14:02 UTC, then the run ends",
    "production serves v1.0.0",
    *WHERE,
]


@pytest.mark.parametrize(
    "ui", ["http://prefect:4200", "http://prefect:4200/", "http://prefect:4200/v2"]
)
def test_both_uis_are_named_because_resume_is_in_different_places(ui: str) -> None:
    assert list(Page(RUN, ui).lines) == WHERE


def test_a_gate_that_opens_says_all_that_one_needs_to_decide_to_get_up() -> None:
    notice = gate_opened(ASKED, PAGE)

    assert notice.subject == ("[d-1874ab] production: v1.0.0 → v1.1.0 (01ab) waits for signatures")
    assert notice.body.splitlines() == ["open: pager", *SAYS]


def test_a_reminder_says_all_of_it_again_and_how_much_time_is_over() -> None:
    notice = gate_waits(replace(ASKED, signed=("tests by Ada",)), "half", PAGE)

    assert notice.subject == (
        "[d-1874ab] production: v1.0.0 → v1.1.0 (01ab) still waits for signatures: half of the "
        "time has passed"
    )
    assert notice.body.splitlines() == ["open: pager", "signed: tests by Ada", *SAYS]


def test_an_answer_that_leaves_the_gate_open_is_told_with_what_is_still_missing() -> None:
    notice = gate_answered(ASKED, "Ada has signed tests; still missing: pager", PAGE)

    assert notice.subject == (
        "[d-1874ab] production: v1.0.0 → v1.1.0 (01ab) still waits for signatures: Ada has signed "
        "tests; still missing: pager"
    )
    assert notice.body.splitlines() == ["open: pager", *SAYS]


def test_an_ending_says_who_started_it_what_serves_and_what_is_left_to_do() -> None:
    report = Report(
        "production", "d-1874ab", Ending.EXPIRED, "not signed: pager", "v1.0.0", "", (), (), AT
    )
    notice = run_ended(report, "v1.1.0", "Ada", PAGE)

    assert notice.subject == (
        "[d-1874ab] production v1.1.0: Expired (started by Ada); production serves v1.0.0"
    )
    assert notice.body.splitlines() == [
        "not signed: pager",
        "to do: nothing",
        f"the run: http://prefect:4200/v2/runs/flow-run/{RUN}",
    ]


@pytest.mark.parametrize("serves", ["v1.0.0", ""])
def test_a_nightly_that_is_refused_says_so_and_what_to_do(serves: str) -> None:
    notice = nightly_refused(
        "staging", "main", SourceRefused("main is bad", "mend it"), serves, PAGE
    )

    assert notice.subject == "[d-1874ab] staging main: Refused (started by nightly)" + (
        "; staging serves v1.0.0" if serves else ""
    )
    assert notice.body.splitlines() == [
        "main is bad; nothing was changed",
        "to do: mend it",
        f"the run: http://prefect:4200/v2/runs/flow-run/{RUN}",
    ]


@pytest.mark.parametrize(
    "notice",
    [
        breach_alert("production", "health check failed", "it is old", "v1.0.0", PAGE),
        left_locked("production", "the run crashed", "v1.0.0", "look", PAGE),
    ],
)
def test_a_call_for_help_says_what_serves_first_and_links_to_the_run(notice: Notice) -> None:
    assert notice.subject.startswith(
        "[d-1874ab] production serves v1.0.0 and needs somebody to look: "
    )
    assert f"the run: http://prefect:4200/v2/runs/flow-run/{RUN}" in notice.body
