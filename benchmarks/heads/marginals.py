"""How a comparison's runs judge p(task) where a task is given another: its product along the chain, on the test rows.

After `umbel compare ... -o runs/heads`:
`python benchmarks/heads/marginals.py runs/heads -o benchmarks/results/kuairand-heads-marginals.json`.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from umbel.data.table import Table
from umbel.evaluate.judge import marginals
from umbel.evaluate.metrics import auc, logloss


def main() -> None:
    """Each entrant's runs, one a seed: AUC, log-loss and the ratio of predictions to events, on rows whose labels are all known."""
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("folder", type=Path)
    words.add_argument("-o", "--out", type=Path, required=True)
    asked = words.parse_args()
    table = Table.open(asked.folder / "table")
    events, observed = table.events("test")
    known = observed.all(1)
    found: dict[str, dict[str, list[dict[str, object]]]] = {}
    for file in sorted(asked.folder.glob("runs/*/*/predictions.npz")):
        given = np.load(file)["calibrated"].astype(np.float64)
        for at, task in enumerate(table.schema.tasks):
            chance, event = marginals(table.schema, given, task.name)[known], events[known, at]
            figures = {"auc": auc(event, chance), "logloss": logloss(event, chance), "ratio": float(chance.sum() / event.sum())}
            found.setdefault(file.parent.parent.name, {}).setdefault(task.name, []).append(figures)
    positives = {task.name: int(events[known, at].sum()) for at, task in enumerate(table.schema.tasks)}
    asked.out.write_text(json.dumps({"rows": int(known.sum()), "positives": positives, "entrants": found}, indent=1, default=str) + "\n")


if __name__ == "__main__":
    main()
