"""How the fields of one view meet before the experts read them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping

from jaxtyping import Float
from torch import Tensor, nn

from umbel.nn.bank import Part

Shape = tuple[int, int, int]  # views, fields, dim


class Interact(nn.Module, ABC):
    """Turns the fields of each view into one row of `width` numbers, with weights per view: no view sees another."""

    width: int

    @abstractmethod
    def forward(self, x: Float[Tensor, "rows views fields dim"]) -> tuple[Float[Tensor, "rows width"], ...]:
        """Per view one row of numbers."""

    @abstractmethod
    def parts(self, view: int) -> tuple[Part, ...]:
        """The parameters that belong to a view."""


MakeInteract = Callable[[Shape], Interact]


class Concatenate(Interact):
    """The fields of a view side by side: `x_v = [e_v1 .. e_vF]`; experts are left to find what belongs together."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        _, fields, dim = shape
        self.width = fields * dim

    def forward(self, x: Float[Tensor, "rows views fields dim"]) -> tuple[Float[Tensor, "rows width"], ...]:
        """Per view one row of numbers."""
        return tuple(view.flatten(1) for view in x.unbind(1))

    def parts(self, view: int) -> tuple[Part, ...]:
        """None."""
        return ()


INTERACTS: Mapping[str, MakeInteract] = {"concatenate": Concatenate}
