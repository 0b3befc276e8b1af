"""Raw fields of a request or a catalogue as a bundle reads them: encoded, as vectors of its towers, or not at all."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import final

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor

from umbel.errors import UserError
from umbel.retrieve.retrieval import Retrieval
from umbel.serve.reader import Raw, Reader, names
from umbel.serve.recommend.forms import Forms, form
from umbel.serve.recommend.stock import Mask
from umbel.serve.series import Typed, column_types


@final
class Raws:
    """Encodes some fields of raw rows; a column that a row has not is missing there, as it is for the ranker."""

    def __init__(self, reader: Reader) -> None:
        source = reader.bundle.source
        self.reads, self._encoder = reader.reads, reader.bundle.encoder
        self._typed = Typed(column_types(source), [name for name in (source.user, source.item) if name is not None])

    def fields(self, rows: Sequence[Raw], wanted: Collection[str]) -> dict[str, Tensor]:
        """Those fields; :raises UserError: for a value that cannot be read."""
        columns = sorted(frozenset().union(*(self.reads[name] for name in wanted)))
        frame = self._typed.frame({column: [row.get(column) for row in rows] for column in columns})
        schema = self._encoder.schema
        flat = {name: not (schema.field(name).many or schema.field(name).wide) for name in wanted}
        return {name: torch.from_numpy(one[:, 0] if flat[name] else one) for name, one in self._encoder.some(frame, wanted).items()}

    def forms(self, rows: Sequence[Raw]) -> Forms:
        """Which rows can be encoded, each by itself, and in which form each has those columns that may have several."""
        given = names(rows)
        wanted = [name for name, columns in self.reads.items() if columns & given]
        alone = self._halved(rows, wanted) if wanted else np.ones(len(rows), bool)
        read = given & frozenset().union(*(self.reads[name] for name in wanted))
        return Forms(alone, {column: np.array([form(row.get(column)) for row in rows], np.int8) for column in sorted(read)})

    def _halved(self, rows: Sequence[Raw], wanted: Collection[str]) -> Mask:
        """Halves of rows, until the one is alone that cannot be read."""
        try:
            self.fields(rows, wanted)
            return np.ones(len(rows), bool)
        except UserError:
            middle = len(rows) // 2
            parts = [self._halved(some, wanted) for some in (rows[:middle], rows[middle:])] if middle else [np.zeros(len(rows), bool)]
            return np.concatenate(parts)


@final
class Vectors:
    """The towers of a bundle, from raw fields."""

    def __init__(self, raws: Raws, retrieval: Retrieval) -> None:
        self.retrieval, self._raws = retrieval, raws

    def user(self, shared: Raw) -> Float32[np.ndarray, "width"]:
        """The vector of a user in a context; :raises UserError: for a value that cannot be read."""
        vector: Float32[np.ndarray, "width"] = self.retrieval.users(self._raws.fields([shared], self.retrieval.sides.user))[0]
        return vector

    def items(self, items: Sequence[Raw]) -> Float32[np.ndarray, "items width"]:
        """The vectors of items that can be read."""
        return self.retrieval.items(self._raws.fields(items, self.retrieval.sides.item))
