"""The watch as a whole: when it ends well, goes on, or fails, and what never changes that."""

import random
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from release.configuration.rules import WatchRules
from release.measure.sample import Restarts
from release.measure.traffic import PROBES
from release.watch.triggers import (
    AUTH_NOT_CONFIGURED,
    Action,
    Decision,
    Sample,
    judge_watch,
)
from release.watch.verdict import Trigger
from release.watch.watched import Watch
from tests.fakes.samples import BASELINE, MS, RULES, SANDBOX, START, V, at, counted, took, watched


def up_and_down(until: float, minutes: float = 2) -> list[Sample]:
    """A service that is well and ill by turns; nothing counts its requests."""
    well, ill = (
        watched(until, good_health=good, requests=None, errors=None) for good in (True, False)
    )
    return [
        (bad if (bad.at - START).total_seconds() // (60 * minutes) % 2 else good)
        for good, bad in zip(well, ill, strict=True)
    ]


def two_bursts(until: float) -> list[Sample]:
    """Two bursts of errors, a minute each, with three between: no window is ill for 5 min."""
    return [
        *watched(105),
        *watched(165, since=120, errors=99),
        *watched(345, since=180),
        *watched(405, since=360, errors=99),
        *watched(until, since=420),
    ]


def decide(samples: list[Sample], rules: WatchRules = RULES) -> Decision:
    return judge_watch(Watch(V, BASELINE, rules, START), samples)


class TestWatch:
    @pytest.mark.parametrize(
        ("samples", "action"),
        [
            pytest.param([], Action.CONTINUE, id="no sample yet"),
            pytest.param(watched(585), Action.CONTINUE, id="9 min 45 s"),
            pytest.param(watched(600), Action.PASS, id="10 min"),
            pytest.param(
                watched(600, requests=None, errors=None), Action.PASS, id="the metrics are down"
            ),
            pytest.param(watched(600, p0=None), Action.PASS, id="the ledger is down"),
            pytest.param(
                watched(600, auth=None, auth_detail=AUTH_NOT_CONFIGURED),
                Action.PASS,
                id="no account for the auth flow",
            ),
            pytest.param(watched(600, auth=None), Action.CONTINUE, id="the auth flow is unproven"),
            pytest.param(watched(1200, auth=None), Action.FAIL, id="and stays unproven"),
            pytest.param(watched(600, good_health=None), Action.CONTINUE, id="health is unproven"),
            pytest.param(watched(1020, good_health=None), Action.CONTINUE, id="17 min: 3 are left"),
            pytest.param(watched(1035, good_health=None), Action.FAIL, id="too few to prove it in"),
            pytest.param(watched(315, good_health=False), Action.FAIL, id="health fails"),
            pytest.param(watched(315, errors=6), Action.FAIL, id="the error rate is too high"),
            pytest.param(watched(0, p0="data loss"), Action.FAIL, id="P0 at the first sample"),
            pytest.param(watched(15, auth=False), Action.FAIL, id="the auth flow is broken"),
            pytest.param(
                [*watched(405), *watched(600, since=420, good_health=False)],
                Action.CONTINUE,
                id="a breach under way at the end extends the watch",
            ),
            pytest.param(
                [*watched(405), *watched(735, since=420, good_health=False)],
                Action.FAIL,
                id="until it has lasted too long",
            ),
            pytest.param(
                [
                    *watched(405),
                    *watched(600, since=420, good_health=False),
                    *watched(615, since=615),
                ],
                Action.CONTINUE,
                id="one good look at its end is not enough",
            ),
            pytest.param(
                [
                    *watched(405),
                    *watched(600, since=420, good_health=False),
                    *watched(900, since=615),
                ],
                Action.PASS,
                id="but 5 min are",
            ),
            pytest.param(
                up_and_down(825),
                Action.CONTINUE,
                id="up and down by turns, two minutes each, is not well",
            ),
            pytest.param(
                up_and_down(840), Action.FAIL, id="and does not stay where that does not end"
            ),
            pytest.param(
                two_bursts(765), Action.CONTINUE, id="5 min are not enough after two bursts"
            ),
            pytest.param(two_bursts(780), Action.PASS, id="but when one of them is 10 min ago"),
            pytest.param(
                [*two_bursts(705), *watched(720, since=720, errors=99)],
                Action.FAIL,
                id="and a third, while it is watched on, is one too many",
            ),
            pytest.param(
                [
                    *watched(105),
                    *watched(315, since=120, errors=99),
                    *watched(630, since=330),
                ],
                Action.PASS,
                id="one burst, no longer than allowed, is forgiven after 5 min",
            ),
            pytest.param(
                [
                    *watched(285),
                    *watched(299, since=299, requests=600, errors=300),
                    *watched(600, since=345),
                ],
                Action.CONTINUE,
                id="a burst counted by a slow sample, that was begun before the last 5 min",
            ),
            pytest.param(
                [*watched(585), *watched(600, since=600, errors=99)],
                Action.CONTINUE,
                id="one burst at the end, which may be a breach",
            ),
            pytest.param(
                [
                    *watched(570),
                    *watched(585, since=585, good_health=False),
                    *watched(600, since=600),
                ],
                Action.PASS,
                id="one failed health check in twenty is well",
            ),
            pytest.param(
                [*watched(60), *watched(600, since=150)],
                Action.PASS,
                id="an early gap was made up for by 5 min without one",
            ),
            pytest.param(
                [*watched(405), *watched(600, since=495)],
                Action.CONTINUE,
                id="a late gap extends the watch",
            ),
            pytest.param(
                [*watched(405), *watched(795, since=495)],
                Action.PASS,
                id="until 5 min without one have passed",
            ),
        ],
    )
    def test_decides(self, samples: list[Sample], action: Action) -> None:
        assert decide(samples).action is action

    def test_a_proxy_that_is_restarted_rolls_no_good_release_back(self) -> None:
        """While it was away, only probes were sent, and failed; then it counts all users again, and
        the few probes beside them can never say that it is over."""
        away = [
            replace(one, traffic=counted(20, 15, PROBES)) for one in watched(4, SANDBOX, since=2)
        ]
        again = [
            replace(one, traffic=(*counted(30, 0), *counted(3, 0, PROBES)))
            for one in watched(12, SANDBOX, since=4.5)
        ]
        samples = [*watched(1.5, SANDBOX), *away, *again]
        began = decide(samples[:12], SANDBOX)
        assert began.notes == ("error rate 72.8% > 5.0% since 02:14:04 UTC (probes)",)
        decision = decide(samples, SANDBOX)
        assert decision.action is Action.PASS
        assert decision.sentence == "no trigger in 12 s"

    def test_what_could_not_be_judged_is_said(self) -> None:
        decision = decide(watched(600, requests=None, errors=None, p0=None, restarts=None))
        assert decision.sentence == "no trigger in 10 min"
        assert decision.notes == (
            "P0 reports not judged: the ledger could not be asked",
            "restarts not judged: the engine could not be asked",
            "error rate not judged: no sample holds traffic counts",
            "error rate not compared: no sample holds traffic counts",
        )

    def test_slow_answers_let_the_release_stay_and_are_said(self) -> None:
        samples = [replace(s, times=took(2000 * MS)) for s in watched(600)]
        decision = decide(samples)
        assert decision.action is Action.PASS
        assert decision.notes == (
            "95% of answers within 2 s > 500 ms for 5 min 15 s (02:14–02:19 UTC, probes)",
        )

    def test_an_extended_watch_says_why_and_until_when(self) -> None:
        decision = decide([*watched(405), *watched(600, since=420, good_health=False)])
        assert decision.until == at(1200)
        assert decision.sentence == (
            "watched on, until 02:34:00 UTC at the latest: health check failed since 02:21:00 UTC"
        )

    def test_a_release_that_stays_unproven_fails_with_the_reason(self) -> None:
        decision = decide(watched(1200, auth=None))
        assert decision.sentence == (
            "not proven healthy in 20 min: auth flow not judged: no check was made"
        )

    def test_a_watch_that_cannot_end_well_any_more_ends_at_once(self) -> None:
        decision = decide(watched(1035, good_health=None))
        assert decision.sentence == (
            "it can no longer be proven healthy by 02:34:00 UTC: "
            "health not judged: no sample holds a health check"
        )

    def test_an_auth_flow_that_does_not_answer_any_more_is_not_proven(self) -> None:
        """A check that hangs has not failed, and proves nothing. At most samples none is due."""
        early, later = watched(210), watched(600, since=225, auth=None)
        hangs = replace(later[3], unknown=("auth flow: no answer within 31 s",))
        assert decide([*early, *later]).action is Action.PASS
        decision = decide([*early, *later, hangs])
        assert decision.action is Action.CONTINUE
        assert decision.sentence.endswith("auth flow without an answer since 02:18:30 UTC")
        late = [*early, *later, hangs, *watched(615, since=615)]
        assert decide(late).action is Action.PASS

    def test_twice_the_errors_let_the_release_stay_and_are_said(self) -> None:
        """4% is no trigger of the runbook; after a baseline without errors it is worth a look."""
        decision = decide(watched(600, errors=4))
        assert decision.action is Action.PASS
        (note,) = decision.notes
        assert note == (
            "error rate 4.00% (4 of 100) at 02:14:00 UTC, 4.00% (164 of 4,100) in all, "
            "before it was 0.00% (0 of 500): at least 2 times as high, which is not chance (router)"
        )

    def test_all_triggers_that_fire_are_named(self) -> None:
        decision = decide(watched(315, good_health=False, errors=50))
        assert "health check failed for 5 min 15 s" in decision.sentence
        assert "error rate 50.0% > 5.0% for 5 min 15 s" in decision.sentence

    @pytest.mark.parametrize(
        ("samples", "action"),
        [
            pytest.param(watched(12, SANDBOX), Action.PASS, id="12 s without trouble"),
            pytest.param(watched(3, SANDBOX, errors=20), Action.CONTINUE, id="20% for exactly 3 s"),
            pytest.param(watched(3.5, SANDBOX, errors=20), Action.FAIL, id="20% for 3.5 s"),
            pytest.param(
                [*watched(10, SANDBOX), *watched(12, SANDBOX, good_health=False, since=10.5)],
                Action.CONTINUE,
                id="a breach at the end",
            ),
            pytest.param(
                watched(18, SANDBOX, good_health=None), Action.FAIL, id="never seen healthy"
            ),
        ],
    )
    def test_a_watch_of_seconds_is_a_matter_of_settings(
        self, samples: list[Sample], action: Action
    ) -> None:
        assert decide(samples, SANDBOX).action is action


MAYBE = st.none() | st.booleans()


@st.composite
def any_samples(draw: st.DrawFn, until: int = 900) -> list[Sample]:
    """Samples at different moments, with anything missing."""
    moments = draw(st.lists(st.integers(0, until), max_size=40, unique=True))
    bad_share = draw(st.sampled_from([0.0, 0.05, 0.06, 0.5]))
    samples = []
    for moment in moments:
        requests = draw(st.none() | st.integers(0, 300))
        errors = None if requests is None else round(requests * bad_share)
        samples.append(
            Sample(
                at(moment),
                health=draw(MAYBE),
                traffic=counted(requests, errors),
                times=took(draw(st.none() | st.integers(1, 2000).map(lambda ms: ms * MS))),
                auth=draw(MAYBE),
                p0=draw(st.sampled_from([None, "", "", ""])),
            )
        )
    return samples


FIRING = [
    watched(315, good_health=False),
    watched(315, errors=50),
    watched(15, auth=False),
    watched(0, p0="data loss"),
    [replace(s, restarts=(Restarts("api-2", V, n),)) for n, s in enumerate(watched(30))],
]


def fired(samples: list[Sample]) -> dict[Trigger, str]:
    """The triggers that roll back, with their sentences."""
    return {v.trigger: v.sentence for v in decide(samples).verdicts if v.fires}


def later_by(samples: list[Sample], seconds: float) -> list[Sample]:
    return [replace(s, at=s.at + timedelta(seconds=seconds)) for s in samples]


class TestWhateverIsSampled:
    @settings(max_examples=50, deadline=None)
    @given(samples=any_samples(), seed=st.integers(0, 1000))
    def test_order_and_repetition_change_nothing(self, samples: list[Sample], seed: int) -> None:
        shuffled = [*samples, *samples[::2]]
        random.Random(seed).shuffle(shuffled)
        assert decide(shuffled) == decide(samples)

    @settings(max_examples=50, deadline=None)
    @given(samples=st.sampled_from(FIRING) | any_samples(), later=any_samples())
    def test_a_trigger_that_fired_stays_fired(
        self, samples: list[Sample], later: list[Sample]
    ) -> None:
        after = max((sample.at for sample in samples), default=START) - START
        appended = later_by(later, after.total_seconds() + 1)
        assert fired(samples).items() <= fired([*samples, *appended]).items()

    @settings(max_examples=50, deadline=None)
    @given(samples=st.sampled_from(FIRING), good=any_samples(until=330), seed=st.integers(0, 1000))
    def test_a_clock_that_is_set_back_onto_samples_takes_no_breach_away(
        self, samples: list[Sample], good: list[Sample], seed: int
    ) -> None:
        """Samples of a good time land on moments that were bad already: the worse one counts."""
        taken = [sample.at for sample in samples]
        landed = [
            replace(
                sample,
                at=random.Random(seed + number).choice(taken),
                p0="",
                auth=True,
                health=True,
                traffic=counted(200, 0),
            )
            for number, sample in enumerate(good)
        ]
        mixed = [*samples, *landed]
        random.Random(seed).shuffle(mixed)
        assert fired(samples).keys() <= fired(mixed).keys()

    @settings(max_examples=50, deadline=None)
    @given(
        samples=st.sampled_from(FIRING) | any_samples(),
        cut=st.integers(0, 900),
        pause=st.integers(61, 3600),
    )
    def test_no_breach_appears_because_the_clock_was_set_on_or_nobody_looked(
        self, samples: list[Sample], cut: int, pause: int
    ) -> None:
        """A pause in the samples is no time in which anything was seen to fail."""
        early = [sample for sample in samples if sample.at < at(cut)]
        late = [sample for sample in samples if sample.at >= at(cut)]
        assert fired([*early, *later_by(late, pause)]).keys() <= fired(samples).keys()
        assert fired(early).keys() <= fired([*early, *later_by(late, pause)]).keys()

    @settings(max_examples=50, deadline=None)
    @given(samples=st.sampled_from(FIRING) | any_samples(), hours=st.integers(-12, 12))
    def test_the_time_of_day_does_not_matter(self, samples: list[Sample], hours: int) -> None:
        moved = timedelta(hours=hours)
        watch = Watch(V, BASELINE, RULES, START + moved)
        there = judge_watch(watch, [replace(s, at=s.at + moved) for s in samples])
        assert there.action is decide(samples).action
        assert [v.outcome for v in there.verdicts] == [v.outcome for v in decide(samples).verdicts]

    @settings(max_examples=50, deadline=None)
    @given(samples=any_samples(), blind=st.integers(0, 900), length=st.integers(1, 900))
    def test_a_sample_that_does_not_know_is_as_if_never_taken(
        self, samples: list[Sample], blind: int, length: int
    ) -> None:
        seen = [s for s in samples if not at(blind) <= s.at < at(blind + length)]
        unseen = [Sample(s.at) for s in samples if at(blind) <= s.at < at(blind + length)]
        assert fired([*seen, *unseen]) == fired(seen)

    @settings(max_examples=50, deadline=None)
    @given(samples=any_samples(until=300))
    def test_nothing_sustained_fires_within_five_minutes(self, samples: list[Sample]) -> None:
        assert fired(samples).keys() <= {Trigger.AUTH, Trigger.P0}

    @settings(max_examples=50, deadline=None)
    @given(samples=any_samples(until=1300))
    def test_a_release_stays_only_if_it_was_seen_healthy_at_the_end(
        self, samples: list[Sample]
    ) -> None:
        decision = decide(samples)
        if decision.action is Action.PASS:
            known = [s for s in sorted(samples, key=lambda s: s.at) if s.health is not None]
            assert known[-1].health
            assert decision.until - known[-1].at <= RULES.longest_gap

    @settings(max_examples=100, deadline=None)
    @given(
        bad=st.integers(0, 72),
        silent=st.sampled_from([watched(1080, good_health=None), watched(1080)]),
        resumed=st.integers(0, 18),
    )
    def test_a_watch_that_ended_early_could_not_have_passed(
        self, bad: int, silent: list[Sample], resumed: int
    ) -> None:
        """Whatever comes after a failure, and however good: no later decision is a pass."""
        samples = silent[: bad + 1]
        if decide(samples).action is not Action.FAIL:
            return
        now = (samples[-1].at - START).total_seconds()
        for end in range(int(now) + 15, 1275, 15):
            good = watched(end, since=now + 15 * resumed)
            assert decide([*samples, *good]).action is not Action.PASS
