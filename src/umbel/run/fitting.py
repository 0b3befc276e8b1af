"""Training one model from a table: seeds, judge, checkpoints, the log of epochs; it goes on where it stopped."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import cast

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributed import ProcessGroup

from umbel import durable
from umbel.bundle import Built
from umbel.data.batch import Batch
from umbel.data.loader import Loader
from umbel.data.table import Table
from umbel.data.thin import thin
from umbel.evaluate.judge import scores
from umbel.evaluate.metrics import Undefined
from umbel.learn import checkpoint
from umbel.learn.fit import Batches, Epoch, Judge, Trained, fit
from umbel.learn.history import Scores
from umbel.learn.keep import Keep
from umbel.learn.plan import Plan
from umbel.learn.predict import centre, predict
from umbel.nn.holder import HERE
from umbel.nn.kinds import start
from umbel.nn.recommender import Recommender
from umbel.objectives import Listwise
from umbel.run import resolve
from umbel.run.settings import Settings
from umbel.run.sizing import spare, within_memory
from umbel.run.together import is_first, told
from umbel.run.warm import check_plain, replay_of, warm_start
from umbel.run.watch import Watch

SCORED = 16384  # rows scored at a time
SEED = 1_000_003  # of the training rows looked at beside validation
MEANT = 65536   # rows that a mean row, or mean label, is the mean of, at most
ROOM = 4        # a table may take one part in so many of what is free of a GPU's memory, which the model is yet to have


@dataclass(frozen=True, slots=True)
class Fitted:
    """A model with the weights that its rule kept, how it was made, and what each epoch came to."""

    model: Recommender
    built: Built
    history: tuple[dict[str, object], ...]
    rule: Keep

    @property
    def scores(self) -> tuple[Scores, ...]:
        """Every task's validation score, epoch by epoch."""
        return tuple(cast(Scores, line["scores"]) for line in self.history)

    @property
    def score(self) -> float:
        """The validation score of the kept epoch: the one number that the rule makes of the tasks'."""
        return self.rule.score(self.scores[self.rule.best(self.scores)])


@within_memory()
def fit_model(settings: Settings, table: Table, folder: Path, *, watch: Watch, group: ProcessGroup | None = None) -> Fitted:
    """Train with early stopping by the run file's rule on every task's validation score; leaves `checkpoint/` and `log.jsonl` in `folder`.

    A folder that holds a checkpoint is gone on with, to the same bytes as if it had never stopped. Of a `group` every process calls
    this, each with the same table; the first judges and writes.
    """
    if settings.fit.threads:
        torch.set_num_threads(settings.fit.threads)
    plan = resolve.plan(settings.fit, resolve.balance(settings), resolve.keep(settings), group=group)
    rows = {name: vocabulary.size for name, vocabulary in table.encoder.vocabularies.items()}
    resolve.check_memory(settings, table.schema, rows=rows, plan=plan)
    built = resolve.built(settings, rows, edges=table.encoder.edges)
    torch.manual_seed(settings.fit.seed)
    model = built(table.schema, plan.shards or HERE)
    replay = None
    if settings.fit.start is None:
        begin(model, table, window=settings.fit.window)
    else:
        bundle = warm_start(model, table, built, start=settings.fit.start)
        check_plain(bundle, start=settings.fit.start)
        replay = replay_of(bundle, table, settings.fit.replay)
    lists = any(isinstance(task.loss, Listwise) for task in table.schema.tasks)
    fit = settings.fit
    loader = Loader(_near(table, plan.device), "train", fit.batch, seed=fit.seed, replay=replay, together=lists, window=fit.window)
    history = trained(model, _Watched(loader, watch), folder, plan=plan, judge=_Judge(table, group), watch=watch)
    return Fitted(model.cpu().eval(), built, history, plan.keep)  # what follows, and whoever loads the bundle, may have no GPU


@within_memory()
def trained(
    model: Trained, batches: Batches, folder: Path, *, plan: Plan, judge: Judge[Trained], watch: Watch
) -> tuple[dict[str, object], ...]:
    """Train with checkpoints and a log of epochs in `folder`, going on from those that are there; the model ends with the weights kept.

    Of several processes the first alone writes, but for rows that others hold; all go on from the same checkpoint, or none does.
    """
    shards = plan.shards or checkpoint.ALONE
    start = checkpoint.load(folder / "checkpoint", shards=shards, group=plan.group)
    history = _history(folder / "log.jsonl", start.progress.epoch if start else 0)
    best = start.best if start and start.progress.over(plan) else {}
    epochs = fit(model, batches, plan=plan, judge=judge, start=start, heard=watch.learned)
    del start  # as large as all that training holds
    for epoch in epochs:
        best = epoch.state.best
        if not (is_first(plan.group) or plan.shards):
            continue
        if epoch.finished and is_first(plan.group):
            history.append(_line(epoch))
            durable.write(folder / "log.jsonl", "".join(json.dumps(line) + "\n" for line in history))
            watch.finished(epoch)
        checkpoint.save(epoch.state, folder / "checkpoint", shards=shards)
    model.load_state_dict(best)
    return tuple(history)


def _near(table: Table, device: torch.device) -> Table:
    """The table whose batches lie on the device; here, where rows are left out of batches by what is drawn for them."""
    thinned = any(task.negatives < 1 for task in table.schema.tasks)
    return table if thinned or device.type == "cpu" else table.on(device, most=spare(device) // ROOM)


def looked(table: Table, rows: int, *, window: int = 0) -> list[Batch]:
    """Training rows looked at beside training, so many or a batch more: the first of a shuffle that no training uses.

    A `window` keeps them in few pieces of the table, as it does while training.
    """
    return list(islice(Loader(table, "train", SCORED, seed=SEED, window=window)(0), -(-rows // SCORED)))


def begin(model: Recommender, table: Table, *, window: int = 0) -> None:
    """Let outputs in the label's own unit begin at the training labels; of a large table, at those of the first of a shuffle.

    Where one is too large for a loss, the task begins at 0: only the row that holds it is then off, and can be named.
    """
    own = {at: task for at, task in enumerate(table.schema.tasks) if task.kind.labels.any}
    if not own:
        return
    batches = looked(table, MEANT, window=window)
    labels, seen = (torch.cat([getattr(batch, name) for batch in batches]) for name in ("labels", "seen"))
    for at, task in own.items():
        known = labels[seen[:, at], at]
        if len(known) and known.square().sum().isfinite():
            model.begin(task.name, start(task.kind, known))


def logits(model: Recommender, table: Table, part: str) -> Float[np.ndarray, "rows outputs"]:
    """The model's logits on one part, in the table's order."""
    return predict(model, Loader(table, part, SCORED, shuffle=False)(0))


def trained_scores(model: Recommender, table: Table, *, window: int = 0) -> Scores:
    """The tasks' scores on about as many training rows as validation has."""
    batches = looked(table, len(table.parts["valid"]), window=window)
    labels, seen = (np.concatenate([getattr(batch, name).numpy() for batch in batches]) for name in ("labels", "seen"))
    return _plain(scores(table.schema, labels, seen, logits=predict(model, batches)))


def mean_row(model: Recommender, table: Table, *, window: int = 0) -> Float[Tensor, "views fields dim"]:
    """The mean training row as the views see it; of a large table, over some."""
    return centre(model, looked(table, MEANT, window=window))


class _Judge:
    """Each task's score on validation (AUC of events), given the sample spaces; in all processes what the first one finds."""

    def __init__(self, table: Table, group: ProcessGroup | None) -> None:
        self.table, self.group = table, group
        self.labels, self.seen = table.labels("valid")

    def __call__(self, model: Recommender) -> Scores:
        with model.holder.answered(model.table):
            found = self._scores(model) if is_first(self.group) else {}
        return told(self.group, found)

    def _scores(self, model: Recommender) -> Scores:
        return _plain(scores(self.table.schema, self.labels, self.seen, logits=logits(model, self.table, "valid")))


class _Watched:
    """A loader that tells the watch of every step, and keeps of each task's rows without the event the share that it trains on."""

    def __init__(self, loader: Loader, watch: Watch) -> None:
        self.loader, self.watch = loader, watch
        self.shares = [task.negatives for task in loader.table.schema.tasks]

    def __call__(self, epoch: int, start: int) -> Iterator[Batch]:
        rows = self.loader.rows
        for step, batch in enumerate(self.loader(epoch, start), start=start):
            self.watch.stepped(epoch + 1, done=step * self.loader.size, rows=rows)
            yield thin(batch, self.shares, seed=(self.loader.seed, epoch, step))


def _plain(found: Mapping[str, float | Undefined]) -> Scores:
    return {task: None if isinstance(value, Undefined) else value for task, value in found.items()}


def _line(epoch: Epoch) -> dict[str, object]:
    seconds = round(epoch.seconds, 3)
    judged = {"score": epoch.score, "scores": dict(epoch.scores)}
    line: dict[str, object] = {"epoch": epoch.number, "losses": list(epoch.losses), **judged, "rows": epoch.rows, "seconds": seconds}
    compiling = {"compile_seconds": round(epoch.compiling, 3)} if epoch.compiling else {}
    return line | compiling | ({"weights": list(epoch.weights)} if epoch.weights else {})


def begun(folder: Path) -> float:
    """When the training in a folder began, by this process's monotonic clock: earlier by the epochs that stopped processes trained."""
    log = folder / "log.jsonl"
    lines = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    return time.monotonic() - sum(float(line["seconds"]) + float(line.get("compile_seconds", 0)) for line in lines)


def _history(path: Path, epochs: int) -> list[dict[str, object]]:
    """The lines of finished epochs; one written after the last checkpoint is dropped, for it will be written again."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text().splitlines()][:epochs]
