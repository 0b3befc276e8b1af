"""How many cores this process may use, and how many threads each of several processes may have."""

from __future__ import annotations

import os


def cores() -> int:
    """Those that the scheduler gives this process, where it tells; else all of the machine."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def threads(jobs: int, *, among: int | None = None) -> int:
    """Of each of so many processes at a time: an even share of the cores (of so many, where `among` says it), and no more than
    `OMP_NUM_THREADS` allows this process.

    More threads than cores wait for each other at every barrier, and take several times as long.
    """
    share = max(1, (cores() if among is None else among) // jobs)
    allowed = os.environ.get("OMP_NUM_THREADS", "")
    return min(share, int(allowed)) if allowed.isdecimal() and int(allowed) else share
