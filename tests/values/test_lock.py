"""Who may work on a folder: one process at a time, whoever was killed there before."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from umbel import durable
from umbel.errors import UserError
from umbel.lock import lock

HOLDER = """
import sys, time
from pathlib import Path
from umbel import durable
with durable.{how}(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def holder(path: Path, how: str = "hold") -> subprocess.Popen[str]:
    """A process that holds a folder until its input ends or it is killed."""
    command = [sys.executable, "-c", HOLDER.format(how=how), str(path)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def ended(process: subprocess.Popen[str]) -> None:
    process.communicate("")
    assert process.returncode == 0


@pytest.mark.parametrize(("how", "again"), [("hold", durable.hold), ("sole", durable.sole)])
def test_a_second_process_is_told_who_works_there(tmp_path: Path, how: str, again: Callable[[Path], object]) -> None:
    process = holder(tmp_path / "run", how)
    with pytest.raises(UserError) as caught:
        again(tmp_path / "run").__enter__()  # type: ignore[attr-defined]
    message = f"{tmp_path / 'run'}: another process ({process.pid}) works on it; wait until it ends, or name another folder"
    assert str(caught.value) == message
    ended(process)
    with again(tmp_path / "run"):  # type: ignore[attr-defined]
        pass


@pytest.mark.parametrize(("how", "again"), [("hold", durable.hold), ("sole", durable.sole)])
def test_the_kernel_frees_what_a_killed_process_held(tmp_path: Path, how: str, again: Callable[[Path], object]) -> None:
    process = holder(tmp_path / "run", how)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    left = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert [path.read_text() for path in left] == [str(process.pid)]
    assert all(durable.left_behind(path.name) for path in left)
    with again(tmp_path / "run"):  # type: ignore[attr-defined]
        pass
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_one_process_may_not_hold_it_twice(tmp_path: Path) -> None:
    with durable.hold(tmp_path), pytest.raises(UserError, match=rf"another process \({os.getpid()}\) works on it"), durable.hold(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []


def test_it_is_free_again_after_a_failure(tmp_path: Path) -> None:
    for _ in range(2):
        with pytest.raises(ZeroDivisionError), durable.hold(tmp_path):
            raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


def test_who_waits_comes_after(tmp_path: Path) -> None:
    order: list[str] = []

    def second() -> None:
        with durable.hold(tmp_path, wait=True):
            order.append("second")

    with durable.hold(tmp_path):
        thread = threading.Thread(target=second)
        thread.start()
        time.sleep(0.1)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]
    assert list(tmp_path.iterdir()) == []


def test_many_who_wait_come_one_by_one(tmp_path: Path) -> None:
    """Each who leaves removes the file that others wait for: they must not go on with a file that is gone."""
    inside, most = [0], [0]

    def work() -> None:
        for _ in range(20):
            with durable.hold(tmp_path, wait=True):
                inside[0] += 1
                most[0] = max(most[0], inside[0])
                time.sleep(0.0005)
                inside[0] -= 1

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1]
    assert list(tmp_path.iterdir()) == []


def test_a_holder_that_has_not_yet_said_its_number(tmp_path: Path) -> None:
    file = tmp_path / "file"
    with file.open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(UserError, match=r"here: another process works on it"), lock(Path("here"), file):
            pass


def test_a_lock_that_is_not_ours_any_more_is_left_alone(tmp_path: Path) -> None:
    """Someone removed the folder's files while we worked, and another process began."""
    file = tmp_path / "file"
    with lock(tmp_path, file):
        file.unlink()
        file.write_text("another's")
    assert file.read_text() == "another's"


def test_a_file_system_without_locks_goes_unlocked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def lockless(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", lockless)
    with lock(tmp_path, tmp_path / "file"), lock(tmp_path, tmp_path / "file"):
        pass


def test_other_failures_of_a_lock_are_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    before = len(list(Path("/proc/self/fd").iterdir()))
    monkeypatch.setattr(fcntl, "flock", broken)
    with pytest.raises(OSError, match="Input/output error"), lock(tmp_path, tmp_path / "file"):
        pass
    assert len(list(Path("/proc/self/fd").iterdir())) == before, "the file is closed"


def test_where_nothing_may_be_written_nothing_is_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A finished run on a medium that is read only can still be read."""
    def closed(*_: object) -> int:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(os, "open", closed)
    with durable.hold(tmp_path):
        pass


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "letter").write_text("dear")
    with pytest.raises(UserError, match=r"letter/run: not writable"), durable.hold(tmp_path / "letter" / "run"):
        pass
