"""Which release an environment serves, read from its containers and its router."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace

from release.errors import BadConfiguration, BadRequest
from release.measure.counters import Looks
from release.measure.sample import Sample
from release.measure.traffic import ALL_RELEASES, PROBES, Times, Traffic, busiest, slowest_p95
from release.model import Baseline, ImageRef, Instance, Release

NOTHING = "nothing"
"""What a rollback goes back to where nothing was deployed before."""


def serving_instances(
    instances: Sequence[Instance], admitted: Collection[str] | None
) -> tuple[Instance, ...]:
    """The instances that users meet.

    ``admitted`` holds the names that the router sends requests to; None means that there is no
    router, and every running instance serves.
    """
    return tuple(
        instance
        for instance in instances
        if instance.running and (admitted is None or instance.name in admitted)
    )


def serving_release(environment: str, serving: Sequence[Instance]) -> Release | None:
    """The one release that serves. Returns None if nothing does.

    Raises BadConfiguration if two images serve at once, or one that has no registry digest: such a
    state is not a baseline to come back to.
    """
    images = {instance.image for instance in serving}
    if not images:
        return None
    if len(images) > 1:
        found = ", ".join(
            sorted(f"{i.name} runs {i.version or i.image or 'an unknown image'}" for i in serving)
        )
        raise BadConfiguration(
            f"{environment} serves more than one release: {found}",
            f'ignition rollback {environment} --to VERSION --reason "two releases serve"',
        )
    first = serving[0]
    if first.image is None:
        raise BadConfiguration(
            f"{environment} serves {first.name}, whose image has no registry digest, so that it "
            "could not be restored",
            "push the image and start the service by digest once",
        )
    return Release(first.version or first.image.short, first.revision, first.image)


def baseline_address(baseline: Baseline) -> str:
    """The baseline as a rollback can be told it: the image by digest, or nothing.

    It depends on no record elsewhere, so that a rollback works while the ledger is down.
    """
    return str(baseline.image) if baseline.image else NOTHING


def release_of_image(image: ImageRef, version: str, revision: str) -> Release:
    """A release read off an image's labels; without labels it goes by its digest."""
    return Release(version or image.short, revision, image)


def instances_to_restore(
    release: Release | None, instances: Iterable[Instance], replicas: int
) -> tuple[str, ...]:
    """The ids of the ``replicas`` instances that a release is to serve with once more.

    Those of its image that still exist, and a placeholder for each that is gone and has to be
    started again; none if nothing is to serve.
    """
    if release is None:
        return ()
    image = release.image
    there = [i.id for i in instances if image is not None and i.image == image]
    gone = [f"gone-{number}" for number in range(replicas - len(there))]
    return tuple([*there, *gone][:replicas])


def measured(baseline: Baseline, seen: Sample, looks: Looks | None = None) -> Baseline:
    """The baseline with what was ``seen`` of it since it was measured last.

    Answers are added up. Answer times of probes are the better ones: the two samples are of the
    same size, and a moment's stall makes answers slow, while nothing makes them faster than they
    are. Those that users got are the later ones, because they are of far more answers. ``looks``
    is from where the counters may be read on.
    """
    traffic = _sum((*baseline.traffic, *seen.traffic))
    times = _times((*baseline.times, *seen.times))
    counted = busiest(traffic, baseline.version if baseline.release else ALL_RELEASES)
    return replace(
        baseline,
        error_rate=counted.rate if counted else None,
        p95=slowest_p95(times, PROBES),
        traffic=traffic,
        times=times,
        looks=looks,
    )


def _sum(counted: Iterable[Traffic]) -> tuple[Traffic, ...]:
    found: dict[tuple[str, str], Traffic] = {}
    for one in counted:
        key = (one.source, one.release)
        so_far = found.get(key, Traffic(*key, 0, 0))
        found[key] = Traffic(*key, so_far.requests + one.requests, so_far.errors + one.errors)
    return tuple(found.values())


def _times(timed: Iterable[Times]) -> tuple[Times, ...]:
    found: dict[tuple[str, str], Times] = {}
    for one in timed:
        best = slowest_p95(tuple(found.values()), PROBES) if one.source == PROBES else None
        if one.p95 is not None and (best is None or one.p95 < best):
            found[one.source, one.release] = one
    return tuple(found.values())


@dataclass(frozen=True, slots=True)
class Served:
    """A release that served, as the ledger has it."""

    release: Release
    by_rollback: bool = False  # it was gone back to, so what served after it was left
    replaced: Release | None = None  # of a deployment: what its plan found serving, where known


def previous_release(
    environment: str, served: Sequence[Served], serving: ImageRef | None
) -> Release:
    """The release to go back to when none is named: what served before the one that serves now.

    ``served`` is newest first. A release that was rolled back is never gone back to: a second
    rollback goes further back, and not to the bad release again. What a deployment's plan found
    serving counts more than the rows before it: a rollback that failed after it had brought a
    release back has no row. If that release still serves, it is the one to go back to. If the
    record does not know what serves (None: nothing does), it is the newest that served. Raises
    BadRequest if the record knows none.
    """
    left = served[0].replaced if served else None
    if left is not None and served[0].release.image != serving == left.image:
        return next((each.release for each in served if each.release.image == serving), left)
    before = _still_good(served)
    images = [release.image for release in before]
    if serving in images:
        before = before[: len(images) - 1 - images[::-1].index(serving)]
    if before:
        return before[-1]
    raise BadRequest(
        f"the ledger knows no release that {environment} served before the present one and that "
        "was not rolled back",
        f"ignition rollback {environment} --to VERSION --reason …",
    )


def _still_good(served: Iterable[Served]) -> list[Release]:
    """What was deployed, oldest first, without what was left by a rollback."""
    kept: list[Release] = []
    for each in reversed(list(served)):
        if each.release.image is None:  # never built
            continue
        images = [release.image for release in kept]
        if each.by_rollback:
            # Where it had served last; what is older than the record is not known.
            since = (
                images[::-1].index(each.release.image) + 1 if each.release.image in images else 0
            )
            kept = kept[:-since] if since else []
        elif each.replaced is not None:
            kept = _up_to(each.replaced, kept)
        if not kept or kept[-1].image != each.release.image:
            kept.append(each.release)
    return kept


def _up_to(release: Release, kept: Sequence[Release]) -> list[Release]:
    """What was kept until a release served last; what came after it was left by somebody."""
    for number in range(len(kept), 0, -1):
        if kept[number - 1].image == release.image:
            return list(kept[:number])
    return [*kept, release]
