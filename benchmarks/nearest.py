"""What it costs in processor time to find the hundred nearest of many items: exactly, and by faiss, which does not find all of them.

Run `python benchmarks/nearest.py`: vectors of 32 numbers around a centre for every hundred items, a mask that leaves nine of ten, one
thread; both ask in turns, so many queries at a time.
"""

from __future__ import annotations

import json
import time
from importlib.util import find_spec

import measured
import numpy as np

from umbel.retrieve.index import EXACT, Cells, Exact, Index

WIDTH, WANTED, TURN = 32, 100, 20
SIZES = (10_000, 100_000, EXACT, 500_000)


def vectors(items: int, draw: np.random.Generator) -> np.ndarray:
    """Vectors of length 1 around centres."""
    centres = draw.normal(size=(items // 100, WIDTH)).astype(np.float32)
    found = centres[draw.integers(0, len(centres), items)] + 0.5 * draw.normal(size=(items, WIDTH)).astype(np.float32)
    found /= np.linalg.norm(found, axis=1, keepdims=True)
    return np.asarray(found, np.float32)


class Asked:
    """An index, what every query found, and what it took in milliseconds of processor time."""

    def __init__(self, index: Index) -> None:
        self.index = index
        self.found: list[set[int]] = []
        self.took: list[float] = []

    def __call__(self, queries: np.ndarray, among: np.ndarray) -> None:
        """One turn."""
        for one in queries:
            began = time.process_time()
            places = self.index.nearest(one, among, WANTED)
            self.took.append(1000 * (time.process_time() - began))
            self.found.append(set(places.tolist()))

    def figures(self) -> dict[str, float]:
        """Of a query."""
        return {name: round(float(np.quantile(self.took, share)), 3) for name, share in (("p50_ms", 0.5), ("p99_ms", 0.99))}

    def turns(self) -> list[float]:
        """The median of each turn."""
        return [float(np.median(self.took[start : start + TURN])) for start in range(0, len(self.took), TURN)]


def study(items: int, queries: int) -> tuple[dict[str, object], list[measured.Ratio]]:
    """One size, by both."""
    draw = np.random.default_rng(0)
    every = vectors(items, draw)
    wanted = every[draw.integers(0, items, queries)] + 0.3 * draw.normal(size=(queries, WIDTH)).astype(np.float32)
    among = draw.random(items) < 0.9
    exact = Asked(Exact(every))
    began = time.process_time()
    cells = Asked(Cells(every))
    built = round(time.process_time() - began, 2)
    for start in range(0, queries, TURN):
        for each in (exact, cells):
            each(wanted[start : start + TURN], among)
    shares = [len(one & other) / WANTED for one, other in zip(exact.found, cells.found, strict=True)]
    shared = float(np.mean(shares))
    figures = {"exact": exact.figures(), "faiss": {**cells.figures(), "built_s": built, "of_the_exact_ones": round(shared, 4)}}
    return figures, [
        measured.ratio(f"exact search over faiss, {items:,} items", measured.over(exact.turns(), cells.turns())),
        measured.ratio(f"share of the {WANTED} nearest that faiss finds, {items:,} items", [shared]),
    ]


def main() -> None:
    """Every size; figures to benchmarks/results/nearest.json."""
    parser = measured.parser(__file__, __doc__)
    parser.add_argument("--items", type=int, nargs="+", default=SIZES)
    parser.add_argument("--queries", type=int, default=200)
    asked = parser.parse_args()
    if find_spec("faiss") is None:
        measured.write(asked.o, {"items": {}}, [], absent={"faiss": "not installed: pip install 'umbel[retrieve]'"})
        return
    found, ratios = {}, []
    for items in asked.items:
        found[str(items)], own = study(items, asked.queries)
        ratios += own
    measured.write(asked.o, {"items": found}, ratios)
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
