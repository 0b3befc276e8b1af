"""What bfloat16 costs in quality: one training with and one without it, seed by seed, and the differences of their test figures.

Run `python benchmarks/precision.py` for STEM on a simulated log, or `python benchmarks/precision.py RUN.toml` from a folder where a run
file finds its log. `fit.precision = "bfloat16"` has the products of the forward pass take numbers of eight bits; weights and updates stay
float32. A processor without products of bfloat16 works them out all the same, and takes many times as long: figures stand, seconds do not.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import measured

from umbel.data.simulate import Planted, simulate
from umbel.evaluate.intervals import Interval
from umbel.run.record import task_from_json

HERE = Path(__file__).parent
USUAL = HERE.parent / "examples" / "simulated.toml"
PLANTED = Planted(users=2_000, items=300, rows=120_000)
FULL, HALF = "float32", "bfloat16"
Figures = dict[str, float]


def trained(run: Path, told: Sequence[str], out: Path) -> Figures:
    """The AUC of each task on the test part; a training that is finished is not made again."""
    if not (out / "report.json").exists():
        words = [word for one in told for word in ("--set", one)]
        subprocess.run([sys.executable, "-m", "umbel", "train", run, "-o", out, *words], check=True, stdout=subprocess.DEVNULL)
    saved = json.loads((out / "report.json").read_text())["tasks"]
    found = {name: task_from_json(name, one).figures.metrics["auc"] for name, one in saved.items()}
    return {name: one.value for name, one in found.items() if isinstance(one, Interval)}


def main() -> None:
    """Train in turns, print, write."""
    parser = measured.parser(__file__, __doc__)
    parser.add_argument("run", type=Path, nargs="?", help="a run file of binary tasks (the simulated log of this script)")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE")
    parser.add_argument("--work", type=Path, help="a folder that keeps the trainings, so that one that was stopped goes on")
    asked = parser.parse_args()
    found: dict[str, list[Figures]] = {FULL: [], HALF: []}
    with tempfile.TemporaryDirectory() as name:
        work, told = asked.work or Path(name), list(asked.set)
        if asked.run is None:
            simulate(PLANTED, work / "log")
            told.append(f"data.log={work / 'log' / 'log.parquet'}")
        for seed in range(1, asked.seeds + 1):
            for precision, figures in found.items():
                own = [f"fit.seed={seed}", f"fit.precision={precision}"]
                figures.append(trained(asked.run or USUAL, [*told, *own], work / f"{precision}-{seed}"))
                print(precision, seed, figures[-1], flush=True)
    moved = {task: [half[task] - full[task] for half, full in zip(found[HALF], found[FULL], strict=True)] for task in found[FULL][0]}
    ratios = [measured.ratio(f"{task}: AUC in bfloat16 less that in float32, seed by seed", one) for task, one in moved.items()]
    spread = {task: statistics.stdev(one[task] for one in found[FULL]) for task in moved} if asked.seeds > 1 else {}
    measured.write(asked.o, {"auc": found, "deviation of float32 over seeds": spread}, ratios)
    print(*(f"{one.what}: {one.value:+.4f} ({one.low:+.4f} to {one.high:+.4f})" for one in ratios), sep="\n")


if __name__ == "__main__":
    main()
