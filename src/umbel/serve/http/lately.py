"""What takes long to find out, found out once for all who ask within some seconds, off the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable
from time import monotonic
from typing import Generic, TypeVar, final

Found = TypeVar("Found")


@final
class Lately(Generic[Found]):
    """One answer, kept for so many seconds; whoever asks while it is found out waits for the same."""

    def __init__(self, seconds: float, *, clock: Callable[[], float] = monotonic) -> None:
        self._seconds, self._clock = seconds, clock
        self._lock = asyncio.Lock()
        self._kept: tuple[Hashable, float, Found] | None = None

    async def get(self, key: Hashable, find: Callable[[], Found]) -> Found:
        """What `find` says, in a thread, unless it said it for this key lately."""
        async with self._lock:
            if self._kept is None or self._kept[0] != key or self._clock() >= self._kept[1]:
                found = await asyncio.to_thread(find)
                self._kept = key, self._clock() + self._seconds, found
            return self._kept[2]
