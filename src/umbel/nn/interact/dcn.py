"""Cross layers: each multiplies the fields once more by a linear map of what the layers before made of them."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from umbel.nn.bank import Part, xavier_
from umbel.nn.interact.interact import Interact, Shape, stacked_parts, views_first


class DCN(Interact):
    """`x_{l+1} = x_0 * (W_l x_l + b_l) + x_l`, `x_0` the fields side by side; with a rank, `W_l = U_l V_l'`.

    After l layers the numbers hold products of up to l + 1 fields. DCN-v2 (https://arxiv.org/abs/2008.13535) in its
    stacked form, the experts being its deep part; the mixture of low-rank maps with gates is left out.
    """

    def __init__(self, shape: Shape, *, layers: int, rank: int | None = None) -> None:
        super().__init__()
        views, fields, dim = shape
        self.width = width = fields * dim
        steps = [(width, width)] if rank is None else [(width, rank), (rank, width)]
        self.weights = nn.ParameterList(xavier_(torch.empty(views, *step), step) for _ in range(layers) for step in steps)
        self.biases = nn.ParameterList(torch.zeros(views, 1, width) for _ in range(layers))

    def forward(self, x: Float[Tensor, "rows views fields dim"]) -> tuple[Float[Tensor, "rows width"], ...]:
        """Per view one row of numbers."""
        first = crossed = views_first(x)
        each = len(self.weights) // len(self.biases)
        for layer, bias in enumerate(self.biases):
            low = torch.bmm(crossed, self.weights[layer * each]) if each > 1 else crossed
            crossed = first * torch.baddbmm(bias, low, self.weights[layer * each + each - 1]) + crossed
        return crossed.unbind(0)

    def parts(self, view: int) -> tuple[Part, ...]:
        """Its maps and biases in every layer."""
        return stacked_parts(self, view)
