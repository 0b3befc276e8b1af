"""Values that occur together lend each other their embeddings: light graph convolution, in a form that leaves the lonely alone."""

from __future__ import annotations

import math
from typing import final

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

RHO = 0.25


@final
class Propagation(nn.Module):
    """`e' = e + rho (mean of e^1 .. e^L - [degree > 0] e)`, with `e^(l+1) = D^-1/2 A D^-1/2 e^l` (LightGCN, https://arxiv.org/abs/2002.02126).

    A counts how often two values were met in one row. `rho` is learned between 0 (no graph) and 1. A value without edges keeps
    what it has. Without `residual` it is `mean of e^0 .. e^L`, as CCML's published code has it, in which a lonely value shrinks to
    `1 / (L + 1)` of itself.
    """

    def __init__(self, layers: int = 3, *, residual: bool = True, rho: float = RHO) -> None:
        super().__init__()
        self.layers, self.residual = layers, residual
        self.lean = nn.Parameter(torch.tensor(math.log(rho / (1 - rho)) if rho else -math.inf), requires_grad=residual)

    @property
    def rho(self) -> Float[Tensor, ""]:
        """How much of what was lent is taken."""
        return self.lean.sigmoid()

    def forward(self, nodes: Float[Tensor, "nodes width"], edges: Int[Tensor, "two edges"]) -> Float[Tensor, "nodes width"]:
        """The nodes after `layers` rounds; an edge is a pair of nodes, as often as they met."""
        one, other = torch.cat([edges, edges.flip(0)], 1)
        degree = nodes.new_zeros(len(nodes)).index_add(0, one, nodes.new_ones(len(one)))
        scale = (degree[one] * degree[other]).rsqrt()[:, None]
        rounds = [nodes]
        for _ in range(self.layers):
            lent = rounds[-1].index_select(0, other) * scale
            rounds.append(torch.zeros_like(nodes).index_add(0, one, lent))
        if not self.residual:
            return torch.stack(rounds).mean(0)
        if not self.layers:
            return nodes
        return nodes + self.rho * (torch.stack(rounds[1:]).mean(0) - (degree > 0)[:, None] * nodes)
