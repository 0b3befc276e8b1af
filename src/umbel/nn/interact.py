"""How the fields of one view meet before the experts read them."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

from umbel.nn.bank import Part


class Concatenate(nn.Module):
    """The fields of a view side by side: `x_v = [e_v1 .. e_vF]`; experts are left to find what belongs together.

    An interaction is built for `views` views of `fields` fields of `dim` numbers, has weights per view,
    says the `width` of what it gives, and declares which parameters belong to a view (`parts`).
    """

    def __init__(self, views: int, fields: int, dim: int) -> None:
        super().__init__()
        self.width = fields * dim

    def forward(self, x: Float[Tensor, "rows views fields dim"]) -> tuple[Float[Tensor, "rows width"], ...]:
        """Per view one row of numbers."""
        return tuple(view.flatten(1) for view in x.unbind(1))

    def parts(self, view: int) -> tuple[Part, ...]:
        """No parameters."""
        return ()
