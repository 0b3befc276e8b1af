"""Fields that attend to each other."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from umbel.nn.attention import Attention
from umbel.nn.bank import Part, xavier_
from umbel.nn.interact.interact import Interact, Shape, stacked_parts


class AutoInt(Interact):
    """`e_m' = relu([sum_k a_mk^h e_k V_h]_h + e_m R)` layer on layer, `a_m^h = softmax_k((e_m Q_h) . (e_k K_h))`; then side by side.

    AutoInt (https://arxiv.org/abs/1810.11921), without its scale, as there. Differences: heads share out the width of
    a field, so that it stays `dim`; a number that is missing has a vector of its own instead of none. A layer keeps
    `rows views heads fields^2` numbers for its gradient.
    """

    def __init__(self, shape: Shape, *, layers: int, heads: int) -> None:
        super().__init__()
        views, fields, dim = shape
        self.width = fields * dim
        self.attentions = nn.ModuleList(
            Attention(views, dim, heads=heads, scale=1.0, key="model.interact_sizes.heads") for _ in range(layers)
        )
        self.weights = nn.ParameterList(xavier_(torch.empty(views, dim, dim), (dim, dim)) for _ in range(layers))

    def forward(self, x: Float[Tensor, "rows views fields dim"]) -> tuple[Float[Tensor, "rows width"], ...]:
        """Per view one row of numbers."""
        met = x.transpose(0, 1)
        for attention, weight in zip(self.attentions, self.weights, strict=True):
            met = torch.relu(attention(met, met) + torch.einsum("vrfd,vde->vrfe", met, weight))
        return met.flatten(2).unbind(0)

    def parts(self, view: int) -> tuple[Part, ...]:
        """Its maps in every layer."""
        return stacked_parts(self, view)
