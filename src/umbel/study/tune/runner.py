"""The parent's end of a trial's process: what it tells of each epoch, what it is answered, and how it ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Protocol, runtime_checkable

from umbel import durable
from umbel.errors import UserError
from umbel.run.settings import Settings
from umbel.study.trial import Lost
from umbel.study.tune.attempt import GO
from umbel.study.tune.outcome import Outcome

STOP = "stop"
INTERRUPTED = (130, -signal.SIGINT, -signal.SIGTERM, -signal.SIGHUP)  # as the verbs exit, or as whoever ends a process does
Heard = Callable[[int, float], bool]  # epoch and score: whether to go on


@dataclass(frozen=True, slots=True)
class Failed:
    """A trial that came to nothing, and why."""

    reason: str


@dataclass(frozen=True, slots=True)
class Pruned:
    """A trial that was told to end."""


class Interrupted(Exception):  # noqa: N818
    """A trial whose end is none of its own: it will go on."""


End = Outcome | Failed | Pruned


@runtime_checkable
class Runner(Protocol):
    """Who trains one point of the space."""

    def __call__(self, settings: Settings, folder: Path, heard: Heard) -> End:
        """Train, telling each epoch; :raises Interrupted: when it is to be done again."""
        ...

    def halt(self) -> None:
        """End what is running now, to go on another time."""
        ...


@dataclass(frozen=True, slots=True)
class Processes:
    """A process a trial, each with so many threads."""

    table: Path
    threads: int
    running: set[subprocess.Popen[str]] = field(default_factory=set, hash=False)
    lock: Lock = field(default_factory=Lock, hash=False)

    def __call__(self, settings: Settings, folder: Path, heard: Heard) -> End:
        """Start, talk, wait; :raises Interrupted: if the process was, or UserError: for what is no fault of the point, as a full disk."""
        file = folder.parent / f"{folder.name}.toml"
        durable.write(file, settings.to_toml())
        words = [sys.executable, "-m", "umbel", "attempt", str(file), "--table", str(self.table), "-o", str(folder)]
        with tempfile.TemporaryFile("w+") as said:
            child = subprocess.Popen(
                words, env={**os.environ, "OMP_NUM_THREADS": str(self.threads)}, text=True, errors="replace",
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said,
            )  # fmt: skip
            with self.lock:
                self.running.add(child)
            try:
                stopped = _talk(child, heard)
                code = child.wait()
            finally:
                with self.lock:
                    self.running.discard(child)
                _close(child)
            said.seek(0)
            return _ended(code, folder, stopped=stopped, said=said.read())

    def halt(self) -> None:
        """Interrupt every running process."""
        with self.lock:
            for child in self.running:
                child.send_signal(signal.SIGINT)


def _talk(child: subprocess.Popen[str], heard: Heard) -> bool:
    """Answer every epoch; whether the answer was ever to stop."""
    assert child.stdout is not None
    assert child.stdin is not None
    for line in child.stdout:
        number, score, *last = line.split()
        going = heard(int(number), float(score)) or bool(last)
        try:
            print(GO if going else STOP, file=child.stdin, flush=True)
        except BrokenPipeError:
            return False  # it ended before it heard: its exit code says how
        if not going:
            return True
    return False


def _ended(code: int, folder: Path, *, stopped: bool, said: str) -> End:
    if code in INTERRUPTED:
        raise Interrupted
    last = (said.strip().splitlines() or ["no message"])[-1].removeprefix("umbel: ")
    if code == 2:
        raise UserError(f"trial {int(folder.name)}: {last}", mend="the search goes on where it stopped once this is mended")
    lost = Lost.load(folder)
    if lost is not None:
        return Failed(lost.why)
    if code == 0 and stopped:
        return Pruned()
    return (Outcome.load(folder) if code == 0 else None) or Failed(f"its process ended with {code}: {last}")


def _close(child: subprocess.Popen[str]) -> None:
    """Whoever leaves early takes the process along."""
    for pipe in (child.stdin, child.stdout):
        if pipe is not None:
            with suppress(BrokenPipeError):
                pipe.close()
    child.wait()
