"""Which release an environment serves, and to which one a rollback goes."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from release.errors import BadConfiguration, BadRequest
from release.measure.sample import Sample
from release.measure.traffic import ALL_RELEASES, PROBES, ROUTER, Times, Traffic
from release.model import Baseline, ImageRef, Instance, Release
from release.rollback.baseline import (
    NOTHING,
    Served,
    baseline_address,
    instances_to_restore,
    measured,
    previous_release,
    release_of_image,
    serving_instances,
    serving_release,
)
from tests.fakes.samples import PROMETHEUS

AT = datetime(2026, 11, 3, 14, 0, tzinfo=UTC)
OLD = ImageRef("localhost:5000/api", "sha256:" + "1" * 64)
NEW = ImageRef("localhost:5000/api", "sha256:" + "2" * 64)
ONE = Instance("c1", "api-1", "10.0.0.2", OLD, "v1.0.0", "a" * 40, "running", "healthy")
TWO = replace(ONE, id="c2", name="api-2")
NEXT = replace(ONE, id="c3", name="api-3", image=NEW, version="v1.1.0", revision="b" * 40)


@pytest.mark.parametrize(
    ("instances", "admitted", "serving"),
    [
        ((ONE, TWO), {"api-1", "api-2"}, ["c1", "c2"]),
        ((ONE, NEXT), {"api-1"}, ["c1"]),  # a new one that users do not meet yet
        ((ONE, TWO), set(), []),
        ((ONE, TWO), None, ["c1", "c2"]),  # no router
        ((replace(ONE, state="exited"), TWO), None, ["c2"]),
        ((replace(ONE, state="exited"),), {"api-1"}, []),  # the router has not noticed yet
        ((), None, []),
    ],
)
def test_an_instance_serves_if_it_runs_and_the_router_admits_it(
    instances: tuple[Instance, ...], admitted: set[str] | None, serving: list[str]
) -> None:
    assert [i.id for i in serving_instances(instances, admitted)] == serving


def test_one_image_on_all_instances_is_the_release_that_serves() -> None:
    assert serving_release("production", (ONE, TWO)) == Release("v1.0.0", "a" * 40, OLD)


def test_no_instance_is_no_release() -> None:
    assert serving_release("production", ()) is None


def test_an_image_without_labels_goes_by_its_digest() -> None:
    release = serving_release("production", (replace(ONE, version="", revision=""),))

    assert release is not None
    assert release.version == "sha256:1111111…"


def test_two_releases_at_once_are_no_baseline() -> None:
    with pytest.raises(BadConfiguration) as refused:
        serving_release("production", (ONE, NEXT, replace(ONE, image=None, version="")))

    assert refused.value.what == (
        "production serves more than one release: api-1 runs an unknown image, "
        "api-1 runs v1.0.0, api-3 runs v1.1.0"
    )
    assert refused.value.hint.startswith("ignition rollback production --to VERSION")


def test_an_image_that_no_registry_has_is_no_baseline() -> None:
    with pytest.raises(BadConfiguration, match="whose image has no registry digest"):
        serving_release("production", (replace(ONE, image=None),))


def baseline(release: Release | None) -> Baseline:
    return Baseline("production", release, (), "0014", None, None, AT)


def test_what_is_restored_is_what_is_still_there_and_what_has_to_be_started_again() -> None:
    release = Release("v1.0.0", "a" * 40, OLD)

    assert instances_to_restore(release, (ONE, TWO, NEXT), 2) == ("c1", "c2")
    assert instances_to_restore(release, (ONE, NEXT), 2) == ("c1", "gone-0")
    assert instances_to_restore(release, (NEXT,), 2) == ("gone-0", "gone-1")
    assert instances_to_restore(release, (ONE, TWO), 1) == ("c1",)


def test_a_baseline_of_nothing_serves_with_no_instance() -> None:
    assert instances_to_restore(None, (NEXT,), 2) == ()
    assert (baseline(None).version, baseline(None).image) == ("nothing", None)


def test_a_baselines_address_needs_no_record_elsewhere() -> None:
    assert baseline_address(baseline(Release("v1.0.0", "a" * 40, OLD))) == str(OLD)
    assert ImageRef.parse(baseline_address(baseline(Release("v1.0.0", "a" * 40, OLD)))) == OLD
    assert baseline_address(baseline(None)) == NOTHING


def test_the_release_of_an_image_is_read_off_its_labels() -> None:
    assert release_of_image(OLD, "v1.0.0", "a" * 40) == Release("v1.0.0", "a" * 40, OLD)
    assert release_of_image(OLD, "", "").version == OLD.short


OLDER = ImageRef("localhost:5000/api", "sha256:" + "0" * 64)
IMAGES = {"v0.9.0": OLDER, "v1.0.0": OLD, "v1.1.0": NEW, "v1.2.0": None}


def history(text: str) -> list[Served]:
    """What served, newest first: ``v1.0.0`` was deployed, ``<v1.0.0`` gone back to."""
    return [
        Served(Release(version.lstrip("<"), "a" * 40, IMAGES[version.lstrip("<")]), "<" in version)
        for version in text.split()
    ]


@pytest.mark.parametrize(
    ("served", "serving", "previous"),
    [
        ("v1.1.0 v1.0.0", NEW, "v1.0.0"),
        ("v1.1.0 v1.1.0 v1.0.0", NEW, "v1.0.0"),  # deployed again
        ("v1.0.0 v1.1.0 v1.0.0", OLD, "v1.1.0"),  # the old one deployed again, on purpose
        ("v1.1.0 v1.0.0", None, "v1.1.0"),  # nothing serves: the newest that did
        ("v1.0.0 v0.9.0", NEW, "v1.0.0"),  # the record does not know what serves
        ("v1.2.0 v1.0.0", NEW, "v1.0.0"),  # never built
        ("<v1.0.0 v1.1.0 v1.0.0 v0.9.0", OLD, "v0.9.0"),  # not back to the bad one
        ("v1.1.0 <v1.0.0 v1.1.0 v1.0.0 v0.9.0", NEW, "v1.0.0"),  # mended, deployed again
        ("<v0.9.0 <v1.0.0 v1.1.0 v1.0.0 v0.9.0", None, "v0.9.0"),
        ("v1.1.0 <v1.0.0", NEW, "v1.0.0"),  # older than the record
        ("<v1.0.0 v1.1.0 v1.0.0 v0.9.0 v1.0.0", OLD, "v0.9.0"),  # it had served twice
    ],
)
def test_a_rollback_goes_to_what_served_before_and_never_to_what_was_left(
    served: str, serving: ImageRef | None, previous: str
) -> None:
    assert previous_release("production", history(served), serving).version == previous


def deployed(version: str, over: str) -> Served:
    """A deployment whose plan found another release serving."""
    release, replaced = (Release(name, "a" * 40, IMAGES[name]) for name in (version, over))
    return Served(release, replaced=replaced)


def test_a_rollback_that_failed_late_is_not_repeated_further_back() -> None:
    """It had brought v1.0.0 back and has no row. Somebody types it again: v1.0.0 is verified."""
    rows = [deployed("v1.1.0", over="v1.0.0"), *history("v1.0.0 v0.9.0")]

    found = previous_release("production", rows, OLD)

    assert found == Release("v1.0.0", "a" * 40, OLD)


def test_what_a_plan_found_serving_counts_more_than_the_rows_before_it() -> None:
    """v1.0.0 was left by a rollback without a row; v1.1.0 has replaced v0.9.0."""
    rows = [deployed("v1.1.0", over="v0.9.0"), *history("v1.0.0 v0.9.0")]

    assert previous_release("production", rows, NEW).version == "v0.9.0"


def test_what_was_started_by_hand_is_known_from_the_plan_that_found_it() -> None:
    assert previous_release("production", [deployed("v1.1.0", "v0.9.0")], NEW).image == OLDER


@pytest.mark.parametrize(
    ("served", "serving"),
    [("v1.0.0", OLD), ("<v1.0.0 v1.1.0 v1.0.0", OLD), ("<v1.0.0 v1.1.0", OLD), ("", None)],
)
def test_no_previous_release_asks_for_a_version(served: str, serving: ImageRef | None) -> None:
    """What serves goes on serving."""
    with pytest.raises(BadRequest) as refused:
        previous_release("production", history(served), serving)

    assert "production served before the present one and that was not rolled back" in (
        refused.value.what
    )
    assert refused.value.hint.startswith("ignition rollback production --to VERSION")


class TestTheBaselineIsMeasured:
    """In the plan, and once more before the new release is started."""

    @staticmethod
    def first() -> Baseline:
        return Baseline(
            "production", Release("v1.0.0", "a" * 40, OLD), ("c1",), "3", None, None, AT
        )

    @staticmethod
    def sample(requests: int, errors: int, p95: int | None, source: str = ROUTER) -> Sample:
        """What the router counted, and what a source timed, in milliseconds."""
        times = (Times(source, ALL_RELEASES, p95=timedelta(milliseconds=p95) if p95 else None),)
        return Sample(AT, traffic=(Traffic(ROUTER, ALL_RELEASES, requests, errors),), times=times)

    def test_by_all_that_was_counted_since_the_plan(self) -> None:
        baseline = measured(self.first(), self.sample(90, 0, None))
        baseline = measured(baseline, self.sample(30_000, 9, None))

        assert baseline.traffic == (Traffic(ROUTER, ALL_RELEASES, 30_090, 9),)
        assert baseline.error_rate == 9 / 30_090

    def test_by_its_own_release_and_by_all_together(self) -> None:
        mixed = (Traffic(ROUTER, ALL_RELEASES, 50, 5), Traffic(ROUTER, "v1.0.0", 40, 0))
        baseline = measured(self.first(), Sample(AT, traffic=mixed))
        baseline = measured(baseline, Sample(AT, traffic=mixed))

        assert baseline.traffic == (
            Traffic(ROUTER, ALL_RELEASES, 100, 10),
            Traffic(ROUTER, "v1.0.0", 80, 0),
        )

    @pytest.mark.parametrize("moments", [(1200, 80), (80, 1200), (80, None), (None, 80)])
    def test_a_stall_in_one_of_two_moments_makes_no_limit_high(
        self, moments: tuple[int | None, ...]
    ) -> None:
        """Was one moment: a release ten times as slow as the one before was as before."""
        baseline = self.first()
        for p95 in moments:
            baseline = measured(baseline, self.sample(100, 0, p95, PROBES))

        assert baseline.p95 == timedelta(milliseconds=80)

    @pytest.mark.parametrize(("moments", "p95"), [((20, 90), 90), ((90, 20), 20), ((90, None), 90)])
    def test_answer_times_of_users_are_those_of_the_longer_time(
        self, moments: tuple[int | None, ...], p95: int
    ) -> None:
        baseline = self.first()
        for moment in moments:
            baseline = measured(baseline, self.sample(100, 0, moment, PROMETHEUS))

        assert [times.p95 for times in baseline.times] == [timedelta(milliseconds=p95)]
        assert baseline.p95 is None  # that is of probes

    def test_a_source_that_said_nothing_the_second_time_is_not_lost(self) -> None:
        baseline = measured(self.first(), self.sample(90, 1, 80, PROBES))

        again = measured(baseline, Sample(AT))

        assert (again.traffic, again.times) == (baseline.traffic, baseline.times)
        assert again.error_rate == 1 / 90

    def test_what_was_never_counted_has_no_rate(self) -> None:
        baseline = measured(self.first(), Sample(AT), {})

        assert (baseline.error_rate, baseline.p95, baseline.looks) == (None, None, {})
