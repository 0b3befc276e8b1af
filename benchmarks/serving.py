"""How fast a request is ranked: `umbel serve` beside the same model behind a bare FastAPI route, in one run, on one core each.

Run `python benchmarks/serving.py`: the servers stand side by side and are asked in turns. 200 candidates of 10 fields, 10 fields of user
and request, 3 tasks; `mmoe` and `stem`, width 16, experts 128-64, 4 shared and 1 a task; the 20 best are answered. The load comes from this
process, over the loopback. Users differ from request to request; items are drawn from a catalogue of 2,000, so that most were met before.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import measured
import numpy as np
import polars as pl
import torch
from service.load import Measured, closed, paced, request

from umbel.bundle import Built, Bundle
from umbel.data.ingest import ingest
from umbel.data.source import Source
from umbel.data.split import ByTime
from umbel.data.table import Table
from umbel.evaluate.calibrate import Platt
from umbel.fusion import Fusion, Term
from umbel.fusion.shapes import Linear
from umbel.nn.recommender import Sizes
from umbel.schema import Field, FieldKind, Schema, Task

HERE = Path(__file__).parent
RECIPES = ("mmoe", "stem")
TASKS = ("click", "like", "buy")
USERS, ITEMS, VALUES = 5_000, 2_000, 1_000
SHOWN = 20  # of the candidates
OURS = ("user", *(f"u{number}" for number in range(9)))
THEIRS = ("item", *(f"i{number}" for number in range(9)))
PORT = 18080
PLAIN, OFF, ON = "plain", "umbel", "umbel, every decision durable"
GOALS = {OFF: 3.0, ON: 1.5}  # times the plain route's throughput
WAIT = 10.0  # milliseconds that an answer may take at half of saturation, at the 99th percentile


def table(folder: Path, rows: int = 50_000) -> Table:
    """Random rows of 20 ids."""
    draw = np.random.default_rng(0)
    columns = {name: draw.integers(0, VALUES, rows) for name in (*OURS, *THEIRS)}
    columns |= {"user": np.arange(rows) % USERS, "item": draw.integers(0, ITEMS, rows), "time": np.arange(rows)}
    columns |= {task: draw.integers(0, 2, rows) for task in TASKS}
    pl.DataFrame(columns).write_parquet(folder / "log.parquet")
    schema = Schema(tuple(Field(name, FieldKind.ID, min_count=1) for name in (*OURS, *THEIRS)), tuple(map(Task, TASKS)))
    source = Source(str(folder / "log.parquet"), user="user", item="item", time="time")
    return ingest(source, schema, ByTime(int(0.8 * rows), int(0.9 * rows)), folder=folder / "table")


def bundle(made: Table, recipe: str, folder: Path) -> Path:
    """The untrained model of a recipe, its logits spread out."""
    vocabulary = {name: one.size for name, one in made.encoder.vocabularies.items()}
    built = Built(recipe, Sizes(vocabulary, dim=16, expert=(128, 64), specific=1, shared=4))
    torch.manual_seed(0)
    model = built(made.schema).eval()
    with torch.no_grad():
        model.table.normal_(std=0.3)
    fusion = Fusion(tuple(Term(task, Linear()) for task in TASKS))
    path = folder / recipe / "bundle"
    calibrators = {task: Platt() for task in TASKS}
    Bundle(made.source, made.encoder, built, model, calibrators, {}, fusion=fusion).save(path, golden=made.golden())
    return path


def bodies(count: int, candidates: int) -> list[bytes]:
    """Requests of different users for different items, each item with the same fields every time."""
    draw = np.random.default_rng(1)
    fields = draw.integers(0, VALUES, (ITEMS, 9)).tolist()
    found = []
    for _ in range(count):
        items = draw.choice(ITEMS, candidates, replace=False).tolist()
        shared = dict(zip(OURS[1:], draw.integers(0, VALUES, 9).tolist(), strict=True))
        sent = [{"item_id": str(item), "fields": dict(zip(THEIRS[1:], fields[item], strict=True))} for item in items]
        found.append(json.dumps({"user_id": str(draw.integers(USERS)), "context": shared, "items": sent, "n": SHOWN}).encode())
    return found


@dataclass(frozen=True)
class Running:
    """A server process and its port."""

    process: subprocess.Popen[bytes]
    port: int

    def cpu(self) -> float:
        """Seconds of processor time so far."""
        text = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(text[11]) + int(text[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def running(words: Sequence[str], port: int, *, ready: str, more: dict[str, str]) -> Iterator[Running]:
    """A server, on one core of its own where there are two."""
    cores = sorted(os.sched_getaffinity(0))
    held = ["taskset", "-c", str(cores[-1])] if len(cores) > 1 else []
    process = subprocess.Popen([*held, *words], env={**os.environ, "OMP_NUM_THREADS": "1", **more})
    try:
        for _ in range(1200):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}{ready}", timeout=1)
                break
            except OSError:
                time.sleep(0.1)
        yield Running(process, port)
    finally:
        process.terminate()
        process.wait(30)


@dataclass(frozen=True)
class Turn:
    """One turn of a server: saturated by 4 connections, then at half of that, evenly paced; what a request cost it in processor time."""

    cpu_ms: float
    saturated: Measured
    half: Measured

    def rate(self) -> float:
        """Requests a second when saturated."""
        return len(self.saturated.milliseconds) / self.saturated.seconds

    def figures(self) -> dict[str, object]:
        """What is told of it."""
        return {"cpu_ms_per_request": round(self.cpu_ms, 3), "saturated": self.saturated.figures(), "half": self.half.figures()}


def turn(server: Running, requests: Sequence[bytes], *, count: int) -> Turn:
    """So many requests both ways."""
    before = server.cpu()
    full = closed(server.port, requests, count=count, connections=4)
    cpu = 1000 * (server.cpu() - before) / len(full.milliseconds)
    return Turn(cpu, full, paced(server.port, requests, count=count, rate=len(full.milliseconds) / full.seconds / 2))


def cost(server: Running, sent: Sequence[bytes], *, count: int) -> float:
    """Milliseconds of processor time a request, after some that are not counted."""
    requests = [request("/v1/rank", body) for body in sent]
    closed(server.port, requests, count=len(requests), connections=2)
    before = server.cpu()
    answered = len(closed(server.port, requests, count=count, connections=4).milliseconds)
    return 1000 * (server.cpu() - before) / answered


@contextmanager
def servers(folder: Path, path: Path) -> Iterator[dict[str, tuple[Running, str]]]:
    """Each way to serve a bundle, by name, with its route."""
    quiet = ["--log-level", "warning", "--no-access-log"]
    plain = [sys.executable, "-m", "uvicorn", "--app-dir", str(HERE), "service.plain:app", "--port", str(PORT), *quiet]
    with ExitStack() as held:
        found = {PLAIN: (held.enter_context(running(plain, PORT, ready="/openapi.json", more={"PLAIN_BUNDLE": str(path)})), "/rank")}
        for port, (name, logged) in enumerate(((OFF, "false"), (ON, "true")), start=PORT + 1):
            words = [sys.executable, "-m", "umbel", "serve", str(path), "--port", str(port), "--store", str(folder / f"{port}.db")]
            words += ["--set", f"logged={logged}", "--set", "budget=60000"]
            found[name] = (held.enter_context(running(words, port, ready="/readyz", more={})), "/v1/rank")
        yield found


def study(folder: Path, path: Path, *, count: int, rounds: int) -> tuple[dict[str, list[Turn]], dict[int, float]]:
    """One bundle served in each way, in turns; what a request costs by its number of candidates."""
    sent = bodies(100, 200)
    turns: dict[str, list[Turn]] = {}
    with servers(folder, path) as every:
        asked = {name: [request(route, body) for body in sent] for name, (_, route) in every.items()}
        for name, (server, _) in every.items():
            closed(server.port, asked[name], count=2 * len(sent), connections=2)
        for _ in range(rounds):
            for name, (server, _) in every.items():
                turns.setdefault(name, []).append(turn(server, asked[name], count=count))
        return turns, {size: cost(every[OFF][0], bodies(50, size), count=count) for size in (50, 200, 1000)}


def ratios(recipe: str, turns: dict[str, list[Turn]], costs: dict[int, float]) -> list[measured.Ratio]:
    """Throughput over the plain route's by the clock and by processor time, waiting, and whether the cost of a candidate is flat."""
    found = []
    for name, goal in GOALS.items():
        own, plain = turns[name], turns[PLAIN]
        found += [
            measured.ratio(f"{recipe}, {name}: requests a second over the plain route's",
                           measured.over([one.rate() for one in own], [one.rate() for one in plain]), goal=goal),
            measured.ratio(f"{recipe}, {name}: the same for a processor second",
                           measured.over([one.cpu_ms for one in plain], [one.cpu_ms for one in own]), goal=goal),
            measured.ratio(f"{recipe}, {name}: p99 at half of saturation, ms",
                           [float(np.percentile(one.half.milliseconds, 99)) for one in own], goal=WAIT, most=True),
        ]
    flat = costs[1000] / 1000 / (costs[50] / 50)
    return [*found, measured.ratio(f"{recipe}: cost of a candidate of 1,000 over one of 50", [flat], goal=1, most=True)]


def told(turns: dict[str, list[Turn]], costs: dict[int, float]) -> dict[str, object]:
    """A recipe as the file has it."""
    ways = {name: {"cpu_ms_per_request": round(statistics.median(one.cpu_ms for one in own), 3), "rounds": [one.figures() for one in own]}
            for name, own in turns.items()}
    return {**ways, "candidates": {str(size): round(taken, 3) for size, taken in costs.items()}}


def main() -> None:
    """Every recipe; figures to benchmarks/results/serving.json."""
    parser = measured.parser(__file__, __doc__)
    parser.add_argument("--requests", type=int, default=200, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--recipes", nargs="+", default=RECIPES)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        made = table(folder)
        every = {recipe: study(folder / recipe, bundle(made, recipe, folder), count=asked.requests, rounds=asked.rounds)
                 for recipe in asked.recipes}
    figures = {recipe: told(*found) for recipe, found in every.items()}
    measured.write(asked.o, figures, [ratio for recipe, found in every.items() for ratio in ratios(recipe, *found)])
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
