"""Logits of many rows, and the mean of what is seen of them, without training anything."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from umbel.data.batch import Batch
from umbel.errors import UserError
from umbel.learn.seam import Model
from umbel.nn.mixture import mixture_of
from umbel.nn.recommender import Recommender
from umbel.schema import Schema


def predict(model: Model, batches: Iterable[Batch]) -> Float[np.ndarray, "rows outputs"]:
    """The model's logits for every row, in the order of the batches, as float32; what training raised them by is taken off.

    A task that keeps a share of its rows without the event, or counts those with it more often, teaches a model higher odds than
    the true ones, by a factor that is known (`Schema.raised`); the logits here are those of the true odds.
    Runs in evaluation mode (no dropout) where the table lives, and leaves the model's mode as it was.

    :raises UserError: when there are no rows at all.
    """
    device = model.table.device
    with _evaluating(model):
        parts = [model(batch.to(device).fields).float().cpu().numpy() for batch in batches]
    if not parts:
        raise UserError("no rows to predict", mend="give a log, or a part of the table, that has rows")
    return lowered(model.schema, np.concatenate(parts))


def lowered(schema: Schema, logits: Float[np.ndarray, "rows outputs"]) -> Float[np.ndarray, "rows outputs"]:
    """A model's logits (changed in place) less what training raised them by."""
    raised = schema.raised
    if raised.any():
        logits[:, : len(raised)] -= raised.astype(np.float32)
    return logits


def centre(model: Recommender, batches: Iterable[Batch]) -> Float[Tensor, "views fields dim"]:
    """What the views see of a row, field by field, averaged over rows (one or more); in evaluation mode, too."""
    device, rows = model.table.device, 0
    total = torch.zeros((), dtype=torch.float64, device=device)
    with _evaluating(model):
        for batch in batches:
            total = total + model.seen(batch.to(device).fields).double().sum(0)
            rows += len(batch.index)
        return (total / rows).float().cpu()


def votes(model: Recommender, batches: Iterable[Batch]) -> dict[str, Float[np.ndarray, "experts"]]:
    """Whom each task listens to: every row has one vote, and gives its shares to the experts of the last layer.

    A task without a gate is left out; all are where the last layer is no mixture. In evaluation mode, and without a hook: a model that
    answers others meanwhile is left alone.
    """
    last = mixture_of(model.layers[-1])
    if last is None:
        return {}
    gated = [reader for reader in range(len(last.routing.table)) if len(last.routing.heard(reader)) > 1]
    total = torch.zeros(len(last.routing.table), len(last.routing.views), dtype=torch.float64)
    with _evaluating(model):
        for batch in batches:
            total += last.shares(model.below(batch.to(model.table.device).fields)).double().sum(0).cpu()
    own = {task.name: [reader for reader in model.head.hears[number] if reader in gated] for number, task in enumerate(model.schema.tasks)}
    return {name: total[readers].mean(0).numpy() for name, readers in own.items() if readers}


@contextmanager
def _evaluating(model: Model) -> Iterator[None]:
    was = model.training
    model.train(False)
    try:
        with torch.inference_mode():
            yield
    finally:
        model.train(was)
