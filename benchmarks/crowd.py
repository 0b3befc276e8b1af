"""What becomes of a thousand connections at once: is everybody answered, by 200 or 503, and does memory stay where it was?

Run `python benchmarks/crowd.py`. `umbel serve` on one core; from this process, over the loopback, as many connections as asked are opened
first, and then each ranks 200 candidates, several times in a row, all at the same moment. A client that is told to come again waits as
long as it is told, at most a second, and that counts as one more request.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import measured
import numpy as np
from service.load import request
from serving import bodies, bundle, running, table

PORT = 18091
PATIENCE = 60.0  # seconds that a client waits for an answer


@dataclass
class Crowd:
    """What was answered, and after how many milliseconds, by status."""

    milliseconds: dict[int, list[float]] = field(default_factory=dict)
    lost: Counter[str] = field(default_factory=Counter)

    def told(self) -> dict[str, object]:
        """Number, median and greatest time of each status."""
        return {
            str(status): {"answers": len(taken), "p50_ms": round(float(np.median(taken))), "most_ms": round(max(taken))}
            for status, taken in sorted(self.milliseconds.items())
        }


async def crowd(port: int, sent: list[bytes], *, connections: int, times: int) -> Crowd:
    """All connections, then all requests."""
    found, begin = Crowd(), asyncio.Event()
    opened = asyncio.Semaphore(100)  # that are being opened: the queue of those not accepted yet is the kernel's, and short

    async def client(number: int) -> None:
        async with opened:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
        await begin.wait()
        for _ in range(times):
            due = time.perf_counter()
            try:
                writer.write(sent[number % len(sent)])
                head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE)
                length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
                await asyncio.wait_for(reader.readexactly(length), PATIENCE)
            except (OSError, TimeoutError, asyncio.IncompleteReadError) as error:
                found.lost[type(error).__name__] += 1
                return
            status = int(head.split()[1])
            found.milliseconds.setdefault(status, []).append(1000 * (time.perf_counter() - due))
            if status != 200:
                await asyncio.sleep(1.0)
        writer.close()

    clients = [asyncio.create_task(client(number)) for number in range(connections)]
    await asyncio.sleep(2.0)
    begin.set()
    await asyncio.gather(*clients)
    return found


def memory(pid: int, name: str) -> int:
    """MiB of a process: `VmRSS` now, `VmHWM` at most."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:")) // 1024


def main() -> None:
    """Measure; figures to benchmarks/results/crowd.json."""
    parser = measured.parser(__file__, __doc__)
    parser.add_argument("--connections", type=int, default=1000)
    parser.add_argument("--times", type=int, default=3, help="requests of each connection, one after another")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = bundle(table(folder, rows=20_000), "mmoe", folder)
        sent = [request("/v1/rank", body) for body in bodies(50, 200)]
        words = [sys.executable, "-m", "umbel", "serve", str(path), "--port", str(PORT), "--store", str(folder / "umbel.db")]
        with running(words, PORT, ready="/readyz", more={}) as server:
            runs, answered, most = [], [], []
            for connections in (8, options.connections, options.connections):
                began = time.perf_counter()
                found = asyncio.run(crowd(PORT, sent, connections=connections, times=options.times))
                seconds = round(time.perf_counter() - began - 2, 1)
                most.append(memory(server.process.pid, "VmHWM"))
                answered.append(1 - sum(found.lost.values()) / (connections * options.times))
                held = {"memory_mib": memory(server.process.pid, "VmRSS"), "most_mib": most[-1]}
                runs.append({"connections": connections, "seconds": seconds, **found.told(), "lost": dict(found.lost), **held})
                print(runs[-1], flush=True)
    name = f"{options.connections:,} connections at once"
    ratios = [
        measured.ratio(f"{name}: answered by 200, 429 or 503, of all", answered, goal=1),
        measured.ratio(f"{name}: most memory after a second crowd over after the first", [most[2] / most[1]]),
        measured.ratio(f"{name}: most memory after them over after 8 connections", [most[2] / most[0]]),
    ]
    measured.write(options.o, {"runs": runs}, ratios)
    assert not any(run["lost"] for run in runs), "somebody was not answered"


if __name__ == "__main__":
    main()
