"""Fields of which only the last view keeps a table: it lends them to every other view."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from umbel.nn.bank import Part
from umbel.nn.interact.interact import Interact, MakeInteract, Shape


class Lent(Interact):
    """Every view reads the fields that are not `own` from the last one, the shared; then the inner interaction works.

    `x_vf = e_vf` for own fields, `e_Vf` for lent ones, V the last view: whoever reads a lent field teaches the shared table.
    The other views' columns of a lent table are neither read nor learned. `own` are places of fields.
    """

    kept: Tensor

    def __init__(self, shape: Shape, *, inner: MakeInteract, own: tuple[int, ...]) -> None:
        super().__init__()
        self.inner = inner(shape)
        self.width = self.inner.width
        self.register_buffer("kept", torch.tensor([[place in own] for place in range(shape[1])]), persistent=False)

    def forward(self, x: Float[Tensor, "rows views fields dim"]) -> tuple[Float[Tensor, "rows width"], ...]:
        """Per view what the inner interaction makes of it."""
        met: tuple[Tensor, ...] = self.inner(torch.where(self.kept, x, x[:, -1:]))
        return met

    def parts(self, view: int) -> tuple[Part, ...]:
        """The view's parameters of the inner interaction."""
        return tuple(part.under("inner") for part in self.inner.parts(view))
