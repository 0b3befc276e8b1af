"""A load generator on the loopback: as many connections as asked, a bounded number of requests, each timed from its due moment."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

SECONDS = 60.0  # that one measurement may take


@dataclass(frozen=True, slots=True)
class Measured:
    """Milliseconds of each request, the seconds that all took, and how many were not answered by 200."""

    milliseconds: np.ndarray
    seconds: float
    failed: int

    def figures(self) -> dict[str, float]:
        """What is told of it."""
        p50, p99 = np.percentile(self.milliseconds, (50, 99))
        rate = round(len(self.milliseconds) / self.seconds, 1)
        return {"p50_ms": round(float(p50), 2), "p99_ms": round(float(p99), 2), "requests_per_second": rate, "failed": self.failed}


def request(path: str, body: bytes) -> bytes:
    """A POST as it goes over the wire."""
    head = f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


def closed(port: int, requests: Sequence[bytes], *, count: int, connections: int) -> Measured:
    """Each connection asks again as soon as it is answered."""
    return asyncio.run(_measured(port, requests, count=count, connections=connections, rate=None))


def paced(port: int, requests: Sequence[bytes], *, count: int, rate: float, connections: int = 32) -> Measured:
    """`rate` requests a second, evenly; one that waits for a connection waits on its own time."""
    return asyncio.run(_measured(port, requests, count=count, connections=connections, rate=rate))


async def _measured(port: int, requests: Sequence[bytes], *, count: int, connections: int, rate: float | None) -> Measured:
    taken: list[float] = []
    failed = 0
    numbers = iter(range(count))
    began = time.perf_counter()

    async def client() -> None:
        nonlocal failed
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for number in numbers:
            due = began + number / rate if rate is not None else time.perf_counter()
            if due - began > SECONDS or time.perf_counter() - began > SECONDS:
                break
            if (wait := due - time.perf_counter()) > 0:
                await asyncio.sleep(wait)
            writer.write(requests[number % len(requests)])
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
            await reader.readexactly(length)
            taken.append(1000 * (time.perf_counter() - due))
            failed += not head.startswith(b"HTTP/1.1 200")
        writer.close()

    await asyncio.gather(*(client() for _ in range(connections)))
    return Measured(np.array(taken), time.perf_counter() - began, failed)
