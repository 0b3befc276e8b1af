"""What is not looked up, one projection per view each: numbers, vectors, and how many values a list holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from umbel.nn.bank import Part, xavier_
from umbel.nn.draw import normal_
from umbel.schema import Field

SPREAD = 1e-4  # standard deviation of fresh embeddings


class Numbers(nn.Module):
    """`e_fv = x_f w_fv`, or `m_fv` where x_f is missing (NaN): missing is a value of its own, learned.

    The projection has no bias, as in STEM; the published code has no vector for missing.
    """

    def __init__(self, names: Sequence[str], shape: tuple[int, int]) -> None:
        super().__init__()
        self.names = tuple(names)
        self.weight = nn.Parameter(xavier_(torch.empty(len(names), *shape), (1, shape[1])))
        self.missing = nn.Parameter(normal_(torch.empty(len(names), *shape), std=SPREAD))

    def forward(self, fields: Mapping[str, Tensor]) -> Float[Tensor, "rows numbers views dim"]:
        """From the fields of these names, one number a row each."""
        x = torch.stack([fields[name].flatten() for name in self.names], 1)
        # A product with [x, is missing] costs half of a choice between two tensors, whose gradients are full of zeros.
        told = torch.stack([x.nan_to_num(), x.isnan().to(x.dtype)], 2).to(self.weight.dtype)
        return torch.einsum("rfk,fkvd->rfvd", told, torch.stack([self.weight, self.missing], 1))

    def parts(self, view: int) -> tuple[Part, ...]:
        """The parameters of one view."""
        own = (slice(None), slice(view, view + 1))
        return (Part("weight", own), Part("missing", own))


class Counts(nn.Module):
    """`e_lv = w_lv log(1 + n_l) / log(1 + length_l)`: how many values a list holds, which their mean cannot tell.

    An empty list gives zeros. Published code has the mean alone; docs/decisions/0006 has what the count is worth.
    """

    lengths: Tensor

    def __init__(self, lengths: Sequence[int], shape: tuple[int, int]) -> None:
        super().__init__()
        self.weight = nn.Parameter(xavier_(torch.empty(len(lengths), *shape), (1, shape[1])))
        self.register_buffer("lengths", torch.tensor(lengths), persistent=False)

    def forward(self, counts: Int[Tensor, "rows lists"]) -> Float[Tensor, "rows lists views dim"]:
        """From how many values each list of a row holds."""
        share = counts.to(self.weight.dtype).log1p() / self.lengths.to(self.weight.dtype).log1p()
        return share[:, :, None, None] * self.weight

    def parts(self, view: int) -> tuple[Part, ...]:
        """The parameters of one view."""
        return (Part("weight", (slice(None), slice(view, view + 1))),)


class Bins(nn.Module):
    """A number piece by piece: of edges b_0 < ... < b_T, `z_t = min(max((x - b_(t-1)) / (b_t - b_(t-1)), 0), 1)`, t = 1 ... T.

    The piecewise-linear encoding of Gorishniy, Rubachev & Babenko (2022, https://arxiv.org/abs/2203.05556): what a linear map makes
    of z bends at every edge. There the first and the last piece go on beyond the edges; here they stop, since no training row
    lies there. A field of several numbers has theirs one after the other. Without edges, as before a log is read, they lie
    evenly from -2 to 2.
    """

    which: Tensor
    low: Tensor
    span: Tensor

    def __init__(self, field: Field, edges: Sequence[Sequence[float]] | None = None) -> None:
        super().__init__()
        own = edges or [[4 * cut / field.bins - 2 for cut in range(field.bins + 1)]] * field.size
        which = [number for number, one in enumerate(own) for _ in one[1:]]
        low, high = ([edge for one in own for edge in one[part]] for part in (slice(None, -1), slice(1, None)))
        self.numbers, self.width = field.size, len(which)
        self.register_buffer("which", torch.tensor(which), persistent=False)
        self.register_buffer("low", torch.tensor(low), persistent=False)
        self.register_buffer("span", torch.tensor(high) - torch.tensor(low), persistent=False)

    def forward(self, x: Float[Tensor, "rows *numbers"]) -> Float[Tensor, "rows pieces"]:
        """Of each number of a row; NaN where it is NaN."""
        each = x.view(x.shape[0], self.numbers).index_select(1, self.which)
        return ((each - self.low) / self.span).clamp(0, 1)


class Vectors(nn.Module):
    """`e_v = W_v x`, or `m_v` where x is missing (any NaN in the row); with bins, of the pieces of x."""

    def __init__(self, name: str, width: int, *, shape: tuple[int, int], bins: Bins | None = None) -> None:
        super().__init__()
        self.name, self.shape, self.bins = name, shape, bins
        views, dim = shape
        width = width if bins is None else bins.width
        self.weight = nn.Parameter(xavier_(torch.empty(views * dim, width), (width, dim)))
        self.missing = nn.Parameter(normal_(torch.empty(views, dim), std=SPREAD))

    def forward(self, fields: Mapping[str, Tensor]) -> Float[Tensor, "rows 1 views dim"]:
        """From the field of that name."""
        x = fields[self.name]
        x = x if self.bins is None else self.bins(x)
        missing = x.isnan().any(1, keepdim=True)
        told = torch.cat([x.masked_fill(missing, 0.0), missing.to(x.dtype)], 1).to(self.weight.dtype)
        weight = torch.cat([self.weight, self.missing.flatten().unsqueeze(1)], 1)
        return nn.functional.linear(told, weight).view(x.shape[0], 1, *self.shape)

    def parts(self, view: int) -> tuple[Part, ...]:
        """The parameters of one view."""
        dim = self.shape[1]
        return (Part("weight", (slice(view * dim, (view + 1) * dim),)), Part("missing", (slice(view, view + 1),)))
