"""What counts as a right end of a deployment that was hit, and that nothing else does."""

import itertools
from dataclasses import replace
from typing import Any

import pytest

from sandbox.chaos.cells import (
    CELLS,
    EVERY_CELL,
    FURTHER,
    Cell,
    Fault,
    Moment,
    chosen,
    in_order_of_play,
)
from sandbox.chaos.table import Result, Seen, rows, wrongs
from sandbox.errors import SandboxError

IMAGE = "registry/api@sha256:1"
BUILD = next(c for c in CELLS if c.name == "kill-run@build")
WATCH = next(c for c in CELLS if c.name == "kill-run@watch")


def ideal(cell: Cell, ending: str | None = None) -> Seen:
    """What a cell that ends right leaves behind."""
    ends = cell.endings[0] if ending is None else ending
    serves = "v1.2.0" if ends == "Deployed" else "v1.1.0"
    return Seen(
        version="v1.2.0",
        before="v1.1.0",
        came=True,
        ending=ends,
        state=ends or "Crashed",
        serves=serves,
        answered_after={serves: 120},
        requests=3000,
        failed=0,
        in_hand_after=4.0,
        settled_after=30.0,
        held_by="",
        containers=[("api-1", IMAGE, "running")],
        pinned=IMAGE,
        waiting=0,
        tag="a" * 40,
        commit="a" * 40,
        applied={"0101": 1},
        recorded=["0101"],
        invalid_indexes=0,
    )


@pytest.mark.parametrize("cell", EVERY_CELL, ids=lambda cell: cell.name)
def test_each_allowed_ending_is_right(cell: Cell) -> None:
    for ending in cell.endings:
        assert wrongs(cell, ideal(cell, ending)) == ()


WRONG = {
    "another ending": {"ending": "Failed"},
    "no ending at all": {"ending": ""},
    "never settled": {"settled_after": None},
    "in hand too late": {"in_hand_after": 61.0},
    "the baseline serves": {"serves": "v1.1.0"},
    "nothing serves": {"serves": ""},
    "somebody was still answered by the baseline": {"answered_after": {"v1.2.0": 99, "v1.1.0": 1}},
    "somebody was not answered": {"answered_after": {"v1.2.0": 99, "": 1}},
    "a request failed": {"failed": 1},
    "the lock is held": {"held_by": "1874ab"},
    "a container too many": {"containers": [("a", IMAGE, "running"), ("b", IMAGE, "exited")]},
    "the container does not run": {"containers": [("a", IMAGE, "exited")]},
    "a reboot would bring up another image": {"pinned": "registry/api@sha256:2"},
    "a run goes on": {"waiting": 1},
    "the tag names another commit": {"tag": "b" * 40},
    "a migration had its effect twice": {"applied": {"0101": 2}},
    "a migration is recorded without its effect": {"recorded": ["0101", "0102"]},
    "a migration had its effect and is not recorded": {"recorded": []},
    "an invalid index is left": {"invalid_indexes": 1},
    "the moment never came": {"came": False},
}


@pytest.mark.parametrize("change", WRONG.values(), ids=WRONG.keys())
def test_anything_else_is_wrong(change: dict[str, Any]) -> None:
    assert wrongs(BUILD, replace(ideal(BUILD), **change))


def test_a_release_that_was_rolled_back_may_not_serve() -> None:
    seen = replace(ideal(WATCH), serves="v1.2.0", answered_after={"v1.2.0": 120})

    assert wrongs(WATCH, seen) == (
        "serves v1.2.0 afterwards, not v1.1.0",
        "120 requests after it was settled were answered by v1.2.0",
    )


def test_requests_may_fail_only_where_the_fault_stands_before_the_service() -> None:
    proxy = next(c for c in CELLS if c.fault is Fault.PROXY)

    assert wrongs(proxy, replace(ideal(proxy), failed=9)) == ()


def test_the_runs_process_is_killed_at_every_moment_of_a_deployment() -> None:
    """Moments of a rollback are its own."""
    hit = {c.moment for c in CELLS if c.fault is Fault.KILL_RUN}
    rollback = {c.moment for c in CELLS if c.is_rollback}

    assert hit | rollback == set(Moment)


def test_every_fault_is_played() -> None:
    assert {cell.fault for cell in CELLS} == set(Fault)


def test_names_are_the_cells_own_and_choose_them() -> None:
    assert len({cell.name for cell in EVERY_CELL}) == len(EVERY_CELL)
    assert chosen("kill-run@build, cancel@migrating") == tuple(
        next(c for c in CELLS if c.name == name) for name in ("kill-run@build", "cancel@migrating")
    )
    assert chosen("") == CELLS


OUTAGES = (
    *(Fault.DATABASE, Fault.LOCKED_DATABASE, Fault.KILL_SERVER, Fault.REGISTRY, Fault.ORIGIN),
    *(Fault.ENGINE, Fault.PROXY, Fault.DISK, Fault.DNS, Fault.HANG),
)


@pytest.mark.parametrize("fault", OUTAGES)
def test_each_outage_can_be_played_at_each_moment_of_a_deployment(fault: Fault) -> None:
    """Before, while and after each step; what is not in the hour's matrix is further."""
    of_a_deployment = {c.moment for c in CELLS if c.fault is Fault.KILL_RUN} - {Moment.WRITTEN}

    played = [c for c in EVERY_CELL if c.fault is fault and not c.is_rollback]

    assert {cell.moment for cell in played} == of_a_deployment


def test_wildcards_choose_every_cell_that_they_fit_and_none_twice() -> None:
    everywhere = chosen("engine@*,engine@watch")

    assert everywhere == tuple(c for c in EVERY_CELL if c.fault is Fault.ENGINE)
    assert set(everywhere) - set(CELLS)


def test_further_chooses_all_that_the_matrix_leaves_out() -> None:
    assert chosen("further") == FURTHER


def test_a_rollback_is_hit_right_after_a_release_was_deployed() -> None:
    """So that it needs no deployment of its own; without one before it, it comes last."""
    played = list(in_order_of_play(CELLS))

    assert sorted(cell.name for cell in played) == sorted(cell.name for cell in CELLS)
    for before, cell in itertools.pairwise(played):
        assert not cell.is_rollback or before.endings == ("Deployed",)
    alone = chosen("kill-rollback@sought,kill-run@watch")
    assert list(in_order_of_play(alone)) == [alone[1], alone[0]]


def test_a_name_that_there_is_not_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(
        SandboxError, match=r"there is no 'kill-run@lunch'; there are: further, kill-run@p"
    ):
        chosen("kill-run@lunch")


def test_the_table_has_a_row_for_each_cell_and_says_which_were_not_run() -> None:
    result = Result.of(BUILD, ideal(BUILD))

    table = {(row[0], row[1]): row[2:] for row in rows([result, result])}

    assert len(table) == len(CELLS)
    assert table[BUILD.fault.value, BUILD.moment.value] == (
        *("2 of 2", "Deployed", "the new release", "0 of 6,000", "4", "30"),
    )
    assert table[WATCH.fault.value, WATCH.moment.value][0] == "not run"
    assert Result.from_json({**vars_of(result)}) == result


def test_a_further_cell_has_a_row_once_it_was_played() -> None:
    result = Result.of(FURTHER[0], ideal(FURTHER[0]))

    assert rows([result])[-1][:3] == (FURTHER[0].fault.value, FURTHER[0].moment.value, "1 of 1")


def vars_of(result: Result) -> dict[str, Any]:
    """A result as a file holds it."""
    return {name: getattr(result, name) for name in Result.__dataclass_fields__}
