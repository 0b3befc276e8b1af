"""Products of all pairs of fields, summed, beside the fields themselves."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from umbel.nn.bank import Part
from umbel.nn.interact.interact import Interact, Shape


class FM(Interact):
    """`x_v = [e_v1 .. e_vF, sum_{i<j} e_vi * e_vj]`: a factorisation machine's pairs, one number a dimension.

    Computed as `((sum_i e_i)^2 - sum_i e_i^2) / 2`, linear in the number of fields. Summed over its dimensions the last
    piece is the second-order term of a factorisation machine (Rendle 2010); kept apart, it is the pooling of neural
    factorisation machines (https://arxiv.org/abs/1708.05027), whose first-order term is left to the experts here.
    It has no weights.

    Example
    -------
    >>> FM((1, 3, 1))(torch.tensor([[[[2.0], [3.0], [5.0]]]]))
    (tensor([[ 2.,  3.,  5., 31.]]),)
    """

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        _, fields, dim = shape
        self.width = (fields + 1) * dim

    def forward(self, x: Float[Tensor, "rows views fields dim"]) -> tuple[Float[Tensor, "rows width"], ...]:
        """Per view one row of numbers."""
        pairs = 0.5 * (x.sum(2, keepdim=True).square() - x.square().sum(2, keepdim=True))
        return tuple(view.flatten(1) for view in torch.cat([x, pairs], 2).unbind(1))

    def parts(self, view: int) -> tuple[Part, ...]:
        """None."""
        return ()
