"""Columns that figures are told by and no field reads, such as one that a model must not see: their values, numbered."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
from jaxtyping import Int32

from umbel.data.groups import check_plain, without_nan
from umbel.errors import UserError

CODES, VALUES = "beside", "beside.json"  # of a table: numbers of its rows' values, and what they stand for
MOST = 1 << 16                           # values of a column, all of which are held
UNKNOWN = "unknown"


class Beside:
    """Numbers the values of columns, as text, in the order in which they are first met; a missing one is `unknown`.

    Example
    -------
    >>> beside = Beside(["city"])
    >>> beside.code(pl.DataFrame({"city": ["Bern", None, "Bern"]})).tolist(), beside.values
    ([[0], [1], [0]], {'city': ['Bern', 'unknown']})
    """

    def __init__(self, columns: Sequence[str]) -> None:
        self._known: dict[str, dict[str, int]] = {name: {} for name in columns}

    @property
    def values(self) -> dict[str, list[str]]:
        """What was met, by column."""
        return {name: list(known) for name, known in self._known.items()}

    def code(self, frame: pl.DataFrame) -> Int32[np.ndarray, "rows columns"]:
        """The numbers of a batch's values; :raises UserError: for a column of several values a row, or of more than 65,536 in all."""
        return np.stack([self._numbers(frame[name], known) for name, known in self._known.items()], axis=1)

    def save(self, folder: Path) -> None:
        """The values, beside their numbers."""
        (folder / VALUES).write_text(json.dumps(self.values, ensure_ascii=False), encoding="utf-8")

    def _numbers(self, raw: pl.Series, known: dict[str, int]) -> Int32[np.ndarray, "rows"]:
        check_plain(raw, "evaluate.slices")
        texts = without_nan(raw).cast(pl.String).fill_null(UNKNOWN)
        distinct = texts.unique(maintain_order=True)
        numbers = pl.Series("number", [known.setdefault(value, len(known)) for value in distinct], dtype=pl.Int32)
        if len(known) > MOST:
            raise UserError(f"evaluate.slices: {raw.name!r} has more than {MOST:,} values", mend="name one of fewer, or make it a field")
        if len(distinct) == 1:
            return np.full(len(texts), numbers[0], np.int32)
        return texts.replace_strict(distinct, numbers, return_dtype=pl.Int32).to_numpy()


def saved(folder: Path) -> dict[str, list[str]]:
    """What `save` left."""
    return dict(json.loads((folder / VALUES).read_text(encoding="utf-8")))
