"""What every router does, in memory and with a real proxy."""

from dataclasses import replace
from datetime import timedelta

import pytest

from blocks.router import Router
from release.errors import RolloutFailed, Unreachable
from release.measure.slot import Admin
from release.model import Instance
from tests.fakes.project import Project


@pytest.fixture
def router(project: Project) -> Router:
    """A router with v1.0.0 in service."""
    project.reset()
    assert project.router is not None
    return project.router


def newest(project: Project) -> Instance:
    return project.orchestrator.instances()[-1]


def test_users_meet_an_admitted_instance(project: Project, router: Router) -> None:
    project.put_in_service("v1.1.0")

    assert project.serving() == {"v1.0.0", "v1.1.0"}
    assert [slot.serving for slot in router.slots()] == [True, True] + 4 * [False]


def test_admitting_twice_takes_one_slot(project: Project, router: Router) -> None:
    (before,) = (s.name for s in router.slots() if s.instance)

    slot = router.admit(newest(project))

    assert slot.name == before
    assert [s.instance for s in router.slots() if s.instance] == [newest(project).name]


def test_a_drained_instance_gets_nothing_and_is_idle(project: Project, router: Router) -> None:
    old = newest(project).name
    project.put_in_service("v1.1.0")

    router.drain(old)

    assert router.await_idle(old, timedelta(seconds=5)) == 0
    assert project.serving() == {"v1.1.0"}
    assert next(s for s in router.slots() if s.instance == old).admin is Admin.DRAIN


def test_a_drained_instance_can_return(project: Project, router: Router) -> None:
    old = newest(project)
    project.put_in_service("v1.1.0")
    router.drain(old.name)

    router.admit(old)

    assert project.serving() == {"v1.0.0", "v1.1.0"}


def test_a_retired_instance_leaves_its_slot_free(project: Project, router: Router) -> None:
    old = newest(project).name
    project.put_in_service("v1.1.0")

    router.drain(old)
    router.retire(old)

    assert old not in {slot.instance for slot in router.slots()}
    assert project.serving() == {"v1.1.0"}


def test_unknown_instances_are_no_error_when_they_leave(router: Router) -> None:
    before = [slot.instance for slot in router.slots()]

    router.drain("nobody")
    router.retire("nobody")
    router.set_weight("nobody", 10)

    assert router.await_idle("nobody", timedelta(seconds=5)) == 0
    assert [slot.instance for slot in router.slots()] == before


def test_a_weight_can_be_set_and_is_full_again_for_the_next_one(
    project: Project, router: Router
) -> None:
    name = newest(project).name
    router.set_weight(name, 25)
    assert router.slots()[0].weight == 25

    router.retire(name)

    assert router.slots()[0].weight == 100


def test_an_instance_that_does_not_answer_is_not_admitted(
    project: Project, router: Router, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.with_a_hasty_router(monkeypatch)
    image = project.images["v1.2.0-never-healthy"]
    project.orchestrator.pull(image)
    (new,) = project.orchestrator.start_beside(image, 1)

    with pytest.raises(RolloutFailed, match=new.name):
        router.admit(new)

    assert new.name not in {slot.instance for slot in router.slots()}
    assert project.serving() == {"v1.0.0"}


def test_what_no_instance_answers_is_counted_all_the_same(project: Project, router: Router) -> None:
    """Users meet a proxy's own 503 as any other error, and no instance's counter has it."""
    project.drain_of_everything()
    before = router.look()

    assert project.serving() == {"nothing"}

    now = router.look()
    failed = now.answered.errors - before.answered.errors
    assert failed == now.answered.requests - before.answered.requests == 12
    assert [slot.answered for slot in now.slots] == [slot.answered for slot in before.slots]


def test_a_full_router_says_so_and_changes_nothing(project: Project, router: Router) -> None:
    one = newest(project)
    assert len({router.admit(one).name for _ in range(2)}) == 1  # the same instance, the same slot
    project.put_in_service("v1.1.0", replicas=5)
    (late,) = project.orchestrator.start_beside(project.images["v1.1.0"], 1)

    with pytest.raises(RolloutFailed, match="0 free slots of 6"):
        router.admit(replace(late, address=late.address or "172.20.0.9"))

    assert project.serving() == {"v1.0.0", "v1.1.0"}


def test_one_that_does_not_answer_is_unreachable(project: Project, router: Router) -> None:
    """Users are served on, as far as anybody knows."""
    away = project.with_router_away()

    with pytest.raises(Unreachable):
        away.check()
    with pytest.raises(Unreachable):
        away.slots()

    assert project.serving() == {"v1.0.0"}
