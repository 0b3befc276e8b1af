"""What a folder holds, written down when it is made and checked when it is read: every file by its SHA-256."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from umbel.errors import UserError

FORMAT = 1
NAME = "manifest.json"
INSIDE = "bundle"  # the folder of a run that is one
DIGITS = 12
Json = dict[str, Any]


def seal(folder: Path) -> None:
    """Write down what the folder holds now."""
    sums = _sums(folder)
    (folder / NAME).write_text(json.dumps({"format": FORMAT, "files": sums, "checksum": _checksum(sums)}, indent=1))


def verify(folder: Path) -> None:
    """Refuse a folder that is not what was sealed.

    :raises UserError: naming the first file that is missing, foreign or changed, or may not be read.
    """
    with _allowed(folder):
        sealed, inside = ((place / NAME).is_file() for place in (folder, folder / INSIDE))
    if not sealed:
        mend = f"did you mean {folder / INSIDE}?" if inside else f"give a folder that `umbel train` left, such as RUN/{INSIDE}"
        raise UserError(f"{folder}: not a bundle (no {NAME})", mend=mend)
    manifest = read_json(folder, NAME)
    expected = manifest.get("files")
    if manifest.get("format") != FORMAT or not isinstance(expected, dict):
        raise UserError(f"{folder}: bundle format {manifest.get('format')!r}, not {FORMAT}", mend="load it with the umbel that wrote it")
    if _checksum(expected) != manifest.get("checksum"):
        raise UserError(f"{folder}/{NAME}: was changed", mend="copy the bundle again")
    found = _sums(folder)
    for name in sorted({*expected, *found}):
        if expected.get(name) != found.get(name):
            how = "is missing" if name not in found else "was not part of it" if name not in expected else "is truncated or changed"
            raise UserError(f"{folder}/{name}: {how}", mend="copy the bundle again")


def name_of(folder: Path) -> str:
    """The first digits of a sealed folder's checksum: what a bundle is called where it answers."""
    return str(read_json(folder, NAME)["checksum"])[:DIGITS]


def read_json(folder: Path, name: str) -> Json:
    """A document of the folder; :raises UserError: if it cannot be read."""
    try:
        with _allowed(folder):
            found = json.loads((folder / name).read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"{folder}/{name}: not readable ({error})", mend="copy the bundle again") from None
    if not isinstance(found, dict):
        raise UserError(f"{folder}/{name}: not readable (no object)", mend="copy the bundle again")
    return found


def _sums(folder: Path) -> dict[str, str]:
    with _allowed(folder):
        files = sorted(path for path in _within(folder) if path.is_file() and path.name != NAME)
        return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def _within(folder: Path) -> Iterator[Path]:
    """All that lies in it, at any depth; `Path.rglob` passes over folders that may not be read."""
    for path in folder.iterdir():
        yield path
        if path.is_dir() and not path.is_symlink():
            yield from _within(path)


@contextmanager
def _allowed(folder: Path) -> Iterator[None]:
    """:raises UserError: naming the file or folder within that this user may not read."""
    try:
        yield
    except PermissionError as error:
        mend = f"let who runs this read all of it, for example: chmod -R a+rX {folder}"
        raise UserError(f"{error.filename or folder}: may not be read", mend=mend) from error


def _checksum(sums: Mapping[str, str]) -> str:
    return hashlib.sha256(json.dumps(sums, sort_keys=True).encode()).hexdigest()
