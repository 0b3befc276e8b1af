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


def test_a_file_filled_in_pieces_appears_whole(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "scores.csv"
    with durable.file(path) as made:
        for line in ("a,b\n", "1,2\n"):
            with made.open("a") as file:
                file.write(line)
        assert not path.exists()
        assert made.parent == path.parent
    assert path.read_text() == "a,b\n1,2\n"
    assert path.stat().st_mode & 0o777 == 0o644
    assert [one.name for one in path.parent.iterdir()] == ["scores.csv"]


def test_two_who_write_one_file_do_not_meet(tmp_path: Path) -> None:
    path = tmp_path / "scores.csv"
    with durable.file(path) as one, durable.file(path) as other:
        one.write_text("one")
        other.write_text("other")
        assert one != other
    assert path.read_text() == "one"  # the block that ends last
    assert [one.name for one in tmp_path.iterdir()] == ["scores.csv"]


@pytest.mark.parametrize("failure", [ZeroDivisionError, KeyboardInterrupt])
def test_a_failed_file_leaves_the_old_one(tmp_path: Path, failure: type[BaseException]) -> None:
    path = tmp_path / "scores.csv"
    path.write_text("old")
    with pytest.raises(failure), durable.file(path) as made:
        made.write_text("half")
        raise failure
    assert path.read_text() == "old"
    assert [one.name for one in tmp_path.iterdir()] == ["scores.csv"]


def test_a_file_is_synced_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, synced = tmp_path / "scores.csv", []
    monkeypatch.setattr(durable, "sync", lambda one: synced.append((one == tmp_path, path.exists())))
    with durable.file(path) as made:
        made.write_text("x")
    assert synced == [(False, False), (True, True)]


@pytest.mark.parametrize("name", ["x" * 250, "\N{GREEK SMALL LETTER ALPHA}" * 120])
def test_a_name_that_just_fits_has_room_for_a_temporary_one(tmp_path: Path, name: str) -> None:
    durable.write(tmp_path / name, "x")
    with durable.folder(tmp_path / name[1:]):
        pass
    assert {one.name for one in tmp_path.iterdir()} == {name, name[1:]}


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
