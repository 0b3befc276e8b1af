"""Nothing is lost: files and folders are written under a temporary name, synced, then renamed."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from umbel.errors import UserError

# Not allowed, or something of another kind stands there.
CLOSED = (errno.EACCES, errno.EROFS, errno.EPERM, errno.ENOTDIR, errno.EISDIR, errno.EEXIST)


@contextmanager
def disk(path: Path) -> Iterator[None]:
    """Turn a full or closed disk under the block into a `UserError` that names `path`."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise UserError(f"{path}: the disk is full", mend="free some space; nothing was overwritten") from error
        if error.errno in CLOSED:
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

    Its name is its own, so that two who write the same file do not meet. If the block fails, `path` is untouched and
    the temporary file is gone.

    :raises UserError: if the disk is full or the place is not writable.
    """
    with disk(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=_before(path))
        os.close(handle)
        made = Path(name)
        try:
            yield made
            made.chmod(0o644)
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

    If the block fails, `path` is untouched and the temporary folder is gone.
    """
    with disk(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(dir=path.parent, prefix=_before(path)))
        try:
            yield made
            for file in made.rglob("*"):
                sync(file)
            made.chmod(0o755)
            _replace(made, path)
        except BaseException:
            shutil.rmtree(made, ignore_errors=True)
            raise
        sync(path.parent)


def _before(path: Path) -> str:
    """How a temporary name begins: like the name it stands for, as far as a file system has room for more."""
    return f".{path.name[:50]}."


def sync(path: Path) -> None:
    """Force a file, or a folder's entries, to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _replace(made: Path, path: Path) -> None:
    """A folder cannot be renamed onto a full one: the old one steps aside first, and comes back if the rename fails."""
    if not path.exists():
        made.rename(path)
        return
    aside = path.with_name(f".{path.name}.old-{os.getpid()}")
    shutil.rmtree(aside, ignore_errors=True)  # left by a killed process that had our number
    path.rename(aside)
    try:
        made.rename(path)
    except OSError:
        aside.rename(path)
        raise
    shutil.rmtree(aside, ignore_errors=True)
