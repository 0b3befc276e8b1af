"""Which share of users somebody is of: the same one on every machine, for as long as it is asked by the same salt."""

from __future__ import annotations

import hashlib

SHARES = 10_000  # into which users are hashed


def hashed(whom: str, salt: str) -> float:
    """Where somebody falls in [0, 1), the same for the same salt on every machine.

    Example
    -------
    >>> hashed("u1", "a") == hashed("u1", "a"), hashed("u1", "a") == hashed("u1", "b")
    (True, False)
    """
    digest = hashlib.sha256(f"{salt}:{whom}".encode(errors="surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big") % SHARES / SHARES


def chance(share: float) -> float:
    """The chance that somebody falls below a share: `hashed` has so many places.

    Example
    -------
    >>> chance(0.05), chance(0.00001), chance(1.0)
    (0.05, 0.0001, 1.0)
    """
    return sum(place / SHARES < share for place in range(SHARES)) / SHARES
