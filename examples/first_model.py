"""From a log to a judged model and its scores, in Python."""

from pathlib import Path

from umbel.bundle import Bundle
from umbel.data.simulate import Planted, simulate
from umbel.run.run import train
from umbel.run.settings import read

folder = Path("runs/example")
simulate(Planted(users=200, items=60, rows=20_000), folder / "log")
report = train(read(Path("examples/simulated.toml")), folder / "run")
for task in report.tasks:
    print(task.name, task.figures.metrics["auc"])
bundle = Bundle.load(folder / "run" / "bundle")
rows, scores = next(bundle.score(bundle.source))
print(rows.head(3).select("user", "item"), bundle.columns, scores[:3].round(3))
