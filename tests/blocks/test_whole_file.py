"""A file is the old one or the new one, with the access that it had, whatever happens meanwhile."""

import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from blocks.whole_file import replace_file


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_new_file_has_the_mode_that_it_is_given_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        replace_file(tmp_path / "be.cfg", b"backend api\n", new_mode=0o644)
        replace_file(tmp_path / ".env", b"TOKEN=x\n")
    finally:
        os.umask(before)

    assert (tmp_path / "be.cfg").read_bytes() == b"backend api\n"
    assert mode_of(tmp_path / "be.cfg") == 0o644
    assert mode_of(tmp_path / ".env") == 0o600


def test_a_file_that_is_there_keeps_its_mode_and_its_owner(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    path.write_text("old")
    path.chmod(0o640)
    if os.geteuid() == 0:
        os.chown(path, 12345, 54321)
    before = path.stat()

    replace_file(path, b"new", new_mode=0o600)

    after = path.stat()
    assert path.read_text() == "new"
    assert (after.st_mode, after.st_uid, after.st_gid) == (
        before.st_mode,
        before.st_uid,
        before.st_gid,
    )


def test_an_owner_that_may_not_be_kept_is_no_reason_to_fail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """HAProxy's file may be another user's; production would be left with a stale one."""
    path = tmp_path / "be.cfg"
    path.write_text("old")
    path.chmod(0o644)

    def forbidden(*arguments: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "fchown", forbidden)
    replace_file(path, b"new")

    assert path.read_text() == "new"
    assert mode_of(path) == 0o644


@pytest.mark.skipif(os.geteuid() != 0, reason="gives the file to another group first")
def test_what_one_group_may_read_is_not_shown_to_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A host's .env has secrets; the worker's own group is not the one that it was shared with."""
    path = tmp_path / ".env"
    path.write_text("old")
    os.chown(path, -1, 54321)
    path.chmod(0o640)

    def forbidden(*arguments: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "fchown", forbidden)
    replace_file(path, b"new")

    assert path.read_text() == "new"
    assert path.stat().st_gid != 54321
    assert mode_of(path) == 0o600


@pytest.mark.parametrize("broken", ["fsync", "fchmod"])
def test_a_file_that_cannot_be_written_is_as_it_was_and_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    path = tmp_path / "be.cfg"
    path.write_text("old")

    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, broken, full)
    with pytest.raises(OSError, match="No space left"):
        replace_file(path, b"new")

    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["be.cfg"]


def test_of_many_that_write_at_once_each_writes_a_whole_file(tmp_path: Path) -> None:
    """A rollback admits its instances side by side, and each admission writes the router's file."""
    path, texts = tmp_path / "be.cfg", [bytes([65 + n]) * 200_000 for n in range(8)]

    with ThreadPoolExecutor(len(texts)) as pool:
        list(pool.map(lambda text: replace_file(path, text), texts))

    assert path.read_bytes() in texts
    assert [entry.name for entry in tmp_path.iterdir()] == ["be.cfg"]
