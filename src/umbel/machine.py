"""How much memory there is, and how bytes are said."""

from __future__ import annotations

import os
from pathlib import Path

OWN, GROUPS = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")  # where Linux says what a process may hold
UNITS = ("bytes", "kB", "MB", "GB", "TB", "PB")


def memory() -> int:
    """Bytes of memory of the machine, free or not, or what this process may hold of it, as in a container."""
    return min([os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"), *limits(OWN, GROUPS)])


def limits(own: Path, groups: Path) -> list[int]:
    """Bytes that a process may hold by its control groups, and by those above them, in either version; `max` is no limit.

    A container may see its own group as the topmost, and still be told of a place below it, which it does not see.
    """
    found = []
    for line in _text(own).splitlines():
        _, kinds, place = line.split(":", 2)
        if kinds and "memory" not in kinds.split(","):
            continue
        top, name = (groups / "memory", "memory.limit_in_bytes") if kinds else (groups, "memory.max")
        steps = place.strip("/").split("/")
        told = (_text(top.joinpath(*steps[:depth], name)).strip() for depth in range(len(steps) + 1))
        found += [int(one) for one in told if one.isdecimal()]
    return found


def _text(path: Path) -> str:
    """What a file says; nothing where there is none to be read."""
    try:
        return path.read_text()
    except OSError:
        return ""


def said(count: int) -> str:
    """Bytes as people say them.

    Example
    -------
    >>> said(64 * 10**9), said(2_500)
    ('64.0 GB', '2.5 kB')
    """
    power = min(len(UNITS) - 1, (len(str(count)) - 1) // 3)
    return f"{count / 1000**power:,.{min(power, 1)}f} {UNITS[power]}"
