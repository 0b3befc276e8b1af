"""The allocator keeps what a step frees."""

from __future__ import annotations

import ctypes
import platform
import resource
from collections.abc import Callable

import pytest
import torch

from umbel.learn import memory

GLIBC = platform.libc_ver()[0] == "glibc"


def faults(work: Callable[[], object]) -> int:
    """Pages that the system had to hand out during the work."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    work()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def blocks() -> None:
    """What a step does: take some megabytes, write them, let them go."""
    for _ in range(3):
        [torch.ones(4 << 20) for _ in range(6)]


@pytest.mark.skipif(not GLIBC, reason="another C library")
def test_freed_blocks_are_used_again() -> None:
    assert memory.keep_freed()
    blocks()
    assert faults(blocks) < 3 * 6 * 4096 / 10  # 16 MiB are 4,096 pages; handed out anew they would all count


def test_it_may_be_asked_twice() -> None:
    assert memory.keep_freed() == memory.keep_freed()


def test_another_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
    assert not memory.keep_freed()
