"""What `umbel serve` is told, and what of that cannot be."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from umbel.chosen import told
from umbel.cores import cores
from umbel.errors import UserError
from umbel.fusion import read as read_fusion
from umbel.serve.bundles import Ordering
from umbel.serve.http.app import Opening
from umbel.serve.http.keys import read_keys
from umbel.serve.http.limits import Limits
from umbel.serve.order import Order
from umbel.serve.service import Serving
from umbel.serve.wanted import State


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """`umbel serve`, as it is told: what it serves, to whom, where and how fast."""

    name: ClassVar[str] = "umbel serve"
    bundle: str
    store: str = "umbel.db"
    host: str = "127.0.0.1"
    port: int = 8080
    workers: int = 1
    keys: str | None = None
    fusion: str | None = None
    temperature: float = 0.0
    diversity: str | None = None
    penalty: float = 0.0
    budget: float = 100.0
    grace: float = 0.0
    rate: float | None = None
    burst: float = 100.0
    at_once: int = 256
    late: float = 5.0
    root: str | None = None
    logged: bool = True
    watch: float = 30.0
    reset: bool = False

    def opening(self) -> Opening:
        """What each worker opens; :raises UserError: for keys, a fusion or an order that cannot be."""
        folder = Path(self.bundle).resolve()
        fusion = None if self.fusion is None else read_fusion(Path(self.fusion)).to_json()
        rate = None if self.rate is None else self.rate / self.workers
        limits = Limits(at_once=self.at_once, late=self.late, rate=rate, burst=self.burst / self.workers)
        serving = Serving(
            first=State(stable=str(folder), fusion=fusion),
            ordering=Ordering(order=Order(self.temperature, self.penalty), diversity=self.diversity),
            root=Path(self.root) if self.root is not None else folder.parent.parent,
            budget=self.budget / 1000, logged=self.logged, watch=self.watch, limits=limits,
        )  # fmt: skip
        keys = None if self.keys is None else read_keys(Path(self.keys))
        return Opening(store=self.store, serving=serving, keys=keys, grace=self.grace)


def tell(bundle: str, given: Sequence[str]) -> Told:
    """A bundle and `KEY=VALUE` settings of `Told`; :raises UserError: for a key that is none, with the nearest, or a wrong value.

    Example
    -------
    >>> tell("runs/a/bundle", ["port=0", "workers=2", "host=localhost"]).host
    'localhost'
    """
    return told(Told, given, {"bundle": bundle})


def check(asked: Told) -> None:
    """:raises UserError: for more processes than cores, an address that others reach without keys, or a number out of its bounds."""
    if not 1 <= asked.workers <= cores():
        mend = f"there are {cores()} cores: give 1 to {cores()}"
        raise UserError(f"--workers {asked.workers}: each worker is a process with a core of its own", mend=mend)
    if asked.keys is None and not _loopback(asked.host):
        raise UserError(f"host={asked.host}: others reach it, and there are no keys", mend="give --keys FILE (`umbel key` makes one)")
    for said, holds, mend in _bounds(asked):
        if not holds:
            raise UserError(said, mend=mend)


def _bounds(asked: Told) -> Iterator[tuple[str, bool, str]]:
    """Each number as it was set, whether it can be, and what to give instead."""
    yield f"port={asked.port}", 0 <= asked.port <= 65_535, "give 1 to 65535, or 0 for any that is free"
    yield f"watch={asked.watch:g}", asked.watch >= 0, "give the seconds between two looks at canary, drift and quality, or 0 for none"
    yield f"budget={asked.budget:g}", asked.budget > 0, "give the milliseconds that an answer may take"
    yield f"rate={asked.rate}", asked.rate is None or asked.rate > 0, "give the requests a second of a client, above 0"
    yield f"burst={asked.burst:g}", asked.burst >= 1, "give the requests that a client may save up, 1 or more"
    yield f"at_once={asked.at_once}", asked.at_once >= 1, "give the requests that may be at work, 1 or more"
    yield f"late={asked.late:g}", asked.late > 0, "give the seconds by which a process may be behind, above 0"
    yield f"grace={asked.grace:g}", asked.grace >= 0, "give the seconds between not ready and the end, or 0"


def _loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
