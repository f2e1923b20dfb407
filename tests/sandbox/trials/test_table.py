"""What counts as a right ending of a trial, and how the table shows it."""

from dataclasses import replace
from typing import Any

import pytest

from sandbox.errors import SandboxError
from sandbox.parts.origin import BRANCHES
from sandbox.trials import table as trial_table
from sandbox.trials.table import HEAD, SCENARIOS, Observed, Scenario, Trial, chosen, rows, wrongs

ROLLED_BACK = Scenario(
    "bad", "a bad one", "bad/dies", "RolledBack", "why", harm=trial_table.Harm(share=0.1)
)
STAYS = Scenario("good", "a good one", "main", "Deployed", "why")
UNMET = replace(ROLLED_BACK, may_meet=False, harm=trial_table.NO_HARM)
IDLE = replace(STAYS, rate=0.0)
DOWN = replace(ROLLED_BACK, harm=trial_table.Harm(outage=2.0))  # 600 requests
P0 = replace(ROLLED_BACK, p0=True)
SAYS = replace(ROLLED_BACK, says=r"error rate .*%")

BACK = Observed(
    version="v1.2.0",
    before="v1.1.0",
    ending="RolledBack",
    message="error rate 7.2% > 5.0%\nhint: ignition status staging",
    serves="v1.1.0",
    answered_after={"v1.1.0": 600},
    requests=9000,
    failed=50,
    met=1000,
    failed_by_it=50,
    containers=(("staging-api-2", "api@sha256:1", "running"),),
    pinned="api@sha256:1",
    took=40.0,
    to_restore=1.5,
)
STAYED = replace(
    BACK,
    ending="Deployed",
    message="v1.2.0 replaced v1.1.0",
    serves="v1.2.0",
    answered_after={"v1.2.0": 600},
    failed=0,
    failed_by_it=0,
    to_restore=None,
)
NOBODY = replace(BACK, met=0, failed=0, failed_by_it=0)
QUIET = replace(STAYED, requests=0, met=0, answered_after={})


@pytest.mark.parametrize(
    ("scenario", "seen"),
    [
        (ROLLED_BACK, BACK),
        (STAYS, STAYED),
        (UNMET, NOBODY),
        (IDLE, QUIET),
        (DOWN, replace(BACK, failed=600, failed_by_it=0)),
        (P0, replace(BACK, p0_ending="HandedOver")),
        (SAYS, BACK),
        (replace(STAYS, harm=trial_table.Harm(share=0.05)), replace(STAYED, failed=50,
         failed_by_it=50, cleaned_up="RollbackDone")),
    ],
)  # fmt: skip
def test_a_trial_that_ended_as_it_has_to_has_nothing_wrong(
    scenario: Scenario, seen: Observed
) -> None:
    assert wrongs(scenario, seen) == ()


@pytest.mark.parametrize(
    ("scenario", "seen", "changed", "sentence"),
    [
        (ROLLED_BACK, BACK, {"ending": "Deployed"}, "ended as Deployed, not RolledBack: error"),
        (STAYS, STAYED, {"ending": "RolledBack"}, "ended as RolledBack, not Deployed: v1.2.0 rep"),
        (SAYS, BACK, {"message": "the auth flow is broken"}, "does not say 'error rate .*%': the"),
        (ROLLED_BACK, BACK, {"serves": "v1.2.0"}, "serves v1.2.0 afterwards, not v1.1.0"),
        (ROLLED_BACK, BACK, {"serves": ""}, "serves nothing afterwards, not v1.1.0"),
        (STAYS, STAYED, {"serves": "v1.1.0"}, "serves v1.1.0 afterwards, not v1.2.0"),
        (
            ROLLED_BACK,
            BACK,
            {"answered_after": {"v1.1.0": 599, "v1.2.0": 1}},
            "1 requests after the end were answered by v1.2.0",
        ),
        (
            STAYS,
            STAYED,
            {"answered_after": {"v1.2.0": 598, "": 2}},
            "2 requests after the end were answered by no release",
        ),
        (ROLLED_BACK, BACK, {"answered_after": {}}, "no request was sent after the run had ended"),
        (UNMET, NOBODY, {"met": 1}, "1 requests reached the release"),
        (STAYS, STAYED, {"met": 0}, "no request reached the release"),
        (ROLLED_BACK, BACK, {"held_by": "1874ab"}, "the environment is still held by 1874ab"),
        (
            ROLLED_BACK,
            BACK,
            {"containers": (*BACK.containers, ("staging-api-3", "api@sha256:2", "exited"))},
            "is left, but: staging-api-2 running, staging-api-3 exited",
        ),
        (
            ROLLED_BACK,
            BACK,
            {"containers": (("staging-api-2", "api@sha256:1", "exited"),)},
            "is left, but: staging-api-2 exited",
        ),
        (ROLLED_BACK, BACK, {"pinned": "api@sha256:2"}, "is left, but: staging-api-2 running"),
        (ROLLED_BACK, BACK, {"containers": ()}, "is left, but: none"),
        (
            ROLLED_BACK,
            BACK,
            {"failed": 101, "failed_by_it": 101},
            "the release failed 101 of 1000 requests, allowed: 10% of its answers",
        ),
        (ROLLED_BACK, BACK, {"failed": 51}, "1 requests failed that the release did not answer"),
        (STAYS, STAYED, {"failed": 1}, "1 requests failed that the release did not answer"),
        (
            STAYS,
            STAYED,
            {"failed": 7, "failed_before": 7},
            "7 requests failed before the release was started: this machine does not carry",
        ),
        (DOWN, BACK, {"failed": 601}, "601 requests failed, 600 are allowed"),
        (ROLLED_BACK, BACK, {"requests": 0}, "no request was sent"),
        (P0, BACK, {"p0_ending": "RollbackFailed"}, "P0's own run ended as RollbackFailed"),
        (P0, BACK, {"p0_ending": ""}, "the P0's own run ended as nothing"),
        (STAYS, STAYED, {"cleaned_up": "RollbackFailed"}, "afterwards ended as RollbackFailed"),
    ],
)
def test_what_is_wrong_is_a_sentence(
    scenario: Scenario, seen: Observed, changed: dict[str, Any], sentence: str
) -> None:
    (wrong,) = wrongs(scenario, replace(seen, **changed))

    assert sentence in wrong


def test_every_branch_of_the_table_is_one_of_the_origin() -> None:
    branches = {"main", *(branch.name for branch in BRANCHES)}

    assert {scenario.branch for scenario in SCENARIOS} <= branches


def test_every_scenario_has_a_name_of_its_own_and_a_reason() -> None:
    assert len({scenario.name for scenario in SCENARIOS}) == len(SCENARIOS)
    assert all(scenario.why and scenario.title for scenario in SCENARIOS)


def test_a_release_that_nobody_meets_harms_nobody() -> None:
    assert all(s.harm == trial_table.NO_HARM for s in SCENARIOS if not s.may_meet)


def test_some_can_be_chosen_by_name() -> None:
    assert chosen("") == SCENARIOS
    assert [scenario.name for scenario in chosen("slow, good")] == ["good", "slow"]
    with pytest.raises(SandboxError, match="no trial is called 'slo'; there are: good, "):
        chosen("slo")


def test_a_trial_comes_back_from_its_file_as_it_was() -> None:
    trial = Trial.of(ROLLED_BACK, replace(BACK, held_by="1874ab"))

    assert trial.wrongs == ("the environment is still held by 1874ab",)
    assert trial.message == "error rate 7.2% > 5.0%"
    assert Trial.from_json({**vars_of(trial), "wrongs": list(trial.wrongs)}) == trial


def vars_of(trial: Trial) -> dict[str, Any]:
    return {name: getattr(trial, name) for name in trial.__dataclass_fields__}


def test_the_table_counts_what_ended_right() -> None:
    first, second = SCENARIOS[:2]
    good = Trial(first.name, (), 9000, 0, 100, 40.0, None, "")
    bad = replace(good, wrongs=("serves nothing",), failed=12, took=50.0, to_restore=2.0)

    found = rows([good, bad, replace(good, to_restore=3.0)])

    assert all(len(row) == len(HEAD) for row in found)
    assert found[0][:4] == (first.title, first.ending, "2 of 3", "0 to 12 of 9,000")
    assert found[0][5:7] == ("2.5 [2.0–3.0]", "40")
    assert found[1][:4] == (second.title, second.ending, "not run", "–")
