"""Does a swap of bundles fail a request, or mix two bundles? Load for some minutes, with another bundle put into service every few seconds.

Run `python benchmarks/swaps.py --seconds 600`. `umbel serve` on one core answers 50 requests of 200 candidates again and again, evenly
paced from this process over the loopback, while `mmoe` and `stem` take turns as the stable bundle. Every prediction of every answer is
compared with what the bundle that the answer names predicts offline for the same rows.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path

import measured
import numpy as np
import polars as pl
from service.load import request
from serving import RECIPES, TASKS, bodies, bundle, running, table

from umbel.bundle import Bundle
from umbel.manifest import name_of

PORT = 18090
CONNECTIONS = 4
Expected = dict[str, list[dict[str, np.ndarray]]]  # by bundle and request: the predictions of each item


@dataclass
class Seen:
    """What was answered: milliseconds, statuses, bundles named, the greatest difference from offline; swaps and what they took."""

    milliseconds: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    bundles: Counter[str] = field(default_factory=Counter)
    rungs: Counter[str] = field(default_factory=Counter)
    swaps: list[float] = field(default_factory=list)
    memory: list[int] = field(default_factory=list)
    worst: float = 0.0


def offline(path: Path, sent: list[bytes], folder: Path) -> list[dict[str, np.ndarray]]:
    """What a bundle predicts for the rows of each request, as `umbel score` would."""
    rows = []
    for number, body in enumerate(sent):
        asked = json.loads(body)
        shared = {"user": int(asked["user_id"]), **asked["context"], "request": number}
        rows += [{**shared, **one["fields"], "item": int(one["item_id"]), "time": 0} for one in asked["items"]]
    log = folder / "requests.parquet"
    pl.DataFrame(rows).with_columns(pl.lit(0).alias(task) for task in TASKS).write_parquet(log)
    loaded = Bundle.load(path)
    found: list[dict[str, np.ndarray]] = [{} for _ in sent]
    scores = np.concatenate([np.asarray(scores) for _, scores in loaded.score(replace(loaded.source, log=str(log)))])
    for row, score in zip(rows, scores, strict=True):
        found[row["request"]][str(row["item"])] = score
    return found


async def asked(port: int, content: bytes) -> tuple[int, dict[str, object]]:
    """One request by a connection of its own, and its answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    answer = await exchange(reader, writer, content)
    writer.close()
    return answer


async def exchange(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, content: bytes) -> tuple[int, dict[str, object]]:
    """Send, and read status and body."""
    writer.write(content)
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
    return int(head.split()[1]), json.loads(await reader.readexactly(length))


async def load(port: int, sent: list[bytes], expected: Expected, *, seconds: float, rate: float, every: float, pid: int) -> Seen:
    """Clients and swaps until the time is over."""
    seen, began = Seen(), time.perf_counter()
    contents, numbers = [request("/v1/rank", body) for body in sent], iter(range(10**9))

    async def client() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while (due := began + (number := next(numbers)) / rate) < began + seconds:
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            status, answer = await exchange(reader, writer, contents[number % len(sent)])
            seen.milliseconds.append(1000 * (time.perf_counter() - due))
            seen.statuses[status] += 1
            if status == 200:
                judge(seen, answer, expected, number % len(sent))
        writer.close()

    async def swap() -> None:
        count = 0
        while (due := began + (count + 1) * every) < began + seconds:
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            count += 1
            begun = time.perf_counter()
            body = json.dumps({"folder": f"{RECIPES[count % 2]}/bundle"}).encode()
            status, told = await asked(port, request("/v1/bundles/stable", body))
            assert status == 200, told
            seen.swaps.append(1000 * (time.perf_counter() - begun))
            seen.memory.append(resident(pid))

    await asyncio.gather(swap(), *(client() for _ in range(CONNECTIONS)))
    return seen


def judge(seen: Seen, answer: dict[str, object], expected: Expected, number: int) -> None:
    """Count an answer, and how far its predictions lie from those of the bundle that it names."""
    name, items = str(answer["bundle"]), answer["items"]
    seen.bundles[name] += 1
    seen.rungs[str(answer["rung"])] += 1
    assert isinstance(items, list)
    for one in items:
        off = np.abs(np.array(list(one["predictions"].values())) - expected[name][number][one["item_id"]]).max()
        seen.worst = max(seen.worst, float(off))


def resident(pid: int) -> int:
    """Bytes of memory that a process holds now."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def main() -> None:
    """Measure; figures to benchmarks/results/swaps.json."""
    parser = measured.parser(__file__, __doc__)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--rate", type=float, default=15, help="requests a second")
    parser.add_argument("--every", type=float, default=5, help="seconds between two swaps")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        made = table(folder, rows=20_000)
        paths = {recipe: bundle(made, recipe, folder) for recipe in RECIPES}
        sent = bodies(50, 200)
        expected = {name_of(path): offline(path, sent, folder) for path in paths.values()}
        words = [sys.executable, "-m", "umbel", "serve", str(paths[RECIPES[0]]), "--port", str(PORT), "--store", str(folder / "umbel.db")]
        with running([*words, "--set", "budget=60000", "--set", "late=60"], PORT, ready="/readyz", more={}) as server:
            more = {"seconds": options.seconds, "rate": options.rate, "every": options.every, "pid": server.process.pid}
            seen = asyncio.run(load(PORT, sent, expected, **more))
    p50, p99 = np.percentile(seen.milliseconds, (50, 99))
    found = {
        "requests": len(seen.milliseconds), "statuses": dict(seen.statuses), "rungs": dict(seen.rungs),
        "answers_by_bundle": dict(seen.bundles),
        "swaps": len(seen.swaps), "swap_ms_p50": round(float(np.median(seen.swaps)), 1), "swap_ms_most": round(max(seen.swaps), 1),
        "worst_difference_from_offline": seen.worst, "p50_ms": round(float(p50), 1), "p99_ms": round(float(p99), 1),
        "memory_mib_after_swaps": [round(one / 2**20) for one in seen.memory[:: max(1, len(seen.memory) // 8)]],
    }  # fmt: skip
    answered = seen.statuses[200] / len(seen.milliseconds)
    ratios = [
        measured.ratio(f"requests answered by 200 through {len(seen.swaps)} swaps, of all", [answered], goal=1),
        measured.ratio("greatest difference of a prediction from the bundle it names", [seen.worst], goal=1e-6, most=True),
        measured.ratio("a swap, seconds", [one / 1000 for one in seen.swaps]),
    ]
    measured.write(options.o, found, ratios)
    print(json.dumps(found, indent=1))
    assert set(seen.statuses) == {200}, "a request failed"
    assert seen.worst <= 1e-6, "an answer is not that of the bundle it names"


if __name__ == "__main__":
    main()
