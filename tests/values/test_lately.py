"""What takes long is found out once for all who ask within some seconds."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import pytest

from umbel.serve.http.lately import Lately


@dataclass
class Clock:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now


def test_an_answer_is_kept_for_its_seconds_and_its_key() -> None:
    clock, calls = Clock(), iter(range(100))
    lately: Lately[int] = Lately(10, clock=clock)

    async def ask() -> list[int]:
        told = [await lately.get("a", lambda: next(calls)) for _ in range(3)]
        clock.now = 9.9
        told.append(await lately.get("a", lambda: next(calls)))
        clock.now = 10.0
        told.append(await lately.get("a", lambda: next(calls)))
        told.append(await lately.get("b", lambda: next(calls)))
        return told

    assert asyncio.run(ask()) == [0, 0, 0, 0, 1, 2]


def test_all_who_ask_at_once_wait_for_one() -> None:
    calls = iter(range(100))
    lately: Lately[int] = Lately(10)

    async def ask() -> list[int]:
        return list(await asyncio.gather(*(lately.get("a", lambda: next(calls)) for _ in range(20))))

    assert asyncio.run(ask()) == [0] * 20


def test_a_failure_is_not_kept() -> None:
    lately: Lately[int] = Lately(10)

    async def ask() -> int:
        with pytest.raises(ZeroDivisionError):
            await lately.get("a", lambda: 1 // 0)
        return await lately.get("a", lambda: 7)

    assert asyncio.run(ask()) == 7
