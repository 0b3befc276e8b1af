"""Where a step has the rows that it touches from, and where their gradients go."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import final

from jaxtyping import Float
from torch import Tensor
from torch.nn.utils import get_total_norm

from umbel.learn.processes import Processes
from umbel.nn.views import compact

Touched = Callable[[], tuple[Tensor, Tensor]]


class Held(ABC):
    """How a table is held by those who take a step together."""

    @abstractmethod
    def leaves(self, rows: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], Touched]:
        """`rows` over those alone that a process's part touches, whose table is a leaf; and what is asked for after the backward pass.

        That gives the rows which this process updates, `touched`, each once and in order, and a leaf of them, `touched width`, with
        the gradient of the whole batch.
        """

    @abstractmethod
    def norm(self, dense: Sequence[Tensor], rows: Sequence[Tensor]) -> Float[Tensor, ""]:
        """The joint norm of the dense gradients, and of those of the rows that any process updates."""

    @abstractmethod
    def rows(self, here: int) -> int:
        """How many rows there are, of which so many are here."""

    @abstractmethod
    def every(self, here: bool) -> bool:
        """Whether it is so wherever a part of the table is."""


@final
class Whole(Held):
    """Every process holds the whole table, and makes every update."""

    def __init__(self, processes: Processes) -> None:
        self.processes = processes

    def leaves(self, rows: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], Touched]:
        """Copied out of the table."""
        ids, own = compact(rows)
        return own, partial(self.processes.touched, ids, own["table"], table=rows["table"])

    def norm(self, dense: Sequence[Tensor], rows: Sequence[Tensor]) -> Float[Tensor, ""]:
        """Of what is here."""
        return get_total_norm([*dense, *rows])

    def rows(self, here: int) -> int:
        """All are."""
        return here

    def every(self, here: bool) -> bool:
        """It is the same table."""
        return here
