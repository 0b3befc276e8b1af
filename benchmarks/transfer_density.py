"""Where tasks agree, does STEM keep what sharing gains? Its mean AUC less that of a shared bottom, by rows, users, items, shared experts.

The demonstration's agreeing scene (`umbel.study.demo`), one training of each recipe a line; like's rate and l2 as given.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import torch

from umbel.run.watch import Silence
from umbel.study.demo import SCENES
from umbel.study.scene import gap, mean_auc, play

HERE = Path(__file__).parent
LINES = (  # users, items, rows, shared experts, l2, rate of like
    (400, 150, 20_000, 1, 3e-4, 0.05), (400, 150, 20_000, 1, 1e-3, 0.05),
    (400, 150, 40_000, 1, 3e-4, 0.05), (400, 150, 40_000, 1, 1e-3, 0.05),
    (400, 150, 100_000, 1, 3e-4, 0.05), (400, 150, 100_000, 2, 3e-4, 0.05), (200, 80, 100_000, 1, 3e-4, 0.05),
    (200, 80, 100_000, 2, 1e-4, 0.05), (200, 80, 100_000, 2, 3e-4, 0.02), (200, 80, 200_000, 2, 3e-4, 0.02),
)  # fmt: skip


def line(users: int, items: int, rows: int, *, shared: int, l2: float, like: float) -> dict[str, object]:
    """One log, three trainings."""
    scene = SCENES[1]
    planted = replace(scene.planted, users=users, items=items, rows=rows, rates=(0.3, like, 0.2))
    model, fit = scene.model.model_copy(update={"shared": shared}), scene.fit.model_copy(update={"l2": l2})
    with tempfile.TemporaryDirectory() as folder:
        played = play(replace(scene, planted=planted, model=model, fit=fit, seeds=1), Path(folder), jobs=0, watch=Silence())
    by = {one.name: one for one in played.found.recipes}
    won, kept = gap(by["shared_bottom"], by["alone"]).mean, gap(by["stem"], by["shared_bottom"]).mean
    return {
        "users": users, "items": items, "rows": rows, "shared": shared, "l2": l2, "like": like,
        "validation": {name: round(one.cost.score, 4) for name, one in by.items()},
        "test": {name: round(mean_auc(one), 4) for name, one in by.items()},
        "sharing_less_alone": [won.value, won.low, won.high], "stem_less_sharing": [kept.value, kept.low, kept.high],
    }  # fmt: skip


def main() -> None:
    """Play every line, print, and leave results/transfer_density.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", type=Path, default=HERE / "results" / "transfer_density.json")
    given = parser.parse_args()
    torch.set_num_threads(1)
    found = []
    for users, items, rows, shared, l2, like in LINES:
        found.append(line(users, items, rows, shared=shared, l2=l2, like=like))
        print(json.dumps(found[-1]), flush=True)
    report = {"command": " ".join(["python", "benchmarks/transfer_density.py", *sys.argv[1:]]), "margin": 0.005, "lines": found}
    given.o.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
