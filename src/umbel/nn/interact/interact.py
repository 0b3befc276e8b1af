"""How the fields of one view meet before the experts read them: what every interaction keeps."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor, nn

from umbel.errors import UserError
from umbel.nn.bank import Part

Shape = tuple[int, int, int]  # views, fields, dim


@dataclass(frozen=True, slots=True)
class InteractSizes:
    """How large an interaction is; each reads the numbers that it has a use for.

    `layers` counts cross layers (dcn), attention layers (autoint) or blocks (masknet). `rank` is that of cross layers'
    matrices, none for whole ones (dcn); `hidden` is the width of a block (masknet); `heads` divide `dim` (autoint).

    :raises UserError: for a number below 1.
    """

    layers: int = 2
    rank: int | None = None
    hidden: int = 64
    heads: int = 1

    def __post_init__(self) -> None:
        for name, number in (("layers", self.layers), ("hidden", self.hidden), ("heads", self.heads)):
            if number < 1:
                raise UserError(f"model.interact_sizes.{name} = {number}", mend="give 1 or more")
        if self.rank is not None and self.rank < 1:
            raise UserError(f"model.interact_sizes.rank = {self.rank}", mend="give 1 or more, or leave it out for whole matrices")


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


def views_first(x: Float[Tensor, "rows views fields dim"]) -> Float[Tensor, "views rows width"]:
    """The fields of each view side by side, views first: what a product batched over views reads."""
    return x.transpose(0, 1).flatten(2)


def stacked_parts(module: nn.Module, view: int) -> tuple[Part, ...]:
    """One view's parts where every parameter of a module has views first."""
    return tuple(Part(name, (slice(view, view + 1),)) for name, _ in module.named_parameters())
