"""What every peer's process does: read its settings, wait for a word on standard input, do it, answer with the seconds it took."""

from __future__ import annotations

import json
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch


@dataclass(frozen=True)
class Setting:
    """The same for everyone: sizes, and the encoded rows."""

    codes: np.ndarray  # int32, rows x columns
    labels: np.ndarray  # float32, rows x tasks
    ids: int  # a column
    dim: int
    experts: int
    expert: tuple[int, ...]
    tower: tuple[int, ...]
    batch: int


class Peer(Protocol):
    """A library under test; each method returns the rows it went through."""

    def load(self) -> int:
        """Draw every batch of an epoch, and do nothing with it."""
        ...

    def step(self) -> int:
        """Train on batches that are ready in memory."""
        ...

    def whole(self) -> int:
        """Train for an epoch, the library's own way."""
        ...


def setting(folder: Path) -> Setting:
    """Read what the benchmark has written."""
    sizes = json.loads((folder / "sizes.json").read_text())
    return Setting(np.load(folder / "codes.npy"), np.load(folder / "labels.npy"), **sizes)


def quiet() -> int:
    """Send what the library prints to nowhere; the descriptor to answer on."""
    answers = os.dup(1)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    return answers


def serve(peer: Peer, answers: int) -> None:
    """Do as told until the input ends."""
    for line in sys.stdin:
        cpu, wall = time.process_time(), time.perf_counter()
        rows = getattr(peer, line.strip())()
        told = {"rows": rows, "wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
        os.write(answers, (json.dumps(told) + "\n").encode())


def threads() -> None:
    """Take as many threads as the benchmark says."""
    torch.set_num_threads(int(os.environ["THREADS"]))
