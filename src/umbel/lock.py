"""One process at a time: a lock that the kernel frees, however its holder ends."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from umbel.errors import UserError

CLOSED = (errno.EACCES, errno.EROFS, errno.EPERM, errno.ENOTDIR)  # no file can be made there
LOCKLESS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS)         # the file system knows no locks


class HeldError(UserError):
    """Another process has the lock; `holder` is its number, empty where it is not known."""

    def __init__(self, path: Path, holder: str) -> None:
        who = f"another process ({holder})" if holder else "another process"
        super().__init__(f"{path}: {who} works on it", mend="wait until it ends, or name another folder")
        self.holder = holder


@contextmanager
def lock(path: Path, file: Path, *, wait: bool = False) -> Iterator[None]:
    """Be the only process at work on `path` while the block runs, by a lock on `file`.

    `file` holds the number of our process, and is gone after the block; one that a killed process left does no harm.
    Where nothing may be written, or the file system knows no locks, nothing is held.

    :raises HeldError: if another process holds it, unless told to `wait` for it.
    """
    handle = _locked(path, file, wait=wait)
    try:
        yield
    finally:
        if handle is not None:
            if _is(handle, file):
                file.unlink()
            os.close(handle)


def _locked(path: Path, file: Path, *, wait: bool) -> int | None:
    """The handle of the locked file; None where there can be none."""
    while True:
        try:
            handle = os.open(file, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            if error.errno in CLOSED:
                return None
            raise
        try:
            if not _taken(handle, path, wait=wait):
                os.close(handle)
                return None
            if _is(handle, file):
                os.ftruncate(handle, 0)
                os.write(handle, str(os.getpid()).encode())
                return handle
            os.close(handle)  # whoever held it has removed it meanwhile: there is a new one to ask for
        except BaseException:
            os.close(handle)
            raise


def _taken(handle: int, path: Path, *, wait: bool) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        holder = os.read(handle, 32).decode()
        raise HeldError(path, holder) from None
    except OSError as error:
        if error.errno in LOCKLESS:
            return False
        raise
    return True


def _is(handle: int, file: Path) -> bool:
    """Whether the open file is the one that stands there now."""
    try:
        there = file.stat()
    except FileNotFoundError:
        return False
    own = os.fstat(handle)
    return (own.st_dev, own.st_ino) == (there.st_dev, there.st_ino)
