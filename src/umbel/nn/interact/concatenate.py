"""The fields of a view side by side."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from umbel.nn.bank import Part
from umbel.nn.interact.interact import Interact, Shape


class Concatenate(Interact):
    """The fields of a view side by side: `x_v = [e_v1 .. e_vF]`; experts are left to find what belongs together."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        _, fields, dim = shape
        self.width = fields * dim

    def forward(self, x: Float[Tensor, "rows views fields dim"]) -> tuple[Float[Tensor, "rows width"], ...]:
        """Per view one row of numbers."""
        return tuple(view.flatten(1) for view in x.transpose(1, 2).unbind(2))  # so that gradients are put together where they lie

    def parts(self, view: int) -> tuple[Part, ...]:
        """None."""
        return ()
