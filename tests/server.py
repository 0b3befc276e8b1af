"""A served bundle in a process of its own, and a client that talks to it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
import uvicorn

from umbel.serve.http.app import make
from umbel.serve.http.server import begin, configured
from umbel.serve.http.told import tell

STARTS = 300.0  # seconds in which a server has to be ready
ENDS = 30.0


@dataclass(frozen=True)
class Here:
    """A server in a thread of this process."""

    url: str
    client: httpx.Client


@dataclass(frozen=True)
class Server:
    """A running `umbel serve`."""

    process: subprocess.Popen[str]
    url: str
    client: httpx.Client

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and wait for the end; the exit code."""
        self.process.send_signal(number)
        return self.process.wait(ENDS)


def free_port() -> int:
    """A port of the loopback that nobody listens at."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def command(bundle: Path, *words: str | Path) -> list[str]:
    return [sys.executable, "-W", "error", "-m", "umbel", "serve", str(bundle), *map(str, words)]


@contextmanager
def here(bundle: Path, folder: Path, *words: str, keys: Path | None = None, key: str | None = None) -> Iterator[Here]:
    """Serve a bundle from a thread of this process, as `umbel serve` would: over HTTP, but without starting Python anew."""
    port = free_port()
    held = () if keys is None else (f"keys={keys}",)
    told = tell(str(bundle), [f"port={port}", f"store={folder / 'umbel.db'}", "budget=20000", "late=600", *held, *words])
    opening = told.opening()
    begin(told, opening)
    listening = socket.socket()
    listening.bind(("127.0.0.1", port))
    server = uvicorn.Server(configured(told, make(opening)))
    thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
    thread.start()
    try:
        until = time.monotonic() + STARTS
        while not server.started:
            assert time.monotonic() < until
            assert thread.is_alive(), "the server ended"
            time.sleep(0.01)
        headers = {} if key is None else {"authorization": f"Bearer {key}"}
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=20.0) as client:
            yield Here(f"http://127.0.0.1:{port}", client)
    finally:
        server.should_exit = True
        thread.join(ENDS)
        listening.close()


@contextmanager
def serving(bundle: Path, folder: Path, *words: str | Path, key: str | None = None) -> Iterator[Server]:
    """Serve a bundle, its store in a folder, until the block ends; the server's own errors are in `errors.txt` there."""
    port = free_port()
    headers = {} if key is None else {"authorization": f"Bearer {key}"}
    with (folder / "errors.txt").open("a") as errors:
        started = command(bundle, "--port", str(port), "--store", folder / "umbel.db", *words)
        process = subprocess.Popen(started, stderr=errors, stdout=errors, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=20.0) as client:
            server = Server(process, f"http://127.0.0.1:{port}", client)
            _wait(server, folder)
            yield server
    finally:
        if process.poll() is None:
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(ENDS)
        if process.poll() is None:
            process.kill()
            process.wait()


def _wait(server: Server, folder: Path) -> None:
    until = time.monotonic() + STARTS
    while time.monotonic() < until:
        if server.process.poll() is not None:
            raise AssertionError(f"the server ended: {(folder / 'errors.txt').read_text()}")
        with suppress(httpx.TransportError):
            if server.client.get("/readyz").status_code == 200:
                return
        time.sleep(0.05)
    raise AssertionError(f"the server did not start: {(folder / 'errors.txt').read_text()}")


def problem(answer: httpx.Response, status: int) -> str:
    """The detail of a problem, once its form is checked."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    told = answer.json()
    assert set(told) == {"type", "title", "status", "detail"}
    assert told["status"] == status
    assert "\n" not in told["detail"]
    for inside in ("Traceback", "/src/", "site-packages", 'File "'):
        assert inside not in told["detail"]
    return str(told["detail"])


def until(server: Here, holds: Callable[[str], bool]) -> str:
    """The figures for Prometheus, once something can be read in them."""
    ends = time.monotonic() + 60
    while time.monotonic() < ends:
        text = server.client.get("/metrics").text
        if holds(text):
            return text
        time.sleep(0.05)
    raise AssertionError(text)
