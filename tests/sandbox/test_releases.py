"""The bad releases of the example backend fail as often as their name says, and not by chance."""

import asyncio
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from sandbox.parts.origin import RELEASES, TEMPLATE

REQUESTS = 1000
USERS: list[tuple[bytes, bytes]] = []  # the traffic does not say what it is
CHECKS = [(b"user-agent", b"ignition-deploy")]


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Load a module of a release under its own name."""

    def load(path: Path) -> ModuleType:
        spec = importlib.util.spec_from_file_location(path.stem, path)
        assert spec
        assert spec.loader
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, path.stem, module)
        spec.loader.exec_module(module)
        return module

    return load


async def answer(scope: Any, receive: Any, send: Any) -> None:
    """An application that has nothing wrong."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"{}"})


def statuses(app: Any, requests: int, headers: list[tuple[bytes, bytes]]) -> list[int]:
    """The status of each answer; 500 for an exception."""
    found: list[int] = []

    async def send(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            found.append(message["status"])

    async def ask() -> None:
        for _ in range(requests):
            scope = {"type": "http", "method": "GET", "path": "/api/items", "headers": headers}
            try:
                await app(scope, None, send)
            except KeyError:
                found.append(500)

    asyncio.run(ask())
    return found


@pytest.mark.parametrize(
    ("release", "share"), [("errors-20", 20), ("errors-6", 6), ("errors-4", 4)]
)
def test_every_hundred_requests_have_as_many_errors_as_the_release_is_named_after(
    load: Any, release: str, share: int
) -> None:
    load(RELEASES / release / "app/backend/sampling.py")
    scored = load(RELEASES / "scoring/app/backend/scoring.py").Scored(answer)

    found = statuses(scored, REQUESTS, USERS)

    hundreds = [found[at : at + 100].count(500) for at in range(0, REQUESTS, 100)]
    assert set(hundreds) <= {share - 1, share, share + 1}
    assert found.count(500) in (share * 10 - 1, share * 10)


def test_the_checks_of_a_deployment_do_not_meet_those_errors(load: Any) -> None:
    load(RELEASES / "errors-20/app/backend/sampling.py")
    scored = load(RELEASES / "scoring/app/backend/scoring.py").Scored(answer)

    assert set(statuses(scored, REQUESTS, CHECKS)) == {200}


def test_a_late_error_comes_late(load: Any) -> None:
    sampling = load(RELEASES / "errors-6-late/app/backend/sampling.py")
    scored = load(RELEASES / "scoring/app/backend/scoring.py").Scored(answer)

    assert sampling.LOADED_AFTER == 20.0
    assert set(statuses(scored, REQUESTS, USERS)) == {200}
    scored.ready_at -= sampling.LOADED_AFTER
    assert statuses(scored, REQUESTS, USERS).count(500) in (59, 60)


def test_an_answer_names_its_release_also_when_it_failed(load: Any, monkeypatch: Any) -> None:
    monkeypatch.setitem(sys.modules, "about", ModuleType("about"))
    sys.modules["about"].VERSION = "v1.2.0"  # type: ignore[attr-defined]
    edge = load(TEMPLATE / "app/backend/edge.py")
    answers: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            answers.append(message)

    async def fail(scope: Any, receive: Any, send: Any) -> None:
        raise KeyError("user-agent")

    scope = {"type": "http", "method": "GET", "path": "/api/items", "headers": []}
    for app in (answer, fail):
        asyncio.run(edge.Edge(app)(scope, None, send))

    assert [each["status"] for each in answers] == [200, 500]
    assert all((b"x-version", b"v1.2.0") in each["headers"] for each in answers)


def test_an_item_that_is_sent_twice_in_a_row_is_what_fails(load: Any, monkeypatch: Any) -> None:
    monkeypatch.setitem(sys.modules, "database", ModuleType("database"))
    items = load(RELEASES / "errors-on-writes/app/backend/items.py")

    for name in ("smoke check", "traffic", "smoke check"):
        items.refuse_repetition(name)
    with pytest.raises(items.Repeated):
        items.refuse_repetition("smoke check")


def test_what_is_remembered_is_never_forgotten(load: Any, tmp_path: Path) -> None:
    replay = load(RELEASES / "leak/app/backend/replay.py")
    replay.INDEX, replay.FRAME = tmp_path / "index", 10
    first = replay.Remembered(answer)

    statuses(first, 5, USERS)
    assert first.frames == []  # it builds its index
    first.ready_at -= replay.INDEXED_AFTER
    statuses(first, 5, USERS)
    later = replay.Remembered(answer)
    statuses(later, 5, USERS)

    assert (len(first.frames), len(later.frames)) == (5, 5)
