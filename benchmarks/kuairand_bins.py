"""Do networks gain from numbers read piece by piece? `me_mmoe` on KuaiRand-Pure with target statistics, with and without bins.

Run `python benchmarks/kuairand_bins.py --folder runs/kuairand-bins`; a stopped run goes on. The run file is
`examples/kuairand-statistics.toml`, its numbers and statistics with so many bins, and nothing else changed.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Mapping
from pathlib import Path

from umbel.run.run import train
from umbel.run.settings import Settings, read

HERE = Path(__file__).parent
TASKS = ("click", "long_view", "like")
BINNED = {"numbers": ("number",), "statistics": ("statistic",), "both": ("number", "statistic")}


def settings(bins: int, kinds: tuple[str, ...], *, seed: int, rate: float) -> Settings:
    """The run file of one training."""
    plain = read(HERE.parent / "examples" / "kuairand-statistics.toml", [f"fit.seed={seed}", f"fit.rate={rate}"])
    fields = {name: one.model_copy(update={"bins": bins if one.kind in kinds else 0}) for name, one in plain.fields.items()}
    return plain.model_copy(update={"fields": fields})


def figures(folder: Path) -> Mapping[str, object]:
    """The AUC of a finished training: on validation before calibration, by epoch, and on test."""
    report = json.loads((folder / "report.json").read_text())
    epochs = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    best = max(epochs, key=lambda epoch: epoch["score"])
    test = {task: report["tasks"][task]["auc"] for task in TASKS}
    mean = statistics.mean(one["value"] for one in test.values())
    by_epoch = [epoch["score"] for epoch in epochs]
    return {"valid": best["score"], "valid_tasks": best["scores"], "valid_by_epoch": by_epoch, "test": test, "test_mean": mean}


def main() -> None:
    """Train, print, keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("runs/kuairand-bins"))
    parser.add_argument("--bins", type=int, nargs="+", default=[0, 8, 16, 32])
    parser.add_argument("--of", choices=BINNED, default="both")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("-o", "--out", type=Path, default=HERE / "results" / "kuairand-bins.json")
    options = parser.parse_args()
    found = json.loads(options.out.read_text()) if options.out.exists() else []
    for seed in options.seeds:
        for bins in options.bins:
            folder = options.folder / f"{options.of}-{bins}-{options.rate:g}-{seed}"
            train(settings(bins, BINNED[options.of], seed=seed, rate=options.rate), folder)
            made = {"bins": bins, "of": options.of, "seed": seed, "rate": options.rate, **figures(folder)}
            found = [one for one in found if any(one[key] != made[key] for key in ("bins", "of", "seed", "rate"))] + [made]
            sys.stdout.write(f"{options.of} {bins:3} bins, seed {seed}: validation {made['valid']:.4f}, test {made['test_mean']:.4f}\n")
            options.out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
