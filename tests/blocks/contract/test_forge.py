"""What every forge does, of each kind that is registered."""

import time
from datetime import timedelta

import pytest
from pytest_httpserver import HTTPServer

from blocks.kinds import FORGES, Kind
from release.errors import Unreachable
from release.gate.evidence import CheckResult, Issue
from tests.fakes.forges import FORGES as SERVERS
from tests.fakes.forges import SHA, TOKEN, ForgeServer

KINDS = {kind.name: kind for kind in FORGES}


@pytest.fixture(params=KINDS)
def server(request: pytest.FixtureRequest, httpserver: HTTPServer) -> ForgeServer:
    """A kind without a server in tests/fakes/forges.py fails here."""
    return SERVERS[request.param](httpserver)


def test_a_commit_has_the_newest_result_of_each_check(server: ForgeServer) -> None:
    server.checks("lint", "failure")
    server.checks("unit", "pending")
    server.checks("lint", "success")

    assert sorted(server.block().checks(SHA), key=lambda one: one.name) == [
        CheckResult("lint", "success", "https://ci/lint"),
        CheckResult("unit", "pending", "https://ci/unit"),
    ]


def test_a_commit_that_nothing_ran_on_has_no_checks(server: ForgeServer) -> None:
    assert server.block().checks(SHA) == ()


def test_more_checks_than_one_page_holds_are_all_read(server: ForgeServer) -> None:
    for number in range(207):
        server.checks(f"job-{number}", "success")

    assert len(server.block().checks(SHA)) == 207


def test_an_open_issue_with_the_label_is_critical_and_a_change_to_be_merged_is_none(
    server: ForgeServer,
) -> None:
    server.issue(7, "orders are lost", "critical")
    server.issue(8, "a colour is wrong", "trivial")
    server.issue(9, "mend it", "critical", change=True)
    server.issue(6, "was lost", "critical", open=False)

    assert server.block().critical_issues() == (Issue("7", "orders are lost", "https://forge/7"),)


@pytest.mark.parametrize("status", [301, 401, 403, 500, 503])
def test_a_refusal_is_unreachable_with_its_status(server: ForgeServer, status: int) -> None:
    server.refuses_with = status

    for ask in (lambda: server.block().checks(SHA), server.block().critical_issues):
        with pytest.raises(Unreachable, match=f"answers {status}") as refused:
            ask()
        assert TOKEN not in str(refused.value)


@pytest.mark.parametrize("body", ["<html>", "3", '"x"', "[3]"])
def test_an_answer_of_another_shape_is_none(server: ForgeServer, body: str) -> None:
    server.answers_with = body

    for ask in (lambda: server.block().checks(SHA), server.block().critical_issues):
        with pytest.raises(Unreachable) as refused:
            ask()
        assert TOKEN not in str(refused.value)


def test_a_forge_that_is_away_is_named_without_the_token(server: ForgeServer) -> None:
    away = server.block(url="http://127.0.0.1:9/repos/a/b")

    with pytest.raises(Unreachable, match=r"127\.0\.0\.1:9/repos/a/b.* does not answer") as said:
        away.critical_issues()
    assert TOKEN not in str(said.value)
    assert TOKEN not in repr(away)


@pytest.mark.parametrize(("code", "last"), [(0, "all green"), (3, "2 failed")])
@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_a_command_is_asked_about_the_commit_instead(kind: Kind, code: int, last: str) -> None:
    command = ("sh", "-c", f"echo $0; echo '{last}'; exit {code}", "{revision}")
    result = kind.block(tests_command=command).run_tests_command(SHA, timedelta(seconds=10))

    assert (result.program, result.code, result.last_line) == ("sh", code, last)


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_a_command_that_hangs_is_killed_with_what_it_started(kind: Kind) -> None:
    forge = kind.block(tests_command=("sh", "-c", "sleep 60 & sleep 60"))

    began = time.monotonic()
    with pytest.raises(Unreachable, match="sh was not done within 0 s"):
        forge.run_tests_command(SHA, timedelta(seconds=0.3))
    assert time.monotonic() - began < 10


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_a_command_that_is_not_there_is_named(kind: Kind) -> None:
    forge = kind.block(tests_command=("no-such-program",))

    with pytest.raises(Unreachable, match="no-such-program cannot be run"):
        forge.run_tests_command(SHA, timedelta(seconds=1))


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_a_table_that_is_not_there_configures_no_forge(kind: Kind) -> None:
    assert not kind.block().configured
