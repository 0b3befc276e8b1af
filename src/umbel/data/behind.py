"""Work on one thing while the next one is made."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")


def behind(items: Iterable[Item], work: Callable[[Item], object]) -> None:
    """Do the work on each item, in their order, in a thread beside the one that makes the items; no more than two items are held.

    What the work raises comes before what making a later item raises.

    Example
    -------
    >>> done: list[int] = []
    >>> behind(range(3), done.append)
    >>> done
    [0, 1, 2]
    """
    last: Future[object] | None = None
    with ThreadPoolExecutor(1) as worker:
        try:
            for item in items:
                if last is not None:
                    last.result()
                last = worker.submit(work, item)
        finally:
            if last is not None:
                last.result()
