"""Users who should be alike against users who need not be: the InfoNCE loss."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def contrast(
    own: Float[Tensor, "users width"],
    like: Float[Tensor, "users others width"],
    there: Bool[Tensor, "users others"],
    *,
    temperature: float,
) -> Float[Tensor, "users"]:
    """`mean over w of -log(exp(s_uw / T) / sum exp(s_u. / T))`, s the cosine; the sum is over u's own likes and the other users.

    InfoNCE (https://arxiv.org/abs/1807.03748) with negatives in the batch. 0 for a user who is like nobody, or is alone.
    """
    own, like = (torch.nn.functional.normalize(one, dim=-1) for one in (own, like))
    near = torch.where(there, torch.einsum("uw,uow->uo", own, like) / temperature, -torch.inf)
    among = (own @ own.T / temperature).masked_fill(torch.eye(len(own), dtype=torch.bool, device=own.device), -torch.inf)
    whole = torch.cat([near, among], 1).logsumexp(1, keepdim=True)
    cost = torch.where(there, whole - near, 0.0).sum(1) / there.sum(1).clamp(min=1)
    return cost if len(own) > 1 else torch.zeros_like(cost)
