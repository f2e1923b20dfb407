"""When a contract migration may run, and which release a rollback may not bring back after it."""

from dataclasses import replace

import pytest

from release.errors import BadRequest, MigrationRefused
from release.migration.contract import (
    due_contract,
    least_release,
    reaches,
    refuse_contracted,
    refuse_while_older_runs,
)
from release.migration.files import AppliedMigration, MigrationFile
from release.migration.header import Header, Phase
from release.model import ImageRef, Instance, Release

OLD = Release("v1.1.0", "1" * 40, ImageRef("registry/api", "sha256:" + "1" * 64))
NEW = Release("v1.2.0", "2" * 40, ImageRef("registry/api", "sha256:" + "2" * 64))


def a_contract(version: str, min_app: str = "") -> MigrationFile:
    header = Header(phase=Phase.CONTRACT, min_app=min_app)
    return MigrationFile(version, "drop", "DROP TABLE memo;", f"sum{version}", header)


DROP = a_contract("0007")
BEFORE = "a rollback would go to v1.1.0, which came before this file"


@pytest.mark.parametrize(
    ("target", "known", "why"),
    [
        (None, None, ""),
        (OLD, {DROP.filename: DROP.checksum}, ""),
        (OLD, {}, "a rollback would go to v1.1.0, which came before this file"),
        (
            OLD,
            {DROP.filename: "other"},
            "a rollback would go to v1.1.0, which came before this file",
        ),
        (OLD, None, "a rollback would go to v1.1.0, and what it came with cannot be read"),
    ],
    ids=["nothing serves", "it came with the file", "it did not", "other text", "unknown commit"],
)
def test_a_contract_file_waits_until_the_release_before_came_with_it_too(target, known, why):
    """Until then a rollback would bring back a release that needs what it removes."""
    found = due_contract([DROP], target, known)

    assert found.why == why
    assert (found.due, found.waiting) == (((), (DROP,)) if why else ((DROP,), ()))


@pytest.mark.parametrize(
    ("serving", "least", "why"),
    [
        ("v1.1.0", "v1.1.0", ""),
        ("v1.10.0", "v1.9.0", ""),
        ("v1.1.0", "v1.2.0", "a rollback would go to v1.1.0 < v1.2.0"),
        ("v1.2.0-rc.1", "v1.2.0", "a rollback would go to v1.2.0-rc.1 < v1.2.0"),
        ("main-1111", "v1.2.0", "whether main-1111 is v1.2.0 or newer cannot be told"),
    ],
)
def test_min_app_in_the_header_says_which_release_does_without(serving, least, why):
    found = due_contract([a_contract("0007", least)], replace(OLD, version=serving), {})

    assert found.why == why
    assert bool(found.due) is not bool(why)


def test_contract_files_never_overtake_each_other():
    first, second = a_contract("0007", "v9.0.0"), a_contract("0008", "v1.0.0")

    found = due_contract([first, second], OLD, {})

    assert (found.due, found.waiting) == ((), (first, second))


def test_no_file_is_no_contract():
    assert due_contract([], OLD, None).due == ()


def test_the_release_that_a_rollback_would_bring_back_is_what_is_recorded():
    assert least_release(OLD, NEW) == "v1.1.0"
    assert least_release(None, NEW) == "v1.2.0"


# --- while an older release runs ------------------------------------------------------------------


def an_instance(release: Release, state: str = "running") -> Instance:
    return Instance(
        id="c1", name=f"api-{release.version}", address="10.0.0.2", image=release.image,
        version=release.version, revision=release.revision, state=state, health="healthy",
    )  # fmt: skip


def test_a_contract_file_does_not_run_beside_an_older_release():
    with pytest.raises(MigrationRefused) as caught:
        refuse_while_older_runs([DROP], [an_instance(NEW), an_instance(OLD)], NEW)

    assert caught.value.what == (
        "0007_drop.sql may not run while 1 instance of another release runs: api-v1.1.0 (v1.1.0)"
    )


def test_it_runs_where_all_others_have_stopped():
    refuse_while_older_runs([DROP], [an_instance(NEW), an_instance(OLD, "exited")], NEW)
    refuse_while_older_runs([], [an_instance(OLD)], NEW)


# --- going back -----------------------------------------------------------------------------------


def applied(min_app: str, phase: Phase = Phase.CONTRACT, status: str = "applied"):
    return AppliedMigration(
        "0007", "drop", status=status, phase=phase.value, checksum="x", min_app=min_app
    )


def test_a_release_that_needs_what_was_removed_is_not_brought_back():
    with pytest.raises(BadRequest) as caught:
        refuse_contracted(OLD, [applied("v1.2.0")], "production")

    assert caught.value.what == (
        "v1.1.0 < v1.2.0, the oldest release that runs on the schema of production since "
        "0007_drop.sql removed what it needs"
    )
    assert "--to v1.2.0" in caught.value.hint


@pytest.mark.parametrize(
    "row",
    [
        applied("v1.1.0"),
        applied("v1.0.0"),
        applied(""),
        applied("v1.2.0", Phase.EXPAND),
        applied("v1.2.0", status="failed"),
    ],
    ids=["equal", "older", "recorded before min_app was", "an expand file", "not applied"],
)
def test_a_release_that_runs_on_the_schema_may_come_back(row):
    assert refuse_contracted(OLD, [row], "production") == ""


def test_a_branch_release_comes_back_with_a_warning():
    """Its version says nothing about its age; at 3 am the person decides, and is told."""
    branch = replace(OLD, version="main-1111")

    assert refuse_contracted(branch, [applied("v1.2.0")], "production") == (
        "whether main-1111 runs on the schema since 0007_drop.sql cannot be told"
    )
    assert refuse_contracted(None, [applied("v1.2.0")], "production") == ""


def test_a_branch_release_is_itself():
    assert reaches("main-1111", "main-1111") is True
    assert reaches("main-1111", "v1.0.0") is None
