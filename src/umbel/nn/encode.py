"""Fields that are no single look-up, one vector per view each: means of many values, numbers, vectors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from umbel.nn.bank import Part, xavier_

SPREAD = 1e-4  # standard deviation of a fresh vector for "missing", as of an embedding


class Means(nn.Module):
    """The mean of a bag's or sequence's values, padding left out; zeros where there is none."""

    def __init__(self, start: int, length: int) -> None:
        super().__init__()
        self.start, self.length = start, length

    def forward(self, table: Float[Tensor, "all width"], place: Int[Tensor, "rows slots"]) -> Float[Tensor, "rows width"]:
        """From the columns of `place` that belong to the field."""
        own = place[:, self.start:self.start + self.length]
        known = (own >= 0).to(table.dtype)
        weight = known / known.sum(1, keepdim=True).clamp(min=1.0)
        mean: Tensor = nn.functional.embedding_bag(own.clamp(min=0), table, per_sample_weights=weight, mode="sum")
        return mean


class Numbers(nn.Module):
    """`e_vf = x_f w_vf`, or `m_vf` where x_f is missing (NaN): missing is a value of its own, learned."""

    def __init__(self, names: Sequence[str], views: int, dim: int) -> None:
        super().__init__()
        self.names = tuple(names)
        self.weight = nn.Parameter(xavier_(torch.empty(views, len(names), dim), 1, dim))
        self.missing = nn.Parameter(nn.init.normal_(torch.empty(views, len(names), dim), std=SPREAD))

    def forward(self, fields: Mapping[str, Tensor]) -> Float[Tensor, "rows views numbers dim"]:
        """From the fields of these names, one number a row each."""
        x = torch.stack([fields[name].view(-1) for name in self.names], 1)[:, None, :, None].to(self.weight.dtype)
        return torch.where(x.isnan(), self.missing, x.nan_to_num() * self.weight)

    def parts(self, view: int) -> tuple[Part, ...]:
        """The parameters of one view."""
        return (Part("weight", (slice(view, view + 1),)), Part("missing", (slice(view, view + 1),)))


class Vectors(nn.Module):
    """`e_v = W_v x`, or `m_v` where x is missing (a row of NaN)."""

    def __init__(self, name: str, width: int, views: int, dim: int) -> None:
        super().__init__()
        self.name, self.views, self.dim = name, views, dim
        self.weight = nn.Parameter(xavier_(torch.empty(views * dim, width), width, dim))
        self.missing = nn.Parameter(nn.init.normal_(torch.empty(views, dim), std=SPREAD))

    def forward(self, fields: Mapping[str, Tensor]) -> Float[Tensor, "rows views 1 dim"]:
        """From the field of that name."""
        x = fields[self.name].to(self.weight.dtype)
        seen = nn.functional.linear(x.nan_to_num(), self.weight).view(len(x), self.views, self.dim)
        return torch.where(x.isnan().any(1)[:, None, None], self.missing, seen).unsqueeze(2)

    def parts(self, view: int) -> tuple[Part, ...]:
        """The parameters of one view."""
        return (Part("weight", (slice(view * self.dim, (view + 1) * self.dim),)), Part("missing", (slice(view, view + 1),)))
