"""Whole or not at all: what a failed write leaves behind."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from umbel import durable
from umbel.errors import UserError


def full(*_: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_file_is_written_whole(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "a.json"
    durable.write(path, "one")
    durable.write(path, b"two")
    assert path.read_bytes() == b"two"
    assert [one.name for one in path.parent.iterdir()] == ["a.json"]


def test_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.json"
    durable.write(path, "old")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match=r"a\.json: the disk is full; free some space"):
        durable.write(path, "new")
    assert path.read_text() == "old"
    assert [one.name for one in tmp_path.iterdir()] == ["a.json"]


def test_a_place_that_is_not_writable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def closed(*_: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(os, "fsync", closed)
    with pytest.raises(UserError, match="not writable"):
        durable.write(tmp_path / "a", "x")


def test_other_failures_pass_through(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(OSError, match="Input/output error"):
        durable.write(tmp_path / "a", "x")


def test_a_folder_appears_whole(tmp_path: Path) -> None:
    path = tmp_path / "table"
    with durable.folder(path) as made:
        (made / "sub").mkdir()
        (made / "sub" / "a").write_text("1")
        assert not path.exists()
    assert (path / "sub" / "a").read_text() == "1"


def test_a_folder_replaces_a_folder(tmp_path: Path) -> None:
    path = tmp_path / "table"
    for text in ("old", "new"):
        with durable.folder(path) as made:
            (made / text).write_text(text)
    assert [one.name for one in path.iterdir()] == ["new"]
    assert [one.name for one in tmp_path.iterdir()] == ["table"]


def test_a_failed_folder_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "table"
    with durable.folder(path) as made:
        (made / "a").write_text("old")
    with pytest.raises(ZeroDivisionError), durable.folder(path) as made:
        (made / "a").write_text(str(1 / 0))
    assert (path / "a").read_text() == "old"
    assert [one.name for one in tmp_path.iterdir()] == ["table"]


def test_a_failed_rename_puts_the_old_folder_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "table"
    with durable.folder(path) as made:
        (made / "a").write_text("old")
    rename = Path.rename

    def second_fails(self: Path, target: Path) -> Path:
        if target == path and (self / "new").exists():
            full()
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", second_fails)
    with pytest.raises(UserError, match="disk is full"), durable.folder(path) as made:
        (made / "new").write_text("new")
    assert (path / "a").read_text() == "old"
