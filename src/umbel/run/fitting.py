"""Training one model from a table: seeds, judge, checkpoints, the log of epochs; it goes on where it stopped."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float

from umbel import durable
from umbel.bundle import Built
from umbel.data.batch import Batch
from umbel.data.loader import Loader
from umbel.data.table import Table
from umbel.evaluate.judge import mean_score
from umbel.evaluate.metrics import Undefined
from umbel.learn import checkpoint
from umbel.learn.fit import Epoch, fit
from umbel.learn.predict import predict
from umbel.nn.recommender import Recommender
from umbel.run import resolve
from umbel.run.settings import Settings
from umbel.run.watch import Watch

SCORED = 16384  # rows scored at a time


@dataclass(frozen=True, slots=True)
class Fitted:
    """A model with its best weights, how it was made, and what each epoch came to."""

    model: Recommender
    built: Built
    history: tuple[dict[str, object], ...]

    @property
    def score(self) -> float:
        """The best validation score."""
        return max(float(str(line["score"])) for line in self.history)


def fit_model(settings: Settings, table: Table, folder: Path, *, watch: Watch) -> Fitted:
    """Train with early stopping on the mean validation score of the tasks (`mean_score`); leaves `checkpoint/` and `log.jsonl` in `folder`.

    A folder that holds a checkpoint is gone on with, to the same bytes as if it had never stopped.
    """
    if settings.fit.threads:
        torch.set_num_threads(settings.fit.threads)
    plan = resolve.plan(settings.fit, resolve.balance(settings))
    built = resolve.built(settings, {name: vocabulary.size for name, vocabulary in table.encoder.vocabularies.items()})
    torch.manual_seed(settings.fit.seed)
    model = built(table.schema)
    start = checkpoint.load(folder / "checkpoint") if (folder / "checkpoint").exists() else None
    history = _history(folder / "log.jsonl", start.progress.epoch if start else 0)
    loader = Loader(table, "train", settings.fit.batch, seed=settings.fit.seed)
    best = start.best if start else {}
    for epoch in fit(model, _Watched(loader, watch), plan=plan, judge=_Judge(table), start=start):
        if epoch.finished:
            history.append(_line(epoch))
            durable.write(folder / "log.jsonl", "".join(json.dumps(line) + "\n" for line in history))
            watch.finished(epoch)
        checkpoint.save(epoch.state, folder / "checkpoint")
        best = epoch.state.best
    model.load_state_dict(best)
    return Fitted(model.cpu().eval(), built, tuple(history))  # what follows, and whoever loads the bundle, may have no GPU


def logits(model: Recommender, table: Table, part: str) -> Float[np.ndarray, "rows outputs"]:
    """The model's logits on one part, in the table's order."""
    return predict(model, Loader(table, part, SCORED, shuffle=False)(0))


class _Judge:
    """The mean score of the tasks on validation (AUC of events), given the sample spaces."""

    def __init__(self, table: Table) -> None:
        self.table = table
        self.labels, self.seen = table.labels("valid")

    def __call__(self, model: Recommender) -> float:
        score = mean_score(self.table.schema, self.labels, self.seen, logits=logits(model, self.table, "valid"))
        return float("nan") if isinstance(score, Undefined) else score


class _Watched:
    """A loader that tells the watch of every step."""

    def __init__(self, loader: Loader, watch: Watch) -> None:
        self.loader, self.watch = loader, watch

    def __call__(self, epoch: int, start: int) -> Iterator[Batch]:
        rows = len(self.loader.table.parts[self.loader.part])
        for step, batch in enumerate(self.loader(epoch, start), start=start):
            self.watch.stepped(epoch + 1, done=step * self.loader.size, rows=rows)
            yield batch


def _line(epoch: Epoch) -> dict[str, object]:
    seconds = round(epoch.seconds, 3)
    line = {"epoch": epoch.number, "losses": list(epoch.losses), "score": epoch.score, "rows": epoch.rows, "seconds": seconds}
    return line | ({"weights": list(epoch.weights)} if epoch.weights else {})


def _history(path: Path, epochs: int) -> list[dict[str, object]]:
    """The lines of finished epochs; one written after the last checkpoint is dropped, for it will be written again."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text().splitlines()][:epochs]
