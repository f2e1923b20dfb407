"""The engine is stopped by the last one that needs it, and not before."""

from pathlib import Path

import pytest

from sandbox.parts import engine


@pytest.fixture
def ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """An engine of this checkout's own without containers; what is stopped is written down."""
    stopped: list[int] = []
    monkeypatch.setattr(engine, "FOLDER", tmp_path)
    monkeypatch.setattr(engine, "own_engine", lambda: 4711)
    monkeypatch.setattr(engine, "run", lambda arguments: "")
    monkeypatch.setattr(engine, "stop", stopped.append)
    return stopped


def test_it_runs_on_while_another_program_takes_its_containers_away(ours: list[int]) -> None:
    with engine.engine_in_use():
        assert engine.release_engine().startswith("left running: another program")
    assert ours == []


def test_the_last_one_stops_it(ours: list[int]) -> None:
    with engine.engine_in_use(), engine.engine_in_use():
        pass

    assert engine.release_engine() == "stopped"
    assert ours == [4711]
