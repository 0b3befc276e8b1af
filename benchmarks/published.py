"""How the authors of STEM train: an embedding a field, Adam over whole tables, their L2 by autograd, all in plain torch.

The network is ours, and as fast as it is, so that nothing but the update of the tables differs from a step of ours.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from umbel.data.batch import Batch
from umbel.nn.recommender import Recommender

CLIP = 10.0


class Published:
    """A step over all rows of all tables: the sum of the tasks' mean losses plus `l2 / 2` of the tables' squares, clipped at 10.

    The optimiser is `torch.optim.Adam` as it comes. Tables start as the rows of the model's, which is left alone.
    """

    def __init__(self, model: Recommender, *, l2: float, rate: float = 1e-3) -> None:
        spans = [model.places.span(field.name) for field in model.schema.fields]
        rows = [model.table.detach()[span.start : span.stop].clone() for span in spans]
        self.model, self.l2 = model, l2
        self.tables = [nn.Embedding(len(one), one.shape[1], _weight=one) for one in rows]
        self.weights = [table.weight for table in self.tables]
        self.parameters = [*self.weights, *model.dense_parameters()]
        self.optimizer = torch.optim.Adam(self.parameters, lr=rate)

    def __call__(self, batch: Batch) -> Float[Tensor, "tasks"]:
        """Update everything from one batch; the losses before."""
        codes = [batch.fields[field.name].long() for field in self.model.schema.fields]
        seen = torch.stack([table(own) for table, own in zip(self.tables, codes, strict=True)], 1)
        logits = self.model.beyond(seen.view(len(seen), len(codes), *self.model.views.shape).transpose(1, 2))
        losses = binary_cross_entropy_with_logits(logits, batch.labels, reduction="none").mean(0)
        penalty = torch.stack([one.square().sum() for one in self.weights]).sum()
        self.optimizer.zero_grad()
        (losses.sum() + self.l2 / 2 * penalty).backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.parameters, CLIP)
        self.optimizer.step()
        return losses.detach()
