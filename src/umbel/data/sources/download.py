"""Fetch one file over HTTP: resumed where it broke off, checked by SHA-256, renamed only when whole."""

from __future__ import annotations

import hashlib
import http.client
import string
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from umbel import durable
from umbel.errors import UserError

CHUNK = 1 << 20
PATIENCE = 60.0  # seconds without a byte
Progress = Callable[[int, int | None], None]


def fetch(url: str, path: Path, *, sha256: str, progress: Progress | None = None) -> Path:
    """The file at `url` as `path`, with exactly that SHA-256 (64 hexadecimal digits).

    A file that is there with that hash is not fetched again. What has come is kept in `.NAME.part` beside it and taken
    up by the next call, also after a kill; `progress` hears the bytes so far and in all (None where the server does not say).

    :raises UserError: no address or hash, an answer other than success, a broken connection, a full disk, another hash.
    """
    wanted = _wanted(url, sha256)
    if path.is_file() and digest(path) == wanted:
        return path
    part = path.with_name(f".{path.name}.part")
    with durable.disk(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        _receive(url, part, progress)
        found = digest(part)
        if found != wanted:
            part.unlink()
            raise UserError(f"{url}: SHA-256 is {found}, not {wanted}", mend="run again, or check the hash")
        durable.settle(part, path)
    return path


def digest(path: Path) -> str:
    """The SHA-256 of a file, as hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _wanted(url: str, sha256: str) -> str:
    if not url.startswith(("http://", "https://")):
        raise UserError(f"{url}: no http address", mend="give an address that begins with https://")
    if len(sha256) != 64 or set(sha256) - set(string.hexdigits):
        raise UserError(f"{url}: {sha256!r} is no SHA-256", mend="give its 64 hexadecimal digits")
    return sha256.lower()


def _receive(url: str, part: Path, progress: Progress | None) -> None:
    start = part.stat().st_size if part.is_file() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={start}-"} if start else {})
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            _copy(answer, part, start=start if answer.status == http.client.PARTIAL_CONTENT else 0, progress=progress)
    except urllib.error.HTTPError as error:
        error.close()
        # Nothing lies past the end of what has come: it is whole, or it is not this file. The hash tells.
        if start and error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
            return
        raise UserError(f"{url}: answered {error.code} {error.reason}", mend="check the address") from error
    except (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError) as error:
        raise UserError(f"{url}: {_reason(error)}", mend="check the connection and run again; what has come is kept") from error


def _copy(answer: http.client.HTTPResponse, part: Path, *, start: int, progress: Progress | None) -> None:
    length = answer.headers.get("Content-Length")
    total = None if length is None else start + int(length)
    done = start
    with part.open("ab" if start else "wb") as file:
        while chunk := answer.read(CHUNK):
            file.write(chunk)
            done += len(chunk)
            if progress is not None:
                progress(done, total)
    if total is not None and done < total:
        raise http.client.IncompleteRead(b"", total - done)


def _reason(error: Exception) -> str:
    if isinstance(error, http.client.IncompleteRead):
        return f"broke off with {error.expected} bytes to go"
    cause = error.reason if isinstance(error, urllib.error.URLError) else error
    return f"cannot be reached ({cause})"
