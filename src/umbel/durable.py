"""Nothing is lost: files and folders are written under a temporary name, synced, then renamed; what killed processes left is removed."""

from __future__ import annotations

import ctypes
import errno
import os
import re
import secrets
import shutil
import stat
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from umbel.errors import UserError
from umbel.lock import lock

LOCK = ".umbel-lock"  # of a folder, in it
# What a killed process leaves beside NAME: a half of it, the old one that stepped aside, the lock.
LEFT = re.compile(r"\.(?P<name>.+)\.(?:\w{8}\.umbel-part|umbel-old|umbel-lock)")
ROOM = 200                # bytes of a name that leave room for what is added to it
EXCHANGE, HERE = 2, -100  # Linux's RENAME_EXCHANGE and AT_FDCWD
FULL = (errno.ENOSPC, errno.EDQUOT)
# What libraries say of it who raise errors of their own, or an OSError without its number.
TOLD_FULL = re.compile(rf"os error ({errno.ENOSPC}|{errno.EDQUOT})\b|No space left|Disk quota exceeded")
# Not allowed, or something of another kind stands there.
CLOSED = (errno.EACCES, errno.EROFS, errno.EPERM, errno.ENOTDIR, errno.EISDIR, errno.EEXIST)


@contextmanager
def disk(path: Path) -> Iterator[None]:
    """Turn a full or closed disk under the block, whichever library meets it, into a `UserError` that names `path`."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        number = error.errno if isinstance(error, OSError) else None
        if number in FULL or TOLD_FULL.search(str(error)):
            raise UserError(f"{path}: the disk is full", mend="free some space; nothing was overwritten") from error
        if number in CLOSED:
            raise UserError(f"{path}: not writable", mend="choose a folder you may write to") from error
        raise


def write(path: Path, content: bytes | str) -> None:
    """Write a whole file or nothing: after a crash the old content or the new one is there, never a part.

    :raises UserError: if the disk is full or the place is not writable.
    """
    with file(path) as made:
        made.write_bytes(content.encode() if isinstance(content, str) else content)


@contextmanager
def file(path: Path) -> Iterator[Path]:
    """Fill a temporary file inside the block; after it, it stands at `path` in place of what was there.

    Its name is its own, so that two who write the same file do not meet. Who may read it is what the umask says, whatever the
    library that fills it thinks. If the block fails, `path` is untouched and the temporary file is gone.

    :raises UserError: if the disk is full or the place is not writable.
    """
    with disk(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        made = _part(path)
        made.touch(exist_ok=False)
        mode = _mode(made)
        try:
            yield made
            made.chmod(mode)  # whoever wrote it may have put another in its place
            settle(made, path)
        except BaseException:
            made.unlink(missing_ok=True)
            raise


def settle(made: Path, path: Path) -> None:
    """Give a whole file its name: synced, renamed over what was there, and the folder that knows it synced too."""
    sync(made)
    made.replace(path)
    sync(path.parent)


@contextmanager
def folder(path: Path) -> Iterator[Path]:
    """Fill a temporary folder inside the block; after it, it stands at `path` in place of what was there.

    Who may read it, and all that is in it, is what the umask says. If the block fails, `path` is untouched and the temporary
    folder is gone.

    :raises UserError: if a file stands there, the disk is full or the place is not writable.
    """
    if path.exists() and not path.is_dir():
        raise UserError(f"{path}: is a file", mend="name a folder")
    with disk(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        made = _part(path)
        made.mkdir()
        mode = _mode(made)
        try:
            yield made
            for one in made.rglob("*"):
                one.chmod(mode if one.is_dir() else mode & 0o666)
                sync(one)
            made.chmod(mode)
            _replace(made, path)
        finally:
            if made.exists():  # unfinished, or what stood there before
                shutil.rmtree(made, ignore_errors=True)


@contextmanager
def sole(path: Path, *, wait: bool = False) -> Iterator[None]:
    """Be the only process that makes `path`; what killed ones left beside it goes first, and what stepped aside for them comes back.

    :raises UserError: if another process makes it (unless told to `wait` for its end), or the place is not writable.
    """
    with ExitStack() as held:
        with disk(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            held.enter_context(lock(path, _beside(path, "umbel-lock"), wait=wait))
            _clear(path)
        yield


def remove(path: Path) -> None:
    """Remove a folder that is there: it steps aside first, so that a process that is killed at it leaves the whole of it or none."""
    with disk(path):
        aside = _part(path)
        path.rename(aside)
        sync(path.parent)
        shutil.rmtree(aside)


def recover(path: Path) -> None:
    """Bring back a folder that stepped aside for a new one whose process was killed then (nothing where the two can be exchanged)."""
    if not path.exists() and _beside(path, "umbel-old").exists():
        with sole(path, wait=True):
            pass


@contextmanager
def hold(folder: Path, *, wait: bool = False) -> Iterator[None]:
    """Work in a folder, made if need be, as the only process; what killed ones left half written in it goes first.

    :raises UserError: if another process works in it (unless told to `wait` for its end), or it cannot be made.
    """
    with ExitStack() as held:
        with disk(folder):
            if not folder.exists():
                folder.mkdir(parents=True)
            held.enter_context(lock(folder, folder / LOCK, wait=wait))
            sweep(folder)
        yield


def sweep(folder: Path) -> None:
    """Remove what killed processes left half written in a folder; what another process works on stays."""
    found = [LEFT.fullmatch(path.name) for path in folder.iterdir()] if folder.is_dir() else []
    for name in sorted({match["name"] for match in found if match}):
        with suppress(UserError), sole(folder / name):
            pass


def left_behind(name: str) -> bool:
    """Whether a file of this name belongs to a process at work, or to one that was killed at work.

    Example
    -------
    >>> left_behind(".table.k3v_x01a.umbel-part"), left_behind(".umbel-lock"), left_behind(".gitignore")
    (True, True, False)
    """
    return name == LOCK or LEFT.fullmatch(name) is not None


def sync(path: Path) -> None:
    """Force a file, or a folder's entries, to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _replace(made: Path, path: Path) -> None:
    """A folder cannot be renamed onto a full one: the two change places; where they cannot, the old one steps aside first."""
    old = _beside(path, "umbel-old")
    if not (path.exists() and _exchange(made, path)):
        if path.exists():
            shutil.rmtree(old, ignore_errors=True)
            path.rename(old)
        try:
            made.rename(path)
        except OSError:
            _clear(path)
            raise
    sync(path.parent)
    if old.exists():
        shutil.rmtree(old, ignore_errors=True)


def _exchange(one: Path, other: Path) -> bool:
    """Whether two folders have changed places, in one step; False where the system or the file system cannot."""
    swap = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    return swap is not None and swap(HERE, os.fsencode(one), HERE, os.fsencode(other), EXCHANGE) == 0


def _short(path: Path) -> str:
    """The name, as far as a file system has room for more beside it; one cut short ends in its checksum."""
    name = path.name
    return name if len(name.encode()) <= ROOM else f"{name[:40]}~{zlib.crc32(name.encode()):08x}"


def _part(path: Path) -> Path:
    """A name for a half of it that nobody else has."""
    return _beside(path, f"{secrets.token_hex(4)}.umbel-part")


def _mode(made: Path) -> int:
    """Who may do what with something just made: what the umask leaves."""
    return stat.S_IMODE(made.stat().st_mode)


def _beside(path: Path, what: str) -> Path:
    return path.with_name(f".{_short(path)}.{what}")


def _clear(path: Path) -> None:
    """Bring `path` back if it stepped aside for one that never came, and remove all unfinished ones."""
    old = _beside(path, "umbel-old")
    if old.exists() and not path.exists():
        old.rename(path)
    for other in path.parent.iterdir():
        match = LEFT.fullmatch(other.name)
        if match and match["name"] == _short(path) and other != _beside(path, "umbel-lock"):
            shutil.rmtree(other) if other.is_dir() else other.unlink()
