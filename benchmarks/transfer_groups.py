"""Do the probes of `umbel transfer` find what is planted: how much tasks agree, and which of six tasks belong together?

Every label is drawn from `sigmoid(b + 2.5 (r a_g + sqrt(1 - r^2) a_t))`, a_g the taste for an item that a group of tasks has in common,
a_t a task's own, each of unit variance over rows. Affinity: two tasks, r^2 swept from 0 to 1. Groups: six tasks, two groups of three.
`--work` keeps what is finished, seed by seed: several processes may share the seeds (`--first`), and one that was stopped goes on.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from scipy.stats import spearmanr

from umbel.data.table import Table
from umbel.run.run import prepare
from umbel.run.settings import Settings, parse
from umbel.run.watch import Silence
from umbel.study.entrants import Entrant
from umbel.study.transfer.probed import PROBED, Probed, checks, probed
from umbel.study.transfer.witness import witness
from umbel.study.trial import Trial, run_trial

HERE = Path(__file__).parent
RHOS = (0.0, 0.25, 0.5, 0.75, 1.0)
STRENGTH = 2.5


@dataclass(frozen=True, slots=True)
class Kindred:
    """A log of several tasks in known groups: `groups` are the tasks' numbers, `agree` the correlation of two tasks of one group."""

    groups: tuple[tuple[int, ...], ...]
    agree: float = 1.0
    users: int = 40
    items: int = 20
    rows: int = 8_000
    dim: int = 3
    rate: float = 0.25
    seed: int = 1

    @property
    def tasks(self) -> tuple[str, ...]:
        """Their names, in order."""
        return tuple(f"task{number}" for number in range(sum(map(len, self.groups))))


def simulate(planted: Kindred, file: Path) -> None:
    """Write the log: user, item, part (70 % train, 15 % valid, 15 % test) and a 0 or 1 a task."""
    draw = np.random.default_rng(planted.seed)
    user, item = draw.integers(planted.users, size=planted.rows), draw.integers(planted.items, size=planted.rows)

    def taste() -> np.ndarray:
        left, right = (draw.standard_normal((count, planted.dim)) for count in (planted.users, planted.items))
        drawn: np.ndarray = np.einsum("rd,rd->r", left[user], right[item]) / np.sqrt(planted.dim)
        return drawn

    parts = draw.choice(["train", "valid", "test"], planted.rows, p=[0.7, 0.15, 0.15])
    columns: dict[str, np.ndarray] = {"user": user, "item": item, "part": parts}
    for group in planted.groups:
        common = taste()
        for task in group:
            drawn = STRENGTH * (np.sqrt(planted.agree) * common + np.sqrt(1 - planted.agree) * taste())
            bar = np.quantile(drawn, 1 - planted.rate)
            columns[planted.tasks[task]] = (draw.random(planted.rows) < 1 / (1 + np.exp(bar - drawn))).astype(np.int8)
    pl.DataFrame(columns).write_parquet(file)


def settings(planted: Kindred, file: Path, *, epochs: int) -> Settings:
    """The run file of a log."""
    return parse(
        {
            "data": {"log": str(file), "user": "user", "item": "item"},
            "fields": {"user": {"kind": "id"}, "item": {"kind": "id"}},
            "tasks": {name: {} for name in planted.tasks},
            "split": {"by": "column", "column": "part"},
            "model": {"recipe": PROBED, "dim": 6, "expert": [64, 32], "tower": [16], "shared": 1},
            "fit": {"epochs": epochs, "patience": 2, "batch": 1024, "rate": 0.01, "l2": 1e-4, "threads": 1},
        },
        where="benchmark",
    )


def asked(planted: Kindred, folder: Path, *, epochs: int = 8) -> tuple[Probed, Settings, Table]:
    """What the probes of one training ask for, on that log."""
    simulate(planted, folder / "log.parquet")
    run = settings(planted, folder / "log.parquet", epochs=epochs)
    table = prepare(run, folder / "table")
    return probed(table.schema, witness(run, table, folder / "observed", watch=Silence())), run, table


def affinity(rho: float, seed: int, *, epochs: int = 8) -> float:
    """The mean help of two tasks whose tastes correlate by rho."""
    with tempfile.TemporaryDirectory() as folder:
        found, _, _ = asked(Kindred(((0, 1),), agree=rho, seed=seed), Path(folder), epochs=epochs)
    return float(np.mean([found.helps[0][1], found.helps[1][0]]))


def recommended(planted: Kindred, *, trained: int = 2) -> tuple[Probed, dict[str, float]]:
    """The probes' ranking, and the validation score of every grouping that was trained (separate models and one group among them)."""
    with tempfile.TemporaryDirectory() as name:
        found, run, table = asked(planted, Path(name))
        others = Entrant("alone", "alone"), Entrant("mmoe", "mmoe")
        entrants = (*others, *checks(found, table.schema, trained=trained, controls=False))
        run = run.model_copy(update={"fit": run.fit.model_copy(update={"epochs": 12})})
        trials = {one.name: run_trial(one.grid(run)[0], table, Path(name) / str(at), test=False)
                  for at, one in enumerate(entrants) if one.recipe != "stem_fields"}  # fmt: skip
    return found, {one: trial.score for one, trial in trials.items() if isinstance(trial, Trial)}


def truth(seed: int) -> tuple[tuple[int, ...], ...]:
    """Two groups of three, drawn anew."""
    order = np.random.default_rng(1000 + seed).permutation(6)
    return tuple(sorted(tuple(sorted(map(int, half))) for half in (order[:3], order[3:])))


def _groups(seed: int) -> dict[str, object]:
    planted = Kindred(truth(seed), seed=seed)
    found, scores = recommended(planted)
    wanted = " ".join(f"{{{', '.join(planted.tasks[task] for task in group)}}}" for group in planted.groups)
    best = max(scores, key=lambda name: scores[name])
    return {"seed": seed, "truth": wanted, "asked": found.groupings[0].entrant, "recommended": best, "validation": scores}


def _one(seed: int) -> dict[str, object]:
    began = time.process_time()
    found = {"affinity": [affinity(rho, seed) for rho in RHOS], "groups": _groups(seed)}
    return {**found, "cpu_seconds": time.process_time() - began}


def kept(file: Path, make: Callable[[], dict[str, object]]) -> dict[str, Any]:
    """What was made and is kept there, or is made now."""
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(make()))
        print(file.name, flush=True)
    found: dict[str, Any] = json.loads(file.read_text())
    return found


def main() -> None:
    """Sweep, print, and leave results/transfer_groups.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--first", type=int, default=1)
    parser.add_argument("--work", type=Path, default=None)
    parser.add_argument("-o", type=Path, default=HERE / "results" / "transfer_groups.json")
    given = parser.parse_args()
    torch.set_num_threads(1)
    work = given.work or Path(tempfile.mkdtemp())
    seeds = range(given.first, given.first + given.seeds)
    each = [kept(work / f"{seed}.json", partial(_one, seed)) for seed in seeds]
    swept, found = {seed: one["affinity"] for seed, one in zip(seeds, each, strict=True)}, [one["groups"] for one in each]
    ranks = {seed: float(spearmanr(RHOS, one).statistic) for seed, one in swept.items()}
    for (seed, one), rank in zip(swept.items(), ranks.values(), strict=True):
        print(f"affinity, seed {seed}: {' '.join(f'{value:+.3f}' for value in one)}  Spearman {rank:.3f}", flush=True)
    right = {key: sum(one[key] == one["truth"] for one in found) for key in ("asked", "recommended")}
    report = {
        "command": " ".join(["python", "benchmarks/transfer_groups.py", *sys.argv[1:]]),
        "cores": os.cpu_count(), "torch": torch.__version__,
        "cpu_seconds": round(sum(one["cpu_seconds"] for one in each)),
        "affinity": {"correlations": RHOS, "by_seed": list(swept.values()), "spearman": list(ranks.values()),
                     "spearman_of_means": float(spearmanr(RHOS, np.mean(list(swept.values()), axis=0)).statistic)},
        "groups": {"seeds": given.seeds, "asked_is_truth": right["asked"], "recommended_is_truth": right["recommended"], "each": found},
    }  # fmt: skip
    given.o.write_text(json.dumps(report, indent=1) + "\n")
    print(f"Spearman, median of {given.seeds} seeds: {statistics.median(ranks.values()):.3f}; groups: {right}")


if __name__ == "__main__":
    main()
