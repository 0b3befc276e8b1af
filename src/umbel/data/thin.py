"""Fewer rows without the event: the share of them that each task trains on, drawn anew each epoch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from umbel.data.batch import Batch


def thin(batch: Batch, shares: Sequence[float], *, seed: Sequence[int]) -> Batch:
    """Of the rows without the event of task t, those that fall in a share `shares[t]`; every row with it.

    A label that falls out is unseen; a row of which no label is seen leaves the batch, which costs nothing then. Where all would
    leave, all stay, unseen. `seed` (of the run, the epoch, the step) alone decides who falls out, so that a run that was stopped goes
    on with the same rows. Keeping a share w multiplies the odds by 1/w, exactly; `Schema.raised` takes it back.

    Example
    -------
    >>> labels, every = torch.tensor([[1.0], [0.0], [0.0]]), torch.ones(3, 1, dtype=torch.bool)
    >>> thin(Batch({}, labels, every, torch.arange(3)), [1e-9], seed=[1, 0, 0]).index
    tensor([0])
    """
    if all(share == 1.0 for share in shares):
        return batch
    number = int(np.random.SeedSequence(list(seed)).generate_state(1, np.uint64)[0] >> np.uint64(1))
    drawn = torch.rand(batch.seen.shape, generator=torch.Generator().manual_seed(number)) < torch.tensor(shares)
    seen = batch.seen & (drawn | (batch.labels != 0))
    some = seen.any(dim=1)
    if bool(some.all()) or not bool(some.any()):
        return replace(batch, seen=seen)
    return replace(batch, seen=seen).take(some)
