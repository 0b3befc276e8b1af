"""Who holds the rows of a model's table: draws them, looks them up, and has all of them together when they are written down."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from umbel.nn.draw import normal_
from umbel.nn.encode import SPREAD


class Holder(ABC):
    """Where a model's rows are: all of them with the model, or a part, and the others elsewhere (`umbel.learn.shards`)."""

    @abstractmethod
    def drawn(self, rows: int, width: int) -> Float[Tensor, "held width"]:
        """Of a new table of so many rows those that are held here: `N(0, SPREAD^2)`."""

    @abstractmethod
    def looked(self, table: Float[Tensor, "held width"], place: Int[Tensor, "rows slots"]) -> dict[str, Tensor]:
        """A `table` with the rows that stand at `place` in the whole one, and their `place` in it (-1 = padding)."""

    @abstractmethod
    def whole(self, table: Float[Tensor, "held width"], *, rows: int, folder: Path) -> Float[Tensor, "all width"]:
        """All `rows`, in order; where that is too much for a memory, in a file of `folder` that is gone when it is no longer read."""

    @abstractmethod
    def answered(self, table: Float[Tensor, "held width"]) -> AbstractContextManager[None]:
        """While this lasts, the first of several processes may look up by itself: the others answer it."""


@final
class Here(Holder):
    """All rows are with the model."""

    def drawn(self, rows: int, width: int) -> Float[Tensor, "held width"]:
        """All."""
        return normal_(torch.empty(rows, width), std=SPREAD)

    def looked(self, table: Float[Tensor, "held width"], place: Int[Tensor, "rows slots"]) -> dict[str, Tensor]:
        """As they are."""
        return {"table": table, "place": place}

    def whole(self, table: Float[Tensor, "held width"], *, rows: int, folder: Path) -> Float[Tensor, "all width"]:
        """The table."""
        return table

    def answered(self, table: Float[Tensor, "held width"]) -> AbstractContextManager[None]:
        """Nobody is asked."""
        return nullcontext()


HERE = Here()
