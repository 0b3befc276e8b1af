"""CCML on users in planted clusters: do gradients find who wants the same, and does learning with them help?

Users of eight clusters (`umbel.data.clusters`), a new log a seed. Plain MAML (`melu`: the decision layers, three steps, second order),
CCML with collaborators in training and at test, and the same with collaborators drawn at random in place of the similar ones (inner
gradients clipped, as everywhere). The bias model stands beside them, as in every table of new users. The pool is everybody, since nothing
but gradients tells users apart; the rating filter is off, since no two rows have an item in common. All that train have the same number of
epochs and the same start, MAML once more twice as many; the last epoch is judged. Settings were chosen on validation users, logs of seed 1.

`--work` keeps what is finished, seed by seed: one that was stopped goes on, and a method that was not there is added.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import t as student

from umbel.coldstart.answers import answers
from umbel.coldstart.bias import Bias
from umbel.coldstart.ccml import Ccml
from umbel.coldstart.collaboration import Collaboration
from umbel.coldstart.gradient import Melu
from umbel.coldstart.method import Method, Prepared, Setup
from umbel.coldstart.prior import ItemMeans
from umbel.coldstart.source import Reader
from umbel.data import clusters
from umbel.data.clusters import Clustered
from umbel.data.episodes import episodes
from umbel.data.ingest import ingest
from umbel.data.table import Table
from umbel.learn.fit import fit
from umbel.learn.plan import Plan
from umbel.nn.recommender import Recommender, Sizes
from umbel.recipes import RECIPES
from umbel.schema import Schema

HERE = Path(__file__).parent
Log = dict[str, Any]  # what one log came to: its seed and support, what every method found, the seconds that took
PLANTED = Clustered(users=(256, 64, 256))
EPOCHS, WARMUP, RATE = 12, 5, 3e-3
CCML = Ccml(rate=0.1, second=True, pool=0, filter="none", share=0.3, warmup=WARMUP, test_collab=True)
MAML = Melu(rate=0.1, second=True)
METHODS: dict[str, Method] = {
    "bias": Bias(), "maml": MAML, "ccml": CCML, "random": replace(CCML, similar="random"), "maml, twice as long": MAML,
}  # fmt: skip


def world(planted: Clustered, folder: Path) -> tuple[Table, Setup]:
    """A log, ingested, and what every method starts from: one hidden layer of 64."""
    table = ingest(clusters.simulate(planted, folder), clusters.schema(planted), clusters.SPLIT, folder=folder / "table")
    rows = {name: vocabulary.size for name, vocabulary in table.encoder.vocabularies.items()}

    def build(schema: Schema) -> Recommender:
        torch.manual_seed(planted.seed)
        return RECIPES["shared_bottom"](schema, Sizes(rows, dim=planted.width, expert=(64,), tower=()))

    return table, Setup(Reader(table, ItemMeans.of(table)), build, planted.protocol, size=16, seed=planted.seed)


def errors(made: Prepared, table: Table, part: str, planted: Clustered) -> np.ndarray:
    """Every user's mean squared error."""
    labels, found, seen = answers(made.learner, episodes(table, part, planted.protocol), made.read).of("y")
    each: np.ndarray = np.where(seen, (labels - found) ** 2, 0.0).sum(1) / seen.sum(1)
    return each


def recovery(made: Prepared, planted: Clustered) -> float:
    """How well the cosine of gradients tells training users of one cluster from those of others."""
    assert isinstance(made.batches, Collaboration)
    own = made.batches.training.episodes(-1)
    slope = made.batches.sampler.traits(made.learner, own).slope
    likeness = (slope @ slope.T).fill_diagonal_(torch.nan).numpy()
    own_clusters = clusters.of_users(planted)[: len(own)]
    return clusters.recovered(likeness, own_clusters, own_clusters)


def trained(method: Method, planted: Clustered, folder: Path, *, epochs: int) -> dict[str, float]:
    """One method on one log: test error, and for CCML what its gradients recover before the first step and after the warm-up."""
    table, setup = world(planted, folder)
    made = method.prepare(setup)
    told: dict[str, float] = {}
    look: Callable[[str], None] = lambda when: told.update({f"auc_{when}": recovery(made, planted)}) if method is CCML else None  # noqa: E731
    look("start")
    plan = Plan(epochs=epochs, patience=epochs, rate=RATE, l2=0.0)
    for epoch in () if made.batches is None else fit(made.learner, made.batches, plan=plan, judge=lambda _: 0.0):
        if epoch.number == WARMUP:
            look("after_warmup")
    look("end")
    return {**told, "test_mse": float(errors(made, table, "test", planted).mean())}


def seed(number: int, support: int, *, epochs: int, done: Log) -> Log:
    """All methods on one log: those that are not `done`."""
    planted, began = replace(PLANTED, support=support, seed=number), time.process_time()
    found = done["methods"] if done else {}
    with tempfile.TemporaryDirectory() as folder:
        new = {name: trained(method, planted, Path(folder) / name, epochs=epochs * (1 + ("twice" in name)))
               for name, method in METHODS.items() if name not in found}
    seconds = time.process_time() - began + (done["cpu_seconds"] if done else 0.0)
    both = {name: (new | found)[name] for name in METHODS}
    return {"seed": number, "support": support, "methods": both, "cpu_seconds": round(seconds, 1)}


def interval(values: list[float]) -> dict[str, object]:
    """Mean over seeds, and its 95 % interval by Student's t."""
    mean, count = float(np.mean(values)), len(values)
    half = float(student.ppf(0.975, count - 1)) * float(np.std(values, ddof=1)) / count**0.5 if count > 1 else float("inf")
    return {"mean": round(mean, 4), "low": round(mean - half, 4), "high": round(mean + half, 4), "seeds": count}


def summary(done: list[dict[str, dict[str, dict[str, float]]]]) -> dict[str, object]:
    """What the seeds of one support say together."""
    by = {name: [one["methods"][name] for one in done] for name in METHODS}
    mse = {name: [one["test_mse"] for one in found] for name, found in by.items()}
    paired = {f"{one} less {other}": interval([ours - plain for ours, plain in zip(mse[one], mse[other], strict=True)])
              for one, other in (("ccml", "maml"), ("random", "maml"), ("ccml", "maml, twice as long"), ("ccml", "bias"))}
    recovered = {when: interval([one[f"auc_{when}"] for one in by["ccml"]]) for when in ("start", "after_warmup", "end")}
    return {"test_mse": {name: interval(one) for name, one in mse.items()}, "paired": paired, "cluster_auc": recovered}


def main() -> None:
    """Play the seeds that are not done, and write what all of them say."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--support", type=int, nargs="+", default=[20, 10])
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--work", type=Path, default=None)
    parser.add_argument("-o", "--out", type=Path, default=HERE / "results" / "ccml_truth.json")
    given = parser.parse_args()
    torch.set_num_threads(1)
    work = given.work or Path(tempfile.mkdtemp())
    work.mkdir(parents=True, exist_ok=True)
    for support in given.support:
        for number in range(1, given.seeds + 1):
            kept = work / f"{support}-{number}.json"
            done: Log = json.loads(kept.read_text()) if kept.exists() else {}
            if set(METHODS) - set(done.get("methods", {})):
                kept.write_text(json.dumps(seed(number, support, epochs=given.epochs, done=done)))
                print(kept.read_text(), flush=True)
    logs = {support: [json.loads((work / f"{support}-{number}.json").read_text()) for number in range(1, given.seeds + 1)]
            for support in given.support}
    supports = " ".join(map(str, given.support))
    told = {"command": f"python benchmarks/{Path(sys.argv[0]).name} --seeds {given.seeds} --support {supports}", "planted": repr(PLANTED),
            "epochs": given.epochs, "methods": {name: repr(one) for name, one in METHODS.items()},
            "supports": {str(support): summary(found) for support, found in logs.items()}, "logs": logs}
    given.out.write_text(json.dumps(told, indent=1) + "\n")


if __name__ == "__main__":
    main()
