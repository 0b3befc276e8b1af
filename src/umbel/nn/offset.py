"""What is known of an item before any model is asked, added to the outputs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor, nn


@final
class Offsets(nn.Module):
    """A number for every output and every code of one id field, such as an item's mean rating: kept, not trained.

    A code beyond the vocabulary counts as unknown, like everywhere.
    """

    values: Float[Tensor, "codes outputs"]

    def __init__(self, field: str, shape: tuple[int, int]) -> None:
        super().__init__()
        self.field = field
        self.register_buffer("values", torch.zeros(shape))

    def forward(self, fields: Mapping[str, Tensor]) -> Float[Tensor, "rows outputs"]:
        """The offsets of a batch's rows."""
        codes = fields[self.field].long()
        return self.values.index_select(0, torch.where((codes < 0) | (codes >= len(self.values)), 0, codes))


def raised(logits: Float[Tensor, "*rows outputs"], prior: Float[Tensor, "*rows owned"]) -> Float[Tensor, "*rows outputs"]:
    """Logits and what is added to the tasks' own; a head's auxiliary outputs, which come last, are left alone."""
    return logits + nn.functional.pad(prior, (0, logits.shape[-1] - prior.shape[-1]))
