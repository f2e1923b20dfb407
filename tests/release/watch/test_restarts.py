"""Instances that end by themselves during a watch (docs/watch.md, rule `restarts`)."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from release.configuration.rules import WatchRules
from release.measure.sample import Restarts, Sample
from release.measure.traffic import ALL_RELEASES, ROUTER, Traffic
from release.model import Baseline
from release.watch.restarts import judge_restarts
from release.watch.triggers import Action, Decision, judge_watch
from release.watch.verdict import Outcome, Span, Trigger, Verdict
from release.watch.watched import Watch

START = datetime(2026, 1, 8, 2, 14, tzinfo=UTC)
RULES = WatchRules()
V = "v1.1.0"
BASELINE = Baseline("staging", None, (), "", None, None, START)
ILL = "ill"


def seen(*counts: int | str | None, instance: str = "api-2", release: str = V) -> list[Sample]:
    """Samples 15 s apart: how often the instance was started again; None: the engine was silent;
    ``ILL`` before a count: the health check failed in that sample."""
    samples: list[Sample] = []
    well = True
    for count in counts:
        if count == ILL:
            well = False
            continue
        known = None if not isinstance(count, int) else (Restarts(instance, release, count),)
        at = START + len(samples) * RULES.every
        samples.append(
            Sample(
                at,
                health=well,
                traffic=(Traffic(ROUTER, ALL_RELEASES, 100, 0),),
                auth=True,
                p0="",
                restarts=known,
            )
        )
        well = True
    return samples


def judged(samples: list[Sample], rules: WatchRules = RULES) -> Verdict:
    return judge_restarts(samples, rules, V, Span(START, START + timedelta(minutes=10)))


def decide(samples: list[Sample], rules: WatchRules = RULES) -> Decision:
    return judge_watch(Watch(V, BASELINE, rules, START), samples)


class TestRule:
    @pytest.mark.parametrize(
        ("samples", "outcome"),
        [
            pytest.param(seen(0, 0, 0), Outcome.HEALTHY, id="never"),
            pytest.param(seen(3, 3, 3), Outcome.HEALTHY, id="before the watch only"),
            pytest.param(seen(0, 1, 1), Outcome.INCONCLUSIVE, id="once: a person is asked"),
            pytest.param(seen(0, 1, 1, 2), Outcome.UNHEALTHY, id="twice, well in between"),
            pytest.param(seen(0, 1, 2), Outcome.UNHEALTHY, id="twice, well when it was seen"),
            pytest.param(
                seen(0, ILL, 1, ILL, 2, ILL, 5), Outcome.INCONCLUSIVE, id="never well in between"
            ),
            pytest.param(
                seen(0, ILL, 1, ILL, 2, 2, 3), Outcome.UNHEALTHY, id="well, and then again"
            ),
            pytest.param(seen(0, 2, 2), Outcome.INCONCLUSIVE, id="two between two looks are one"),
            pytest.param(seen(0, None, 1, None, 2), Outcome.UNHEALTHY, id="unseen in between"),
            pytest.param(seen(0, 1, 0, 0, 1), Outcome.INCONCLUSIVE, id="a person started it anew"),
            pytest.param(seen(None, None), Outcome.INCONCLUSIVE, id="the engine cannot be asked"),
            pytest.param(
                seen(0, 1, 2, 3, release="v1.0.0"), Outcome.HEALTHY, id="of another release"
            ),
            pytest.param(
                [*seen(0, 1, 1), *seen(0, 1, 1, instance="api-3")],
                Outcome.INCONCLUSIVE,
                id="two instances, once each: the machine, not the release",
            ),
        ],
    )
    def test_fires_when_an_instance_ends_again(
        self, samples: list[Sample], outcome: Outcome
    ) -> None:
        assert judged(samples).outcome is outcome

    @pytest.mark.parametrize(("allowed", "ends"), [(0, 1), (1, 2), (3, 4)])
    def test_how_often_is_a_setting(self, allowed: int, ends: int) -> None:
        rules = RULES.model_copy(update={"restarts": allowed})
        assert not judged(seen(*range(ends)), rules).fires
        assert judged(seen(*range(ends + 1)), rules).fires

    def test_says_which_how_often_and_when(self) -> None:
        assert judged(seen(0, 1, 1)).sentence == (
            "api-2 ended by itself once, at 02:14:15 UTC, and was started again"
        )
        assert judged(seen(0, 1, 1, 2)).sentence == (
            "api-2 ended by itself 2 times, last at 02:14:45 UTC"
        )
        assert judged(seen(None)).sentence == "restarts not judged: the engine could not be asked"


class TestWatch:
    def test_ends_at_once_when_an_instance_ends_again(self) -> None:
        decision = decide(seen(*[0] * 10, *[1] * 5, 2))
        assert decision.action is Action.FAIL
        assert decision.sentence == "api-2 ended by itself 2 times, last at 02:17:45 UTC"

    def test_goes_on_for_its_length_after_an_end(self) -> None:
        """Ended after 2 min 30 s: watched until 12 min 30 s."""
        samples = seen(*[0] * 10, *[1] * 60)
        at_ten, at_the_end = decide(samples[:41]), decide(samples[:51])
        assert at_ten.action is Action.CONTINUE
        assert at_ten.sentence == (
            "watched until 02:26:30 UTC: an instance ended by itself, which may come again"
        )
        assert decide(samples[:50]).action is Action.CONTINUE
        assert at_the_end.action is Action.PASS
        assert at_the_end.notes[0].startswith("api-2 ended by itself once")

    def test_goes_on_for_no_longer_than_it_may(self) -> None:
        rules = RULES.model_copy(update={"extend_up_to": timedelta(minutes=1)})
        samples = seen(*[0] * 40, *[1] * 20)
        assert decide(samples[:44], rules).action is Action.CONTINUE
        assert decide(samples[:45], rules).action is Action.PASS

    def test_an_engine_that_cannot_be_asked_is_said_and_fails_nothing(self) -> None:
        decision = decide(seen(*[None] * 41))
        assert decision.action is Action.PASS
        assert decision.notes[0] == "restarts not judged: the engine could not be asked"


COUNTS = st.lists(st.none() | st.integers(0, 3) | st.just(ILL), max_size=20)


def fired(samples: list[Sample]) -> bool:
    return judged(samples).fires


class TestWhateverIsSampled:
    @settings(max_examples=100, deadline=None)
    @given(counts=COUNTS, later=COUNTS)
    def test_what_fired_stays_fired(
        self, counts: list[int | str | None], later: list[int | str | None]
    ) -> None:
        early = seen(*counts)
        assert fired(early) <= fired(seen(*counts, *later))

    @settings(max_examples=100, deadline=None)
    @given(counts=COUNTS, order=st.randoms(use_true_random=False))
    def test_order_and_repetition_change_nothing(
        self, counts: list[int | str | None], order: Random
    ) -> None:
        samples = seen(*counts)
        shuffled = [*samples, *samples[::2]]
        order.shuffle(shuffled)
        assert judged(shuffled) == judged(samples)

    @settings(max_examples=100, deadline=None)
    @given(counts=COUNTS, cut=st.integers(0, 20), pause=st.integers(1, 3600))
    def test_a_pause_changes_nothing(
        self, counts: list[int | str | None], cut: int, pause: int
    ) -> None:
        samples = seen(*counts)
        moved = [replace(one, at=one.at + timedelta(seconds=pause)) for one in samples[cut:]]
        assert fired([*samples[:cut], *moved]) == fired(samples)

    @settings(max_examples=100, deadline=None)
    @given(counts=COUNTS)
    def test_fires_only_where_it_was_started_again_at_least_twice(
        self, counts: list[int | str | None]
    ) -> None:
        known = [count for count in counts if isinstance(count, int)]
        if fired(seen(*counts)):
            assert max(known) - known[0] > 1
        assert judged(seen(*counts)).trigger is Trigger.RESTARTS
