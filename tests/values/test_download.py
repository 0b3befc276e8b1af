"""Fetching a file: checked, resumed, renamed when whole; every failure is one line."""

from __future__ import annotations

import errno
import hashlib
import http.server
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from umbel.data.sources import download
from umbel.data.sources.download import digest, fetch
from umbel.errors import UserError

CONTENT = bytes(range(256)) * 4_000  # about 1 MB
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@dataclass
class Server:
    """A file server that can break off, forget ranges, or change its file; it keeps the ranges it was asked for."""

    content: bytes = CONTENT
    ranges: bool = True
    stop_after: int | None = None
    asked: list[str | None] = field(default_factory=list)
    url: str = ""

    def answer(self, to: http.server.BaseHTTPRequestHandler) -> None:
        wanted = to.headers.get("Range")
        self.asked.append(wanted)
        if to.path != "/file.bin":
            to.send_error(404)
            return
        start = int(re.findall(r"\d+", wanted)[0]) if wanted and self.ranges else 0
        if start and start >= len(self.content):
            to.send_error(416)
            return
        body = self.content[start:]
        to.send_response(206 if start else 200)
        to.send_header("Content-Length", str(len(body)))
        to.end_headers()
        to.wfile.write(body if self.stop_after is None else body[: self.stop_after])


@contextmanager
def serving(server: Server) -> Iterator[Server]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            server.answer(self)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the parent's name
            """Stay silent."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        server.url = f"http://127.0.0.1:{httpd.server_address[1]}/file.bin"
        try:
            yield server
        finally:
            httpd.shutdown()
            thread.join()


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_file_is_fetched_whole(tmp_path: Path) -> None:
    heard: list[tuple[int, int | None]] = []
    with serving(Server()) as server:
        path = fetch(server.url, tmp_path / "new" / "a.bin", sha256=SHA256, progress=lambda done, total: heard.append((done, total)))
    assert path.read_bytes() == CONTENT
    assert digest(path) == SHA256
    assert heard[-1] == (len(CONTENT), len(CONTENT))
    assert names(path.parent) == {"a.bin"}


def test_what_is_there_is_not_fetched_again(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(CONTENT)
    with serving(Server()) as server:
        fetch(server.url, tmp_path / "a.bin", sha256=SHA256.upper())
    assert server.asked == []


def test_a_damaged_file_is_fetched_again(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(CONTENT[:-1])
    with serving(Server()) as server:
        fetch(server.url, tmp_path / "a.bin", sha256=SHA256)
    assert (tmp_path / "a.bin").read_bytes() == CONTENT


def test_another_hash_leaves_nothing(tmp_path: Path) -> None:
    with serving(Server(content=b"other")) as server, pytest.raises(UserError, match=r"SHA-256 is \w+, not ") as raised:
        fetch(server.url, tmp_path / "a.bin", sha256=SHA256)
    assert "\n" not in str(raised.value)
    assert names(tmp_path) == set()


def test_another_hash_leaves_the_former_file(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(b"former")
    with serving(Server(content=b"other")) as server, pytest.raises(UserError, match="SHA-256"):
        fetch(server.url, tmp_path / "a.bin", sha256=SHA256)
    assert (tmp_path / "a.bin").read_bytes() == b"former"


def test_it_goes_on_where_it_broke_off(tmp_path: Path) -> None:
    with serving(Server(stop_after=300_000)) as server:
        with pytest.raises(UserError, match=r"broke off with \d+ bytes to go; .* kept"):
            fetch(server.url, tmp_path / "a.bin", sha256=SHA256)
        assert names(tmp_path) == {".a.bin.part"}
        kept = (tmp_path / ".a.bin.part").stat().st_size
        assert kept == 300_000
        server.stop_after = None
        heard: list[int] = []
        fetch(server.url, tmp_path / "a.bin", sha256=SHA256, progress=lambda done, total: heard.append(done))
    assert server.asked == [None, f"bytes={kept}-"]
    assert heard[0] > kept
    assert (tmp_path / "a.bin").read_bytes() == CONTENT
    assert names(tmp_path) == {"a.bin"}


def test_a_server_without_ranges_sends_all_again(tmp_path: Path) -> None:
    (tmp_path / ".a.bin.part").write_bytes(b"an older beginning")
    with serving(Server(ranges=False)) as server:
        fetch(server.url, tmp_path / "a.bin", sha256=SHA256)
    assert (tmp_path / "a.bin").read_bytes() == CONTENT


def test_a_whole_part_is_only_checked(tmp_path: Path) -> None:
    """Killed between the last byte and the renaming."""
    (tmp_path / ".a.bin.part").write_bytes(CONTENT)
    with serving(Server()) as server:
        fetch(server.url, tmp_path / "a.bin", sha256=SHA256)
    assert server.asked == [f"bytes={len(CONTENT)}-"]
    assert (tmp_path / "a.bin").read_bytes() == CONTENT


@pytest.mark.parametrize("part", [CONTENT + b"more", b"wrong" + CONTENT[5:9_000]])
def test_a_wrong_part_is_thrown_away(tmp_path: Path, part: bytes) -> None:
    (tmp_path / ".a.bin.part").write_bytes(part)
    with serving(Server()) as server:
        with pytest.raises(UserError, match="run again"):
            fetch(server.url, tmp_path / "a.bin", sha256=SHA256)
        assert names(tmp_path) == set()
        fetch(server.url, tmp_path / "a.bin", sha256=SHA256)
    assert (tmp_path / "a.bin").read_bytes() == CONTENT


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    with serving(Server()) as server, pytest.raises(UserError, match="answered 404 Not Found; check the address"):
        fetch(server.url.replace("file.bin", "none.bin"), tmp_path / "a.bin", sha256=SHA256)
    assert names(tmp_path) == set()


def test_nobody_answers(tmp_path: Path) -> None:
    with serving(Server()) as server:
        url = server.url
    with pytest.raises(UserError, match=r"cannot be reached .* check the connection"):
        fetch(url, tmp_path / "a.bin", sha256=SHA256)


@pytest.mark.parametrize(
    ("url", "sha256", "says"),
    [("ftp://host/a", SHA256, "no http address"), ("http://host/a", "12ab", "no SHA-256"), ("http://host/a", "g" * 64, "no SHA-256")],
)
def test_arguments_are_checked_before_anything_is_asked(tmp_path: Path, url: str, sha256: str, says: str) -> None:
    with pytest.raises(UserError, match=says):
        fetch(url, tmp_path / "a.bin", sha256=sha256)


@pytest.mark.parametrize(("code", "says"), [(errno.ENOSPC, "the disk is full"), (errno.EACCES, "not writable")])
def test_the_disk_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, says: str) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(code, "refused")

    monkeypatch.setattr(download, "_copy", refuse)
    with serving(Server()) as server, pytest.raises(UserError, match=says):
        fetch(server.url, tmp_path / "a.bin", sha256=SHA256)


def test_a_silent_server_runs_out_of_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    released = threading.Event()

    def wait(_: http.server.BaseHTTPRequestHandler) -> None:
        released.wait(5)

    monkeypatch.setattr(download, "PATIENCE", 0.05)
    stubborn = Server()
    silent: Callable[[http.server.BaseHTTPRequestHandler], None] = wait
    monkeypatch.setattr(stubborn, "answer", silent)
    with serving(stubborn) as server:
        try:
            with pytest.raises(UserError, match="timed out"):
                fetch(server.url, tmp_path / "a.bin", sha256=SHA256)
        finally:
            released.set()
