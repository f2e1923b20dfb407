"""What every orchestrator does, in memory and on a real engine."""

import re
from datetime import timedelta

import pytest
from pydantic import SecretStr

from release.errors import RolloutFailed
from release.model import ImageRef
from tests.fakes.project import PORT, WITHIN, Project


def test_a_service_that_can_be_deployed_passes_its_check(project: Project) -> None:
    project.orchestrator.check(replicas=1, routed=True)


def test_new_containers_start_beside_the_old_and_serve_nobody(project: Project) -> None:
    baseline = project.reset()
    orchestrator = project.orchestrator
    orchestrator.pull(project.images["v1.1.0"])

    new = orchestrator.start_beside(project.images["v1.1.0"], 2, keep=baseline.instances)
    healthy = orchestrator.await_healthy([i.id for i in new], WITHIN)

    assert [i.version for i in orchestrator.instances()] == ["v1.0.0", "v1.1.0", "v1.1.0"]
    assert {i.image for i in healthy} == {project.images["v1.1.0"]}
    assert all(i.running and i.health == "healthy" and i.address for i in healthy)
    assert project.serving() == {"v1.0.0"}


def test_starting_beside_does_not_change_what_a_reboot_starts(project: Project) -> None:
    project.reset()
    project.put_in_service("v1.1.0")

    assert project.orchestrator.pinned() == project.images["v1.0.0"]


def test_leftovers_are_removed_but_a_kept_container_stays_stopped(project: Project) -> None:
    baseline = project.reset()
    orchestrator = project.orchestrator
    project.put_in_service("v1.1.0")
    leftover = orchestrator.instances()[-1].id
    orchestrator.stop([*baseline.instances, leftover], timedelta(seconds=5))

    orchestrator.start_beside(project.images["v1.1.0"], 1, keep=baseline.instances)

    found = orchestrator.instances()
    assert [(i.version, i.running) for i in found] == [("v1.0.0", False), ("v1.1.0", True)]
    assert found[0].id == baseline.instances[0]
    assert leftover not in {i.id for i in found}


@pytest.mark.parametrize(
    ("version", "sentence"),
    [
        # By its own check, or because it never passed one.
        ("v1.2.0-never-healthy", "is unhealthy after|not yet healthy after"),
        # Seen between its death and the engine's restart of it, or after that.
        ("v1.2.0-exits", "(stopped|ended) with exit code [13]"),
    ],
)
def test_a_container_that_does_not_come_up_is_named_and_the_baseline_serves(
    project: Project, version: str, sentence: str
) -> None:
    project.reset()
    with pytest.raises(RolloutFailed) as caught:
        project.put_in_service(version)

    name = project.orchestrator.instances()[-1].name
    assert name in caught.value.what
    assert re.search(sentence, caught.value.what)
    assert re.search("last log line|it logged nothing", caught.value.what)
    assert "\n" not in caught.value.what
    assert project.serving() == {"v1.0.0"}


def test_a_container_that_answers_is_not_waited_for_until_the_engine_has_looked(
    project: Project,
) -> None:
    """An engine may look only every half minute. The baseline serves all the while."""
    baseline = project.reset()
    orchestrator, image = project.orchestrator, project.images["v1.2.0-never-healthy"]
    orchestrator.pull(image)
    new = orchestrator.start_beside(image, 1, keep=baseline.instances)

    (found,) = orchestrator.await_healthy([i.id for i in new], WITHIN, lambda instance: True)

    assert found.running
    assert found.health != "healthy"
    assert project.serving() == {"v1.0.0"}


def test_stopped_containers_are_kept_and_start_again(project: Project) -> None:
    baseline = project.reset()
    orchestrator = project.orchestrator
    orchestrator.stop(baseline.instances, timedelta(seconds=5))
    assert [i.state for i in orchestrator.instances()] == ["exited"]

    orchestrator.start(baseline.instances)

    (again,) = orchestrator.await_healthy(baseline.instances, WITHIN)
    assert again.id == baseline.instances[0]


def test_stop_start_and_remove_are_safe_to_repeat(project: Project) -> None:
    baseline = project.reset()
    orchestrator = project.orchestrator
    for _ in range(2):
        orchestrator.start(baseline.instances)
    for _ in range(2):
        orchestrator.stop(baseline.instances, timedelta(seconds=5))
    for _ in range(2):
        orchestrator.remove(baseline.instances)
    orchestrator.stop(baseline.instances, timedelta(seconds=5))

    assert orchestrator.instances() == ()


def test_a_running_container_is_never_removed(project: Project) -> None:
    baseline = project.reset()

    with pytest.raises(RolloutFailed, match="cannot remove"):
        project.orchestrator.remove(baseline.instances)

    assert project.serving() == {"v1.0.0"}


def test_an_image_that_the_registry_does_not_have_is_an_error_that_names_it(
    project: Project,
) -> None:
    project.reset()
    unknown = ImageRef(project.images["v1.0.0"].repository, "sha256:" + 64 * "a")

    assert not project.orchestrator.has_image(unknown)
    with pytest.raises(RolloutFailed, match=f"the registry has no {unknown}"):
        project.orchestrator.pull(unknown)

    assert project.serving() == {"v1.0.0"}


def test_the_pinned_image_is_what_was_pinned_last(project: Project) -> None:
    project.reset()
    project.orchestrator.pin(project.images["v1.1.0"])

    assert project.orchestrator.pinned() == project.images["v1.1.0"]


def test_a_restart_in_place_leaves_only_the_new_release_and_pins_it(project: Project) -> None:
    project.reset()
    image = project.images["v1.1.0"]
    project.orchestrator.pull(image)

    started = project.orchestrator.restart_in_place(image, 1)
    project.orchestrator.await_healthy([i.id for i in started], WITHIN)

    assert [i.image for i in project.orchestrator.instances()] == [image]
    assert project.orchestrator.pinned() == image


def test_a_log_that_is_gone_is_no_error(project: Project) -> None:
    assert "gone" in project.orchestrator.logs("f" * 64, 10)


def test_a_pin_can_be_taken_back(project: Project) -> None:
    project.reset()
    before = project.orchestrator.pin_text()

    project.orchestrator.pin(project.images["v1.1.0"])
    project.orchestrator.unpin(before)

    assert project.orchestrator.pin_text() == before == str(project.images["v1.0.0"])


def test_the_releases_that_start_without_a_registry_are_known(project: Project) -> None:
    project.reset()
    project.orchestrator.pull(project.images["v1.1.0"])

    kept = {release.version: release.image for release in project.orchestrator.kept_releases()}

    assert kept["v1.0.0"] == project.images["v1.0.0"]
    assert kept["v1.1.0"] == project.images["v1.1.0"]


def test_what_a_person_types_instead_names_the_image_or_nothing(project: Project) -> None:
    project.reset()
    image = project.images["v1.1.0"]

    back = project.orchestrator.by_hand(image, replicas=1, routed=True)
    stopped = project.orchestrator.by_hand(None, replicas=1, routed=True)

    assert str(image) in "\n".join(back.commands)
    assert stopped.commands
    assert not any("sha256:" in command for command in stopped.commands)
    assert back.meanwhile.startswith("meet errors")
    assert project.serving() == {"v1.0.0"}


# ---- reach


def test_each_instance_is_reached_by_itself_whether_or_not_users_meet_it(project: Project) -> None:
    baseline = project.reset()
    orchestrator, image = project.orchestrator, project.images["v1.1.0"]
    orchestrator.pull(image)
    new = orchestrator.start_beside(image, 1, keep=baseline.instances)
    orchestrator.await_healthy([i.id for i in new], WITHIN)

    answers = {
        i.name: project.answers_at(orchestrator.reach(i, PORT)) for i in orchestrator.instances()
    }

    assert answers == {i.name: i.version for i in orchestrator.instances()}
    assert set(answers.values()) == {"v1.0.0", "v1.1.0"}
    assert project.serving() == {"v1.0.0"}


def test_the_port_is_that_of_the_release_that_is_asked(project: Project) -> None:
    project.reset()
    (instance,) = project.orchestrator.instances()

    assert project.orchestrator.reach(instance, 9000).endswith(":9000")


def test_an_instance_that_does_not_run_cannot_be_reached(project: Project) -> None:
    """An address that is nowhere would be asked in its place: the public one."""
    baseline = project.reset()
    project.orchestrator.stop(baseline.instances, timedelta(seconds=5))
    (stopped,) = project.orchestrator.instances()

    with pytest.raises(RolloutFailed, match=f"{stopped.name} has no address"):
        project.orchestrator.reach(stopped, PORT)


# ---- apart


def test_one_apart_runs_beside_the_instances_and_no_user_meets_it(project: Project) -> None:
    project.reset()
    orchestrator, image = project.orchestrator, project.images["v1.1.0"]
    orchestrator.pull(image)
    before = orchestrator.instances()

    with orchestrator.apart(image, {"TOKEN": SecretStr("another-horse")}, WITHIN) as instance:
        assert (instance.version, instance.health, instance.image) == ("v1.1.0", "healthy", image)
        assert project.answers_at(orchestrator.reach(instance, PORT)) == "v1.1.0"
        assert orchestrator.instances() == before
        assert project.serving() == {"v1.0.0"}
        assert orchestrator.pinned() == project.images["v1.0.0"]

    assert orchestrator.remove_apart() == 0


def test_one_apart_that_does_not_come_up_is_named_and_removed(project: Project) -> None:
    project.reset()
    orchestrator, broken = project.orchestrator, project.images["v1.2.0-exits"]
    orchestrator.pull(broken)

    with (
        pytest.raises(RolloutFailed, match=r"-apart-.* (stopped with|was started)"),
        orchestrator.apart(broken, {}, WITHIN),
    ):
        pytest.fail("it came up")

    assert orchestrator.remove_apart() == 0
    assert project.serving() == {"v1.0.0"}


def test_a_rollout_neither_counts_nor_removes_one_apart(project: Project) -> None:
    project.reset()
    orchestrator = project.orchestrator

    with orchestrator.apart(project.images["v1.0.0"], {}, WITHIN) as instance:
        project.put_in_service("v1.1.0")
        assert [i.version for i in orchestrator.instances()] == ["v1.0.0", "v1.1.0"]
        assert project.answers_at(orchestrator.reach(instance, PORT)) == "v1.0.0"


def test_who_holds_the_environment_removes_what_a_killed_run_left(project: Project) -> None:
    """The instances serve on."""
    project.reset()
    before = project.orchestrator.instances()
    project.leave_apart("v1.0.0")

    assert project.orchestrator.remove_apart() == 1
    assert project.orchestrator.remove_apart() == 0
    assert project.orchestrator.instances() == before
    assert project.serving() == {"v1.0.0"}
