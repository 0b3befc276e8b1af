"""Embedding tables of different widths, brought to one: what lets a few tables serve many tasks."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn

from umbel.nn.bank import Block
from umbel.nn.layer import Layer, Lessons
from umbel.nn.reach import Tasks


class Tables(Layer):
    """Table j is `counts[j]` views side by side, so `counts[j]` times as wide as a view: `x_j = W_j [v_j1 .. v_jk] + b_j`.

    Readers are the tables. `widths` are an input's and what each table is brought to.
    """

    def __init__(self, counts: tuple[int, ...], widths: tuple[int, int]) -> None:
        super().__init__()
        self.counts, self.width = counts, widths[1]
        self.voice = tuple(range(len(counts)))
        self.spans = tuple(pairwise(accumulate(counts, initial=0)))
        self.maps = nn.ModuleList(Block(1, (count * widths[0], widths[1]), linear=True, dropout=0.0) for count in counts)

    def forward(self, inputs: Sequence[Float[Tensor, "rows width"]]) -> tuple[Float[Tensor, "rows hidden"], ...]:
        """Every table at one width."""
        return tuple(own(torch.cat(list(inputs[start:end]), 1))[0] for own, (start, end) in zip(self.maps, self.spans, strict=True))

    def lessons(self, readers: Sequence[Tasks]) -> Lessons:
        """A table learns from whoever reads it."""
        groups = {}
        for table, own in enumerate(self.maps):
            assert isinstance(own, Block)
            groups[f"table {table}"] = (tuple(part.under(f"maps.{table}") for part in own.parts(0)), readers[table])
        return Lessons(groups, tuple(readers[table] for table, count in enumerate(self.counts) for _ in range(count)))
