"""How much may be asked: of one body, of one client in a time, of all at once."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic
from typing import final

CLIENTS = 10_000  # whose rates are remembered


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds on requests: bytes of a body, items to rank, rows to predict, events or users or items of a batch, requests of a lane
    at once in a process.

    Whoever comes while a process is more than `late` seconds behind is told to come again, at once, so that it catches up.
    A body has `slow` seconds to come.
    `rate` is requests a second of one client (a key, or an address where there are no keys), None for any; it may save up `burst`.
    """

    body: int = 1 << 20
    items: int = 1_000
    rows: int = 1_000
    events: int = 1_000
    known: int = 1_000
    at_once: int = 256
    late: float = 5.0
    slow: float = 30.0
    rate: float | None = None
    burst: float = 100.0


@final
class Rates:
    """A bucket of tokens a client, filled at `rate` a second up to `burst`; clients not heard of longest are forgotten, as if full."""

    def __init__(self, rate: float, burst: float, *, clock: Callable[[], float] = monotonic) -> None:
        self.rate, self.burst, self._clock = rate, max(1.0, burst), clock
        self._full: OrderedDict[str, float] = OrderedDict()  # by client, when its bucket will be full

    def wait(self, client: str) -> float:
        """Take a token; 0 if there was one, else the seconds until there will be."""
        now = self._clock()
        full = max(now, self._full.get(client, now)) + 1 / self.rate
        short = full - now - self.burst / self.rate
        if short > 1e-9:
            return short
        self._full[client] = full
        self._full.move_to_end(client)
        if len(self._full) > CLIENTS:
            self._full.popitem(last=False)
        return 0.0
