"""Logits of many rows, without training anything."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from jaxtyping import Float

from umbel.data.batch import Batch
from umbel.errors import UserError
from umbel.learn.seam import Model


def predict(model: Model, batches: Iterable[Batch]) -> Float[np.ndarray, "rows outputs"]:
    """The model's logits for every row, in the order of the batches, as float32; what training raised them by is taken off.

    A task that keeps a share of its rows without the event, or counts those with it more often, teaches a model higher odds than
    the true ones, by a factor that is known (`Schema.raised`); the logits here are those of the true odds.
    Runs in evaluation mode (no dropout) where the table lives, and leaves the model's mode as it was.

    :raises UserError: when there are no rows at all.
    """
    was, device = model.training, model.table.device
    model.train(False)
    try:
        with torch.inference_mode():
            parts = [model(batch.to(device).fields).float().cpu().numpy() for batch in batches]
    finally:
        model.train(was)
    if not parts:
        raise UserError("no rows to predict", mend="give a log, or a part of the table, that has rows")
    logits = np.concatenate(parts)
    raised = model.schema.raised
    if raised.any():
        logits[:, : len(raised)] -= raised.astype(np.float32)
    return logits
