"""From packed columns to batches: field tensors as views, labels masked by what was seen."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from umbel.data.batch import Batch
from umbel.schema import Schema


class Assembler:
    """Makes batches of a schema; where each field lies in its pack is found once."""

    def __init__(self, schema: Schema) -> None:
        self._names = [field.name for field in schema.fields]
        self._packs = tuple(tuple(field for field in schema.fields if field.coded == coded) for coded in (True, False))
        self._sizes = tuple([field.size for field in pack] for pack in self._packs)
        self._flat = frozenset(field.name for field in schema.fields if not field.many and not field.wide)
        column = {task.name: place for place, task in enumerate(schema.tasks)}
        chains = [(column[task.name], [column[step] for step in schema.chain(task.name)[:-1]]) for task in schema.tasks]
        self._chains = [(place, above) for place, above in chains if above]

    def batch(
        self,
        codes: Int[Tensor, "rows slots"],
        numbers: Float[Tensor, "rows width"],
        *,
        labels: Float[Tensor, "rows tasks"],
        group: Int[Tensor, "rows"],
        index: Int[Tensor, "rows"],
    ) -> Batch:
        """A batch over packed columns; fields are views of the packs, a label is 0 where it is unseen."""
        found: dict[str, Tensor] = {}
        for pack, fields, sizes in zip((codes, numbers), self._packs, self._sizes, strict=True):
            for field, piece in zip(fields, torch.split(pack, sizes, dim=1) if fields else (), strict=True):
                found[field.name] = piece.squeeze(1) if field.name in self._flat else piece
        seen = self.seen(labels)
        return Batch({name: found[name] for name in self._names}, labels.where(seen, 0.0), seen, index, group=group)

    def seen(self, labels: Float[Tensor, "rows tasks"]) -> Bool[Tensor, "rows tasks"]:
        """Where a label was observed and every event it is given held."""
        seen = ~labels.isnan()
        for place, above in self._chains:
            for step in above:  # one by one: a list of columns would have to be sent where the labels are
                seen[:, place] &= labels[:, step] == 1
        return seen
