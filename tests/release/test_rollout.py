"""Which slot, which verdict, which move: the rollout's decisions as tables."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from release.errors import RollbackFailed, RolloutFailed
from release.measure.slot import Admin, Slot
from release.model import Baseline, ImageRef, Instance, Release
from release.rollback.restore import Act, Move, World, plan_restore, plan_serving
from release.rollout import (
    Seen,
    choose_slots,
    did_not_come_up,
    missing_instances,
    rollout_report,
    unfit_instance,
    which_to_retire,
)

OLD = ImageRef("registry.example.com/api", "sha256:" + 64 * "1")
NEW = ImageRef("registry.example.com/api", "sha256:" + 64 * "9")
NOW = datetime(2026, 11, 22, 2, 14, tzinfo=UTC)


def container(number: int, image: ImageRef | None = OLD, state: str = "running",
              health: str = "healthy") -> Instance:  # fmt: skip
    address = f"172.20.0.{number}" if state == "running" else ""
    return Instance(f"id{number}", f"app-api-{number}", address, image, "", "", state, health)


def in_slot(number: int, instance: str, admin: Admin = Admin.READY, **values: object) -> Slot:
    up = admin is not Admin.MAINT
    return replace(Slot(f"api{number}", instance, "", admin, up), **values)  # type: ignore[arg-type]


def free_slots(first: int, last: int = 6) -> tuple[Slot, ...]:
    return tuple(Slot(f"api{number}") for number in range(first, last + 1))


def baseline(*ids: str, image: ImageRef | None = OLD) -> Baseline:
    release = Release("v1.0.0", "0" * 40, image)
    return Baseline("production", release, ids, "", None, None, NOW)


# ---- slots


@pytest.mark.parametrize(
    ("slots", "names", "chosen"),
    [
        (free_slots(1, 2), ["a"], ("api1",)),
        ((in_slot(1, "old"), *free_slots(2, 3)), ["a", "b"], ("api2", "api3")),
        ((in_slot(1, "old"), in_slot(2, "a"), Slot("api3")), ["a", "b"], ("api2", "api3")),
        ((in_slot(1, "a", Admin.DRAIN), Slot("api2")), ["a"], ("api1",)),
        # A name that comes back gets the slot that still has it, and nobody else gets that one.
        ((Slot("api1"), Slot("api2", remembers="a"), Slot("api3")), ["a"], ("api2",)),
        ((Slot("api1", remembers="b"), Slot("api2")), ["a", "b"], ("api2", "api1")),
        ((Slot("api1", remembers="x"), Slot("api2")), ["a", "b"], ("api1", "api2")),
    ],
)
def test_an_instance_keeps_its_slot_or_gets_the_next_free_one(
    slots: tuple[Slot, ...], names: list[str], chosen: tuple[str, ...]
) -> None:
    assert choose_slots(slots, names) == chosen


def test_a_slot_that_is_idle_is_taken_first() -> None:
    slots = (in_slot(1, "old"), Slot("api2", sessions=1), Slot("api3"))

    assert choose_slots(slots, ["a"]) == ("api3",)
    assert choose_slots(slots, ["a", "b"]) == ("api3", "api2")


def test_too_few_slots_are_an_error_that_counts_them() -> None:
    slots = (in_slot(1, "old"), Slot("api2"))

    with pytest.raises(RolloutFailed, match="1 free slots of 2, 2 are needed for a, b"):
        choose_slots(slots, ["a", "b"])


# ---- fitness


@pytest.mark.parametrize(
    ("state", "health", "restarts", "waited", "sentence"),
    [
        ("running", "healthy", 0, 1, ""),
        ("running", "none", 0, 90, ""),
        ("running", "starting", 0, 60, ""),
        ("running", "starting", 0, 60.1,
         "app-api-1 is running and not yet healthy after 1 min, allowed are 1 min"),
        ("running", "healthy", 0, 61, ""),
        ("running", "unhealthy", 0, 4, "app-api-1 is unhealthy after 4 s"),
        ("running", "healthy", 1, 4,
         "app-api-1 ended and was started again 1 ×"),
        ("restarting", "starting", 0, 4,
         "app-api-1 ended and was started again 1 ×"),
        ("exited", "none", 0, 4, "app-api-1 stopped with exit code 0"),
        ("dead", "none", 0, 4, "app-api-1 stopped with exit code 0"),
        ("created", "none", 0, 4, ""),
        ("created", "none", 0, 61,
         "app-api-1 is created and has no health check after 1 min 1 s, allowed are 1 min"),
    ],
)  # fmt: skip
def test_an_instance_is_given_up_for_one_of_these_reasons(
    state: str, health: str, restarts: int, waited: float, sentence: str
) -> None:
    instance = container(1, state=state, health=health)

    found = unfit_instance(
        instance,
        restarts=restarts,
        waited=timedelta(seconds=waited),
        within=timedelta(minutes=1),
    )

    assert found == sentence


def test_an_instance_that_was_started_again_is_given_up_with_its_exit_code() -> None:
    """It runs again already; with what it ended is why nobody waits for it."""
    instance = replace(container(1), exit_code=3, restarts=2)

    found = unfit_instance(
        instance, restarts=2, waited=timedelta(seconds=4), within=timedelta(minutes=1)
    )

    assert found == "app-api-1 ended with exit code 3 and was started again 2 ×"
    assert "running, started again 2 × after exit code 3" in str(Seen(instance, "", ""))


_PYTHON = "Traceback (most recent call last):\n  File \"server.py\"\n    ~~^^\nKeyError: 'ISSUER'\n"


@pytest.mark.parametrize(
    ("log", "line"),
    [
        (_PYTHON, "last log line: KeyError: 'ISSUER'"),
        (
            "Error: no such table\n    at start\n\nNode.js v20.1.0\n",
            "last log line: Error: no such table",
        ),
        (
            "panic: nil map\n\ngoroutine 1 [running]:\nexit status 2\n",
            "last log line: panic: nil map",
        ),
        ("listening on 9000\n\n", "last log line: listening on 9000"),
        (" \n", "it logged nothing"),
    ],
)
def test_why_an_instance_did_not_come_up_is_one_line_with_what_says_most(
    log: str, line: str
) -> None:
    """It ends in the deployment log, in messages, and as the state of the run."""
    said = did_not_come_up("app-api-2 stopped with exit code 1", "a\nHTTP 503\n", log)

    assert said == f"app-api-2 stopped with exit code 1; health check: HTTP 503; {line}"


def test_instances_that_a_repeated_step_started_before_are_used() -> None:
    there = (container(1), container(2, NEW), container(3, NEW, "exited"))

    assert missing_instances(there, NEW, ["id1"], 2) == ((there[1],), 1)


def test_a_release_whose_image_serves_already_gets_new_containers() -> None:
    assert missing_instances((container(1),), OLD, ["id1"], 1) == ((), 1)


# ---- what leaves service


def test_everything_but_the_new_instances_leaves_even_strays() -> None:
    instances = (container(1), container(2, NEW))
    slots = (in_slot(1, "app-api-1"), in_slot(2, "app-api-2"), in_slot(3, "gone"), Slot("api4"))

    assert which_to_retire(instances, slots, ["id2"]) == ("app-api-1", "gone")


@pytest.mark.parametrize("new", [Slot("api2"), in_slot(2, "app-api-2", Admin.DRAIN)])
def test_nothing_leaves_while_no_new_instance_serves(new: Slot) -> None:
    with pytest.raises(RolloutFailed, match="the old ones stay in service"):
        which_to_retire((container(1), container(2, NEW)), (in_slot(1, "app-api-1"), new), ["id2"])


def test_a_log_cannot_end_its_own_block_in_the_report() -> None:
    seen = Seen(container(2, NEW), "", "```\n# fake heading")
    report = rollout_report("production", "NAME", [seen])

    assert "````text\n```\n# fake heading\n````" in report


def test_the_report_says_how_an_instance_ended_and_what_its_health_check_said() -> None:
    dead = replace(container(2, NEW, "exited", "unhealthy"), exit_code=3, restarts=1)
    seen = Seen(dead, "GET /health: connection refused", "no configuration")

    report = rollout_report("production", "NAME", [seen])

    assert "app-api-2, exited with exit code 3, started again 1 ×, unhealthy\n" in report
    assert "Its last health check said:\n\n```text\nGET /health: connection refused\n```" in report
    assert "```text\nno configuration\n```" in report
    assert seen.last_lines() == (
        "health check: GET /health: connection refused",
        "no configuration",
    )


def test_what_an_instance_logged_without_end_fills_neither_report_nor_log() -> None:
    lines = [f"{number} " + 9_000 * "x" for number in range(1_000)]
    seen = Seen(container(2, NEW), "\n".join(lines), "\n".join(lines))

    report = rollout_report("production", "NAME", [seen])

    assert len(report) < 110_000
    assert "\n999 xxx" in report
    assert len(seen.last_lines()) == 20
    assert max(map(len, seen.last_lines())) < 2_100


def test_an_instance_that_logged_nothing_says_so() -> None:
    assert Seen(container(2, NEW), "", "").last_lines() == ("(it logged nothing)",)


# ---- restore: the way back


NEW_SERVES = in_slot(2, "app-api-2")

RESTORES = {
    "nothing happened yet": (
        World((container(1),), (in_slot(1, "app-api-1"), *free_slots(2)), OLD),
        [],
    ),
    "the new one was started, not admitted": (
        World((container(1), container(2, NEW)), (in_slot(1, "app-api-1"), *free_slots(2)), OLD),
        ["stop app-api-2", "remove app-api-2"],
    ),
    "the new one died": (
        World((container(1), container(2, NEW, "exited")), (in_slot(1, "app-api-1"),), OLD),
        ["remove app-api-2"],
    ),
    "both serve, the new one is pinned": (
        World((container(1), container(2, NEW)), (in_slot(1, "app-api-1"), NEW_SERVES), NEW),
        [
            "drain app-api-2",
            "pin",
            "retire when idle app-api-2",
            "stop app-api-2",
            "remove app-api-2",
        ],
    ),
    "the baseline is drained": (
        World(
            (container(1), container(2, NEW)),
            (in_slot(1, "app-api-1", Admin.DRAIN), NEW_SERVES),
            NEW,
        ),
        ["admit app-api-1"],
    ),
    "the baseline is stopped": (
        World(
            (container(1, state="exited"), container(2, NEW)),
            (Slot("api1"), NEW_SERVES),
            NEW,
        ),
        ["start app-api-1", "admit app-api-1"],
    ),
    "the baseline was stopped without being taken out of the router": (
        World(
            (container(1, state="exited"), container(2, NEW)),
            (in_slot(1, "app-api-1", up=False), NEW_SERVES),
            NEW,
        ),
        ["retire app-api-1", "start app-api-1", "admit app-api-1"],
    ),
    "the baseline was started, and is not healthy yet": (
        World(
            (container(1, health="starting"), container(2, NEW)),
            (Slot("api1"), NEW_SERVES),
            NEW,
        ),
        ["admit app-api-1"],
    ),
    "the baseline is gone": (
        World((container(2, NEW),), (Slot("api1"), NEW_SERVES), NEW),
        ["start beside 1 ×"],
    ),
    "everything is gone": (
        World((), free_slots(1), None),
        ["start beside 1 ×"],
    ),
    "the baseline would not come up again": (
        World(
            (container(1, state="exited"), container(2, NEW)),
            (Slot("api1"), NEW_SERVES),
            NEW,
            frozenset({"id1"}),
        ),
        ["start beside 1 ×"],
    ),
    "a container of the baseline's image took its place, and the baseline is still there": (
        World(
            (container(1, state="exited"), container(3)),
            (Slot("api1"), in_slot(3, "app-api-3")),
            OLD,
        ),
        ["remove app-api-1"],
    ),
    "the engine calls the baseline unhealthy, but it serves": (
        World((container(1, health="unhealthy"),), (in_slot(1, "app-api-1"),), OLD),
        [],
    ),
    "the new one is gone, but not from the router": (
        World((container(1),), (in_slot(1, "app-api-1"), in_slot(2, "gone", up=False)), OLD),
        ["drain gone", "retire when idle gone"],
    ),
    "no slot is free for the baseline": (
        World(
            (container(1), container(2, NEW)),
            (NEW_SERVES, in_slot(3, "gone", up=False)),
            OLD,
        ),
        ["retire gone", "admit app-api-1"],
    ),
}


@pytest.mark.parametrize(("world", "moves"), RESTORES.values(), ids=RESTORES)
def test_a_restore_starts_from_whatever_there_is(world: World, moves: list[str]) -> None:
    found = [str(move) for move in plan_restore(world, baseline("id1"))]

    assert [move.partition(" sha256")[0] for move in found] == moves


def test_as_many_instances_come_back_as_served() -> None:
    world = World((container(1),), (in_slot(1, "app-api-1"), *free_slots(2)), OLD)

    assert plan_restore(world, baseline("id1", "id2", "id3")) == (
        Move(Act.START_BESIDE, image=OLD, count=2),
    )


NOTHING = Baseline("production", None, (), "", None, None, NOW)


def test_a_first_deployment_that_failed_leaves_nothing_behind() -> None:
    """Not even its digest, which the host's own start would bring back."""
    world = World((container(2, NEW),), (NEW_SERVES,), NEW)

    acts = [move.act for move in plan_restore(world, NOTHING)]

    assert acts == [Act.DRAIN, Act.UNPIN, Act.LEAVE, Act.STOP, Act.REMOVE]


@pytest.mark.parametrize("slots", [None, free_slots(2)], ids=["no router", "a router"])
@pytest.mark.parametrize(
    ("pinned", "before", "acts"),
    [
        (NEW, "", [Act.UNPIN]),
        (NEW, "api:latest", [Act.UNPIN]),
        (NEW, str(OLD), [Act.UNPIN]),
        (OLD, str(OLD), []),  # nothing of it ran, and nothing was changed
        (None, "api:latest", []),
        (None, "", []),
    ],
)
def test_what_the_host_would_start_is_what_it_would_have_started_before(
    slots: tuple[Slot, ...] | None, pinned: ImageRef | None, before: str, acts: list[Act]
) -> None:
    world = World((), slots, pinned)

    assert [move.act for move in plan_restore(world, replace(NOTHING, pin=before))] == acts


def test_a_release_that_served_is_never_restored_to_nothing() -> None:
    world = World((container(2, NEW),), (NEW_SERVES,), NEW)

    assert plan_restore(world, baseline()) == (Move(Act.START_BESIDE, image=OLD, count=1),)


def test_a_baseline_without_a_digest_cannot_be_made_again() -> None:
    world = World((), free_slots(1), None)

    with pytest.raises(RollbackFailed, match="1 of 1 baseline containers of production are gone"):
        plan_restore(world, baseline("id1", image=None))


def test_a_baseline_without_a_digest_is_taken_again_while_its_container_is_there() -> None:
    world = World((container(1, None, "exited"),), free_slots(1), None)

    assert [move.act for move in plan_restore(world, baseline("id1", image=None))] == [
        Act.START,
        Act.ADMIT,
    ]


@pytest.mark.parametrize(
    ("instances", "pinned", "acts"),
    [
        ((container(1),), OLD, []),
        ((container(1),), NEW, [Act.PIN]),
        ((container(2, NEW),), NEW, [Act.PIN, Act.RESTART]),
        ((container(2, NEW, "exited"),), NEW, [Act.PIN, Act.RESTART]),
        ((container(1, state="exited"),), OLD, [Act.START]),
        ((container(1), container(2, NEW, "exited")), OLD, [Act.REMOVE]),
        # The engine starts it again and again: it has to be stopped before it can be removed.
        ((container(1), container(2, NEW, "restarting")), OLD, [Act.STOP, Act.REMOVE]),
    ],
)
def test_without_a_router_the_baseline_is_restarted_in_place(
    instances: tuple[Instance, ...], pinned: ImageRef, acts: list[Act]
) -> None:
    world = World(instances, None, pinned)

    assert [move.act for move in plan_restore(world, baseline("id1"))] == acts


# ---- restore: from any world, one move at a time


@st.composite
def worlds(draw: st.DrawFn) -> World:
    """Anything that an interrupted deployment could have left."""
    instances = []
    for number in range(1, draw(st.integers(0, 5)) + 1):
        state = draw(st.sampled_from(["running", "exited", "created", "dead", "restarting"]))
        health = draw(st.sampled_from(["healthy", "starting", "unhealthy", "none"]))
        image = draw(st.sampled_from([OLD, NEW, None]))
        instances.append(container(number, image, state, health))
    names = [i.name for i in instances] + ["gone-1", "gone-2"]
    taken = draw(st.lists(st.sampled_from(names), unique=True, max_size=6))
    running = {i.name for i in instances if i.running}
    slots = []
    for number in range(1, 7):
        name = taken[number - 1] if number <= len(taken) else ""
        admin = draw(st.sampled_from(list(Admin))) if name else Admin.MAINT
        up = name in running and admin is not Admin.MAINT and draw(st.booleans())
        slots.append(Slot(f"api{number}", name, "", admin, up))
    has_router = draw(st.booleans())
    pinned = draw(st.sampled_from([OLD, NEW, None]))
    return World(tuple(instances), tuple(slots) if has_router else None, pinned)


def do(world: World, move: Move) -> World:
    """What a move does to a world where nothing goes wrong."""
    instances, slots = list(world.instances), list(world.slots or ())
    pinned = world.pinned

    def change(ids: tuple[str, ...], **values: object) -> None:
        instances[:] = [replace(i, **values) if i.id in ids else i for i in instances]  # type: ignore[arg-type]

    def tell(names: tuple[str, ...], **values: object) -> None:
        slots[:] = [replace(s, **values) if s.instance in names else s for s in slots]  # type: ignore[arg-type]

    match move.act:
        case Act.START_BESIDE:
            used = {i.name for i in instances}
            fresh = (n for n in range(10, 99) if f"app-api-{n}" not in used)
            new = [container(next(fresh), move.image, health="starting")
                   for _ in range(move.count)]  # fmt: skip
            instances += new
        case Act.START:
            change(move.ids, state="running", health="starting")
        case Act.AWAIT:
            change(move.ids, health="healthy")
        case Act.ADMIT:
            change(move.ids, health="healthy")  # it is awaited before
            for name in move.names:
                (slot,) = choose_slots(slots, [name])
                slots[:] = [
                    Slot(slot, name, "", Admin.READY, True) if s.name == slot else s for s in slots
                ]
        case Act.PIN:
            pinned = move.image
        case Act.RESTART:
            pinned = move.image
            instances = [container(90 + n, move.image) for n in range(move.count)]
        case Act.DRAIN:
            tell(move.names, admin=Admin.DRAIN)
        case Act.LEAVE | Act.RETIRE:
            tell(move.names, instance="", admin=Admin.MAINT, up=False)
        case Act.STOP:
            change(move.ids, state="exited")
        case Act.REMOVE:
            # The engine removes nothing that runs, or that it is about to start again.
            gone = [i for i in instances if i.id in move.ids]
            assert all(i.state in ("exited", "created", "dead") for i in gone), gone
            instances = [i for i in instances if i.id not in move.ids]
    return World(tuple(instances), tuple(slots) if world.slots is not None else None, pinned)


def serving(world: World, image: ImageRef) -> int:
    """How many instances of an image users meet."""
    names = {slot.instance for slot in world.slots or () if slot.serving}
    return sum(i.image == image and i.name in names for i in world.instances)


@settings(max_examples=100, deadline=None)
@given(worlds(), st.lists(st.sampled_from(["id1", "id2", "id3", "lost"]), unique=True, max_size=3))
def test_any_world_comes_to_the_baseline_and_stays_there(world: World, ids: list[str]) -> None:
    """One move at a time, with a fresh look after each; nothing is left but what served before."""
    # A baseline has one image (release/rollback/baseline.py), so its containers have it here too.
    world = replace(
        world,
        instances=tuple(replace(i, image=OLD) if i.id in ids else i for i in world.instances),
    )
    target = baseline(*ids)
    for _ in range(30):
        moves = plan_restore(world, target)
        if not moves:
            break
        world = do(world, moves[0])

    assert plan_restore(world, target) == ()
    replicas = max(1, len(ids))  # a release that served is never restored to nothing
    assert len(world.instances) == replicas
    assert {i.image for i in world.instances} <= {OLD}
    assert world.pinned == OLD
    if world.slots is not None:
        assert serving(world, OLD) == replicas
        assert sum(bool(slot.instance) for slot in world.slots) == replicas


@settings(max_examples=100, deadline=None)
@given(worlds(), st.lists(st.sampled_from(["id1", "id2", "lost"]), unique=True, max_size=3))
def test_users_wait_for_nothing_but_the_baseline(world: World, ids: list[str]) -> None:
    """The first part of a restore ends when the baseline gets every request. It stops, removes and
    pins nothing: that is for later."""
    if world.slots is None:
        return
    world = replace(
        world,
        instances=tuple(replace(i, image=OLD) if i.id in ids else i for i in world.instances),
    )
    target = baseline(*ids)
    moves: tuple[Move, ...] = ()
    for _ in range(30):
        moves = plan_serving(world, target)
        assert not {Act.STOP, Act.REMOVE, Act.PIN} & {move.act for move in moves}
        if not moves:
            break
        world = do(world, moves[0])

    assert moves == ()
    admitted = {slot.instance for slot in world.slots or () if slot.admitted}
    assert {i.image for i in world.instances if i.name in admitted} == {OLD}
    assert serving(world, OLD) == len(admitted) == max(1, len(ids))


@settings(max_examples=100, deadline=None)
@given(worlds(), st.lists(st.sampled_from(["id1", "id2"]), unique=True, min_size=1))
def test_no_serving_instance_leaves_before_the_baseline_serves(
    world: World, ids: list[str]
) -> None:
    """As long as the baseline does not serve in full, what serves goes on serving.

    The one exception is a router without a free slot, which the rules keep from happening: slots
    are twice the replicas.
    """
    if world.slots is None or not any(not slot.instance for slot in world.slots[-2:]):
        return
    world = replace(  # what the baseline names ran the baseline's image
        world,
        instances=tuple(replace(i, image=OLD) if i.id in ids else i for i in world.instances),
    )
    target = baseline(*ids)
    for _ in range(30):
        moves = plan_restore(world, target)
        if not moves:
            break
        after = do(world, moves[0])
        if serving(world, OLD) < len(ids) and sum(not s.instance for s in world.slots or ()) >= 3:
            assert {s.instance for s in world.slots or () if s.serving} <= {
                s.instance for s in after.slots or () if s.serving
            }
        world = after
