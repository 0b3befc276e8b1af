"""Masks made from a row's own fields, multiplied with them before a hidden layer."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import layer_norm

from umbel.errors import UserError
from umbel.nn.bank import Part, xavier_
from umbel.nn.interact.interact import Interact, Shape, stacked_parts, views_first


class MaskNet(Interact):
    """`x_b = relu(LN(W_b (m_b * LN(e))))`, `m_b = D_b relu(C_b e + c_b) + d_b`, blocks b side by side; `e` all fields of a view.

    MaskNet (https://arxiv.org/abs/2102.07619) with its blocks in parallel, the experts being the layers behind them.
    The first LN runs over each field, the second over a block's output, both row by row with gain and shift. The
    mask's hidden layer is as wide as the block's output, where the paper has a multiple of the fields' width; d_b
    starts at 1, so that training starts from fields that are not masked.

    :raises UserError: for fields or blocks of one number, which a norm over the row makes 0 whatever it is.
    """

    def __init__(self, shape: Shape, *, layers: int, hidden: int) -> None:
        super().__init__()
        views, fields, dim = shape
        for key, width in (("dim", dim), ("interact_sizes.hidden", hidden)):
            if width < 2:
                raise UserError(f"model.{key} = {width}: masknet's norm over a row needs 2 numbers", mend="give 2 or more")
        wide, blocks = fields * dim, (views, layers)
        self.shape, self.width = shape, layers * hidden
        steps = [(wide, hidden), (hidden, wide), (wide, hidden)]
        self.weights = nn.ParameterList(xavier_(torch.empty(*blocks, *step), step) for step in steps)
        self.biases = nn.ParameterList([torch.zeros(*blocks, 1, hidden), torch.ones(*blocks, 1, wide)])
        self.gains = nn.ParameterList([torch.ones(views, 1, fields, dim), torch.ones(*blocks, 1, hidden)])
        self.shifts = nn.ParameterList([torch.zeros(views, 1, fields, dim), torch.zeros(*blocks, 1, hidden)])

    def forward(self, x: Float[Tensor, "rows views fields dim"]) -> tuple[Float[Tensor, "rows width"], ...]:
        """Per view one row of numbers."""
        even = layer_norm(x.transpose(0, 1), self.shape[2:]) * self.gains[0] + self.shifts[0]
        inner = torch.relu(views_first(x).unsqueeze(1) @ self.weights[0] + self.biases[0])
        masked = (inner @ self.weights[1] + self.biases[1]) * even.flatten(2).unsqueeze(1)
        met = layer_norm(masked @ self.weights[2], self.weights[2].shape[3:]) * self.gains[1] + self.shifts[1]
        return torch.relu(met).transpose(1, 2).flatten(2).unbind(0)

    def parts(self, view: int) -> tuple[Part, ...]:
        """Its blocks."""
        return stacked_parts(self, view)
