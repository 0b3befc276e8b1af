"""Tables that take fewer bytes than they were trained in: rows become float32 when they are looked up."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import final

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from umbel.nn.holder import HERE, Holder
from umbel.nn.views import distinct


@final
@dataclass(frozen=True, slots=True)
class Packed(Holder):
    """All rows are with the model, in another form; it answers, and is not trained.

    A row of `width` numbers has `width + beside` entries of `dtype`, made by `pack` and read by `unpack`.
    """

    dtype: torch.dtype
    beside: int
    pack: Callable[[Tensor], Tensor]
    unpack: Callable[[Tensor], Tensor]

    def drawn(self, rows: int, width: int) -> Shaped[Tensor, "held stored"]:
        """Room for them: they come out of a file."""
        return torch.empty(rows, width + self.beside, dtype=self.dtype)

    def looked(self, table: Shaped[Tensor, "held stored"], place: Int[Tensor, "rows slots"]) -> dict[str, Tensor]:
        """Each row once, however often it is asked for."""
        ids, numbers = distinct(place, len(table))
        return {"table": self.unpack(table.index_select(0, ids)), "place": numbers}

    def whole(self, table: Shaped[Tensor, "held stored"], *, rows: int, folder: Path) -> Shaped[Tensor, "all stored"]:
        """In their form."""
        return table

    def answered(self, table: Shaped[Tensor, "held stored"]) -> AbstractContextManager[None]:
        """Nobody is asked."""
        return nullcontext()


def _to_bytes(table: Float[Tensor, "rows width"]) -> Shaped[Tensor, "rows stored"]:
    made: Tensor = torch.ops.quantized.embedding_bag_byte_prepack(table)
    return made


def _from_bytes(table: Shaped[Tensor, "rows stored"]) -> Float[Tensor, "rows width"]:
    made: Tensor = torch.ops.quantized.embedding_bag_byte_unpack(table)
    return made


# int8 is the row-wise form of FBGEMM: 256 levels between a row's least and greatest number, which stand behind them as two floats.
TABLES: Mapping[str, Holder] = {
    "float32": HERE,
    "float16": Packed(torch.float16, 0, Tensor.half, Tensor.float),
    "int8": Packed(torch.uint8, 8, _to_bytes, _from_bytes),
}
