"""How fast a request is ranked: `umbel serve` beside the same model behind a bare FastAPI route, in one run, on one core each.

Run `python benchmarks/serving.py`: 200 candidates of 10 fields, 10 fields of user and request, 3 tasks; `mmoe` and `stem`, width 16,
experts 128-64, 4 shared and 1 a task; the 20 best are answered. The load comes from this process, over the loopback. Users differ
from request to request; items are drawn from a catalogue of 2,000, so that most were met before.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import torch
from service.load import closed, paced, request

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
Figures = dict[str, object]


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


def measure(server: Running, path: str, sent: Sequence[bytes], *, count: int) -> Figures:
    """Saturation by 4 connections, then half of it, evenly paced; and what a request costs the server in processor time."""
    requests = [request(path, body) for body in sent]
    closed(server.port, requests, count=2 * len(requests), connections=2)
    before = server.cpu()
    full = closed(server.port, requests, count=count, connections=4)
    cpu = 1000 * (server.cpu() - before) / len(full.milliseconds)
    half = paced(server.port, requests, count=count, rate=len(full.milliseconds) / full.seconds / 2)
    return {"cpu_ms_per_request": round(cpu, 3), "saturated": full.figures(), "half": half.figures()}


def study(folder: Path, path: Path, *, count: int) -> Figures:
    """One bundle served in each way; cost over numbers of candidates."""
    found: Figures = {}
    python, port = sys.executable, 18080
    quiet = ["--port", str(port), "--log-level", "warning", "--no-access-log"]
    plain = [python, "-m", "uvicorn", "--app-dir", str(HERE), "service.plain:app", *quiet]
    sent = bodies(100, 200)
    with running(plain, port, ready="/openapi.json", more={"PLAIN_BUNDLE": str(path)}) as server:
        found["plain"] = measure(server, "/rank", sent, count=count)
    for name, logged in (("umbel", "false"), ("umbel, every decision durable", "true")):
        store = folder / f"{path.parent.name}-{logged}.db"
        words = [python, "-m", "umbel", "serve", str(path), "--port", str(port), "--store", str(store)]
        with running([*words, "--set", f"logged={logged}", "--set", "budget=60000"], port, ready="/readyz", more={}) as server:
            found[name] = measure(server, "/v1/rank", sent, count=count)
            if logged == "false":
                found["candidates"] = {
                    str(size): measure(server, "/v1/rank", bodies(50, size), count=count // 2)["cpu_ms_per_request"]
                    for size in (50, 200, 1000)
                }
    return found


def main() -> None:
    """Every recipe; figures to benchmarks/results/serving.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=1000, help="of each measurement")
    parser.add_argument("-o", type=Path, default=HERE / "results" / "serving.json")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        made = table(folder)
        found: Figures = {recipe: study(folder, bundle(made, recipe, folder), count=arguments.requests) for recipe in RECIPES}
    machine = {"cores": os.cpu_count(), "python": platform.python_version(), "torch": torch.__version__, "load": os.getloadavg()[0]}
    command = f"python benchmarks/serving.py --requests {arguments.requests}"
    arguments.o.write_text(json.dumps({"command": command, "machine": machine, **found}, indent=1) + "\n")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
