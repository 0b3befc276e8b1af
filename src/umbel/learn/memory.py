"""The allocator of a process that trains."""

from __future__ import annotations

import ctypes

LARGEST, TRIM = -3, -1  # glibc's M_MMAP_THRESHOLD and M_TRIM_THRESHOLD
BLOCK, KEPT = 32 << 20, 1 << 30


def keep_freed() -> bool:
    """Let the process keep up to 1 GiB of freed memory for its next blocks; whether its C library can do so.

    A training step frees what the step before it has freed, block for block. By default glibc gives the pages back and gets
    them again, zeroed, which was a tenth of a step's processor time on a CPU. Blocks above 32 MiB (tables) still come from
    the system, and go back to it.
    """
    library = ctypes.CDLL(None)
    if not hasattr(library, "mallopt"):
        return False
    return bool(library.mallopt(LARGEST, BLOCK)) and bool(library.mallopt(TRIM, KEPT))
