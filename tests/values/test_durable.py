"""Whole or not at all: what a failed write leaves behind."""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import signal
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests import logs

from umbel import durable
from umbel.data.table import Table
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


# Who may read what was written.


@contextmanager
def masked(mask: int) -> Iterator[None]:
    """As a process of this umask would do it."""
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def secretly(path: Path) -> None:
    """As libraries do it that think a file nobody else's."""
    path.unlink(missing_ok=True)
    os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))


MASKS = pytest.mark.parametrize(("mask", "file", "folder"), [
    (0o022, 0o644, 0o755), (0o002, 0o664, 0o775), (0o027, 0o640, 0o750), (0o077, 0o600, 0o700), (0o000, 0o666, 0o777),
])  # fmt: skip


@MASKS
def test_a_file_is_whose_the_umask_says(tmp_path: Path, mask: int, file: int, folder: int) -> None:
    with masked(mask):
        durable.write(tmp_path / "new" / "a", "x")
        with durable.file(tmp_path / "b") as made:
            secretly(made)
    assert mode(tmp_path / "new") == folder
    assert mode(tmp_path / "new" / "a") == mode(tmp_path / "b") == file


@MASKS
def test_a_folder_and_all_in_it_are_whose_the_umask_says(tmp_path: Path, mask: int, file: int, folder: int) -> None:
    with masked(mask), durable.folder(tmp_path / "table") as made:
        (made / "deep" / "er").mkdir(parents=True)
        (made / "deep").chmod(0o700)
        for name in ("a", "deep/er/b"):
            secretly(made / name)
        (made / "deep" / "c").write_text("x")
        made.chmod(0o700)
    found = {str(one.relative_to(tmp_path)): mode(one) for one in tmp_path.rglob("*")}
    assert found == {
        "table": folder, "table/deep": folder, "table/deep/er": folder, "table/a": file, "table/deep/er/b": file, "table/deep/c": file,
    }  # fmt: skip


def test_a_new_folder_is_whose_the_umask_says_whoever_s_the_old_one_was(tmp_path: Path) -> None:
    for mask, expected in ((0o077, 0o700), (0o022, 0o755)):
        with masked(mask), durable.folder(tmp_path / "table") as made:
            (made / "a").touch()
        assert mode(tmp_path / "table") == expected


def test_an_executable_is_none_any_more(tmp_path: Path) -> None:
    """What is written is data."""
    with masked(0o022), durable.folder(tmp_path / "table") as made:
        (made / "a").touch(0o777)
    assert mode(tmp_path / "table" / "a") == 0o644


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
    monkeypatch.setattr(durable, "_exchange", lambda *_: False)
    rename = Path.rename

    def second_fails(self: Path, target: Path) -> Path:
        if target == path and (self / "new").exists():
            full()
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", second_fails)
    with pytest.raises(UserError, match="disk is full"), durable.folder(path) as made:
        (made / "new").write_text("new")
    assert (path / "a").read_text() == "old"


def test_a_folder_is_not_put_in_place_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "table").write_text("a letter")
    with pytest.raises(UserError, match=r"table: is a file; name a folder"), durable.folder(tmp_path / "table"):
        pass
    assert (tmp_path / "table").read_text() == "a letter"


# Cut off. A child process replaces a folder, and dies by SIGKILL at one call after another.


def filled(path: Path, text: str) -> None:
    with durable.sole(path), durable.folder(path) as made:
        (made / "deep").mkdir()
        for name in ("a", "deep/b"):
            (made / name).write_text(text)


def texts(path: Path) -> set[str]:
    return {file.read_text() for file in path.rglob("*") if file.is_file()}


def replaced_until(call: int, path: Path, *, exchange: bool) -> int:
    """Replace the folder in a child that is killed at the given call; the child's exit code."""
    pid = os.fork()
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    left = [call]

    def deadly(original: Callable[..., object]) -> Callable[..., object]:
        def wrapped(*arguments: object, **named: object) -> object:
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return original(*arguments, **named)

        return wrapped

    swap = durable._exchange if exchange else lambda *_: False
    durable._exchange = deadly(swap)  # type: ignore[assignment]
    for owner, name in ((durable, "sync"), (durable, "_clear"), (shutil, "rmtree"), (os, "rmdir"), (os, "unlink"), (os, "write")):
        setattr(owner, name, deadly(getattr(owner, name)))
    for name in ("rename", "write_text", "mkdir", "chmod", "unlink"):
        setattr(Path, name, deadly(getattr(Path, name)))
    try:
        filled(path, "new")
    except BaseException:
        os._exit(1)
    os._exit(0)


@pytest.mark.parametrize("exchange", [True, False])
def test_a_replacement_that_is_cut_off_leaves_the_old_folder_or_the_new(tmp_path: Path, *, exchange: bool) -> None:
    found: list[set[str]] = []
    gone = 0
    for call in range(1, 60):
        path = tmp_path / str(call) / "table"
        filled(path, "old")
        code = replaced_until(call, path, exchange=exchange)
        gone += not path.exists()
        if code == 0:
            break
        assert code == -signal.SIGKILL
        durable.recover(path)
        found.append(texts(path))
        filled(path, "newer")
        assert texts(path) == {"newer"}
        assert [one.name for one in path.parent.iterdir()] == ["table"], "nothing half written stays"
    else:
        raise AssertionError("it was never done")
    assert len(found) > 10
    assert all(one in ({"old"}, {"new"}) for one in found)
    assert {"old"} in found
    assert {"new"} in found
    assert (gone == 0) == exchange, "without an exchange there is a moment when nothing stands there"


def test_without_an_exchange_the_folder_is_replaced_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(durable, "_exchange", lambda *_: False)
    for text in ("old", "new", "newest"):
        filled(tmp_path / "table", text)
        assert texts(tmp_path / "table") == {text}
    assert [one.name for one in tmp_path.iterdir()] == ["table"]


def test_a_system_that_cannot_exchange_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
    assert not durable._exchange(tmp_path / "a", tmp_path / "none")
    monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: object())
    assert not durable._exchange(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "a" / "a").exists()


def test_a_table_that_stepped_aside_is_found_again_when_it_is_opened(tmp_path: Path) -> None:
    logs.table(tmp_path)
    (tmp_path / "table").rename(tmp_path / ".table.umbel-old")
    assert len(Table.open(tmp_path / "table").parts["train"]) == 6
    assert sorted(one.name for one in tmp_path.iterdir()) == ["log.parquet", "table"]


# Leftovers.

LEFTOVERS = (".table.k3v_x01a.umbel-part", ".table.umbel-lock", ".log.jsonl.abcdefgh.umbel-part")
OTHERS = (".gitignore", ".table.old", ".yarn.lock", ".a.b.c", "table.umbel-old", ".table.umbel-parts", ".table.short.umbel-part")


def littered(folder: Path) -> None:
    for name in (*LEFTOVERS, *OTHERS):
        (folder / name).write_text("?")
    (folder / ".bundle.k3v_x01a.umbel-part" / "deep").mkdir(parents=True)
    (folder / ".bundle.k3v_x01a.umbel-part" / "deep" / "file").touch()


def test_what_killed_processes_left_is_swept_and_nothing_else(tmp_path: Path) -> None:
    littered(tmp_path)
    with durable.hold(tmp_path):
        assert {one.name for one in tmp_path.iterdir()} == {*OTHERS, durable.LOCK}
    assert {one.name for one in tmp_path.iterdir()} == set(OTHERS)
    assert all(durable.left_behind(name) for name in LEFTOVERS)
    assert not any(durable.left_behind(name) for name in OTHERS)


def test_what_another_process_is_at_is_not_swept(tmp_path: Path) -> None:
    littered(tmp_path)
    with durable.sole(tmp_path / "bundle"), durable.folder(tmp_path / "bundle") as made:
        durable.sweep(tmp_path)
        assert made.exists()
        left = {one.name for one in tmp_path.iterdir()}
        assert left == {*OTHERS, made.name, ".bundle.umbel-lock"}


def test_an_old_folder_is_removed_only_where_a_new_one_stands(tmp_path: Path) -> None:
    for name in ("one", ".one.umbel-old", ".other.umbel-old"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
    durable.sweep(tmp_path)
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")) == ["one", "one/one", "other", "other/.other.umbel-old"]


def test_sweeping_what_is_no_folder_does_nothing(tmp_path: Path) -> None:
    durable.sweep(tmp_path / "none")
    (tmp_path / "file").touch()
    durable.sweep(tmp_path / "file")
