"""From a log to a judged model and its scores, in Python."""

from pathlib import Path

import polars as pl

from umbel.bundle import Bundle
from umbel.data.simulate import Planted, simulate
from umbel.run.run import train
from umbel.run.settings import read

folder = Path("runs/example")
simulate(Planted(users=200, items=60, rows=20_000), folder / "log")
report = train(read("examples/simulated.toml"), folder / "run")
for task in report.tasks:
    print(task.name, task.figures.metrics["auc"])
bundle = Bundle.load(folder / "run" / "bundle")
rows = pl.read_parquet(folder / "log" / "log.parquet").tail(3)
print(rows.select("user", "item").hstack(bundle.answer(rows)))
