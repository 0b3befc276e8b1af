"""A bundle ready to answer: verified, its golden rows scored as requests are, warmed up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, time
from math import isfinite
from pathlib import Path
from typing import final

import numpy as np
import polars as pl
import torch
from jaxtyping import Float, Int

from umbel.bundle import TOLERANCE, Bundle
from umbel.data.columns import Types, types
from umbel.data.derive import reads
from umbel.data.raw import encoded
from umbel.errors import UserError
from umbel.manifest import name_of, read_json
from umbel.serve.reader import Raw, Reader
from umbel.serve.records import Value
from umbel.serve.series import column_types


@final
@dataclass(frozen=True, slots=True, eq=False)
class Served:
    """A bundle, the reader that answers from it, and the name that answers give of it: the first digits of its checksum."""

    name: str
    folder: Path
    bundle: Bundle
    reader: Reader

    @property
    def item(self) -> str | None:
        """The field that reads the log's item, one a row; None where there is none."""
        bundle = self.bundle
        alike = (field for field in bundle.schema.fields if field.coded and not field.many and field.sql is None)
        return next((field.name for field in alike if (field.column or field.name) == bundle.source.item), None)

    @property
    def items(self) -> list[str]:
        """The ids of the items that stood in the training rows."""
        if self.item is None:
            return []
        met = np.flatnonzero(self._counts(self.item))
        return self.bundle.encoder.decode(self.item, met.astype(np.int32)).cast(pl.String).to_list()

    @property
    def logged(self) -> Types:
        """The raw columns that judging or another training reads of a log, in their types: those of fields, labels, request and slices."""
        known = column_types(self.bundle.source)
        wanted = reads(self.bundle.schema, self.bundle.source, labels=True)
        return types(known.lazy(), [name for name in wanted if name in known.columns])

    def codes(self, ids: Sequence[str]) -> Int[np.ndarray, "items"]:
        """The code of each item; 0 for those that the model does not know, or where it reads no item."""
        if self.item is None:
            return np.zeros(len(ids), np.int32)
        return self.bundle.encoder.code(self.item, pl.Series(ids, dtype=pl.String))

    def popularity(self, ids: Sequence[str]) -> Int[np.ndarray, "items"]:
        """How often each item stood in the training rows; 0 for those that the model does not know, or where it reads no item."""
        return np.zeros(len(ids), np.int64) if self.item is None else self._counts(self.item)[self.codes(ids)]

    def _counts(self, item: str) -> Int[np.ndarray, "codes"]:
        return self.bundle.encoder.vocabularies[self.bundle.schema.field(item).table].counts(item)

    def check(self, found: Float[np.ndarray, "rows columns"], expected: Float[np.ndarray, "rows columns"]) -> None:
        """:raises UserError: unless predictions are what they are to be."""
        worst = float(np.abs(found - expected).max())
        if not worst <= TOLERANCE:
            what = f"{self.folder}: golden rows score otherwise as requests, by up to {worst:.2g} (allowed {TOLERANCE:g})"
            raise UserError(what, mend="load it with the versions named in its report, or export it again")


def load(folder: Path) -> Served:
    """The bundle of a folder, ready to answer.

    :raises UserError: unless every file is what was written, and the golden rows score as they did, offline and as requests.
    """
    bundle = Bundle.load(folder)
    golden = read_json(folder, "golden.json")
    served = Served(name_of(folder), folder, bundle, Reader(bundle))
    rows = list(map(_sendable, pl.read_parquet(folder / "golden.parquet").iter_rows(named=True)))
    known = [(row, scores) for row, scores in zip(rows, np.array(golden["scores"]), strict=True) if row is not None]
    item = bundle.source.item
    for row, scores in known[:4]:
        served.check(served.reader.predict(*_request(row, item)), scores[None])
    if known:
        served.check(served.reader.predict({}, [row for row, _ in known]), np.stack([scores for _, scores in known]))
        _warm(served, [row for row, _ in known])
    return served


def _warm(served: Served, rows: Sequence[Raw]) -> None:
    """Adapt once on every rung that adapts, and forget it: the first time costs several times the later ones, and a user would wait."""
    bundle, item, ladder = served.bundle, served.bundle.source.item, served.bundle.ladder
    for least in () if ladder is None else ladder.adapting:
        assert ladder is not None
        some = encoded(served.reader.frame([rows[at % len(rows)] for at in range(least)]), bundle.encoder)
        state = ladder.adapt(bundle.model, replace(some, seen=torch.ones_like(some.seen)))
        served.reader.predict(*_request(rows[0], item), state)


def _request(row: Raw, item: str | None) -> tuple[Raw, list[Raw]]:
    """A row as requests come: columns in common, then those of one item."""
    return {name: value for name, value in row.items() if name != item}, [{} if item is None else {item: row.get(item)}]


def _sendable(row: Mapping[str, object]) -> dict[str, Value] | None:
    """A raw row as JSON would have it; None where it has a value that JSON has no counterpart of."""
    found: dict[str, Value] = {}
    for name, value in row.items():
        if isinstance(value, date | time):
            found[name] = value.isoformat()
        elif (isinstance(value, float) and not isfinite(value)) or (isinstance(value, list) and None in value):
            return None  # NaN is missing, but an expression may tell it from null
        elif isinstance(value, str | int | float | list | None):
            found[name] = value
        else:
            return None
    return found
