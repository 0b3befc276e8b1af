"""A set of items and who met them, as a distribution over what kind of user that is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, final

import torch
from jaxtyping import Float
from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class Widths:
    """Of the attention, of the layer after it, and of z: those of CCML's published code."""

    hidden: int = 128
    wide: int = 64
    latent: int = 20


class Kind(NamedTuple):
    """A normal distribution for every set."""

    mean: Float[Tensor, "*sets latent"]
    log_variance: Float[Tensor, "*sets latent"]

    def drawn(self) -> Float[Tensor, "*sets latent"]:
        """One draw of each."""
        return self.mean + torch.randn_like(self.mean) * (self.log_variance / 2).exp()

    def divergence(self) -> Float[Tensor, "*sets"]:
        """Kullback-Leibler from the standard normal: `-(1/2) sum (1 + log v - m^2 - v)`."""
        return -0.5 * (1 + self.log_variance - self.mean.square() - self.log_variance.exp()).sum(-1)


@final
class AttentionVae(nn.Module):
    """`a = softmax_j(H_j . q / sqrt(hidden))`, `t = sum_j a_j H_j + p`, then mean and log variance of z from `ReLU(W t)`.

    `q = W_u x` and `p = W_p x` of the user x, `H_j = W_i e_j` of the items. The published code scales no attention and adds x itself,
    which has to be as wide as `hidden`; it has no other parameters than these but W_p. A set without items is `t = p`. Labels do not enter.
    """

    def __init__(self, user: int, item: int, *, widths: Widths, scaled: bool = True) -> None:
        super().__init__()
        self.ask = nn.Linear(user, widths.hidden, bias=False)
        self.own = nn.Identity() if user == widths.hidden else nn.Linear(user, widths.hidden, bias=False)
        self.offer = nn.Linear(item, widths.hidden, bias=False)
        self.wide = nn.Linear(widths.hidden, widths.wide)
        self.mean, self.log_variance = nn.Linear(widths.wide, widths.latent), nn.Linear(widths.wide, widths.latent)
        self.scale = widths.hidden**-0.5 if scaled else 1.0

    def forward(
        self, user: Float[Tensor, "users sets wide"], items: Float[Tensor, "users rows width"], there: Float[Tensor, "users sets rows"],
    ) -> Kind:
        """Of each set of a user, told by the rows that are `there`."""
        offered = self.offer(items)
        logits = torch.einsum("ush,urh->usr", self.ask(user), offered) * self.scale
        share = torch.where(there > 0, logits, -torch.inf).softmax(2).nan_to_num(nan=0.0)
        found = torch.relu(self.wide(share @ offered + self.own(user)))
        return Kind(self.mean(found), self.log_variance(found))
