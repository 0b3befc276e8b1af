"""One step's rows: what `data` hands to `nn` and `learn`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows of a table: fields by name, labels, and which of them were observed.

    `fields` follow `FieldKind` (codes are int32 or int64, numbers float32). An unseen label is 0 where `seen` is false.
    `weight` multiplies a row's loss per task; `index` is the row number in the table; `group` the request that
    a row belongs to, or its user where requests are not known, as a number that knows raw ids, not codes.
    """

    fields: Mapping[str, Tensor]
    labels: Float[Tensor, "rows tasks"]
    seen: Bool[Tensor, "rows tasks"]
    index: Int[Tensor, "rows"]
    weight: Float[Tensor, "rows tasks"] | None = None
    group: Int[Tensor, "rows"] | None = None

    def take(self, rows: slice | Bool[Tensor, "rows"]) -> Batch:
        """Some of the rows, in their order."""
        return Batch(
            {name: column[rows] for name, column in self.fields.items()},
            self.labels[rows],
            self.seen[rows],
            self.index[rows],
            None if self.weight is None else self.weight[rows],
            None if self.group is None else self.group[rows],
        )

    def to(self, device: torch.device) -> Batch:
        """The same rows on another device; row numbers, of which nothing is computed, stay."""
        return Batch(
            {name: sent(column, device) for name, column in self.fields.items()},
            sent(self.labels, device),
            sent(self.seen, device),
            self.index,
            None if self.weight is None else sent(self.weight, device),
            None if self.group is None else sent(self.group, device),
        )


def sent(tensor: Shaped[Tensor, "*shape"], device: torch.device) -> Shaped[Tensor, "*shape"]:
    """The tensor on a device; to a GPU from pinned memory, so that nobody waits for what the GPU is at."""
    if tensor.device.type == "cpu" and device.type == "cuda":
        tensor = tensor.contiguous().pin_memory()
    return tensor.to(device, non_blocking=True)
