"""Attention with several heads, a batch of them at once: what fields of a view, and entries of a history, read of each other."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from umbel.errors import UserError
from umbel.nn.bank import xavier_


class Attention(nn.Module):
    """`o_q = [sum_l a_ql^h e_l V_h]_h`, `a_q^h = softmax_l(scale (x_q Q_h) . (e_l K_h))`, every batch with weights of its own.

    Heads share out `dim`, and no map follows them. K and V are folded into the queries' side, `(x Q_h) K_h'` and
    `(sum_l a_l e_l) V_h`, which keeps what is made of every entry to its weights.

    :raises UserError: if heads do not divide dim; `key` is the run file's name for them.
    """

    def __init__(self, batches: int, dim: int, *, heads: int, scale: float, key: str) -> None:
        super().__init__()
        if dim % heads:
            fit = ", ".join(str(one) for one in range(1, dim + 1) if dim % one == 0)
            raise UserError(f"{key} = {heads} does not divide model.dim = {dim}", mend=f"use one of {fit}")
        self.scale = scale
        shape, fans = (batches, dim, heads, dim // heads), (dim, dim)
        self.query, self.key, self.value = (nn.Parameter(xavier_(torch.empty(shape), fans)) for _ in range(3))

    def forward(
        self, x: Float[Tensor, "batches rows asking dim"], entries: Float[Tensor, "batches rows length dim"],
        allowed: Bool[Tensor, "batches rows asking length"] | None = None,
    ) -> Float[Tensor, "batches rows asking dim"]:
        """What each of `x` reads of the entries; one that is allowed none reads all alike."""
        asked = torch.einsum("brqd,bdhe->brqhe", x, self.query)
        asked = torch.einsum("brqhe,bdhe->brqhd", asked, self.key) * self.scale
        scores = torch.einsum("brqhd,brld->brqhl", asked, entries)
        if allowed is not None:
            scores = scores.masked_fill(~allowed.unsqueeze(3), torch.finfo(scores.dtype).min)
        heard = torch.einsum("brqhl,brld->brqhd", scores.softmax(4), entries)
        return torch.einsum("brqhd,bdhe->brqhe", heard, self.value).flatten(3)
