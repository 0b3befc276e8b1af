"""Whose row is whose in an episode: the user's own, and those of others that stand beside them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from umbel.data.shots import divided
from umbel.data.together import MEMBER
from umbel.learn.episode import Episode


@dataclass(frozen=True, slots=True)
class Members:
    """The member of each support and query row: 0 the user, 1 and on the others, -1 for what is not there."""

    support: Int[Tensor, "users support"]
    query: Int[Tensor, "users query"]
    count: int

    @staticmethod
    def of(episode: Episode) -> Members:
        """Those of an episode; all rows are the user's own where it does not say. A support row without weight is not there."""
        support = episode.support.fields.get(MEMBER)
        support = torch.zeros_like(episode.support.weight, dtype=torch.int64) if support is None else support
        query = episode.query.get(MEMBER)
        query = support.new_zeros(episode.query_shape) if query is None else divided(query, episode.query_shape)
        count = 1 + max(int(one.max()) if one.numel() else 0 for one in (support, query))
        return Members(torch.where(episode.support.weight > 0, support, -1), query, count)

    def marks(self, rows: Int[Tensor, "users rows"]) -> Float[Tensor, "users members rows"]:
        """1 where a row is a member's."""
        return (rows[:, None, :] == torch.arange(self.count, device=rows.device)[:, None]).float()
