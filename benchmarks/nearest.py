"""What it costs in processor time to find the hundred nearest of many items: exactly, and by faiss, which does not find all of them.

Run `python benchmarks/nearest.py`: vectors of 32 numbers around a centre for every hundred items, a mask that leaves nine of ten, one
thread.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np

from umbel.retrieve.index import EXACT, Cells, Exact, Index

HERE = Path(__file__).parent
WIDTH, WANTED, QUERIES = 32, 100, 200
SIZES = (10_000, 100_000, EXACT, 500_000)


def vectors(items: int, draw: np.random.Generator) -> np.ndarray:
    """Vectors of length 1 around centres."""
    centres = draw.normal(size=(items // 100, WIDTH)).astype(np.float32)
    found = centres[draw.integers(0, len(centres), items)] + 0.5 * draw.normal(size=(items, WIDTH)).astype(np.float32)
    found /= np.linalg.norm(found, axis=1, keepdims=True)
    return np.asarray(found, np.float32)


def timed(index: Index, asked: np.ndarray, among: np.ndarray) -> tuple[list[set[int]], dict[str, float]]:
    """What every query finds, and milliseconds of processor time a query."""
    found, took = [], []
    for one in asked:
        began = time.process_time()
        places = index.nearest(one, among, WANTED)
        took.append(1000 * (time.process_time() - began))
        found.append(set(places.tolist()))
    return found, {name: round(float(np.quantile(took, share)), 3) for name, share in (("p50_ms", 0.5), ("p99_ms", 0.99))}


def study(items: int) -> dict[str, object]:
    """One size, by both."""
    draw = np.random.default_rng(0)
    every = vectors(items, draw)
    asked = every[draw.integers(0, items, QUERIES)] + 0.3 * draw.normal(size=(QUERIES, WIDTH)).astype(np.float32)
    among = draw.random(items) < 0.9
    exact, figures = timed(Exact(every), asked, among)
    began = time.process_time()
    cells = Cells(every)
    built = round(time.process_time() - began, 2)
    near, own = timed(cells, asked, among)
    shared = float(np.mean([len(one & other) / WANTED for one, other in zip(exact, near, strict=True)]))
    return {"exact": figures, "faiss": {**own, "built_s": built, "of_the_exact_ones": round(shared, 4)}}


def main() -> None:
    """Every size; figures to benchmarks/results/nearest.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", type=Path, default=HERE / "results" / "nearest.json")
    arguments = parser.parse_args()
    machine = {"cores": os.cpu_count(), "python": platform.python_version(), "faiss": version("faiss-cpu"), "load": os.getloadavg()[0]}
    found = {str(items): study(items) for items in SIZES}
    arguments.o.write_text(json.dumps({"command": "python benchmarks/nearest.py", "machine": machine, "items": found}, indent=1) + "\n")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
