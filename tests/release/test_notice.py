"""What people are told: what, where, which version, until when, and where to act."""

from datetime import UTC, datetime

import pytest

from release.evidence import Evidence, EvidenceVerdict
from release.notice import Page, gate_opened, gate_waits, run_ended
from release.outcome import Ending, Report
from release.recovery import OpenGate

AT = datetime(2026, 11, 3, 14, 2, tzinfo=UTC)
RUN = "1874ab00-0000-4000-8000-000000000000"
PAGE = Page(RUN, "http://prefect:4200")
WHERE = [
    f"sign in the UI (⋮, then Resume): http://prefect:4200/v2/runs/flow-run/{RUN}",
    f"in the classic UI (Resume): http://prefect:4200/runs/flow-run/{RUN}",
    "or in a shell: ignition approve d-1874ab --as NAME",
]
GATE = OpenGate(
    "Pre",
    items=("pager",),
    signed=("tests by Ada",),
    until="",
    about="**production**: v1.0.0 → **v1.1.0** (`01ab`)",
    evidence="tests passed; pager unknown",
)


@pytest.mark.parametrize(
    "ui", ["http://prefect:4200", "http://prefect:4200/", "http://prefect:4200/v2"]
)
def test_both_uis_are_named_because_resume_is_in_different_places(ui: str) -> None:
    assert list(Page(RUN, ui).lines) == WHERE


def test_a_gate_that_opens_says_all_that_one_needs_to_decide_to_get_up() -> None:
    evidence = [Evidence("tests", EvidenceVerdict.PASSED, "3 checks passed", "ci", AT)]
    notice = gate_opened(
        "production",
        ["**production**: v1.0.0 → **v1.1.0** (`01ab`)"],
        ["tests"],
        evidence,
        AT,
        PAGE,
    )

    assert notice.subject == (
        "[d-1874ab] production waits for signatures: production: v1.0.0 → v1.1.0 (01ab)"
    )
    assert notice.body.splitlines() == [
        "open: tests",
        "evidence: tests passed",
        "until: 2026-11-03 14:02 UTC",
        *WHERE,
    ]


def test_a_reminder_says_all_of_it_again_and_how_much_time_is_over() -> None:
    notice = gate_waits("production", GATE, AT, "half", PAGE)

    assert notice.subject == (
        "[d-1874ab] production still waits for signatures: half of the time has passed"
    )
    assert notice.body.splitlines() == [
        "what: production: v1.0.0 → v1.1.0 (01ab)",
        "open: pager",
        "signed: tests by Ada",
        "evidence: tests passed; pager unknown",
        "until: 2026-11-03 14:02 UTC, then the run ends",
        *WHERE,
    ]


def test_an_ending_says_what_serves_and_what_is_left_to_do() -> None:
    report = Report(
        "production", "d-1874ab", Ending.EXPIRED, "not signed: pager", "v1.0.0", "", (), (), AT
    )
    notice = run_ended(report, "v1.1.0", PAGE)

    assert notice.subject == "[d-1874ab] production: Expired (v1.1.0), serves v1.0.0"
    assert notice.body.splitlines() == [
        "not signed: pager",
        "to do: nothing",
        f"the run: http://prefect:4200/v2/runs/flow-run/{RUN}",
    ]
