"""How long the judging of a test part takes: every figure of three tasks with 95 % over users, a million rows, 200 resamples.

`python benchmarks/intervals.py` judges simulated predictions as `umbel train` does at its end, at the threads that libraries take.
"""

from __future__ import annotations

import os
import time

import measured
import numpy as np

from umbel.evaluate.intervals import resample
from umbel.evaluate.judge import Predictions, evaluate
from umbel.schema import Field, FieldKind, Schema, Task

SEED = 0


def predictions(rows: int, tasks: int, users: int) -> Predictions:
    """Labels drawn from the chances that are predicted, the later tasks the rarer ones; no two scores alike."""
    draw = np.random.default_rng(SEED)
    names = [f"t{number}" for number in range(tasks)]
    schema = Schema((Field("user", FieldKind.ID),), tuple(map(Task, names)))
    logits = draw.normal(size=(rows, tasks)) - 1.0 - np.arange(tasks)
    labels = (draw.random((rows, tasks)) < 1 / (1 + np.exp(-logits))).astype(np.float32)
    return Predictions(schema, logits, labels, np.ones_like(labels, dtype=bool), draw.integers(users, size=rows))


def main() -> None:
    """Judge again and again; figures to benchmarks/results/intervals.json."""
    parser = measured.parser(__file__, __doc__)
    parser.add_argument("--rows", type=float, default=1e6)
    parser.add_argument("--tasks", type=int, default=3)
    parser.add_argument("--users", type=float, default=5e4)
    parser.add_argument("--resamples", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    told = predictions(int(asked.rows), asked.tasks, int(asked.users))
    chances = 1 / (1 + np.exp(-told.logits))
    draws = resample(told.groups, resamples=asked.resamples)
    taken: dict[str, list[float]] = {"by the clock": [], "of processor": []}
    for _ in range(asked.rounds):
        wall, cpu = time.perf_counter(), time.process_time()
        evaluate(told, chances, by=draws)
        taken["by the clock"].append(time.perf_counter() - wall)
        taken["of processor"].append(time.process_time() - cpu)
    what = f"judging {asked.rows:,.0f} rows, {asked.tasks} tasks, {asked.resamples} resamples: seconds"
    goals = {"by the clock": 60.0, "of processor": None}  # seconds, not minutes
    ratios = [measured.ratio(f"{what} {clock}", values, goal=goals[clock], most=True) for clock, values in taken.items()]
    measured.write(asked.o, {"seconds": taken}, ratios, threads=os.cpu_count() or 1)
    print(*(f"{one.what}: {one.value:.1f} ({one.low:.1f} to {one.high:.1f})" for one in ratios), sep="\n")


if __name__ == "__main__":
    main()
